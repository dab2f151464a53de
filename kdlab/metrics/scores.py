"""Measures of one set of images: AUC, sensitivity and specificity, Brier score, classwise calibration, selective risk.

Accuracy, likelihood and the top class's calibration are in ``kdlab.metrics``. Arrays or tensors, float64, no torch.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import softmax

from kdlab.errors import SpecError, check_integer, check_number
from kdlab.metrics import _array, _labelled, confusion

__all__ = [
    "auc", "balanced_accuracy", "brier", "classwise_calibration_error", "selective_risk", "sensitivity_specificity",
]  # fmt: skip
BINS = 15
COVERAGE = 0.8


def _own(truth: np.ndarray, classes: int) -> np.ndarray:
    """Whether each row is of each class, bool (N, K)."""
    if wrong := sorted({*np.unique(truth).tolist()} - {*range(classes)}):
        raise SpecError(f"labels must be classes in [0, {classes}), but got {wrong[0]!r}.")
    return truth[:, None] == np.arange(classes)


def auc(scores, labels) -> np.ndarray:
    """Area under the ROC curve of each class against the rest: how often a row of the class has the higher score.

    ``P(s_k(x) > s_k(x')) + P(s_k(x) = s_k(x')) / 2`` for x of class k and x' of another, by mean ranks (Mann-Whitney)

    Args:
        scores: (N, K), logits or probabilities; only the order within a column matters, so that the two differ: a
            softmax compares a logit with the others of its row.
        labels: int (N,).

    Returns:
        float64 (K,) in [0, 1]; NaN for a class that has no row, or all. The macro average is ``np.nanmean``.

    Reference: Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, Radiology 1982.
    """
    from scipy.stats import rankdata

    values, truth = _labelled(scores, labels)
    ranks, own = rankdata(values, axis=0), _own(truth, values.shape[1])
    inside = own.sum(0)
    pairs = inside * (len(truth) - inside)
    above = (ranks * own).sum(0) - inside * (inside + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def balanced_accuracy(logits, labels) -> float:
    """The mean over classes of the share of a class's rows that are right; classes without rows are left out.

    Args:
        logits: (N, K).
        labels: int (N,), in [0, K).
    """
    table = confusion(logits, labels)
    there = table.sum(1) > 0
    return float((np.diag(table)[there] / table.sum(1)[there]).mean())


def brier(logits, labels) -> float:
    """``mean_i sum_k (p_ik - 1[y_i = k])^2``, p = softmax(z): 0 at best, 2 at worst, over all classes as first written.

    Args:
        logits: (N, K).
        labels: int (N,), in [0, K).

    Reference: Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 1950.
    """
    scores, truth = _labelled(logits, labels)
    return float(np.square(softmax(scores, axis=1) - _own(truth, scores.shape[1])).sum(1).mean())


def classwise_calibration_error(logits, labels, bins: int = BINS) -> float:
    """Calibration error of every class's probability, not the top one's alone: the mean over classes.

    ``(1/K) sum_k sum_b (n_bk / N) |share of class k in bin b of p_k - mean p_k there|``, over bins of equal width

    Args:
        logits: (N, K).
        labels: int (N,), in [0, K).
        bins: at least 1; bin b, from 1, holds probabilities in ((b - 1) / bins, b / bins], and the first one 0 too.

    Returns:
        A number in [0, 1].

    Reference: Kull, Perello-Nieto, Kängsepp, Silva Filho, Song and Flach, Beyond Temperature Scaling, NeurIPS 2019.
    """
    scores, truth = _labelled(logits, labels)
    n, classes, p = *scores.shape, softmax(scores, axis=1)
    which = np.clip(np.ceil(p * check_integer("bins", bins, 1)).astype(int) - 1, 0, bins - 1)
    gaps = (_own(truth, classes) - p).ravel()
    sums = np.bincount((which + bins * np.arange(classes)).ravel(), weights=gaps, minlength=bins * classes)
    return float(np.abs(sums).sum() / (n * classes))


def selective_risk(logits, labels, coverage: float = COVERAGE) -> float:
    """Share of wrong answers among the rows answered with most confidence.

    ``ceil(coverage N)`` rows are answered, by the probability of their top class; of rows that are equally sure at the
    border, each counts with the chance that it is among them.

    Args:
        logits: (N, K).
        labels: int (N,).
        coverage: in (0, 1].

    Reference: Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017.
    """
    check_number("coverage", coverage, 0, 1, open_low=True)
    scores, truth = _labelled(logits, labels)
    sure, wrong = softmax(scores, axis=1).max(1), scores.argmax(1) != truth
    count = math.ceil(coverage * len(truth) - 1e-9)  # 0.8 * 15 is a little more than 12
    border = np.sort(sure)[::-1][count - 1]
    above, at = sure > border, sure == border
    return float((wrong[above].sum() + wrong[at].mean() * (count - above.sum())) / count)


def sensitivity_specificity(probabilities, labels, thresholds) -> tuple[np.ndarray, np.ndarray]:
    """Of each class against the rest, called present where its probability is at least its threshold.

    Args:
        probabilities: (N, K).
        labels: int (N,).
        thresholds: (K,), chosen before (``freeze``).

    Returns:
        ``P(p_k >= t_k | y = k)`` and ``P(p_k < t_k | y != k)``, (K,) each; NaN where there is no such row.
    """
    values, truth = _labelled(probabilities, labels)
    limits = _array(thresholds).astype(np.float64)
    if limits.shape != values.shape[1:]:
        raise SpecError(f"thresholds must have shape {values.shape[1:]}, one a class, but got {limits.shape}.")
    own, called = _own(truth, values.shape[1]), values >= limits
    with np.errstate(invalid="ignore"):
        return (called & own).sum(0) / own.sum(0), (~called & ~own).sum(0) / (~own).sum(0)
