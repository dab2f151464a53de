"""Finished runs as they are read: every file is what was written, by its checksum, or it is named as damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from kdlab.errors import from_json, plain
from kdlab.lab import damage
from kdlab.lab.damage import Damaged, Newer
from kdlab.lab.keys import SCHEMA

NEEDED = {"spec": ("spec", "normal"), "result": ("test_accuracy", "curve"), "environment": ("digest", "git")}


class Finished:
    """The part of a store that reads finished runs.

    Args:
        root: folder of the runs, absolute.
    """

    root: Path

    def read(self, key: str, name: str) -> Any:
        """One of a finished run's json files: ``"spec"``, ``"result"`` or ``"environment"``.

        Raises:
            Damaged: when it is not what was written.
        """
        return self._document(key, name, self._sums(key))

    def _document(self, key: str, name: str, sums: dict[str, str]) -> dict[str, Any]:
        with damage.reading(key, f"{name}.json"):
            if not isinstance(found := from_json(self._whole(key, f"{name}.json", sums)), dict):
                raise ValueError("no fields by name")
            return found

    def logits(self, key: str) -> dict[str, np.ndarray]:
        """Logits (N, K) on val and test, without torch.

        Raises:
            Damaged: when the file is not what was written.
        """
        from safetensors.numpy import load

        sums = self._sums(key)
        with damage.reading(key, "logits.safetensors"):
            return load(self._whole(key, "logits.safetensors", sums))

    def weights(self, key: str, part: str = "student") -> dict:
        """State dict of the student (or of the ``"method"``) as torch tensors; nothing is unpickled.

        Raises:
            Damaged: when the file is not what was written.
        """
        from safetensors.torch import load

        sums = self._sums(key)
        with damage.reading(key, f"{part}.safetensors"):
            return load(self._whole(key, f"{part}.safetensors", sums))

    def _whole(self, key: str, file: str, sums: dict[str, str]) -> bytes:
        """A file's content. A network with one wrong byte runs, and 81 is as good a number as 91: checksums tell."""
        with open(f"{self.root}/{plain(key)}/{file}", "rb") as opened:
            content = opened.read()
        if hashlib.sha256(content).hexdigest() != sums.get(file):
            raise ValueError("it no longer matches its checksum")
        return content

    def _sums(self, key: str) -> dict[str, str]:
        """The checksums of a finished run's files.

        Raises:
            Damaged: when its done marker cannot be read, or is that of another run.
            Newer: when a newer kdlab wrote the run.
        """
        with damage.reading(key, "done.json"), open(f"{self.root}/{plain(key)}/done.json", "rb") as file:
            done = from_json(file.read())
            if done["key"] != key:
                raise ValueError(f"it is that of run {done['key']}")
            sums = dict(done["sha256"])
            if done["schema"] != SCHEMA and (written := self._schema(key, sums)) is not None:
                if written != done["schema"]:
                    raise ValueError(f"schema {done['schema']} there, {written} in spec.json")
                if written > SCHEMA:
                    raise Newer(key, written, SCHEMA)
            return sums

    def _schema(self, key: str, sums: dict[str, str]) -> int | None:
        """The schema that a run's spec names; None where that cannot be told, as in a layout that we do not know."""
        try:
            return int(self._document(key, "spec", sums)["normal"]["schema"])
        except (Damaged, KeyError, TypeError, ValueError):
            return None

    def damaged(self, key: str) -> list[str]:
        """Files of a finished run that no longer match their checksums, or have none; of a newer kdlab's run none."""
        folder = self.root / plain(key)
        try:
            listed = self._sums(key)
        except Newer:
            return []
        except Damaged:
            return ["done.json"]
        try:
            unlisted = {path.name for path in folder.iterdir()} - {*listed, "done.json"}
        except OSError:
            unlisted = set()
        needed = {f"{name}.json" for name in NEEDED} - listed.keys()
        wrong = [name for name, digest in listed.items() if file_digest(folder / name) != digest]
        return sorted({*wrong, *needed, *unlisted})

    def documents(self, key: str) -> tuple[dict[str, Any], ...]:
        """A finished run's spec, result and environment.

        Raises:
            Damaged: when one of them cannot be read, or is another document.
        """
        sums = self._sums(key)
        found = tuple(self._document(key, name, sums) for name in NEEDED)
        for (name, fields), document in zip(NEEDED.items(), found, strict=True):
            if lacking := [field for field in fields if field not in document]:
                raise Damaged(key, f"{name}.json", f"lacks {', '.join(lacking)}")
        return found

    def of_other_schema(self, key: str) -> bool:
        """Whether another version of kdlab wrote a run, which is then not ours to call damaged."""
        try:
            with open(f"{self.root}/{plain(key)}/done.json", "rb") as file:
                done = from_json(file.read())
            return done["key"] == key and self._schema(key, dict(done["sha256"])) not in (None, SCHEMA)
        except (OSError, ValueError, TypeError, KeyError):
            return False


def file_digest(path: Path) -> str:
    """The digest of a file's content; empty for what cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
