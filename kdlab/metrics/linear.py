"""Softmax regression on pixels: the baseline that a network must beat, fitted in seconds with numpy and scipy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from kdlab.data.source import carve
from kdlab.metrics import nll

REVISION = 1  # raise it when the numbers change: it stands in the names of stored fits
MOST_IMAGES, MOST_NUMBERS = 10_000, 1024
PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
STEPS = 100
HELD_OUT = 0.2


@dataclass(frozen=True)
class Linear:
    """A fitted softmax regression.

    Args:
        weights: (D + 1, K), the last row the intercepts; of standardised pixels.
        mean: (D,), of the training pixels.
        scale: (D,), by which they were divided.
        penalty: the one chosen.
    """

    weights: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    penalty: float

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, K) of images uint8 (N, C, H, W)."""
        x = (block_means(images) - self.mean) / self.scale
        return x @ self.weights[:-1] + self.weights[-1]


def fit(images: np.ndarray, labels: np.ndarray, classes: int) -> Linear:
    """Multinomial logistic regression on standardised pixels, with an L2 penalty; the same on one machine always.

    Images of more than MOST_NUMBERS numbers are averaged over square blocks first (``block_means``). Each pixel is
    centred and divided by its standard deviation, or by a tenth of the whole set's where that is larger, so that pixels
    that hardly ever change are not blown up. ``loss`` is minimised from the largest of PENALTIES on, each from the
    weights before it, on four fifths of each class; when the NLL of the fifth held out rises, the penalty before is
    taken and fitted to all. Neither val nor test is looked at.

    Args:
        images: training images, uint8 (N, C, H, W).
        labels: int (N,), in [0, K).
        classes: K.

    Reference: Byrd, Lu, Nocedal and Zhu, A Limited Memory Algorithm for Bound Constrained Optimization, SIAM J. Sci.
        Comput. 1995 (the minimiser, here without bounds).
    """
    x = block_means(images)
    mean, spread = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    scale = np.maximum(spread, 0.1 * np.sqrt((spread**2).mean()) or 1.0)
    x = ((x - mean) / scale).astype(np.float32)
    penalty = _choose(x, labels, classes)
    return Linear(minimise(x, labels, classes, penalty), mean, scale, penalty)


def capped_rows(labels: np.ndarray, most: int = MOST_IMAGES) -> np.ndarray:
    """Numbers of at most about ``most`` rows, the first ones of each class, in the proportions of the whole.

    Args:
        labels: int (N,).
        most: images wanted; every class keeps at least one.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([rows[: max(1, round(most * len(rows) / len(labels)))] for rows in members]))


def _choose(x: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The penalty of the smallest NLL on the last fifth of each class; the largest where nothing is left to fit."""
    kept, held = carve(labels, HELD_OUT)
    best, chosen, weights = np.inf, PENALTIES[0], None
    for penalty in PENALTIES if len(kept) else ():
        weights = minimise(x[kept], labels[kept], classes, penalty, weights)
        now = nll(x[held] @ weights[:-1] + weights[-1], labels[held])
        if now > best:
            break
        best, chosen = now, penalty
    return chosen


def block_means(images: np.ndarray) -> np.ndarray:
    """Images as rows of numbers in [0, 1]: means over the smallest square blocks that leave at most MOST_NUMBERS.

    Args:
        images: uint8 (N, C, H, W).

    Returns:
        float32 (N, D); a block at the right or lower edge may be smaller.
    """
    _, channels, height, width = images.shape
    side = 1
    while channels * -(-height // side) * -(-width // side) > MOST_NUMBERS and side < max(height, width):
        side += 1
    down, across = np.arange(0, height, side), np.arange(0, width, side)
    area = 255 * np.outer(np.diff([*down, height]), np.diff([*across, width])).astype(np.float32)
    rows = []
    for start in range(0, len(images), 256):  # so that a large set never stands in memory as floats
        sums = np.add.reduceat(images[start : start + 256].astype(np.float32), down, axis=2)
        rows.append((np.add.reduceat(sums, across, axis=3) / area).reshape(len(sums), -1))
    return np.concatenate(rows)


def loss(weights: np.ndarray, x: np.ndarray, labels: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
    """``-mean_i log softmax(x_i V + b)[y_i] + penalty / 2 * |V|^2`` and its gradient.

    Args:
        weights: (D + 1, K), V above b, which is not penalised.
        x: (N, D); products are computed in its precision, all else in float64.
        labels: int (N,), in [0, K).
        penalty: >= 0.

    Returns:
        The loss and its gradient (D + 1, K).
    """
    v, rows = weights[:-1], np.arange(len(x))
    scores = log_softmax((x @ v.astype(x.dtype)).astype(np.float64) + weights[-1], axis=1)
    value = -scores[rows, labels].mean() + penalty / 2 * (v**2).sum()
    error = np.exp(scores)
    error[rows, labels] -= 1
    error /= len(x)
    slope = (x.T @ error.astype(x.dtype)).astype(np.float64) + penalty * v
    return float(value), np.vstack([slope, error.sum(0)])


def minimise(
    x: np.ndarray, labels: np.ndarray, classes: int, penalty: float, start: np.ndarray | None = None
) -> np.ndarray:
    """Weights (D + 1, K) of the smallest ``loss``: at most STEPS steps of L-BFGS from ``start``, or from zeros."""
    first = np.zeros((x.shape[1] + 1, classes)) if start is None else start

    def flat(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(weights.reshape(first.shape), x, labels, penalty)
        return value, slope.ravel()

    options = {"maxiter": STEPS, "ftol": 1e-6, "gtol": 1e-4}
    found = minimize(flat, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(first.shape)
