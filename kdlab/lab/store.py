"""The run store: one folder per finished run, addressed by what decided it, never half written.

::

    out/runs/<key>/            spec.json result.json logits.safetensors student.safetensors method.safetensors
                               environment.json done.json (checksums, written last)
    out/runs/.building/        folders that are being written; renamed into place when complete
    out/runs/.checkpoints/     one file per unfinished run
    out/runs/.leases/          who is training what, with a heartbeat
    out/runs/.taught/          what teachers gave for the views of a cohort, a file per stream
    out/runs/.linear/          what a linear model reaches on the data, one checksummed file per data set and sizes
    out/runs/.damaged/         what could not be read any more
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdlab import paths
from kdlab.errors import SpecError
from kdlab.lab import damage
from kdlab.lab.damage import Damaged
from kdlab.lab.keys import SCHEMA
from kdlab.lab.unfinished import Unfinished

HEXADECIMAL = "0123456789abcdef"
NEEDED = {"spec": ("spec", "normal"), "result": ("test_accuracy", "curve"), "environment": ("digest", "git")}
# By store and key: damaged runs that cannot be moved, and those whose documents this process has read.
_shunned: set[tuple[str, str]] = set()
_sound: set[tuple[str, str]] = set()


class MissingRuns(SpecError):
    """A figure asked for runs that have not been made."""


class Store(Unfinished):
    """Finished runs on disk, and the claims and checkpoints of unfinished ones.

    Args:
        root: folder of the runs; None takes ``home()/runs``.
    """

    def __init__(self, root: Path | None = None):
        self.root = paths.absolute(root) if root else paths.home() / "runs"

    @property
    def teacher_cache(self) -> Path:
        """Folder of the stored teacher outputs, beside the runs."""
        return self.root / ".taught"

    def has(self, key: str) -> bool:
        """Whether the run is finished: its done marker is the last thing written before it got its name."""
        there = os.path.exists(f"{self.root}/{key}/done.json")  # to make a Path takes longer than to look
        return there and not (_shunned and (str(self.root), key) in _shunned)

    def keys(self) -> list[str]:
        """Keys of all finished runs."""
        with contextlib.suppress(OSError):
            return sorted(name for name in os.listdir(self.root) if name[0] in HEXADECIMAL and self.has(name))
        return []

    def read(self, key: str, name: str) -> Any:
        """One of a finished run's json files: ``"spec"``, ``"result"`` or ``"environment"``.

        Raises:
            Damaged: when it is no such file.
        """
        with damage.reading(key, f"{name}.json"), open(f"{self.root}/{key}/{name}.json", "rb") as file:
            if not isinstance(found := json.loads(file.read()), dict):
                raise ValueError("no fields by name")
            return found

    def logits(self, key: str) -> dict[str, np.ndarray]:
        """Logits (N, K) on val and test, without torch.

        Raises:
            Damaged: when the file is not what was written.
        """
        from safetensors.numpy import load

        with damage.reading(key, "logits.safetensors"):
            return load(self._whole(key, "logits.safetensors"))

    def weights(self, key: str, part: str = "student") -> dict:
        """State dict of the student (or of the ``"method"``) as torch tensors; nothing is unpickled.

        Raises:
            Damaged: when the file is not what was written.
        """
        from safetensors.torch import load

        with damage.reading(key, f"{part}.safetensors"):
            return load(self._whole(key, f"{part}.safetensors"))

    def _whole(self, key: str, file: str) -> bytes:
        """A file's content. A network with one wrong byte runs, so the checksum is looked at."""
        content = (self.root / key / file).read_bytes()
        if hashlib.sha256(content).hexdigest() != self._sums(key).get(file):
            raise ValueError("it no longer matches its checksum")
        return content

    def _sums(self, key: str) -> dict[str, str]:
        done = self.read(key, "done")
        with damage.reading(key, "done.json"):
            return dict(done["sha256"])

    def damaged(self, key: str) -> list[str]:
        """Files of a finished run that no longer match their checksums."""
        folder = self.root / key
        try:
            listed = self._sums(key)
        except Damaged:
            return ["done.json"]
        return [n for n, digest in listed.items() if _file_digest(folder / n) != digest]

    def documents(self, key: str) -> tuple[dict[str, Any], ...]:
        """A finished run's spec, result and environment.

        Raises:
            Damaged: when one of them cannot be read, or is another document.
        """
        found = tuple(self.read(key, name) for name in NEEDED)
        for (name, fields), document in zip(NEEDED.items(), found, strict=True):
            if lacking := [field for field in fields if field not in document]:
                raise Damaged(key, f"{name}.json", f"lacks {', '.join(lacking)}")
        return found

    def sound(self, key: str) -> bool:
        """Whether a finished run's documents can be read, each once a process; a run whose cannot is set aside."""
        if (known := (str(self.root), key)) not in _sound:
            try:
                self.documents(key)
            except Damaged as error:
                self.set_aside(error)
                return False
            _sound.add(known)
        return True

    def set_aside(self, error: Damaged) -> bool:
        """Move a damaged run out of the way, and say so: it counts as not trained from now on.

        Where it cannot be moved, it is left where it is and this process goes on as if it were not there.

        Returns:
            Whether it is out of the way now and was not before.
        """
        key = error.key
        if not self.has(key):  # somebody was faster
            return False
        _sound.discard((str(self.root), key))
        try:
            if not error.movable:
                raise OSError(error.reason)
            words = f"it was moved to {damage.move(self.root / key, self.root)}"
        except FileNotFoundError:
            return False
        except OSError:
            _shunned.add((str(self.root), key))
            words = f"it stays in {self.root} and is left out"
        damage.say(f"{error} {words[0].upper()}{words[1:]}, and counts as not trained.")
        return True

    def write(self, key: str, documents: dict[str, Any], tensors: dict[str, dict]) -> None:
        """Put a finished run in place at once: built aside, synced, checksummed, renamed.

        Args:
            key: the run's key; if another process finished it meanwhile, that run stays.
            documents: json files by name.
            tensors: safetensors files by name, each a dict of tensors or arrays.

        Raises:
            SpecError: when the disk refuses; nothing half written is left.
        """
        contents = {f"{n}.json": json.dumps(d, indent=1, sort_keys=True).encode() for n, d in documents.items()}
        contents |= {f"{name}.safetensors": _serialise(values) for name, values in tensors.items()}
        sums = {name: hashlib.sha256(contents[name]).hexdigest() for name in sorted(contents)}
        done = {"schema": SCHEMA, "key": key, "sha256": sums}
        self.place(key, contents | {"done.json": json.dumps(done, indent=1).encode()})

    def place(self, key: str, contents: Mapping[str, bytes]) -> None:
        """Put a run's files in place at once, as ``write`` does.

        Args:
            key: the run's key; if another process finished it meanwhile, that run stays.
            contents: of all its files by name; the done marker is written last.

        Raises:
            SpecError: when the disk refuses; nothing half written is left.
        """
        building = self.root / ".building" / f"{key}-{os.getpid()}"
        with self.disk(), contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, building, ignore_errors=True)  # a full disk needs the room
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            for name in sorted(contents, key=lambda name: name == "done.json"):
                paths.write_synced(building / name, contents[name])
            try:
                building.rename(self.root / key)
            except OSError:
                if not os.path.lexists(self.root / key):
                    raise
                if not self.has(key):  # a run that is none, or a damaged one; else another process was faster
                    aside = damage.move(self.root / key, self.root)
                    damage.say(f"{self.root / key} was no finished run; it was moved to {aside}.")
                    building.rename(self.root / key)
            damage.remove(self.checkpoint_path(key))
            _shunned.discard((str(self.root), key))

    def put(self, name: str, document: dict[str, Any]) -> None:
        """Keep a small document beside the runs: ``name.json`` with its checksum, there whole or not at all.

        Raises:
            SpecError: when the disk refuses.
        """
        path = self.root / f"{name}.json"
        content = {"sha256": _document_digest(document), "document": document}
        with self.disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            with paths.replacing(path) as aside:
                paths.write_synced(aside, json.dumps(content, indent=1, sort_keys=True).encode())

    def get(self, name: str) -> dict[str, Any] | None:
        """The document kept under a name, or None; a damaged file is set aside, and said."""
        path = self.root / f"{name}.json"
        try:
            content = json.loads(path.read_bytes())
            if content["sha256"] == _document_digest(content["document"]):
                return content["document"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            pass
        with contextlib.suppress(OSError):
            damage.say(f"{path} is damaged: it was moved to {damage.move(path, self.root)}, and is made again.")
        return None


def _serialise(values: dict) -> bytes:
    if all(isinstance(v, np.ndarray) for v in values.values()):
        from safetensors.numpy import save
    else:
        from safetensors.torch import save
    return save({k: v if isinstance(v, np.ndarray) else v.detach().cpu().contiguous() for k, v in values.items()})


def _file_digest(path: Path) -> str:
    """The digest of a file's content; empty for what cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _document_digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
