"""The teacher cache: outputs of frozen teachers on replayable views, stored on disk and read by later runs.

A stream of views is fixed by data, subset, seed, originals a step, policy and copy; teacher and machine fix the bits of
the outputs. Each such stream has a file with a record a step: a checksum, the logits, the embedding. Stage maps are a
thousand times larger than logits and are not stored, so methods that read them run the teacher.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.paths import absolute
from kdlab.settings import gigabytes

if TYPE_CHECKING:
    from kdlab.models import Outputs

LIMIT_GB = 2.0


def limit() -> int:
    """Bytes the teacher cache may take: ``$KDLAB_TEACHER_GB`` gigabytes, else 2; 0 switches it off.

    Raises:
        SpecError: when the variable holds no such number.
    """
    return gigabytes(os.environ.get("KDLAB_TEACHER_GB") or LIMIT_GB)


def stream_digest(facts: Mapping[str, Any], stream_key: tuple) -> str:
    """A stream in a file name: 16 hexadecimal digits of the hash of everything that decides its views."""
    text = json.dumps([facts, stream_key], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cached_steps(folder: Path) -> dict[str, int]:
    """About how many steps of each stream a cache holds, of any machine, by stream digest; an estimate for plans."""
    found: dict[str, int] = {}
    for path in folder.glob("*-*-*"):
        name, _, size = path.name.split("-", 2)
        if not size.isdecimal() or not int(size) or not path.is_file():
            continue
        there = path.stat()
        taken = min(there.st_size, there.st_blocks * 512)  # what was never written takes no blocks
        found[name] = max(found.get(name, 0), math.ceil(taken / int(size)))
    return found


def damaged(path: Path) -> int:
    """How many steps of a stream's file are neither empty nor what was written, as after a kill amid one.

    Args:
        path: of a cache's folder.

    Raises:
        OSError: when it cannot be read.
    """
    name, _, size = path.name.rpartition("-")
    if not size.isdecimal() or not int(size):
        return 0
    found, seed = 0, zlib.crc32(name.encode())
    with path.open("rb") as file:
        for step, record in enumerate(iter(lambda: file.read(int(size)), b"")):
            whole = len(record) == int(size) and _checksum(record[4:], seed, step) == record[:4]
            found += not whole and record.count(0) < len(record)
    return found


class TeacherCache:
    """Files of teacher outputs in one folder; the least recently used are deleted to make room for new ones.

    Several processes may use one folder: what they write to a record is the same, and a record counts only if its
    checksum fits, so one that is half written is a missing one.

    Args:
        folder: where the files live.
        steps: optimiser steps in the longest run of the cohort.
        facts: what decides the views of all streams of this cohort; plain values.
        machine: digest of processor and versions, which decide the bits.
        limit: bytes that all files together may take.
    """

    def __init__(self, folder: Path, steps: int, facts: Mapping[str, Any], machine: str, limit: int):
        self.folder, self.steps, self.facts, self.limit = absolute(folder), steps, facts, limit
        self.machine = machine
        self._open: dict[tuple, tuple[int, int, int] | None] = {}
        self._refused: set[tuple] = set()

    def read(self, stream_key: tuple, step: int, rows: int) -> Outputs | None:
        """Logits and embedding of a view at a step, or None where the cache has none.

        Args:
            stream_key: which teacher and which view (``layout.stream_key``).
            step: optimiser step, from 0.
            rows: of the view.
        """
        import torch

        from kdlab.models import Outputs

        file = self._file(stream_key, None)
        if file is None:
            return None
        number, size, seed = file
        try:
            record = os.pread(number, size, step * size)
        except OSError:  # a bad disk costs time, not results
            return None
        if len(record) < size or _checksum(record[4:], seed, step) != record[:4]:
            return None
        classes = int.from_bytes(record[4:8], "little")
        values = torch.from_numpy(np.frombuffer(record, np.float32, offset=8).reshape(rows, -1).copy())
        embedding = values[:, classes:].contiguous() if classes < values.shape[1] else None
        return Outputs(values[:, :classes].contiguous(), (), embedding)

    def write(self, stream_key: tuple, step: int, outputs: Outputs) -> None:
        """Store logits and, where there is one, embedding of a view, unless there is no room."""
        parts = [outputs.logits] if outputs.embedding is None else [outputs.logits, outputs.embedding]
        values = np.concatenate([part.numpy() for part in parts], 1)
        payload = outputs.logits.shape[1].to_bytes(4, "little") + values.tobytes()
        file = self._file(stream_key, 4 + len(payload))
        if file is not None and step < self.steps:
            with contextlib.suppress(OSError):  # a full disk costs time, not results
                os.pwrite(file[0], _checksum(payload, file[2], step) + payload, step * file[1])

    def _file(self, stream_key: tuple, size: int | None) -> tuple[int, int, int] | None:
        """Descriptor, record size and seed of the checksums of a stream's file; made when ``size`` is given and there
        is room."""
        unknown = stream_key not in self._open or (size and self._open[stream_key] is None)
        if unknown and stream_key not in self._refused:
            self._open[stream_key] = self._opened(f"{stream_digest(self.facts, stream_key)}-{self.machine}", size)
            if size and self._open[stream_key] is None:
                self._refused.add(stream_key)
        return self._open.get(stream_key)

    def _opened(self, name: str, size: int | None) -> tuple[int, int, int] | None:
        path = next((p for p in self.folder.glob(f"{name}-*") if p.name.rpartition("-")[2].isdecimal()), None)
        if path is None and size is None:
            return None
        path = path or self.folder / f"{name}-{size}"
        size = int(path.name.rpartition("-")[2])
        try:
            has = path.stat().st_size if path.exists() else 0
            if has < self.steps * size and not self._room(self.steps * size, path):
                return None
            self.folder.mkdir(parents=True, exist_ok=True)
            number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            os.utime(path)
            if has < self.steps * size:
                os.ftruncate(number, self.steps * size)  # takes its whole place at once, so that the limit holds
            return number, size, zlib.crc32(name.encode())
        except OSError:
            return None

    def _room(self, size: int, mine: Path | None) -> bool:
        """Remove the least lately used files until ``size`` bytes fit under the limit."""
        files = sorted((p for p in self.folder.glob("*-*") if p != mine), key=lambda p: p.stat().st_mtime)
        taken = sum(p.stat().st_size for p in files)
        if size > self.limit:
            return False
        for path in files:
            if taken + size <= self.limit:
                break
            taken -= path.stat().st_size
            path.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            if file is not None:
                os.close(file[0])
        self._open.clear()


def _checksum(payload: bytes, seed: int, step: int) -> bytes:
    """Of a record in its place: the same record in another stream's file, or at another step, has another one."""
    return zlib.crc32(payload, zlib.crc32(step.to_bytes(8, "little"), seed)).to_bytes(4, "little")
