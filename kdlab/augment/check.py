"""Ranges of options."""

from __future__ import annotations

import math
from typing import Any

from kdlab.errors import SpecError


def number(argument: str, value: Any, low: float, high: float, whole: bool = False, open_low: bool = False) -> Any:
    """The value itself, when it is a number of the range.

    Args:
        argument: its name.
        value: what was given.
        low: smallest value.
        high: largest value, may be infinite.
        whole: integers only.
        open_low: ``low`` itself is refused.

    Raises:
        SpecError: naming argument, range and value.
    """
    kind = int if whole else int | float
    good = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high or (open_low and value == low):
        word = "an integer" if whole else "a number"
        upper = f"{high:g}]" if math.isfinite(high) else "infinity)"
        raise SpecError(f"{argument} must be {word} in {'(' if open_low else '['}{low:g}, {upper}, but got {value!r}.")
    return value
