"""Logit standardisation (LSKD): a method on logits, applied to logits of mean 0 and standard deviation 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kdlab.errors import SpecError, choose
from kdlab.losses.base import Method, NonNegative, Positive
from kdlab.models import Outputs
from kdlab.registry import MethodInfo, catalogue, create, find, register

SUPPLIED = {"teacher", "labels", "pairs"}


def reads_logits_only(entry: MethodInfo) -> bool:
    """Whether a method reads nothing of the networks but their logits, and does not wrap one itself."""
    return entry.knowledge == "logits" and set(entry.needs) <= SUPPLIED and not entry.wraps


def standardised(out: Outputs) -> Outputs:
    """Each row's logits less their mean, over ``1e-7`` plus their standard deviation (with K below the root)."""
    centred = out.logits - out.logits.mean(1, keepdim=True)
    return dataclasses.replace(out, logits=centred / (1e-7 + centred.std(1, correction=0, keepdim=True)))


@register(
    "lskd", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="weight", wraps="base",
    least={"lskd": {"classes": 3}},
)  # fmt: skip
class LSKD(Method):
    """A method on logits that sees them standardised: the order and the shape of a row count, not its scale.

    ``L = a mean_i CE(s_i, y_i) + c B(Z(s), Z(t))``, with Z the logits of each row less their mean over 1e-7 plus their
    standard deviation, B the base's terms but its cross-entropy, under the base's own weights, and CE on the raw
    logits. The standard deviation has K below the root as in the paper; the usual code has K - 1, which makes the
    logits smaller by sqrt((K - 1) / K).

    Args:
        base: the method within: one that reads nothing but logits.
        weight: c >= 0.
        ce_weight: a >= 0.
        temperature: T > 0 of the base, where it has that option.
        base_options: the base's other options, by name; None keeps its defaults.

    Raises:
        SpecError: for a value out of range, a base that reads more than logits, and whatever the base refuses.

    Reference: Sun, Ren, Li, Wang and Cao, Logit Standardization in Knowledge Distillation, CVPR 2024.
    """

    base: str = "kd"
    weight: NonNegative = 9.0
    ce_weight: NonNegative = 0.1
    temperature: Positive = 2.0
    base_options: dict | None = None

    def __post_init__(self):
        base = self.base
        if not (isinstance(base, str) and ":" in base and reads_logits_only(find("losses", base))):
            choose("base", base, [name for name, entry in catalogue("losses").items() if reads_logits_only(entry)])
        self.base = create("losses", base, **self._within(base, self.base_options or {}))

    def _within(self, base: str, given: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise SpecError(f"base_options must be a mapping of option names to values, but got {given!r}.")
        shared = {"temperature": self.temperature} if "temperature" in find("losses", base).options else {}
        return shared | dict(given)

    def setup(self, student, teacher, context):
        self.base.setup(standardised(student), standardised(teacher), context)

    def _own(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.weight * value for name, value in terms.items() if name != "ce"}

    def rows(self, student, teacher, batch):
        hard = self.hard_rows(student, batch)
        return {"ce": hard} | self._own(self.base.rows(standardised(student), standardised(teacher), batch))

    def terms(self, student, teacher, batch):
        hard = batch.mean(self.hard_rows(student, batch), hard=True)
        return {"ce": hard} | self._own(self.base.terms(standardised(student), standardised(teacher), batch))

    def after_step(self, batch):
        self.base.after_step(batch)
