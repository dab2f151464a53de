"""The measure ``external``: what a network is worth on changed images, with all that is chosen frozen on val."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from kdlab import data
from kdlab.errors import SpecError
from kdlab.lab.asking import IMAGES, ROWS, answers, changed
from kdlab.lab.keys import run_key
from kdlab.lab.networks import predicts_alone, splits_of, stored_network
from kdlab.lab.store import Store
from kdlab.metrics.corruptions import CORRUPTIONS, RENDERINGS, STRENGTHS
from kdlab.metrics.external import external_scores, freeze, hidden_by_auc
from kdlab.models.frozen import frozen
from kdlab.spec import RunSpec
from kdlab.training.runtime import one_thread

# Changes that the operations of the joint policies are kin to, so that a student of them has seen the like.
KIN = ("brightness", "contrast", "inverted")
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog"),
    "digital": ("elastic_transform", "pixelate", "jpeg_compression"),
    "renderings": ("resampled", "cropped"),
    "kin": KIN,
}
STRANGE = tuple(name for group in ("noise", "blur", "weather", "digital") for name in GROUPS[group])
PERCENT = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ece", "classwise_ece", "overconfidence",
           "selective_risk", "answered", "answered_risk")  # fmt: skip


def measured(spec: RunSpec, store: Store) -> dict[str, float]:
    """How a finished run does on its test images and on changed ones, with what was frozen on its val images.

    Args:
        spec: of the run, whose predictions are its network's logits.
        store: where it is.

    Returns:
        ``GROUP.measure``: the measures of ``kdlab.metrics.external.external_scores``, shares in percent, ``nll`` in
        nats, ``auc`` and ``brier`` as they are. Groups are *internal*, the whole test set; those of ``GROUPS``, of
        corruptions at five strengths and of renderings, each of the first thousand test images; and *corrupted*, all
        corruptions that no operation of a joint policy is kin to. A group's value is the mean over its changes of their
        means over strengths. ``GROUP.hidden`` is the percentage of its sets on which AUC hides a loss
        (``kdlab.metrics.external.hidden_by_auc``, against the same thousand images unchanged).

    Raises:
        SpecError: for a method that predicts by more than its student's logits.
    """
    if not predicts_alone(spec.method):
        raise SpecError(f"external asks the student's network, but {spec.method!r} predicts by more than its logits.")
    splits, key = splits_of(spec), run_key(spec)
    stored, labels = store.logits(key), splits.test.labels.numpy()
    kept = freeze(stored["val"], splits.val.labels.numpy())
    first = external_scores(stored["test"][:IMAGES], labels[:IMAGES], kept)
    network, by_name = stored_network(key, spec, splits, store), {}
    with one_thread():
        quick = None
        for name, pixels in _sets(spec.data, spec.sizes, data.fingerprint(spec.data)):
            x = splits.test.normalise(pixels)
            quick = quick or frozen(network, x[:ROWS])
            logits = answers(quick, x).logits
            scores = external_scores(logits, labels[: len(logits)], kept)
            scores["hidden"] = float(hidden_by_auc(first, scores))
            by_name.setdefault(name, []).append(scores)
    means = {name: _mean(rows) for name, rows in by_name.items()}
    found = {"internal": external_scores(stored["test"], labels, kept)}
    found |= {group: _mean([means[name] for name in names]) for group, names in GROUPS.items()}
    found["corrupted"] = _mean([means[name] for name in STRANGE])
    return {
        f"{group}.{what}": 100 * value if what in (*PERCENT, "hidden") else value
        for group, scores in found.items() for what, value in scores.items()
    }  # fmt: skip


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {what: float(np.mean([row[what] for row in rows])) for what in rows[0]}


def _sets(name: str, sizes: tuple[int, int, int] | None, digest: str) -> Iterator[tuple[str, Tensor]]:
    """Every changed set: what was done to it, and its images, uint8 (N, C, H, W)."""
    for change in (*CORRUPTIONS, *RENDERINGS):
        for strength in STRENGTHS if change in CORRUPTIONS else (None,):
            yield change, changed(name, sizes, digest, change, strength)
