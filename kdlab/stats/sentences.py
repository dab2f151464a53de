"""What a verdict says in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdlab.stats.judging import SEQUENTIAL

if TYPE_CHECKING:
    from kdlab.stats.verdicts import Verdict


def sentences(verdict: Verdict) -> dict[str, Any]:
    """``Verdict.reason``, a sentence with the numbers, and ``Verdict.finding``, the same in brief."""
    contrast, n, looking = verdict.contrast, verdict.n, verdict.design == SEQUENTIAL
    unit, one = contrast.unit, contrast.unit.removesuffix("s")
    margin = f"{contrast.margin:g} {one if contrast.margin == 1 else unit}"
    if verdict.needed is None:
        why = "all differences are equal" if n > 1 else "an interval needs at least 2 seeds"
        brief = f"{contrast.name}: undecided, {n} seed{'s' * (n != 1)}"
        return {"reason": f"{brief}; {why}.", "finding": brief}
    undecided, positive = verdict.outcome == "undecided", contrast.expects == "positive"
    ps = f"{verdict.p_text}; {verdict.p_named(True)}" if undecided and positive else verdict.p_text
    bounds = f" [{verdict.low:+.2f}, {verdict.high:+.2f}]".replace("-", "\u2212") if verdict.bounded else ""
    drawn = "95 % confidence sequence" if looking else "95 % interval"
    over = f"{drawn} over {n} seeds" if verdict.bounded else f"{n} seeds, too few for a {drawn}"
    effect = contrast.sentence(verdict.effect, bounds)
    numbers = f"{effect} ({over}; {ps})"
    if undecided:
        shows = "can show" if positive else "can rule out effects beyond"
        these = f"{n} seeds {shows} {verdict.detectable:.1f} {unit}, and "
        these = these if math.isfinite(verdict.detectable) else ""
        takes = f"{margin} would take {'at most ' * looking}{verdict.needed} seeds"
        return {
            "reason": f"{numbers}: undecided; with this spread {these}{takes}.", "finding": f"{effect}: undecided",
        }  # fmt: skip
    size = {
        ("positive", "supported"): f", but smaller than {margin}" * verdict.small,
        ("positive", "contradicted"): f", but by less than {margin}" * verdict.small,
        ("positive", "negligible"): f", smaller than {margin} either way",
        ("no_gain", "supported"): f", within {margin} of zero, or below",
        ("no_gain", "contradicted"): f", more than {margin} above zero",
        ("equivalent", "supported"): f", within {margin} of zero",
        ("equivalent", "contradicted"): f", more than {margin} from zero",
    }[contrast.expects, verdict.outcome]
    return {"reason": f"{numbers}: {verdict.outcome}{size}.", "finding": f"{effect}: {verdict.outcome}{size}"}


def stability(turns: Mapping[int, str]) -> str:
    """What leaving out one seed changes: ``"supported without seed 4"``, ``"the same without any one seed"``.

    Args:
        turns: ``Verdict.turns``.
    """
    groups: dict[str, list[int]] = {}
    for seed, outcome in turns.items():
        groups.setdefault(outcome, []).append(seed)
    told = []
    for outcome, seeds in groups.items():
        listed = ", ".join(map(str, seeds))
        which = f"seed {listed}" if len(seeds) == 1 else f"any one of seeds {listed}"
        told.append(f"{outcome} without {which}")
    return "; ".join(told) or "the same without any one seed"
