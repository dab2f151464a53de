"""Unfinished runs: checkpoints to go on from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from kdlab import paths
from kdlab.errors import from_json, plain
from kdlab.lab import damage
from kdlab.lab.damage import Damaged
from kdlab.lab.disk import OnDisk, writing
from kdlab.lab.leases import Leases

__all__ = ["Unfinished", "writing"]

UNSEALED = "0" * 64


class Unfinished(Leases, OnDisk):
    """The part of a store that holds checkpoints and leases.

    Args:
        root: folder of the runs, absolute.
    """

    def __init__(self, root: Path):
        self.root = root

    def checkpoint_path(self, key: str) -> Path:
        """The single file that holds an unfinished run."""
        return self.root / ".checkpoints" / f"{plain(key)}.safetensors"

    def save_checkpoint(self, key: str, tensors: dict, plain: dict[str, Any], environment: str = "") -> None:
        """Replace the run's checkpoint in one step; the previous one stays whole until then.

        Args:
            key: of the run.
            tensors: safetensors by name.
            plain: what json can hold.
            environment: digest of what it was computed with.

        Raises:
            SpecError: when the disk refuses.
        """
        path = self.checkpoint_path(key)
        content = _sealed(tensors, {"plain": json.dumps(plain), "key": key, "environment": environment})
        with self.disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            with paths.replacing(path) as aside:
                paths.write_synced(aside, content)
                if path.is_dir():
                    damage.move(path, self.root)

    def load_checkpoint(self, key: str, environment: str = "") -> tuple[dict, dict[str, Any]] | None:
        """The run's checkpoint, or None; one that is not what was written is set aside.

        Args:
            key: of the run.
            environment: digest of what will go on with it. A run has its bits from one environment: a checkpoint of
                another counts as none, and is replaced by the next one.
        """
        if not self.checkpoint_path(key).exists():
            return None
        from safetensors.torch import load

        try:
            with damage.reading(key, "its checkpoint"):
                content, held = self._whole_checkpoint(key)
                if environment != held.get("environment", "") and environment and held.get("environment"):
                    damage.say(f"the checkpoint of run {key} was made by another environment; the run begins anew.")
                    return None
                return load(content), from_json(held["plain"])
        except Damaged as error:
            self.drop_checkpoint(error)
            return None

    def _whole_checkpoint(self, key: str) -> tuple[bytes, dict[str, str]]:
        """A checkpoint's content and what its header says; ValueError for one that is not what was written."""
        held = _metadata(content := self.checkpoint_path(key).read_bytes())
        if "sha256" in held or "key" in held:  # those of earlier versions had neither
            if hashlib.sha256(_with_seal(content, held["sha256"], UNSEALED)).hexdigest() != held["sha256"]:
                raise ValueError("it no longer matches its checksum")
            if held["key"] != key:
                raise ValueError(f"it is that of run {held['key']}")
        return content, held

    def checkpoint_fault(self, key: str) -> str:
        """What is wrong with a run's checkpoint, in words; empty for a whole one and for none."""
        try:
            with damage.reading(key, "its checkpoint"):
                if self.checkpoint_path(key).exists():
                    self._whole_checkpoint(key)
        except Damaged as error:
            return str(error)
        return ""

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
                return int(from_json(file.metadata()["plain"])["step"])
        except Damaged:
            return 0

    def begun(self) -> set[str]:
        """Keys that may have a lease, a checkpoint or a failure: three listings for those who would look for many."""
        found = set()
        for folder in (".leases", ".checkpoints", ".failed"):
            with contextlib.suppress(OSError):
                found |= {name.partition(".")[0] for name in os.listdir(self.root / folder)}
        return found


def _sealed(tensors: dict, held: dict[str, str]) -> bytes:
    """A safetensors file whose header holds a checksum of the whole file, taken with zeros in the checksum's place."""
    from safetensors.torch import save

    content = save(tensors, metadata=held | {"sha256": UNSEALED})
    return _with_seal(content, UNSEALED, hashlib.sha256(content).hexdigest())


def _with_seal(content: bytes, before: str, after: str) -> bytes:
    return content.replace(f'"sha256":"{before}"'.encode(), f'"sha256":"{after}"'.encode(), 1)


def _metadata(content: bytes) -> dict[str, str]:
    size = int.from_bytes(content[:8], "little")
    return from_json(content[8 : 8 + size])["__metadata__"]
