"""A user's mistake, and how to say what would have been right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class SpecError(ValueError):
    """A user's mistake, said in one sentence that names the argument, the value and the choices."""


def choose(argument: str, value: Any, choices: Iterable[Any]) -> Any:
    """Return ``value`` when it is one of ``choices``; otherwise say what would have been right.

    Raises:
        SpecError: naming the argument, the value, the nearest choice and all choices.
    """
    choices = list(choices)
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(str(c) for c in choices)
    raise SpecError(f"{argument} must be one of [{listed}], but got {value!r}.{hint}")
