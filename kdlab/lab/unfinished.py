"""Unfinished runs: checkpoints to go on from, and leases that tell which process trains what."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kdlab import paths
from kdlab.errors import SpecError
from kdlab.lab import damage
from kdlab.lab.damage import Damaged

LEASE_SECONDS = 60.0
LATE_SECONDS = 600.0


@contextlib.contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Turn what the disk refuses into one sentence.

    Raises:
        SpecError: naming the path and the reason, followed by the advice.
    """
    try:
        yield
    except OSError as error:
        raise SpecError(f"cannot write to {path}: {error.strerror or error}.{advice}") from error


class Unfinished:
    """The part of a store that holds checkpoints and leases.

    Args:
        root: folder of the runs, absolute.
    """

    def __init__(self, root: Path):
        self.root = root

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Say in words what the disk of the store refused, and what to do."""
        advice = "free some space or point KDLAB_OUT at another folder, then run the same command again."
        with writing(self.root, f" Finished runs are safe; {advice}"):
            yield

    def checkpoint_path(self, key: str) -> Path:
        """The single file that holds an unfinished run."""
        return self.root / ".checkpoints" / f"{key}.safetensors"

    def save_checkpoint(self, key: str, tensors: dict, plain: dict[str, Any]) -> None:
        """Replace the run's checkpoint in one step; the previous one stays whole until then."""
        from safetensors.torch import save

        path = self.checkpoint_path(key)
        with self.disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            with paths.replacing(path) as aside:
                paths.write_synced(aside, save(tensors, metadata={"plain": json.dumps(plain)}))
                if path.is_dir():
                    damage.move(path, self.root)

    def load_checkpoint(self, key: str) -> tuple[dict, dict[str, Any]] | None:
        """The run's checkpoint, or None; one that cannot be read is set aside."""
        if not self.checkpoint_path(key).exists():
            return None
        from safetensors import safe_open

        try:
            with damage.reading(key, "its checkpoint"), safe_open(self.checkpoint_path(key), "pt") as file:
                return {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["plain"])
        except Damaged as error:
            self.drop_checkpoint(error)
            return None

    def drop_checkpoint(self, error: Damaged) -> None:
        """Move a damaged checkpoint out of the way, and say so: the run begins anew."""
        with contextlib.suppress(OSError):
            path = damage.move(self.checkpoint_path(error.key), self.root)
            damage.say(f"{error} It was moved to {path}, and the run begins anew.")

    def steps_done(self, key: str) -> int:
        """Optimiser steps that the run's checkpoint holds; 0 without a sound one. Loads no tensor and no torch."""
        from safetensors import safe_open

        if not self.checkpoint_path(key).exists():
            return 0
        try:
            with damage.reading(key, "its checkpoint"), safe_open(self.checkpoint_path(key), "np") as file:
                return int(json.loads(file.metadata()["plain"])["step"])
        except Damaged:
            return 0

    def _lease_path(self, key: str) -> Path:
        return self.root / ".leases" / key

    def lease(self, key: str) -> dict[str, Any] | None:
        """Who is training the run now and how far it is, or None.

        The lease of a dead process of this machine, or one without a heartbeat, counts for nothing. A living process
        of this machine may be late, but not for ever: after a crash its number may be another program's.
        """
        path = self._lease_path(key)
        try:
            held = json.loads(path.read_text() or "{}")
            age = time.time() - path.stat().st_mtime
        except (OSError, ValueError):
            return None
        if not isinstance(held, dict) or not isinstance(held.get("step", 0), int):
            return None
        here = held.get("host") == socket.gethostname()
        dead = age > (LATE_SECONDS if here else LEASE_SECONDS) or (here and not _alive(held.get("pid", 0)))
        return None if dead else held

    def begun(self) -> set[str]:
        """Keys that may have a lease or a checkpoint: two listings for those who would look for many."""
        found = set()
        for folder in (".leases", ".checkpoints"):
            with contextlib.suppress(OSError):
                found |= {name.partition(".")[0] for name in os.listdir(self.root / folder)}
        return found

    def claim(self, key: str) -> bool:
        """Take the run for this process; False while another live process holds it."""
        path = self._lease_path(key)
        with self.disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and self.lease(key) is None:
                damage.remove(path)
            try:
                with open(path, "x") as file:
                    json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)
            except FileExistsError:
                held = self.lease(key)
                return bool(held) and held.get("pid") == os.getpid() and held.get("host") == socket.gethostname()
        return True

    def heartbeat(self, key: str, **progress: Any) -> None:
        """Keep the claim alive and tell how far the run is."""
        with contextlib.suppress(OSError), paths.replacing(self._lease_path(key)) as aside:
            aside.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()} | progress))

    def release(self, keys: Iterable[str]) -> None:
        """Give the claims back."""
        for key in keys:
            self._lease_path(key).unlink(missing_ok=True)


def _alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
