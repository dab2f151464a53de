"""Shifted data: what is frozen on internal validation, and how a network does with it where the images are others.

The area under the ROC curve looks at the order of scores within a set alone. When all scores of a class move together,
it stays as it was, while decisions at a threshold that was chosen before go wrong; hence the two are put side by side.

Reference: Kleppe, Area under the curve may hide poor generalisation to external datasets, ESMO Open 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from kdlab.errors import SpecError, check_integer, check_number
from kdlab.metrics import _array, _labelled, accuracy, calibration_error, nll
from kdlab.metrics.scores import (
    BINS,
    COVERAGE,
    auc,
    balanced_accuracy,
    brier,
    classwise_calibration_error,
    selective_risk,
    sensitivity_specificity,
)
from kdlab.rng import stream_seed

__all__ = ["Frozen", "bootstrap", "external_scores", "freeze", "hidden_by_auc", "resample"]
FLAT, LOSS = 0.02, 0.05  # a change of AUC that looks like none, and a loss of balanced accuracy that is one
TEMPERATURES = (0.05, 20.0)  # between which the frozen one is sought


@dataclass(frozen=True)
class Frozen:
    """What is chosen on internal validation and not touched again.

    Attributes:
        temperature: by which logits are divided, that of the smallest NLL.
        thresholds: of each class's probability at that temperature, (K,); of all it takes the one with the largest
            sensitivity + specificity (Youden's J), and the largest such; NaN for a class that val does not tell apart.
        confidence: the top class's probability from which a row is answered: that of the surest ``COVERAGE`` of val.
    """

    temperature: float
    thresholds: np.ndarray
    confidence: float


def freeze(logits, labels) -> Frozen:
    """Choose temperature, thresholds and confidence.

    Args:
        logits: of the internal validation set, (N, K).
        labels: int (N,), in [0, K).

    Reference: Guo, Pleiss, Sun and Weinberger, ICML 2017 (temperature); Youden, Index for Rating Diagnostic Tests,
        Cancer 1950 (thresholds).
    """
    scores, truth = _labelled(logits, labels)
    low, high = map(math.log, TEMPERATURES)
    found = minimize_scalar(lambda t: nll(scores / math.exp(t), truth), bounds=(low, high), method="bounded")
    p = softmax(scores / math.exp(found.x), axis=1)
    thresholds = [_youden(p[:, k], truth == k) for k in range(p.shape[1])]
    sure = np.sort(p.max(1))[::-1]
    return Frozen(math.exp(found.x), np.array(thresholds), float(sure[math.ceil(COVERAGE * len(sure) - 1e-9) - 1]))


def _youden(p: np.ndarray, own: np.ndarray) -> float:
    """The threshold of the largest sensitivity + specificity, among the probabilities that occur."""
    if own.all() or not own.any():
        return float("nan")
    order = np.argsort(-p, kind="stable")
    p, own = p[order], own[order]
    last = np.append(p[1:] != p[:-1], True)  # of rows of one probability all or none are called
    j = np.cumsum(own) / own.sum() - np.cumsum(~own) / (~own).sum()
    return float(p[last][np.argmax(j[last])])


def external_scores(logits, labels, frozen: Frozen) -> dict[str, float]:
    """All measures of one set, internal or external, with what was frozen.

    Args:
        logits: (N, K), as the network gives them.
        labels: int (N,), in [0, K).
        frozen: from the internal validation set; nothing is chosen anew here.

    Returns:
        ``accuracy``, ``balanced_accuracy``, ``auc`` (macro, of probabilities), ``sensitivity`` and ``specificity``
        (macro, at the frozen thresholds), ``nll`` (nats), ``brier``, ``ece`` and ``classwise_ece`` (15 bins),
        ``overconfidence`` (mean confidence - accuracy), ``selective_risk`` (at coverage 0.8), ``answered`` and
        ``answered_risk`` (share of rows above the frozen confidence, and of these the share that is wrong). All
        probabilities are at the frozen temperature. What has no row to be measured on is NaN.
    """
    scores = _labelled(logits, labels)[0] / frozen.temperature
    truth, p = _array(labels), softmax(scores, axis=1)
    usable = ~np.isnan(frozen.thresholds)
    with np.errstate(invalid="ignore"):
        each = sensitivity_specificity(p, truth, frozen.thresholds)
    sure, wrong = p.max(1), scores.argmax(1) != truth
    answered = sure >= frozen.confidence
    return {
        "accuracy": accuracy(scores, truth), "balanced_accuracy": balanced_accuracy(scores, truth),
        "auc": _mean(auc(p, truth)), "sensitivity": _mean(each[0][usable]), "specificity": _mean(each[1][usable]),
        "nll": nll(scores, truth), "brier": brier(scores, truth), "ece": calibration_error(scores, truth, BINS),
        "classwise_ece": classwise_calibration_error(scores, truth),
        "overconfidence": float(sure.mean() - 1 + wrong.mean()), "selective_risk": selective_risk(scores, truth),
        "answered": float(answered.mean()), "answered_risk": _mean(wrong[answered].astype(np.float64)),
    }  # fmt: skip


def _mean(values: np.ndarray) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def hidden_by_auc(internal: Mapping[str, float], external: Mapping[str, float]) -> bool:
    """Whether AUC looks as before, changed by less than 0.02, where balanced accuracy has lost more than 0.05.

    Args:
        internal, external: from ``external_scores`` on the internal test set and on another one.
    """
    lost = internal["balanced_accuracy"] - external["balanced_accuracy"]
    return abs(external["auc"] - internal["auc"]) < FLAT and lost > LOSS


# ---- images as a sample ----------------------------------------------------------------------------------------------


def resample(images: int, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each image is in each bootstrap sample of as many images, int64 (R, N).

    A mean over images is then ``counts @ values / N`` for all samples at once. One seed gives the same samples for
    every network, so that differences between networks are paired by image.

    Args:
        images: N.
        resamples: R.
        seed: of the draws.
    """
    draw = np.random.default_rng(stream_seed(seed, "bootstrap"))
    rows = range(check_integer("resamples", resamples, 2))
    return np.stack([np.bincount(draw.integers(images, size=images), minlength=images) for _ in rows])


def bootstrap(
    measure: Callable[..., float], *arrays, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of a measure when other images are drawn; for the networks as they are.

    ``bootstrap(accuracy, logits, labels)``; ``bootstrap(lambda a, b, y: brier(a, y) - brier(b, y), a, b, labels)``

    Args:
        measure: of arrays with the same rows; samples on which it is NaN are left out.
        *arrays: with a row an image, (N, ...).
        resamples: R, 1,000 or more for an interval to be reported.
        level: in (0, 1).
        seed: the samples are those of ``resample``.

    Returns:
        Its quantiles at ``(1 - level) / 2`` and ``(1 + level) / 2``.

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    given = [_array(array) for array in arrays]
    if not given or len({len(array) for array in given}) > 1:
        raise SpecError(f"bootstrap needs arrays of the same images, but got {[len(array) for array in given]} rows.")
    counts = resample(len(given[0]), resamples, seed)
    rows = np.arange(len(given[0]))
    values = [measure(*(array[np.repeat(rows, count)] for array in given)) for count in counts]
    tail = (1 - check_number("level", level, 0, 1, open_low=True)) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)
