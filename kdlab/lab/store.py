"""The run store: one folder per finished run, addressed by what decided it, never half written.

::

    out/runs/<key>/            spec.json result.json logits.safetensors student.safetensors method.safetensors
                               environment.json done.json (checksums, written last)
    out/runs/.building/        folders that are being written; renamed into place when complete
    out/runs/.checkpoints/     one file per unfinished run
    out/runs/.leases/          who is training what, with a heartbeat
    out/runs/.taught/          what teachers gave for the views of a cohort, a file per stream
    out/runs/.linear/          what a linear model reaches on the data, one checksummed file per data set and sizes
    out/runs/.machine/         what ``kdlab doctor`` measured of this machine's arithmetic, likewise
    out/runs/.teachers/        scores of teachers that have no run on the student's own data, likewise
    out/runs/.measured/        numbers measured of finished runs afterwards, a file per run, likewise
    out/runs/.failed/          why a run is not there whose workers were lost twice, likewise
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
from kdlab.errors import SpecError, is_plain, plain
from kdlab.lab import damage
from kdlab.lab.beside import Beside
from kdlab.lab.damage import Damaged
from kdlab.lab.finished import NEEDED, Finished
from kdlab.lab.keys import SCHEMA
from kdlab.lab.unfinished import Unfinished

__all__ = ["NEEDED", "MissingRuns", "Store"]

HEXADECIMAL = frozenset("0123456789abcdef")
MEASURED, WEIGHTS = ".measured", "student.safetensors"
# By store and key: damaged runs that cannot be moved, and those whose documents this process has read.
_shunned: set[tuple[str, str]] = set()
_sound: set[tuple[str, str]] = set()


class MissingRuns(SpecError):
    """A figure asked for runs that have not been made."""


class Store(Finished, Unfinished, Beside):
    """Finished runs on disk, and the claims and checkpoints of unfinished ones.

    Args:
        root: folder of the runs; None takes ``home()/runs``.
    """

    def __init__(self, root: Path | str | None = None):
        self.root = paths.absolute(root) if root else paths.home() / "runs"

    def __repr__(self) -> str:
        return f"<Store {self.root}>"

    @property
    def teacher_cache(self) -> Path:
        """Folder of the stored teacher outputs, beside the runs."""
        return self.root / ".taught"

    def has(self, key: str) -> bool:
        """Whether the run is finished: its done marker is the last thing written before it got its name."""
        # A key is no path: whatever a ledger or a visitor names, nothing outside the store is looked at.
        there = HEXADECIMAL.issuperset(key) and os.path.exists(f"{self.root}/{key}/done.json")
        return there and not (_shunned and (str(self.root), key) in _shunned)

    def keys(self) -> list[str]:
        """Keys of all finished runs."""
        with contextlib.suppress(OSError):
            return sorted(name for name in os.listdir(self.root) if self.has(name))
        return []

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

    def measured(self, key: str) -> dict[str, float | None]:
        """Numbers that were measured of a finished run afterwards, by ``MEASURE.number``; none where none were.

        Those of other weights, from before the run was trained anew, count as not there.

        Raises:
            Damaged: when the run's done marker cannot be read.
        """
        kept = self.get(f"{MEASURED}/{key}")
        return kept["numbers"] if kept and kept["weights"] == self._sums(key).get(WEIGHTS) else {}

    def keep_measured(self, key: str, numbers: Mapping[str, float | None]) -> None:
        """Keep numbers for ``measured``; they replace those that are there.

        Raises:
            Damaged: when the run's done marker cannot be read.
            SpecError: when the disk refuses.
        """
        self.put(f"{MEASURED}/{key}", {"weights": self._sums(key).get(WEIGHTS), "numbers": dict(numbers)})

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
            if not error.movable or self.of_other_schema(key):
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
        if odd := [name for name in contents if not is_plain(name)]:
            raise SpecError(f"{odd[0]!r} cannot be a file of run {key}.")
        building = self.root / ".building" / f"{plain(key)}-{paths.owner()}"
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
            damage.remove(self.root / ".failed" / f"{key}.json")
            _shunned.discard((str(self.root), key))


def _serialise(values: dict) -> bytes:
    if all(isinstance(v, np.ndarray) for v in values.values()):
        from safetensors.numpy import save
    else:
        from safetensors.torch import save
    return save({k: v if isinstance(v, np.ndarray) else v.detach().cpu().contiguous() for k, v in values.items()})
