"""The environment variables that kdlab reads, and what each may be: looked at before anything trains.

A variable that is set to something else than it may be, or whose name is one letter off, would otherwise do nothing,
or stop a sweep in its first step.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kdlab.errors import SpecError, choose
from kdlab.paths import absolute

PREFIX = "KDLAB_"
FOLDERS = ("KDLAB_OUT", "KDLAB_DATA", "KDLAB_LEDGER")
INNER = ("KDLAB_MODULES", "KDLAB_VISITORS")  # what one process of kdlab tells those that it starts
SWITCH = ("0", "1")
DEVICES = ("cpu", "cuda", "cuda:0", "mps")


def profile(said: str) -> None:
    """``KDLAB_PROFILE``: the profile where none is named."""
    choose("KDLAB_PROFILE", said, ("smoke", "quick", "standard", "full", "paper"))


def device(said: str, source: str = "KDLAB_DEVICE") -> None:
    """``KDLAB_DEVICE``: what trains, by torch's word for it; whether it is there only torch can tell.

    Args:
        said: the word.
        source: where it was said.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", said):
        hint = " Did you mean 'cuda'?" if said.lower() in ("gpu", "nvidia") else ""
        if hint:
            raise SpecError(f"{source} must be one of [{', '.join(DEVICES)}], but got {said!r}.{hint}")
        choose(source, said, DEVICES)


def on_gpu() -> bool:
    """Whether a GPU of NVIDIA's will train, as far as can be told without torch."""
    said = os.environ.get("KDLAB_DEVICE")
    return said.startswith("cuda") if said else Path("/proc/driver/nvidia/version").exists()


def workers(said: int | None = None) -> int:
    """Processes that train: those that were asked for, else one on a GPU and one a core elsewhere."""
    return said if said is not None else 1 if on_gpu() else os.cpu_count() or 1


def gigabytes(said: str | float) -> int:
    """``KDLAB_TEACHER_GB``: bytes that kept teacher outputs may take."""
    try:
        if 0 <= float(said) < math.inf:
            return int(float(said) * 1e9)
    except ValueError:
        pass
    raise SpecError(f"KDLAB_TEACHER_GB must be a number of gigabytes, 0 or more, but is {said!r}.")


def silence(said: str | None = None) -> float:
    """``KDLAB_SILENCE``: seconds without a sign of life after which a worker is ended; half an hour if not set."""
    said = said or os.environ.get("KDLAB_SILENCE") or "1800"
    try:
        if 10 <= float(said) < math.inf:
            return float(said)
    except ValueError:
        pass
    raise SpecError(f"KDLAB_SILENCE must be a number of seconds, 10 or more, but is {said!r}.")


def folder(name: str) -> Callable[[str], None]:
    """A check of a variable that names a folder, which need not be there yet."""

    def check(said: str) -> None:
        path = absolute(said)
        there = next(p for p in (path, *path.parents) if os.path.lexists(p))
        if not there.is_dir():
            raise SpecError(f"{name} must be a folder, but {there} is none (it is set to {said!r}).")

    return check


def switch(name: str) -> Callable[[str], None]:
    """A check of a variable that is 0 or 1."""
    return lambda said: choose(name, said, SWITCH) and None


# Name to what it decides, in a few words, and its check.
VARIABLES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "KDLAB_PROFILE": ("the profile: smoke, quick, standard, full or paper", profile),
    "KDLAB_OUT": ("the folder of everything kdlab writes", folder("KDLAB_OUT")),
    "KDLAB_DATA": ("the folder of data sets", folder("KDLAB_DATA")),
    "KDLAB_LEDGER": ("the folder of the ledger, instead of figures/ledger", folder("KDLAB_LEDGER")),
    "KDLAB_DEVICE": ("what trains: cpu, cuda, cuda:N, mps", device),
    "KDLAB_DETERMINISTIC": ("1 makes a GPU give the same bits twice, more slowly", switch("KDLAB_DETERMINISTIC")),
    "KDLAB_TEACHER_GB": ("gigabytes of teacher outputs to keep; 0 keeps none", gigabytes),
    "KDLAB_SILENCE": ("seconds without a sign of life after which a worker is ended, 1800 if not set", silence),
    "KDLAB_INTERACTIVE": ("0 shows pictures in notebooks instead of sliders", switch("KDLAB_INTERACTIVE")),
}


def check(names: Iterable[str] = VARIABLES) -> None:
    """Refuse a variable that is set to what it may not be; an empty one counts as not set. Imports no torch.

    Args:
        names: of the variables to look at.

    Raises:
        SpecError: naming the variable, its value and what it may be.
    """
    for name in names:
        if said := os.environ.get(name):
            VARIABLES[name][1](said)


def faults() -> list[str]:
    """What is wrong with the variables that are set, a sentence each: all of them, unlike ``check``."""
    found = []
    for name in VARIABLES:
        try:
            check([name])
        except SpecError as error:
            found.append(str(error))
    return found + misspelt()


def misspelt() -> list[str]:
    """A sentence for every variable of our prefix that nothing reads, with the nearest that is read."""
    said = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in (*VARIABLES, *INNER):
            known = {variable.removeprefix(PREFIX): variable for variable in VARIABLES}
            near = difflib.get_close_matches(name.removeprefix(PREFIX), known, 1)
            said.append(f"{name} is set, but nothing reads it.{f' Did you mean {known[near[0]]}?' if near else ''}")
    return said
