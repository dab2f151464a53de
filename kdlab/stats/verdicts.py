"""Verdicts: a claim is a list of contrasts written down before the runs, and the seeds decide it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kdlab.errors import SpecError, choose
from kdlab.stats.inference import (
    POWER,
    holm,
    interval,
    power_of,
    seeds_needed,
    sign_flip_floor,
    sign_flip_p,
    smallest_detectable,
    smallest_margin,
    t_test_p,
    tost,
    tost_power,
)
from kdlab.stats.tables import paired_differences

EXPECTATIONS = ("positive", "no_gain", "equivalent")
ROLES = ("claim", "positive control", "null control")
OUTCOMES = ("supported", "contradicted", "undecided")
ALPHA = 1 - 0.95


@dataclass(frozen=True)
class Contrast:
    """A comparison of arms, and what the claim says of it.

    Args:
        name: how a reader calls it, for example ``"JDA - weak2"``.
        weights: arm to coefficient; the coefficients sum to 0.
        expects: ``"positive"``: above zero. ``"no_gain"``: within the margin, or below 0. ``"equivalent"``:
            within it.
        margin: the smallest effect that matters, > 0, in ``unit``. It decides the two no-effect expectations;
            for all, it is the effect that ``Verdict.needed`` plans for.
        metric: column of the table.
        unit: of the metric, for the sentence.
        role: ``"claim"``, ``"positive control"`` or ``"null control"``; only claims share Holm's correction.
        text: one sentence for the notebook.
    """

    name: str
    weights: Mapping[str, float]
    expects: str = "positive"
    margin: float = 0.5
    metric: str = "test_accuracy"
    unit: str = "points"
    role: str = "claim"
    text: str = ""

    def __post_init__(self):
        choose("expects", self.expects, EXPECTATIONS)
        choose("role", self.role, ROLES)
        if not self.margin > 0:
            raise SpecError(f"margin of {self.name!r} must be above 0, but got {self.margin!r}.")
        if not self.weights or abs(sum(self.weights.values())) > 1e-9:
            raise SpecError(f"weights of {self.name!r} must sum to 0, but got {dict(self.weights)!r}.")


@dataclass(frozen=True)
class Verdict:
    """What the seeds say about one contrast.

    Args:
        contrast: the comparison that was judged.
        differences: the contrast's value per seed.
        effect, low, high: their mean and t-interval.
        p: of the test that the expectation asks for (see ``decide``); NaN without a spread to judge by.
        p_holm: p after Holm's correction among the claims; p itself for a control.
        sign_flip, floor: the exact sign-flip p for zero effect, and the smallest one that n seeds can give.
        outcome: one of ``OUTCOMES``.
        reason: a sentence with the numbers.
        detectable: the smallest true effect (for no-effect expectations: the smallest margin, if there is
            truly no effect) that these seeds decide with 80 % power at Holm's strictest step.
        needed: seeds that would decide an effect (a margin) of ``contrast.margin`` so; None without a spread.
        flags: what a reader must know about the rows.
    """

    contrast: Contrast
    differences: Mapping[int, float]
    effect: float
    low: float
    high: float
    p: float
    p_holm: float
    sign_flip: float
    floor: float
    outcome: str
    reason: str
    detectable: float
    needed: int | None
    flags: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Seeds that took part."""
        return len(self.differences)

    @property
    def p_text(self) -> str:
        """``"Holm p = 0.012"`` for a claim, ``"p < 0.001"`` for a control."""
        label = "Holm p" if self.contrast.role == "claim" else "p"
        return f"{label} < 0.001" if self.p_holm < 0.001 else f"{label} = {self.p_holm:.3f}"


def decide(table: pd.DataFrame, contrasts: Sequence[Contrast]) -> list[Verdict]:
    """Judge contrasts by their paired differences over seeds.

    A contrast is undecided unless its p, after Holm's correction over all contrasts of role ``"claim"``, is
    below 5 %; then the side on which the effect lies decides:

    * ``positive``: p of the two-sided t-test against zero; supported above, contradicted below.
    * ``equivalent``: an effect inside the margin is tested by TOST and supported; one outside by the
      two-sided t-test against the nearer margin and contradicted.
    * ``no_gain``: likewise, but an effect beyond the lower margin does not contradict, and below zero the
      two-sided t-test against zero may support it too. The smaller of the two p is taken without correction,
      since both are at least the p of the one-sided test "effect < margin": supporting a claim that is false
      happens no more often than 5 %.

    Args:
        table: runs with ``arm``, ``seed`` and the metrics in the contrasts' units (accuracies in percent).
        contrasts: what to judge.
    """
    samples = [paired_differences(table, c.weights, c.metric) for c in contrasts]
    evidence = [_evidence(sample.to_numpy(), c) for (sample, _), c in zip(samples, contrasts, strict=True)]
    adjusted = [p for p, _ in evidence]
    claims = [i for i, c in enumerate(contrasts) if c.role == "claim"]
    for i, p in zip(claims, holm([adjusted[i] for i in claims]), strict=True):
        adjusted[i] = p
    verdicts = []
    for i, contrast in enumerate(contrasts):
        p, side = evidence[i]
        outcome = side if adjusted[i] < ALPHA else "undecided"
        strictest = ALPHA / len(claims) if contrast.role == "claim" else ALPHA
        verdicts.append(_verdict(contrast, *samples[i], p, adjusted[i], outcome, strictest))
    return verdicts


def paired(table: pd.DataFrame, arm_a: str, arm_b: str, metric: str = "test_accuracy") -> Verdict:
    """The difference ``arm_a - arm_b`` over common seeds, judged alone."""
    contrast = Contrast(f"{arm_a} - {arm_b}", {arm_a: 1.0, arm_b: -1.0}, metric=metric)
    return decide(table, [contrast])[0]


def overall(verdicts: Iterable[Verdict]) -> str:
    """The claim's outcome: contradicted if any of its contrasts is, supported if all are, else undecided."""
    outcomes = {v.outcome for v in verdicts if v.contrast.role == "claim"}
    if "contradicted" in outcomes:
        return "contradicted"
    return "supported" if outcomes == {"supported"} else "undecided"


def as_table(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """One row per verdict, plain values only, ready for csv and json."""
    from_contrast = "name role expects margin metric unit".split()
    own = "effect low high n p p_holm sign_flip floor outcome detectable needed".split()
    rows = []
    for verdict in verdicts:
        row = {field: getattr(verdict.contrast, field) for field in from_contrast}
        row |= {field: getattr(verdict, field) for field in own}
        rows.append(row | {"flags": "; ".join(verdict.flags), "reason": verdict.reason})
    return pd.DataFrame(rows, columns=[*from_contrast, *own, "flags", "reason"])


def _evidence(differences: np.ndarray, contrast: Contrast) -> tuple[float, str]:
    """The p-value, and the outcome it stands for when it is small enough."""
    if not len(differences):
        return math.nan, "undecided"
    effect, margin = differences.mean(), contrast.margin
    if contrast.expects == "positive":
        return t_test_p(differences), "supported" if effect > 0 else "contradicted"
    if effect > margin:
        return t_test_p(differences, margin), "contradicted"
    if contrast.expects == "equivalent" and effect < -margin:
        return t_test_p(differences, -margin), "contradicted"
    p = tost(differences, margin)
    if contrast.expects == "no_gain" and effect < 0:
        p = min(p, t_test_p(differences))
    return p, "supported"


def _verdict(contrast, values, flags, p, p_holm, outcome, strictest) -> Verdict:
    """Put the numbers of one contrast together; ``strictest`` is the alpha of Holm's first step."""
    n, bounds = len(values), interval(values)
    smallest, test = smallest_detectable, power_of
    if contrast.expects != "positive":
        smallest, test = smallest_margin, tost_power
    detectable, needed = math.nan, None
    if not math.isnan(p):
        sd = float(values.std())
        detectable = smallest(sd, n, POWER, strictest)
        needed = seeds_needed(contrast.margin, sd, POWER, strictest, test)
    floor = sign_flip_floor(n) if n else math.nan
    if n and floor > ALPHA:
        flags = (*flags, f"the sign-flip test cannot reach {ALPHA:.2g} with {n} seeds")
    verdict = Verdict(
        contrast=contrast, differences=dict(zip(values.index.tolist(), values.tolist(), strict=True)),
        effect=bounds.mean, low=bounds.low, high=bounds.high, p=p, p_holm=p_holm,
        sign_flip=sign_flip_p(values), floor=floor, outcome=outcome, reason="",
        detectable=detectable, needed=needed, flags=flags,
    )  # fmt: skip
    return replace(verdict, reason=_sentence(verdict))


def _sentence(verdict: Verdict) -> str:
    contrast, n = verdict.contrast, verdict.n
    unit, margin = contrast.unit, f"{contrast.margin:g} {contrast.unit}"
    if verdict.needed is None:
        why = "all differences are equal" if n > 1 else "an interval needs at least 2 seeds"
        return f"{contrast.name}: undecided, {n} seed{'s' * (n != 1)}; {why}."
    numbers = (
        f"{contrast.name} is {verdict.effect:+.2f} {unit} (95 % interval {verdict.low:+.2f} to "
        f"{verdict.high:+.2f}, {n} seeds, {verdict.p_text})"
    )
    if verdict.outcome == "undecided":
        shows = "can show" if contrast.expects == "positive" else "can rule out effects beyond"
        return (
            f"{numbers}: undecided; with this spread {n} seeds {shows} {verdict.detectable:.1f} {unit}, and "
            f"{margin} would take {verdict.needed} seeds."
        )
    where = {
        ("positive", "supported"): "above zero",
        ("positive", "contradicted"): "below zero",
        ("no_gain", "supported"): f"within {margin} of zero, or below",
        ("no_gain", "contradicted"): f"more than {margin} above zero",
        ("equivalent", "supported"): f"within {margin} of zero",
        ("equivalent", "contradicted"): f"more than {margin} from zero",
    }[contrast.expects, verdict.outcome]
    return f"{numbers}, {where}: {verdict.outcome}."
