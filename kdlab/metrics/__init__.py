"""Accuracy, likelihood, calibration and agreement with the teacher, from logits.

Every function takes numpy arrays or torch tensors, computes in float64 and needs no torch. The modules beside it
measure what a teacher makes of views, fidelity and shifted sets, and, with torch, the loss around the weights.
"""

from __future__ import annotations

import numpy as np
import scipy  # whose parts load when they are asked for

from kdlab.errors import SpecError

__all__ = [
    "accuracy", "agreement", "calibration_error", "chance_p", "confusion", "entropy", "nll", "predictive_kl",
    "reliability",
]  # fmt: skip
BINS = 10  # of confidence, where calibration is measured


def _array(values) -> np.ndarray:
    """A numpy array of an array, or of a tensor on any device and of any precision."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values  # numpy knows no bfloat16
    return np.asarray(values)


def _scores(logits, name: str = "logits") -> np.ndarray:
    scores = _array(logits).astype(np.float64)
    if scores.ndim != 2 or not scores.size:
        raise SpecError(f"{name} must be a non-empty (N, K) array, but got shape {scores.shape}.")
    return scores


def _labelled(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = _scores(logits), _array(labels)
    if truth.shape != scores.shape[:1]:
        raise SpecError(f"labels must have shape {scores.shape[:1]} to match logits, but got {truth.shape}.")
    return scores, truth


def _pair(student_logits, teacher_logits) -> tuple[np.ndarray, np.ndarray]:
    student, teacher = _scores(student_logits, "student_logits"), _scores(teacher_logits, "teacher_logits")
    if student.shape != teacher.shape:
        raise SpecError(f"student and teacher logits differ in shape: {student.shape} and {teacher.shape}.")
    return student, teacher


def accuracy(logits, labels) -> float:
    """Share of rows whose largest logit is the label's.

    Args:
        logits: (N, K).
        labels: int (N,).

    Returns:
        A number in [0, 1].
    """
    scores, truth = _labelled(logits, labels)
    return float((scores.argmax(1) == truth).mean())


def nll(logits, labels) -> float:
    """Negative log-likelihood ``-mean_i log softmax(z_i)[y_i]``, in nats.

    Args:
        logits: (N, K).
        labels: int (N,).
    """
    scores, truth = _labelled(logits, labels)
    return float(-scipy.special.log_softmax(scores, axis=1)[np.arange(len(truth)), truth].mean())


def entropy(logits) -> float:
    """Mean entropy of the answers ``-mean_i sum_k p_ik log p_ik``, p = softmax(z), in nats.

    Args:
        logits: (N, K).

    Returns:
        A number in [0, log K].
    """
    scores = scipy.special.log_softmax(_scores(logits), axis=1)
    return float(-(np.exp(scores) * scores).sum(1).mean())


def _binned(logits, labels, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row (N,): confidence in the top class, whether that is right, and its bin of confidence, from 0."""
    if bins < 1:
        raise SpecError(f"bins must be at least 1, but got {bins!r}.")
    scores, truth = _labelled(logits, labels)
    confidence = scipy.special.softmax(scores, axis=1).max(1)
    return confidence, scores.argmax(1) == truth, np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def calibration_error(logits, labels, bins: int = BINS) -> float:
    """Expected calibration error of the top class over bins of equal width.

    ``sum_b (n_b / N) |accuracy_b - confidence_b|`` over the bins of ``reliability``.

    Args:
        logits: (N, K).
        labels: int (N,).
        bins: number of bins, at least 1.

    Returns:
        A number in [0, 1].

    Reference: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
    """
    confidence, right, which = _binned(logits, labels, bins)
    return float(np.abs(np.bincount(which, weights=right - confidence, minlength=bins)).sum() / len(right))


def reliability(logits, labels, bins: int = BINS) -> dict[str, np.ndarray]:
    """A reliability diagram's numbers: rows, mean confidence in the top class and accuracy of each bin of confidence.

    Args:
        logits: (N, K).
        labels: int (N,).
        bins: number of bins of equal width, at least 1; bin b, from 1, holds confidences in ((b - 1) / bins, b / bins].

    Returns:
        ``count`` int64 (bins,), ``confidence`` and ``accuracy`` (bins,) in [0, 1], NaN where a bin has no row.

    Reference: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
    """
    confidence, right, which = _binned(logits, labels, bins)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(which, weights=values, minlength=bins) / count for values in (confidence, right)]
    return {"count": count, "confidence": means[0], "accuracy": means[1]}


def agreement(student_logits, teacher_logits) -> float:
    """Share of rows on which student and teacher choose the same class.

    Args:
        student_logits: (N, K).
        teacher_logits: (N, K).

    Returns:
        A number in [0, 1].

    Reference: Stanton et al., Does Knowledge Distillation Really Work?, NeurIPS 2021.
    """
    student, teacher = _pair(student_logits, teacher_logits)
    return float((student.argmax(1) == teacher.argmax(1)).mean())


def predictive_kl(student_logits, teacher_logits) -> float:
    """``mean_i KL(softmax(t_i) || softmax(s_i))``, in nats.

    Args:
        student_logits: s, (N, K).
        teacher_logits: t, (N, K).
    """
    student, teacher = (scipy.special.log_softmax(z, axis=1) for z in _pair(student_logits, teacher_logits))
    return float((np.exp(teacher) * (teacher - student)).sum(1).mean())


def confusion(logits, labels) -> np.ndarray:
    """Counts of (label, predicted class): row k holds the rows labelled k.

    Args:
        logits: (N, K).
        labels: int (N,), in [0, K).

    Returns:
        int64 (K, K), summing to N.
    """
    scores, truth = _labelled(logits, labels)
    classes = scores.shape[1]
    return np.bincount(truth * classes + scores.argmax(1), minlength=classes**2).reshape(classes, classes)


def chance_p(right: int, images: int, chance: float) -> float:
    """One-sided p of a binomial test: the probability that guessing answers at least so many images right.

    ``P(X >= right)`` for ``X ~ Binomial(images, chance)``.

    Args:
        right: images answered right.
        images: images asked.
        chance: share of right answers of the guess, such as the largest class's share, in [0, 1].
    """
    from scipy.stats import binom

    return float(binom.sf(right - 1, images, chance))
