"""Verdicts: a claim is a list of contrasts written down before the runs, and the seeds decide it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from kdlab.stats.contrasts import Contrast
from kdlab.stats.images import image_error
from kdlab.stats.inference import (
    POWER,
    interval,
    one_sided,
    power_of,
    seeds_needed,
    sign_flip_floor,
    sign_flip_p,
    smallest_detectable,
    smallest_margin,
    tost_power,
    two_sided,
)
from kdlab.stats.judging import ALPHA, FIXED, SEQUENTIAL, Judged, judge
from kdlab.stats.sentences import sentences, stability
from kdlab.stats.sequential import confidence_sequence, sequence_critical
from kdlab.stats.tables import paired_differences

LEAST = 3  # seeds of which one can be left out: the others still have a spread
OUTCOMES = ("supported", "contradicted", "negligible", "undecided")


@dataclass(frozen=True)
class Verdict:
    """What the seeds say about one contrast.

    Args:
        contrast: the comparison that was judged.
        differences: the contrast's value per seed.
        effect, low, high: their mean and 95 % t-interval; of a sequential design the 95 % confidence sequence, infinite
            while too few seeds bound anything.
        p: of the test for a difference (see ``judge``); NaN without a spread to judge by.
        p_equivalence: of the test that there is no effect of the margin's size; likewise.
        p_holm, p_equivalence_holm: both after Holm's correction over both p of all claims; as they are for a control.
        tests: the names of the two tests.
        sign_flip, floor: the exact sign-flip p for zero effect, and the smallest one that n seeds can give; NaN in a
            sequential design, for which there is none.
        outcome: one of ``OUTCOMES``.
        reason: a sentence with the numbers.
        finding: the same in brief: the effect with its interval, and the outcome.
        detectable: the smallest true effect (for no-effect expectations: the smallest margin, if there is
            truly no effect) that these seeds decide with 80 % power at Holm's strictest step, in a sequential design by
            a look at all of them; NaN where so few never do.
        needed: seeds that would decide an effect (a margin) of ``contrast.margin`` so; None without a spread. Looks on
            the way may decide it sooner.
        image_error: standard error of the effect over the test images (``image_error``); NaN where it is not known. It
            takes no part in the outcome.
        flags: what a reader must know about the rows.
        turns: seed to the outcome that all contrasts without it would come to, where that is another one. For a reader,
            and of a fixed design alone: the outcome is that of all seeds.
        design: ``"fixed"``, judged by the t-test, or ``"sequential"``, by the sequential t-test.
    """

    contrast: Contrast
    differences: Mapping[int, float]
    effect: float
    low: float
    high: float
    p: float
    p_holm: float
    p_equivalence: float
    p_equivalence_holm: float
    tests: tuple[str, str]
    sign_flip: float
    floor: float
    outcome: str
    reason: str
    finding: str
    detectable: float
    needed: int | None
    image_error: float = math.nan
    flags: tuple[str, ...] = ()
    turns: Mapping[int, str] = field(default_factory=dict)
    design: str = FIXED

    @property
    def bounded(self) -> bool:
        """Whether the interval has two ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def n(self) -> int:
        """Seeds that took part."""
        return len(self.differences)

    @property
    def small(self) -> bool:
        """Whether the 95 % interval lies within the margin."""
        return -self.contrast.margin < self.low and self.high < self.contrast.margin

    @property
    def stability(self) -> str:
        """What leaving out one seed changes; empty where none can be, and for a sequential design."""
        return stability(self.turns) if self.n >= LEAST and self.design == FIXED else ""

    @property
    def p_text(self) -> str:
        """The p that stands for the outcome: ``"paired t, Holm p = 0.012"``, ``"TOST, raw p < 0.001"``."""
        positive = self.contrast.expects == "positive"
        equivalence = self.outcome == "negligible" if positive else self.outcome != "contradicted"
        return self.p_named(equivalence)

    def p_named(self, equivalence: bool) -> str:
        """A p with its test and whether Holm's correction is in it.

        Args:
            equivalence: the one of the second test.
        """
        label = "Holm p" if self.contrast.role == "claim" else "raw p"
        p = self.p_equivalence_holm if equivalence else self.p_holm
        return f"{self.tests[equivalence]}, {label} " + ("< 0.001" if p < 0.001 else f"= {p:.3f}")


def decide(
    table: pd.DataFrame, contrasts: Sequence[Contrast], right: Callable[[str], np.ndarray | None] | None = None,
    design: str = FIXED,
) -> list[Verdict]:  # fmt: skip
    """Judge contrasts by their paired differences over seeds; see ``judge`` for the rule.

    Args:
        table: runs with ``arm``, ``seed`` and the metrics in the contrasts' units (accuracies in percent).
        contrasts: what to judge.
        right: key of a run to which test images it answers right, for ``Verdict.image_error``; None leaves that out.
        design: ``"fixed"``, or ``"sequential"`` where seeds were added while looking; there is a look after every seed,
            in the order of their numbers.
    """
    samples = [paired_differences(table, c.weights, c.metric) for c in contrasts]
    judged = judge([sample.to_numpy() for sample, _ in samples], contrasts, design)
    claims = sum(contrast.role == "claim" for contrast in contrasts)
    turns = _turns([sample for sample, _ in samples], contrasts, judged) if design == FIXED else [{}] * len(contrasts)
    verdicts = []
    for contrast, sample, found, other in zip(contrasts, samples, judged, turns, strict=True):
        strictest = ALPHA / (2 * claims) if contrast.role == "claim" else ALPHA
        verdict = replace(_verdict(contrast, *sample, found, strictest, design), turns=other)
        if right and contrast.metric == "test_accuracy":
            verdict = replace(verdict, image_error=image_error(table, contrast.weights, right))
        verdicts.append(verdict)
    return verdicts


def paired(table: pd.DataFrame, arm_a: str, arm_b: str, metric: str = "test_accuracy") -> Verdict:
    """The difference ``arm_a - arm_b`` over common seeds, judged alone."""
    contrast = Contrast(f"{arm_a} - {arm_b}", {arm_a: 1.0, arm_b: -1.0}, metric=metric)
    return decide(table, [contrast])[0]


def overall(verdicts: Iterable[Verdict]) -> str:
    """The claim's outcome from those of its contrasts.

    Contradicted if any of them is; supported if all are; negligible if each is supported or negligible; else undecided.
    """
    outcomes = {v.outcome for v in verdicts if v.contrast.role == "claim"}
    if "contradicted" in outcomes:
        return "contradicted"
    if not outcomes or "undecided" in outcomes:
        return "undecided"
    return "negligible" if "negligible" in outcomes else "supported"


def as_table(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """One row per verdict, plain values only, ready for csv and json."""
    from_contrast = "name role expects margin metric unit".split()
    own = (
        "effect low high n image_error p p_holm p_equivalence p_equivalence_holm sign_flip floor outcome detectable "
        "needed"
    ).split()
    words = ("stability", "reason", "finding")
    rows = []
    for verdict in verdicts:
        row: dict[str, Any] = {field: getattr(verdict.contrast, field) for field in from_contrast}
        row |= {field: getattr(verdict, field) for field in (*own, *words)}
        rows.append(row | {"flags": "; ".join(verdict.flags)})
    return pd.DataFrame(rows, columns=[*from_contrast, *own, "flags", *words])


def _turns(
    samples: Sequence[pd.Series], contrasts: Sequence[Contrast], judged: Sequence[Judged]
) -> list[dict[int, str]]:
    """``Verdict.turns`` of every contrast."""
    turns: list[dict[int, str]] = [{} for _ in contrasts]
    for seed in sorted(set().union(*(sample.index for sample in samples))):
        without = judge([sample.drop(seed, errors="ignore").to_numpy() for sample in samples], contrasts)
        for own, sample, before, after in zip(turns, samples, judged, without, strict=True):
            if seed in sample.index and len(sample) >= LEAST and after.outcome != before.outcome:
                own[int(seed)] = after.outcome
    return turns


def _verdict(contrast: Contrast, values: pd.Series, flags, judged: Judged, strictest: float, design: str) -> Verdict:
    """Put the numbers of one contrast together; ``strictest`` is the alpha of Holm's first step."""
    n, looking = len(values), design == SEQUENTIAL
    bounds = (confidence_sequence if looking else interval)(values)
    detectable, needed = math.nan, None
    if not math.isnan(judged.p):
        detectable, needed = _plans(contrast, float(values.std()), n, strictest, looking)
    floor = sign_flip_floor(n) if n and not looking else math.nan
    if floor > ALPHA:
        flags = (*flags, f"the sign-flip test cannot reach {ALPHA:.2g} with {n} seeds")
    if bounds.low > bounds.high:
        flags = (*flags, "the looks exclude one another, as one confidence sequence in twenty may")
    verdict = Verdict(
        contrast=contrast, differences=dict(zip(values.index.tolist(), values.tolist(), strict=True)),
        effect=bounds.mean, low=bounds.low, high=bounds.high, **judged._asdict(), floor=floor,
        sign_flip=math.nan if looking else sign_flip_p(values), reason="", finding="", detectable=detectable,
        needed=needed, flags=flags, design=design,
    )  # fmt: skip
    return replace(verdict, **sentences(verdict))


def _plans(contrast: Contrast, sd: float, n: int, alpha: float, looking: bool) -> tuple[float, int]:
    """``Verdict.detectable`` and ``Verdict.needed`` for differences with a spread."""
    if contrast.expects == "positive":
        critical = sequence_critical if looking else two_sided
        smallest, test = smallest_detectable, partial(power_of, critical=critical)
    else:
        critical = sequence_critical if looking else one_sided
        smallest, test = smallest_margin, partial(tost_power, critical=critical)
    return smallest(sd, n, POWER, alpha, critical), seeds_needed(contrast.margin, sd, POWER, alpha, test)
