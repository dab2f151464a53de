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
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdlab.errors import SpecError
from kdlab.lab import damage
from kdlab.lab.damage import Damaged
from kdlab.lab.keys import SCHEMA
from kdlab.paths import absolute, home

LEASE_SECONDS = 60.0
LATE_SECONDS = 600.0
HEXADECIMAL = "0123456789abcdef"
NEEDED = {"spec": ("spec", "normal"), "result": ("test_accuracy", "curve"), "environment": ("digest", "git")}
# By store and key: damaged runs that cannot be moved, and those whose documents this process has read.
_shunned: set[tuple[str, str]] = set()
_sound: set[tuple[str, str]] = set()


class MissingRuns(SpecError):
    """A figure asked for runs that have not been made."""


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


class Store:
    """Finished runs on disk, and the claims and checkpoints of those in the making.

    Args:
        root: folder of the runs; None takes ``home()/runs``.
    """

    def __init__(self, root: Path | None = None):
        self.root = absolute(root) if root else home() / "runs"

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
        building = self.root / ".building" / f"{key}-{os.getpid()}"
        with self.disk(), _removed_on_error(building):
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            for name, document in documents.items():
                _write(building / f"{name}.json", json.dumps(document, indent=1, sort_keys=True).encode())
            for name, values in tensors.items():
                _write(building / f"{name}.safetensors", _serialise(values))
            sums = {p.name: _file_digest(p) for p in sorted(building.iterdir())}
            done = {"schema": SCHEMA, "key": key, "sha256": sums}
            _write(building / "done.json", json.dumps(done, indent=1).encode())
            try:
                building.rename(self.root / key)
            except OSError:
                if self.has(key):  # another process was faster
                    shutil.rmtree(building, ignore_errors=True)
                elif not os.path.lexists(self.root / key):
                    raise
                else:  # a run that is none, or a damaged one
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
        aside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")  # explorers keep scores in threads
        with self.disk(), _removed_on_error(aside):
            path.parent.mkdir(parents=True, exist_ok=True)
            content = {"sha256": _document_digest(document), "document": document}
            _write(aside, json.dumps(content, indent=1, sort_keys=True).encode())
            os.replace(aside, path)

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

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Say in words what the disk of the store refused, and what to do."""
        advice = "free some space or point KDLAB_OUT at another folder, then run the same command again."
        with writing(self.root, f" Finished runs are safe; {advice}"):
            yield

    # ---- runs in the making -----------------------------------------------------------------------------------------

    def checkpoint_path(self, key: str) -> Path:
        """The single file that holds an unfinished run."""
        return self.root / ".checkpoints" / f"{key}.safetensors"

    def save_checkpoint(self, key: str, tensors: dict, plain: dict[str, Any]) -> None:
        """Replace the run's checkpoint in one step; the previous one stays whole until then."""
        from safetensors.torch import save

        path = self.checkpoint_path(key)
        aside = path.with_suffix(f".{os.getpid()}")
        with self.disk(), _removed_on_error(aside):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(aside, save(tensors, metadata={"plain": json.dumps(plain)}))
            if path.is_dir():
                damage.move(path, self.root)
            os.replace(aside, path)

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
        with contextlib.suppress(OSError):
            path = self._lease_path(key)
            aside = path.with_suffix(f".{os.getpid()}")
            aside.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()} | progress))
            os.replace(aside, path)

    def release(self, keys: Iterable[str]) -> None:
        """Give the claims back."""
        for key in keys:
            self._lease_path(key).unlink(missing_ok=True)


@contextlib.contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    """Leave nothing behind when writing fails; a full disk needs the room."""
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


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
