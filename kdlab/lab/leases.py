"""Leases: which process trains what, so that a run trains once however many sweeps ask for it.

A lease names its process. One of this machine is looked for: while it lives, even paused, its lease holds, and clocks
have no say. One of another machine cannot be looked for: its lease holds until whoever waits has seen it without a
heartbeat for ``LEASE_SECONDS`` of its own monotonic clock. A process that was paused for longer finds its lease
taken at its next heartbeat, and stops. Claims and heartbeats exclude one another by a lock on ``.lock``.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdlab import paths
from kdlab.errors import from_json, plain
from kdlab.lab import damage
from kdlab.lab.disk import OnDisk
from kdlab.lab.process import alive, here, me

LEASE_SECONDS = 60.0
LATE_SECONDS = 600.0
LOCK_SECONDS = 5.0
DAY = 86400.0
_seen: dict[str, tuple[tuple[int, int], float]] = {}  # by lease: what its file looked like, and since when


class Leases(OnDisk):
    """The part of a store that holds leases.

    Args:
        root: folder of the runs, absolute.
    """

    def _lease_path(self, key: str) -> Path:
        return self.root / ".leases" / plain(key)

    def lease(self, key: str) -> dict[str, Any] | None:
        """Who is training the run now and how far it is, or None; for a display, which must not wait.

        The lease of a dead process of this machine, or an old one of another, counts for nothing.
        """
        path = self._lease_path(key)
        try:
            held, age = read_lease(path), time.time() - path.stat().st_mtime
        except OSError:
            held = None
        if held is None:
            return None
        living = alive(held)
        return held if living or (living is None and age <= (LATE_SECONDS if here(held) else LEASE_SECONDS)) else None

    def training(self) -> dict[str, dict[str, Any]]:
        """The leases of all runs in training now, by key; for a display."""
        try:
            names = sorted(os.listdir(self.root / ".leases"))
        except OSError:
            return {}
        found = {name: self.lease(name) for name in names}
        return {name: held for name, held in found.items() if held and "curve" in held}

    def claim(self, key: str) -> bool:
        """Take the run for this process; False while another live process holds it."""
        path = self._lease_path(key)
        with self.disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone() as alone:
                if not alone:
                    return False
                if os.path.lexists(path):
                    if _mine(path):
                        return True
                    if not _free(path):
                        return False
                    damage.remove(path)
                try:
                    with open(path, "x") as file:
                        json.dump(me(), file)
                except FileExistsError:  # of a process that cannot lock
                    return False
        return True

    def heartbeat(self, key: str, **progress: Any) -> bool:
        """Keep the claim alive and tell how far the run is; False when it is not ours any more."""
        return self.heartbeats({key: progress})

    def heartbeats(self, runs: Mapping[str, Mapping[str, Any]]) -> bool:
        """Keep claims alive and tell how far the runs are; False when one of them is not ours any more.

        Args:
            runs: progress by key.
        """
        ours = True
        with contextlib.suppress(OSError), self._alone() as alone:
            for key, progress in runs.items() if alone else ():
                path = self._lease_path(key)
                if not _mine(path):
                    ours = False
                    continue
                with paths.replacing(path) as aside:
                    aside.write_text(json.dumps(me() | dict(progress)))
        return ours

    def clear(self, key: str) -> None:
        """Remove the lease of a process that is gone, unless somebody has taken it over meanwhile."""
        with self._alone() as alone:
            if alone and abandoned(path := self._lease_path(key)):
                damage.remove(path)

    def beaten(self, key: str) -> int:
        """When the last heartbeat of a run was, in nanoseconds of the disk's clock; 0 without a lease."""
        with contextlib.suppress(OSError):
            return self._lease_path(key).stat().st_mtime_ns
        return 0

    def owns(self, key: str) -> bool:
        """Whether the run is this process's to train."""
        return _mine(self._lease_path(key))

    def release(self, keys: Iterable[str]) -> None:
        """Give the claims back; what is not ours any more stays."""
        for key in keys:
            with contextlib.suppress(OSError), self._alone():
                if _mine(path := self._lease_path(key)):
                    path.unlink()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Keep other processes from claiming meanwhile; False where that takes too long, as when one is paused."""
        try:
            import fcntl
        except ImportError:  # no such locks on Windows
            yield True
            return
        number = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield _locked(fcntl, number)
        finally:
            os.close(number)  # which unlocks


def _locked(fcntl: Any, number: int) -> bool:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        except OSError:  # a file system without locks: creating a file decides alone
            return True


def read_lease(path: Path) -> dict[str, Any] | None:
    """What a lease says; empty while it is being written, None when it is no lease."""
    try:
        held = from_json(path.read_text() or "{}")
    except (ValueError, IsADirectoryError):
        return None
    return held if isinstance(held, dict) and isinstance(held.get("step", 0), int) else None


def _mine(path: Path) -> bool:
    held = read_lease(path) if os.path.lexists(path) else None
    return bool(held) and {name: held.get(name) for name in me()} == me()


def _free(path: Path) -> bool:
    """Whether a lease is that of nobody: of a dead process, or silent as long as we have looked."""
    held = read_lease(path)
    if held is None:
        return True
    living = alive(held)
    return not living if living is not None else _silent(path, LATE_SECONDS if here(held) else LEASE_SECONDS)


def abandoned(path: Path) -> bool:
    """Whether a lease is a dead process's, or has been silent for a day."""
    with contextlib.suppress(OSError):
        held = read_lease(path)
        living = alive(held) if held else None
        return living is False or (living is None and time.time() - path.stat().st_mtime > DAY)
    return False


def _silent(path: Path, seconds: float) -> bool:
    """Whether a file has not changed for so long, by this process's own clock, which nobody sets."""
    try:
        there = path.stat()
    except OSError:
        return False
    look, now = (there.st_mtime_ns, there.st_ino), time.monotonic()
    if _seen.get(str(path), (None, 0.0))[0] != look:
        _seen[str(path)] = look, now
    return now - _seen[str(path)][1] > seconds
