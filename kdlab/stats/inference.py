"""Intervals, tests, corrections and power for a handful of paired numbers; scipy does the mathematics.

The percentile bootstrap is not here: over a handful of seeds its 95 % interval covers 74 to 89 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # whose parts load when they are asked for

from kdlab.errors import SpecError

POWER = 0.8
Critical = Callable[[int, float], float]  # seeds and level to a t statistic
NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)


@dataclass(frozen=True)
class Interval:
    """A mean with its t-interval; ``low`` and ``high`` are NaN for fewer than two values."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Student's t-interval of a mean: ``mean +- t_{n-1} * sd / sqrt(n)``.

    Args:
        values: one number per seed; NaN (a diverged run) is left out.
        level: coverage in (0, 1).
    """
    values = np.asarray(list(values), dtype=float)
    values = values[np.isfinite(values)]
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    half = float(scipy.special.stdtrit(n - 1, (1 + level) / 2) * values.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def t_test_p(differences: Sequence[float] | np.ndarray, null: float = 0.0, side: str = "two-sided") -> float:
    """p-value of the one-sample t-test on paired differences.

    Args:
        differences: one number per seed.
        null: the mean under the null hypothesis.
        side: ``"two-sided"``, ``"greater"`` or ``"less"``, the alternative.

    Returns:
        The p-value; NaN when there is no spread to judge by (fewer than two values, or all equal).
    """
    differences = np.asarray(differences, dtype=float)
    if len(differences) < 2 or np.ptp(differences) <= 1e-9 * max(1.0, np.abs(differences).max()):
        return math.nan
    n = len(differences)
    t = (differences.mean() - null) / (differences.std(ddof=1) / math.sqrt(n))
    below, above = scipy.special.stdtr(n - 1, t), scipy.special.stdtr(n - 1, -t)
    return float({"two-sided": 2 * min(below, above), "greater": above, "less": below}[side])


def tost(differences: Sequence[float] | np.ndarray, margin: float, p: Callable[..., float] = t_test_p) -> float:
    """p-value of two one-sided tests: small when the mean lies within ``+-margin``.

    Args:
        differences: one number per seed.
        margin: > 0.
        p: of the differences, the null hypothesis and the side; ``t_test_p`` or ``sequential_p``.

    Reference: Schuirmann, "A comparison of the two one-sided tests procedure and the power approach for
    assessing the equivalence of average bioavailability", J. Pharmacokinetics and Biopharmaceutics 1987.
    """
    return max(p(differences, -margin, "greater"), p(differences, margin, "less"))


def sign_flip_p(differences: Sequence[float] | np.ndarray) -> float:
    """Exact two-sided p of the sign-flip test: the share of the 2^n sign patterns with as extreme a sum.

    The patterns of the two halves are summed apart and met by a sorted search, so 40 seeds take a second.

    Returns:
        A p-value, never below ``sign_flip_floor(n)``; NaN for no seeds and for more than 40.
    """
    differences = np.asarray(differences, dtype=float)
    n = len(differences)
    if not 0 < n <= 40:
        return math.nan
    halves = []
    for part in (differences[: n // 2], differences[n // 2 :]):
        sums = np.zeros(1)
        for value in np.abs(part):
            sums = np.concatenate([sums + value, sums - value])
        halves.append(np.sort(sums))
    # ties count as extreme, and rounding must not break them
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    reached = len(halves[1]) - np.searchsorted(halves[1], observed - halves[0])
    return min(1.0, 2 * float(reached.sum()) / 2**n)


def sign_flip_floor(n: int) -> float:
    """The smallest sign-flip p that n seeds can give, 2 / 2^n: five seeds cannot reach 0.05, six can."""
    return 2.0 ** (1 - n)


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: with sorted p, ``max over j <= i of (m - j + 1) p_(j)``, at most 1.

    A NaN stays NaN but counts in m: a comparison that could not be made was still asked for.

    Reference: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 1979.
    """
    p = np.asarray(pvalues, dtype=float)
    order = np.argsort(p)  # NaN last
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()


def two_sided(n: int, alpha: float) -> float:
    """The absolute t statistic from which n seeds are significant, by the two-sided t-test."""
    return float(scipy.special.stdtrit(n - 1, 1 - alpha / 2))


def one_sided(n: int, alpha: float) -> float:
    """The t statistic from which n seeds are significant, by the one-sided t-test."""
    return float(scipy.special.stdtrit(n - 1, 1 - alpha))


def power_of(effect: float, sd: float, n: int, alpha: float = 0.05, critical: Critical = two_sided) -> float:
    """Power of the two-sided paired t-test on the effect's own side, by the noncentral t.

    Args:
        effect: true mean difference.
        sd: standard deviation of the differences between seeds, > 0.
        n: seeds, >= 2.
        alpha: significance level.
        critical: of the t statistic; ``sequence_critical`` gives the sequential test's power at the look at n seeds.
    """
    least = critical(n, alpha)
    return (
        float(1 - scipy.special.nctdtr(n - 1, abs(effect) * math.sqrt(n) / sd, least)) if math.isfinite(least) else 0.0
    )


def tost_power(margin: float, sd: float, n: int, alpha: float = 0.05, critical: Critical = one_sided) -> float:
    """Power of ``tost`` where there is truly no effect: both of its tests must reject, in the same sample.

    They do where ``|z| < d - t u``, with z standard normal, ``d = margin sqrt(n) / sd``, t the critical value of
    Student's t with n - 1 degrees of freedom and u the sample's standard deviation over the true one, independent of z:
    ``E_u max(0, 2 Phi(d - t u) - 1)``, by Gauss-Legendre integration over u.

    Args:
        margin: of equivalence, > 0.
        sd: standard deviation of the differences between seeds, > 0.
        n: seeds, >= 2.
        alpha: level of each of the two tests.
        critical: of the t statistic of each; see ``power_of``.
    """
    freedom, distance = n - 1, margin * math.sqrt(n) / sd
    least = critical(n, alpha)
    # all but 1e-16 of u on either side, and nothing beyond the largest u at which anything is rejected
    low, high = (math.sqrt(scipy.special.chdtri(freedom, tail) / freedom) for tail in (1 - 1e-16, 1e-16))
    high = min(high, distance / least)
    if high <= low:
        return 0.0
    u = low + (high - low) * (NODES + 1) / 2
    log_density = (
        math.log(2) + freedom / 2 * math.log(freedom / 2) - scipy.special.gammaln(freedom / 2)
        + (freedom - 1) * np.log(u) - freedom * u**2 / 2
    )  # fmt: skip
    rejected = 2 * scipy.special.ndtr(distance - least * u) - 1
    return float((high - low) / 2 * (WEIGHTS * rejected * np.exp(log_density)).sum())


def smallest_margin(
    sd: float, n: int, power: float = POWER, alpha: float = 0.05, critical: Critical = one_sided
) -> float:
    """The margin within which n seeds place no true effect, by ``tost``, with the given power.

    Args:
        sd: standard deviation of the differences between seeds.
        n: seeds.
        power: in (0, 1).
        alpha: level of each of the two tests.
        critical: see ``power_of``.

    Returns:
        The margin in the unit of ``sd``; NaN where n < 2, n seeds cannot reach the level, or sd is not a positive
        number.
    """
    if n < 2 or not sd > 0 or math.isinf(critical(n, alpha)):
        return math.nan
    low, high = 0.0, 1.0
    while tost_power(high, 1.0, n, alpha, critical) < power:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if tost_power(middle, 1.0, n, alpha, critical) >= power else (middle, high)
    return high * sd


def smallest_detectable(
    sd: float, n: int, power: float = POWER, alpha: float = 0.05, critical: Critical = two_sided
) -> float:
    """The effect that n seeds show with the given power; NaN where ``smallest_margin`` is."""
    if n < 2 or not sd > 0 or math.isinf(critical(n, alpha)):
        return math.nan
    return float(scipy.special.nctdtrinc(n - 1, 1 - power, critical(n, alpha)) * sd / math.sqrt(n))


def seeds_needed(
    effect: float, sd: float, power: float = POWER, alpha: float = 0.05, test: Callable[..., float] = power_of
) -> int:
    """The fewest seeds (at least 2) that show an effect with the given power.

    Args:
        effect: true mean difference; with ``test=tost_power`` the margin within which there is none.
        sd: standard deviation of the differences between seeds, > 0.
        power: in (0, 1).
        alpha: significance level, of ``tost`` that of each of its tests.
        test: ``power_of`` or ``tost_power``.

    Raises:
        SpecError: when the effect is 0, which no number of seeds can show, or sd is not a positive number.
    """
    if effect == 0 or not sd > 0:
        raise SpecError(f"effect must not be 0 and sd must be positive, but got {effect!r} and {sd!r}.")
    low, high = 1, 2
    while test(effect, sd, high, alpha) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if test(effect, sd, middle, alpha) >= power else (middle, high)
    return high
