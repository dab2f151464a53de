"""How far a student says what its teacher says: agreement, KL and CKA, apart where the teacher is right or wrong."""

from __future__ import annotations

import numpy as np

from kdlab.errors import SpecError
from kdlab.metrics import _array, _labelled, _pair, accuracy, agreement, predictive_kl

__all__ = ["cka", "fidelity"]
LEAST = 4  # images, for CKA without bias


def cka(first, second, debiased: bool = True) -> float:
    """Linear centred kernel alignment between two sets of features of the same images.

    ``CKA(X, Y) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))`` with ``K = X X'``, ``L = Y Y'``. The usual HSIC,
    ``tr(K H L H)`` with the centring H, comes out above 0 for unrelated features, the more so the fewer images there
    are for their width; without bias it is 0 on average, and CKA may fall below 0. With K~ and L~ without diagonals
    ``HSIC_1(K, L) = [tr(K~L~) + (1'K~1)(1'L~1) / ((n-1)(n-2)) - 2 / (n-2) 1'K~L~1] / (n (n-3))``. Neither a
    rotation of the features nor one factor for all of them matters.

    Args:
        first: X, (n, D), or (n, C, H, W), which is flattened.
        second: Y, (n, D'), likewise.
        debiased: HSIC_1, which the field uses on few images; it needs four.

    Returns:
        At most 1 and, with bias, at least 0; NaN where features do not vary.

    Raises:
        SpecError: when X and Y have different numbers of images, or too few.

    Reference: Kornblith, Norouzi, Lee and Hinton, Similarity of Neural Network Representations Revisited, ICML 2019;
        Song, Smola, Gretton, Bedo and Borgwardt, Feature Selection via Dependence Maximization, JMLR 2012 (HSIC_1);
        Nguyen, Raghu and Kornblith, Do Wide and Deep Networks Learn the Same Things?, ICLR 2021 (its use for CKA).
    """
    x, y = (_array(features).astype(np.float64) for features in (first, second))
    least = LEAST if debiased else 2
    if x.ndim < 2 or y.ndim < 2 or len(x) != len(y) or len(x) < least:
        raise SpecError(
            f"cka needs features of the same {least} images or more, but got shapes {x.shape} and {y.shape}."
        )
    x, y = (features.reshape(len(features), -1) for features in (x, y))
    rounding = [1e-28 * np.square(features).sum() ** 2 for features in (x, y)]
    x, y = x - x.mean(0), y - y.mean(0)  # neither kind of HSIC sees the mean, but it costs digits
    own = [_hsic(features, features, debiased) for features in (x, y)]
    if any(value <= zero for value, zero in zip(own, rounding, strict=True)):
        return float("nan")
    return float(_hsic(x, y, debiased) / np.sqrt(own[0]) / np.sqrt(own[1]))


def _hsic(x: np.ndarray, y: np.ndarray, debiased: bool) -> float:
    """HSIC of centred features, up to a factor; in D D' numbers, not in n n, where that is fewer."""
    n = len(x)
    if x.shape[1] * y.shape[1] < n * n:
        whole = np.square(x.T @ y).sum()
    else:
        whole = ((x @ x.T) * (y @ y.T)).sum()
    if not debiased:
        return whole
    a, b = np.square(x).sum(1), np.square(y).sum(1)  # the diagonals; rows of centred kernels sum to 0
    # K~ = K - diag(a): tr(K~L~) = whole - a.b, 1'K~1 = -sum a, K~1 = -a.
    return whole - a @ b + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (a @ b)


def fidelity(
    student_logits, teacher_logits, labels, student_features=None, teacher_features=None
) -> dict[str, dict[str, float]]:
    """Agreement with the teacher, KL, both accuracies and CKA, on all images and by whether the teacher is right.

    Where the teacher is wrong, agreement is imitation of its mistakes, and ``1 - agreement`` bounds what the student
    can have right there.

    Args:
        student_logits: (N, K).
        teacher_logits: (N, K).
        labels: int (N,).
        student_features: (N, D), such as embeddings, for CKA; None leaves it out.
        teacher_features: (N, D').

    Returns:
        For ``all``, ``teacher_right`` and ``teacher_wrong``: ``images`` (how many), ``agreement``,
        ``student_accuracy`` and ``teacher_accuracy`` in [0, 1], ``kl`` from teacher to student in nats
        (``kdlab.metrics.predictive_kl``) and ``cka``; NaN where there are no images, or for CKA fewer than four.

    Raises:
        SpecError: for shapes that do not match, or features of one side only.

    Reference: Stanton, Izmailov, Kirichenko, Alemi and Wilson, Does Knowledge Distillation Really Work?, NeurIPS 2021.
    """
    student, teacher = _pair(student_logits, teacher_logits)
    truth = _labelled(teacher, labels)[1]
    features = [None if f is None else _array(f) for f in (student_features, teacher_features)]
    if (features[0] is None) != (features[1] is None):
        raise SpecError("cka needs the features of student and teacher, but got those of one alone.")
    if any(f is not None and len(f) != len(truth) for f in features):
        raise SpecError(f"features must be of the {len(truth)} images, but got {[len(f) for f in features]}.")
    right = teacher.argmax(1) == truth
    groups = {"all": np.ones(len(truth), dtype=bool), "teacher_right": right, "teacher_wrong": ~right}
    found = {}
    for name, rows in groups.items():
        there, nan = rows.any(), float("nan")
        s, t, y = student[rows], teacher[rows], truth[rows]
        found[name] = {
            "images": int(rows.sum()),
            "agreement": agreement(s, t) if there else nan,
            "kl": predictive_kl(s, t) if there else nan,
            "student_accuracy": accuracy(s, y) if there else nan,
            "teacher_accuracy": accuracy(t, y) if there else nan,
        }
        if features[0] is not None:
            found[name]["cka"] = cka(features[0][rows], features[1][rows]) if rows.sum() >= LEAST else nan
    return found
