"""A memo for the length of one plan: what data on disk and foreign source say is read once in it, not once a spec.

Both may change between two plans, so no answer outlives the block it was given in, as one of functools.cache would.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

_answers: contextvars.ContextVar[dict | None] = contextvars.ContextVar("answers", default=None)


@contextlib.contextmanager
def plan_memo() -> Iterator[None]:
    """Keep what functions marked ``memoised`` return until the block ends.

    Outside a block they compute everything anew. A block inside another shares its answers; other threads do not.
    """
    if _answers.get() is not None:
        yield
        return
    token = _answers.set({})
    try:
        yield
    finally:
        _answers.reset(token)


def memoised(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function whose arguments can be hashed; what it returns is shared, so nobody may change it."""

    @functools.wraps(function)
    def ask(*given, **named):
        answers = _answers.get()
        if answers is None:
            return function(*given, **named)
        arguments = function, given, *named.items()
        if arguments not in answers:
            answers[arguments] = function(*given, **named)
        return answers[arguments]

    return ask
