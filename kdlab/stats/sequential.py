"""The sequential t-test: seeds are added while looking, and its 5 % hold however often one looks, whenever one stops.

A t-test after every seed finds an effect where there is none in two studies of five (``figures/looks.csv``). This test
asks for more at each look, so that it errs at *any* look of a study in at most one study of twenty.

**Its e-value**, for paired differences x_1, x_2, ... that are normal with mean mu and unknown variance sigma^2, against
mu = 0: the ratio of two densities of x_1 ... x_n, the alternative's over the null's. Both have the right-Haar prior
1 / sigma on the scale; the alternative draws the effect size mu / sigma from N(0, 1 / g), so that mu is
N(0, sigma^2 / g). With m the mean of x_1 ... x_n and S = sum (x_i - m)^2, integrating mu out and then sigma leaves

    null:         (S + n m^2)^(-n/2), the integral of (2 pi sigma^2)^(-n/2) exp(-(S + n m^2) / (2 sigma^2)) / sigma,
    alternative:  sqrt(g / (n+g)) (S + (g / (n+g)) n m^2)^(-n/2),

times one constant, since n (mu - m)^2 + g mu^2 = (n+g) (mu - n m / (n+g))^2 + (g / (n+g)) n m^2. With n m^2 / S =
t^2 / (n-1) of the usual t statistic, the ratio is

    E_n = sqrt(g / (n+g)) * ((1 + t^2 / (n-1)) / (1 + (g / (n+g)) t^2 / (n-1)))^(n/2).

E_1 = 1, and E_n is the likelihood ratio of what does not depend on the scale, (x_2, ..., x_n) / |x_1| and the sign of
x_1: whatever sigma is, a nonnegative martingale where the null hypothesis holds. So (Ville) it ever reaches 1 / a with
probability a at most. This speaks of all looks at once and of no rule for stopping: one may stop because of another
contrast, or of a clock. Hence

* p = 1 / max(1, E_2, ..., E_n) may be read at every look. It comes from the seeds in their order, whoever looked when.
* A mean mu is tested by the E_n of x - mu. What is not rejected at level a is the confidence sequence, which holds mu
  at all looks at once with probability 1 - a: the intersection of the looks' intervals, in closed form.
* One-sided: E_n of x - mu grows with |m - mu|, so a look at which m lies above mu and rejects mu rejects all means
  below it, too. Whatever is concluded about one contrast at level a is wrong only if its true mean leaves the sequence:
  p <= a both for "above -margin" and for "below margin" says that the 1 - a sequence lies within the margin.

g = 1 is fixed, as it may not be chosen by looking: effects around one SD of the differences between seeds are found
soonest. Fewer than 5 seeds never reach 1 / a = 20.

Reference: Lai, "On confidence sequences", Annals of Statistics 1976. Wang and Ramdas, "Anytime-valid t-tests and
confidence sequences for Gaussian means with unknown variance", Sequential Analysis 2025. Perez-Ortiz, Lardy, de Heide
and Grunwald, "E-statistics, group invariance and anytime-valid testing", Annals of Statistics 2024.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from kdlab.errors import choose
from kdlab.stats.inference import Interval

G = 1.0  # precision of the prior on the effect size
SIDES = ("two-sided", "greater", "less")


def log_e_values(differences: Sequence[float] | np.ndarray, null: float = 0.0) -> np.ndarray:
    """The logarithm of E_n after each seed, by the formula at the top of this module.

    Args:
        differences: numbers in the order of the seeds, (n,) or (studies, n).
        null: the mean under the null hypothesis.

    Returns:
        As many numbers; 0 (no evidence) while all differences so far are equal.
    """
    n, mean, squares = _moments(differences)
    shrink = G / (n + G)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = n * (mean - null) ** 2 / squares  # t^2 / (n - 1)
        found = 0.5 * np.log(shrink) + n / 2 * (np.log1p(ratio) - np.log1p(shrink * ratio))
    return np.where(squares > 0, found, 0.0)


def sequential_p(differences: Sequence[float] | np.ndarray, null: float = 0.0, side: str = "two-sided") -> float:
    """p-value of the sequential t-test, one over the largest e-value of all looks so far: valid at every look.

    Args:
        differences: one number per seed, in the order of the seeds; NaN (a diverged run) is no look.
        null: the mean under the null hypothesis.
        side: ``"two-sided"``; ``"greater"`` tests all means up to ``null`` and ``"less"`` all from it on, by the looks
            at which the mean of the differences lies above (below) it.

    Returns:
        The p-value; NaN when there is no spread to judge by (fewer than two values, or all equal).
    """
    choose("side", side, SIDES)
    differences = _finite(differences)
    _, mean, squares = _moments(differences)
    if not len(differences) or squares[-1] == 0:
        return math.nan
    counts = {"two-sided": np.full(len(mean), True), "greater": mean > null, "less": mean < null}[side]
    return math.exp(-float(np.where(counts, log_e_values(differences, null), 0.0).max(initial=0.0)))


def confidence_sequence(differences: Iterable[float], level: float = 0.95) -> Interval:
    """All means that no look so far has rejected: they hold the true one at every look, with probability ``level``.

    Args:
        differences: one number per seed, in the order of the seeds; NaN (a diverged run) is no look.
        level: coverage in (0, 1) over all looks together.

    Returns:
        The mean of the differences and the bounds: NaN for fewer than two values, infinite while no look bounds
        anything. Where the looks exclude one another, which they do with probability 1 - level at most, ``low`` is
        above ``high``.
    """
    values = _finite(differences)
    if len(values) < 2:
        return Interval(float(values.mean()) if len(values) else math.nan, math.nan, math.nan, len(values))
    n, mean, squares = _moments(values)
    half = np.full(len(values), math.inf)
    for look in np.flatnonzero(squares > 0):
        size = int(n[look])
        half[look] = sequence_critical(size, 1 - level) * math.sqrt(squares[look] / (size - 1) / size)
    return Interval(float(values.mean()), float((mean - half).max()), float((mean + half).min()), len(values))


def sequence_critical(n: int, alpha: float) -> float:
    """The absolute t statistic from which E_n is at least 1 / alpha; infinite where n seeds cannot reach that.

    With K = (sqrt((n+g) / g) / alpha)^(2/n) and r = g / (n+g) it solves (1 + u) / (1 + r u) = K for u = t^2 / (n-1).

    Args:
        n: seeds, >= 2.
        alpha: level in (0, 1).
    """
    shrink = G / (n + G)
    wanted = (1 / (alpha * math.sqrt(shrink))) ** (2 / n)
    if wanted * shrink >= 1:
        return math.inf
    return math.sqrt((n - 1) * (wanted - 1) / (1 - wanted * shrink))


def _finite(differences: Iterable[float]) -> np.ndarray:
    values = np.asarray(list(differences), dtype=float)
    return values[np.isfinite(values)]


def _moments(differences: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """After each seed: their number, their mean, and their sum of squares about it, 0 while all are equal."""
    x = np.asarray(differences, dtype=float)
    n = np.arange(1, x.shape[-1] + 1, dtype=float)
    centre = x[..., :1]  # against cancellation, and no later seed moves the last bit of an earlier look
    shifted = x - centre
    mean = np.cumsum(shifted, -1) / n
    squares = np.cumsum(shifted**2, -1) - n * mean**2
    spread = np.maximum.accumulate(x, -1) - np.minimum.accumulate(x, -1)
    equal = spread <= 1e-9 * np.maximum(1.0, np.maximum.accumulate(np.abs(x), -1))
    # two values that are `spread` apart have at least this sum of squares
    return n, mean + centre, np.where(equal, 0.0, np.maximum(squares, spread**2 / 2))
