"""What a process is known by, so that another one can tell whether it still lives."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def me() -> dict[str, Any]:
    """This process: ``pid`` and ``host``, and, since numbers are given again, ``boot`` and ``born``.

    These say which start of which machine and container it belongs to, and when it was started, where the system tells.
    """
    return dict(_me(os.getpid()))


@functools.lru_cache(maxsize=2)
def _me(pid: int) -> Mapping[str, Any]:
    return {"pid": pid, "host": socket.gethostname(), "boot": _boot(), "born": _born(pid)}


def here(held: Mapping[str, Any]) -> bool:
    """Whether a process is, or was, of this machine since it was started."""
    return held.get("host") == socket.gethostname() and held.get("boot", _boot()) == _boot()


def alive(held: Mapping[str, Any]) -> bool | None:
    """Whether a process lives; None where nobody can tell.

    Args:
        held: what ``me`` gave in that process, at least ``pid`` and ``host``.
    """
    if not here(held):
        return None
    pid = held.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    except OverflowError:
        return False
    born = _born(pid)
    if born == "zombie":
        return False
    return None if held.get("born") is None or born is None else held["born"] == born


@functools.cache
def _boot() -> str | None:
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{machine} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """When a process was started, in ticks since its machine was; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return "zombie" if fields[0] in "ZX" else fields[19]
