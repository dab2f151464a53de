"""SpecError, and checks of arguments that raise it: choices, integers, numbers in a range, names that are no paths."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class SpecError(ValueError):
    """A user's mistake, said in one sentence that names the argument, the value and the choices."""


class Unfit(SpecError):
    """A perspective that has no answer with these data or lengths, where others have."""


DEEPEST = 100  # lists and objects within each other; ours have ten at most
# What comes of reading a document that is not the one that was written, in as many ways as there are damages.
DAMAGES = (LookupError, TypeError, ValueError, AttributeError)


def damaged(path: Path, why: Exception | str) -> SpecError:
    """What to say of a document beside the figures that is no longer, or not yet, one that this version writes.

    Args:
        path: its file.
        why: what is wrong with it, or what reading it has raised.
    """
    said = f"it lacks {why}" if isinstance(why, KeyError) else str(why).partition("\n")[0]
    return SpecError(f"{path} is damaged, or of another version: {said}. `make figures` writes it anew.")


def from_json(text: str | bytes) -> Any:
    """What a json text says.

    Args:
        text: as it was read from a file that anybody may have written.

    Raises:
        ValueError: for what is no json, or is nested so deep that whatever goes through it could not.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    level = [found]
    for _ in range(DEEPEST):
        level = [part for one in level if isinstance(one, list | dict)
                 for part in (one.values() if isinstance(one, dict) else one)]  # fmt: skip
        if not level:
            return found
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


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


def check_integer(argument: str, value: Any, low: float = 0, high: float = math.inf) -> int:
    """Return ``value`` when it is an integer in [low, high]; ``True`` and ``2.0`` are none.

    Raises:
        SpecError: naming the argument, the range and the value.
    """
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    kind = "a non-negative integer" if low == 0 else f"an integer of at least {low}"
    kind = kind if math.isinf(high) else f"an integer in [{low}, {high}]"
    raise SpecError(f"{argument} must be {kind}, but got {value!r}.")


def check_number(argument: str, value: Any, low: float = 0, high: float = math.inf, *, open_low: bool = False) -> float:
    """Return ``value`` when it is a finite number in [low, high], or in (low, high] with ``open_low``.

    Raises:
        SpecError: naming the argument, the range and the value.
    """
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if good and low <= value <= high and not (open_low and value == low):
        return value
    kind = f"a {'positive' if open_low else 'non-negative'}, finite number"
    kind = kind if math.isinf(high) else f"a number in {'(' if open_low else '['}{low:g}, {high:g}]"
    raise SpecError(f"{argument} must be {kind}, but got {value!r}.")


def is_plain(name: str) -> bool:
    """Whether a name stays in the folder that it is looked for in: no path, not hidden, nothing that ends a path."""
    return bool(name) and name[0] != "." and not ("/" in name or "\\" in name or "\0" in name)


def plain(name: str) -> str:
    """A key, a name or an id on its way into a path.

    Args:
        name: as it came: from a ledger, another machine, a person.

    Raises:
        SpecError: for one that would lead out of its folder, or to what is hidden in it.
    """
    if is_plain(name):
        return name
    raise SpecError(f"a name must be plain, without a slash or a dot in front, but got {name!r}.")
