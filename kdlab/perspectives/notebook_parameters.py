"""The parameters that papermill puts into a notebook: read, and refused where the notebook has no such parameter.

papermill itself only warns of an unknown parameter, and runs on without it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from kdlab.errors import SpecError, check_integer, choose

LENGTHS = ("epochs", "steps", "originals", "teacher_epochs")
MOST_SEEDS = 100  # far more than any comparison takes, and few enough for a plan to be told at once
PARAMETERS = ("profile", "seeds", "data", "student", "teacher", *LENGTHS, "design", "out_dir")
INJECTED = "# Parameters"  # the line that papermill writes above the cell that it puts in


def literal(text: str) -> Any:
    """The value that a text is written as: ``3``, ``0.5``, ``[0, 1]``, ``true``; what is none of these stays text."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.strip().lower() in words:
        return words[text.strip().lower()]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text


def seeds(given) -> tuple[int, ...]:
    """Seeds from a count (``6`` means 0 to 5) or a list of them, or from either as text.

    Raises:
        SpecError: unless they are distinct non-negative integers, at least two.
    """
    given = literal(given) if isinstance(given, str) else given
    if isinstance(given, int) and given > MOST_SEEDS:
        raise SpecError(f"seeds must number at most {MOST_SEEDS:,}, but got {given!r}.")
    whole = list(range(given)) if isinstance(given, int) and not isinstance(given, bool) else given
    good = isinstance(whole, list | tuple) and all(isinstance(s, int) and not isinstance(s, bool) for s in whole)
    if not good or any(s < 0 for s in whole) or len(set(whole)) != len(whole):
        raise SpecError(f"seeds must be a count or a list of distinct non-negative integers, but got {given!r}.")
    if len(whole) < 2:
        raise SpecError(f"seeds must number at least 2, since an interval needs a spread, but got {given!r}.")
    return tuple(whole)


def parameters(names: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook's parameters as arguments of ``study``.

    Args:
        names: the notebook's ``globals()``.

    Returns:
        ``profile_name`` and the profile fields to change. Numbers and lists may come as text, as papermill's command
        line gives them.

    Raises:
        SpecError: for a parameter that the notebook does not have, with the nearest one.
    """
    check_injected(names, PARAMETERS)
    given = {name: names[name] for name in PARAMETERS if name in names and name != "out_dir"}
    for name in ("seeds", *LENGTHS):
        if isinstance(given.get(name), str):
            given[name] = literal(given[name])
    return {"profile_name": given.pop("profile", None)} | given


def check_injected(names: Mapping[str, Any], known: Iterable[str] = ()) -> None:
    """Refuse what papermill put into a notebook that has no such parameter.

    A kernel remembers the text of its cells (``In``), and papermill's own begins with a comment; so a notebook that is
    played with by hand may hold any other name.

    Args:
        names: the notebook's ``globals()``.
        known: its parameters; none means what the cells before papermill's assign.

    Raises:
        SpecError: for an unknown one, with the nearest.
    """
    known, seen = tuple(known), []
    for source in names.get("In", ()):
        if source.lstrip().split("\n")[0].rstrip() == INJECTED:
            for name in _assigned(source):
                choose("notebook parameter", name, known or seen or [name])
        else:
            seen += _assigned(source)


def _assigned(source: str) -> list[str]:
    """The names that a cell of assignments gives values to; none where it holds a magic that is no Python."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    return [t.id for node in body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)]


def check_kernel() -> None:
    """``check_injected`` for the notebook of this process's kernel; nothing outside of one."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        check_injected(shell.user_ns)


def whole(name: str, value: Any) -> int:
    """A number of things that may have come as ``3.0``.

    Raises:
        SpecError: unless it is an integer of at least 1.
    """
    return check_integer(name, int(value) if isinstance(value, float) and value.is_integer() else value, 1)
