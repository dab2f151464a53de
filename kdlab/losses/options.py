"""Options of a method: class-level fields with defaults and ranges, which ``Method.__init__`` reads and checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, get_args, get_origin

from kdlab.errors import SpecError, check_integer, check_number, choose


def at_most(limit: float, words: str) -> Callable[[str, float], float]:
    """A range of finite numbers from 0 to ``limit``, which a message calls by ``words``."""

    def check(argument: str, value: float) -> float:
        if check_number(argument, value) > limit:
            raise SpecError(f"{argument} must be {words}, but got {value!r}.")
        return value

    return check


NonNegative = Annotated[float, check_number]
Positive = Annotated[float, partial(check_number, open_low=True)]
Count = Annotated[int, partial(check_integer, low=1)]


def fields(cls: type) -> dict[str, inspect.Parameter]:
    """The annotated fields with a default that a class body declares, taken off the class; the rest stays.

    What follows the type in an ``Annotated`` is the option's range, see ``checked``. An attribute of the class would
    hide a part of the same name, since torch keeps parts elsewhere than in the instance.
    """
    found = {}
    for name, hint in inspect.get_annotations(cls, eval_str=True).items():
        if name in vars(cls) and not name.startswith("_") and get_origin(hint) is not ClassVar:
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            found[name] = inspect.Parameter(name, kind, default=vars(cls)[name], annotation=hint)
            delattr(cls, name)
    return found


def signature(options: dict[str, inspect.Parameter]) -> inspect.Signature:
    """What ``help`` shows: the options with their types, without the ranges."""
    plain = {name: get_args(o.annotation)[0] for name, o in options.items() if get_origin(o.annotation) is Annotated}
    return inspect.Signature([o.replace(annotation=plain.get(name, o.annotation)) for name, o in options.items()])


def checked(option: inspect.Parameter, value: Any) -> Any:
    """The value of an option, or what is wrong with it.

    The range is a function of name and value, as ``check_number``, or a collection of the choices; a ``bool`` has two.

    Raises:
        SpecError: naming the option, the value and the range.
    """
    hint = option.annotation
    for limit in ((False, True),) if hint is bool else getattr(hint, "__metadata__", ()):
        value = limit(option.name, value) if callable(limit) else choose(option.name, value, limit)
    return value
