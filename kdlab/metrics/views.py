"""What a teacher makes of augmented views, from its logits alone: T.stddev, flips of the label, agreement of views.

Its mean entropy on them is ``kdlab.metrics.entropy``. Nothing here needs a student, or torch.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.special import softmax

from kdlab.errors import SpecError, check_integer
from kdlab.metrics import _labelled, _pair, _scores, agreement
from kdlab.rng import stream_seed

__all__ = ["draw_groups", "label_flip_rate", "t_stddev", "view_agreement"]
GROUP = 320  # originals in a group as published: 5 batches of 64, each with its augmented twin


def draw_groups(images: int, groups: int = 200, size: int = GROUP, seed: int = 0) -> np.ndarray:
    """Which originals are in each group: ``size`` different ones of all images, drawn for each group by itself.

    A group must be a random sample, with as many images of each class as chance gives it. Where every group has the
    same number of each class, T.stddev no longer sees what it is about and orders augmentations otherwise.

    Args:
        images: to draw from.
        groups: G.
        size: n, at most ``images``.
        seed: of the draws.

    Returns:
        int64 (G, n). The published code shuffles all images once an epoch and cuts them into groups of n: each is such
        a sample, too, but those of one epoch share no image.
    """
    check_integer("groups", groups, 2)
    if check_integer("size", size, 1) > images:
        raise SpecError(f"size must be at most the {images} images there are, but got {size}.")
    draw = np.random.default_rng(stream_seed(seed, "t_stddev"))
    return np.stack([draw.permutation(images)[:size] for _ in range(groups)])


def t_stddev(plain_logits, augmented_logits, size: int = GROUP) -> float:
    """The standard deviation, over groups, of the teacher's mean probability of a class; the mean over classes.

    ``u_g = mean of softmax(t(x)) over the n originals of group g and their n augmented twins``;
    ``T.stddev = mean_k std_g(u_g[k])``, with G - 1 in the std. Lower is said to be better for a student: its twin then
    says least of what the original has said. The published figures count it in thousandths.

    Args:
        plain_logits: of the originals, (G n, K), group after group (``draw_groups(...).ravel()``).
        augmented_logits: of one augmented view of each, likewise.
        size: n.

    Returns:
        A share of probability, in [0, 1/2].

    Raises:
        SpecError: when there are not two whole groups.

    Reference: Wang, Lohit, Jones and Fu, What Makes a "Good" Data Augmentation in Knowledge Distillation, NeurIPS 2022.
    """
    plain, augmented = _pair(plain_logits, augmented_logits)
    groups, left = divmod(len(plain), check_integer("size", size, 1))
    if left or groups < 2:
        raise SpecError(f"T.stddev needs two whole groups of {size} rows or more, but got {len(plain)} rows.")
    both = (softmax(plain, axis=1) + softmax(augmented, axis=1)) / 2
    return float(both.reshape(groups, size, -1).mean(1).std(0, ddof=1).mean())


def label_flip_rate(augmented_logits, labels, plain_logits=None) -> float:
    """Share of augmented views whose most likely class is not the label.

    Args:
        augmented_logits: the teacher's, (N, K).
        labels: of the originals, int (N,).
        plain_logits: of the originals, (N, K): then only rows count that the teacher has right before augmentation, and
            what is left is what augmentation flips.

    Returns:
        A number in [0, 1]; NaN where no row counts.
    """
    scores, truth = _labelled(augmented_logits, labels)
    counts = np.ones(len(truth), dtype=bool)
    if plain_logits is not None:
        counts = _pair(plain_logits, augmented_logits)[0].argmax(1) == truth
    return float((scores.argmax(1) != truth)[counts].mean()) if counts.any() else float("nan")


def view_agreement(views) -> float:
    """Share of pairs of views of one image on which the same class is the most likely; the mean over images.

    Args:
        views: logits of V >= 2 views of the same images in the same order, (V, N, K) or V arrays (N, K).

    Returns:
        A number in [0, 1].

    Reference: Beyer, Zhai, Royer, Markeeva, Anil and Kolesnikov, Knowledge Distillation: A Good Teacher Is Patient and
        Consistent, CVPR 2022 (why views should agree).
    """
    views = [_scores(view, f"view {number}") for number, view in enumerate(views)]
    if len(views) < 2:
        raise SpecError(f"views must be two or more, but got {len(views)}.")
    return float(np.mean([agreement(one, other) for one, other in itertools.combinations(views, 2)]))
