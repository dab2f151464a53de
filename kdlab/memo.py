"""Within one plan nothing is asked twice: 100,000 specs share a handful of data sets, foreign parts and teachers.

Data on disk and foreign source may change between two plans, so no answer outlives the block that it was given in.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

_answers: contextvars.ContextVar[dict | None] = contextvars.ContextVar("answers", default=None)


@contextlib.contextmanager
def asking_once() -> Iterator[None]:
    """Keep the answers of what ``by_value`` and ``by_identity`` mark until the block ends.

    Outside a block everything is asked anew. A block inside another shares its answers; other threads do not.
    """
    if _answers.get() is not None:
        yield
        return
    token = _answers.set({})
    try:
        yield
    finally:
        _answers.reset(token)


def by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function whose arguments can be hashed; what it returns is shared, so nobody may change it."""

    @functools.wraps(function)
    def ask(*given, **named):
        answers = _answers.get()
        if answers is None:
            return function(*given, **named)
        question = function, given, *named.items()
        if question not in answers:
            answers[question] = function(*given, **named)
        return answers[question]

    return ask


def by_identity(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Mark a function of one frozen object that cannot be hashed, such as a spec with its options."""

    @functools.wraps(function)
    def ask(one):
        answers = _answers.get()
        if answers is None:
            return function(one)
        question = function, id(one)
        if question not in answers:
            answers[question] = one, function(one)  # holds the object: the id of a freed one is given out again
        return answers[question][1]

    return ask
