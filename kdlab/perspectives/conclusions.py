"""A study's outcome in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from kdlab import stats

OVERALL = {
    "supported": "Every contrast of the claim came out as it predicts, after correction for their number.",
    "contradicted": "At least one contrast of the claim came out significantly the other way.",
    "negligible": "Each contrast of the claim is above zero or shown to be smaller than its margin, after correction "
    "for their number, and at least one is shown to be that small.",
    "undecided": "No contrast speaks significantly against the claim, but these seeds do not settle all of them. That "
    "is neither evidence for an effect nor evidence that there is none.",
}

LOOKED = (
    "Seeds were added while looking, so not the paired t-test judges but the sequential t-test, whose 5 % hold however "
    "often one looks; the intervals of effects are 95 % confidence sequences, which hold at every look."
)


def conclusion(
    verdicts: Sequence[stats.Verdict], findings: Iterable[stats.Finding] | None = None, smoke: bool = False
) -> str:
    """The outcome as Markdown: health, the claim, what to be careful about, and each contrast's sentence.

    Args:
        verdicts: of the claim's contrasts and of the controls.
        findings: from ``stats.health``; None leaves the line on health out.
        smoke: say that the runs are evidence of nothing.
    """
    outcome = stats.overall(verdicts)
    lines = [] if findings is None else [stats.health_line(findings), ""]
    claim = "The effect claimed is" if outcome == "negligible" else "The claim is"
    lines += [f"**{claim} {outcome} on these data, networks and budgets.** {OVERALL[outcome]}", ""]
    if any(v.design == "sequential" for v in verdicts):
        lines += [LOOKED, ""]
    for verdict in verdicts:
        role = verdict.contrast.role
        lines.append(f"- {'' if role == 'claim' else f'({role}) '}{verdict.reason}")
        if role == "positive control" and verdict.outcome != "supported":
            lines.append("  Without it this setting can hardly speak about the claim.")
        if role == "null control" and verdict.outcome == "contradicted":
            lines.append("  A run differs from its own repetition: read every other effect with that in mind.")
        if math.isfinite(verdict.image_error):
            lines.append(f"  Other test images would move it by a standard error of {verdict.image_error:.2f} points.")
        if verdict.turns:
            lines.append(f"  It hangs on single seeds: {verdict.stability}.")
        lines += [f"  Note: {flag}." for flag in verdict.flags]
    if smoke:
        lines += ["", "This is a smoke run: it shows that everything works, and is evidence of nothing."]
    return "\n".join(lines)
