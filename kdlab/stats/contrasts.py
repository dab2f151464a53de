"""Contrasts: comparisons of arms, and what a claim says of them before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kdlab.errors import SpecError, choose

EXPECTATIONS = ("positive", "no_gain", "equivalent")
ROLES = ("claim", "positive control", "null control")


@dataclass(frozen=True)
class Contrast:
    """A comparison of arms, and what the claim says of it.

    Args:
        name: how a reader calls it, for example ``"JDA - weak2"``.
        weights: arm to coefficient; the coefficients sum to 0.
        expects: ``"positive"``: above zero. ``"no_gain"``: within the margin, or below 0. ``"equivalent"``:
            within it.
        margin: the smallest effect that matters, > 0, in ``unit``: what is shown to lie within it is negligible, and
            ``Verdict.needed`` plans for it.
        metric: column of the table.
        unit: of the metric, for the sentence.
        role: ``"claim"``, ``"positive control"`` or ``"null control"``; only claims share Holm's correction.
        text: one sentence for the notebook.
        subject: who gains, in the sentence of the verdict; empty takes the name up to its minus.
        reference: over what; empty takes the name from its minus on.
    """

    name: str
    weights: Mapping[str, float]
    expects: str = "positive"
    margin: float = 0.5
    metric: str = "test_accuracy"
    unit: str = "points"
    role: str = "claim"
    text: str = ""
    subject: str = ""
    reference: str = ""

    def __post_init__(self):
        choose("expects", self.expects, EXPECTATIONS)
        choose("role", self.role, ROLES)
        if not self.margin > 0:
            raise SpecError(f"margin of {self.name!r} must be above 0, but got {self.margin!r}.")
        if not self.weights or abs(sum(self.weights.values())) > 1e-9:
            raise SpecError(f"weights of {self.name!r} must sum to 0, but got {dict(self.weights)!r}.")

    def sentence(self, effect: float, bounds: str) -> str:
        """The effect in words: ``"JDA gains 0.62 points [+0.31, +0.93] over weak2"``.

        A difference of two (means of) arms in points is gained or lost; a difference of gains, or of another unit, is
        above or below.

        Args:
            effect: of the contrast, in its unit.
            bounds: what follows the unit, with a space before it; empty for nothing.
        """
        first, _, second = re.sub(r" [-\u2212] ", "\0", self.name, count=1).partition("\0")
        subject, reference = self.subject or first, self.reference or second or "zero"
        weight = sum(w for w in self.weights.values() if w > 0)
        gained = reference != "zero" and self.unit == "points" and abs(weight - 1) < 1e-9
        amount = f"{abs(effect):.2f} {self.unit}{bounds}"
        if gained:
            verb, over = ("gains", "over") if effect >= 0 else ("loses", "to")
            return f"{subject} {verb} {amount} {over} {reference}"
        return f"{subject} is {amount} {'above' if effect >= 0 else 'below'} {reference}"
