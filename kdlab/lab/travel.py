"""Runs that travel between two stores as bytes: packed with their checksums, and put in place as if trained there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from kdlab import paths
from kdlab.errors import from_json
from kdlab.lab import damage
from kdlab.lab.store import Store

DONE = "done.json"


@dataclass
class Parcel:
    """What is sent.

    Attributes:
        runs: the files of finished runs, by key and name.
        checkpoints: those of unfinished ones, by key.
    """

    runs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    checkpoints: dict[str, bytes] = field(default_factory=dict)

    def only(self, keys: Iterable[str]) -> Parcel:
        """What it holds of these runs."""
        keys = set(keys)
        checkpoints = {key: self.checkpoints[key] for key in keys & self.checkpoints.keys()}
        return Parcel({key: self.runs[key] for key in keys & self.runs.keys()}, checkpoints)


def pack(store: Store, keys: Iterable[str]) -> Parcel:
    """Read finished runs, and the checkpoints of those that are not; what a store has neither of is left out.

    Args:
        store: where they live.
        keys: of the runs.

    Raises:
        Damaged: when a file of a finished run is not what was written.
    """
    parcel = Parcel()
    for key in keys:
        if store.has(key):
            parcel.runs[key] = _files(store, key)
        elif (checkpoint := store.checkpoint_path(key)).is_file():
            parcel.checkpoints[key] = checkpoint.read_bytes()
    return parcel


def _files(store: Store, key: str) -> dict[str, bytes]:
    files = {}
    with damage.reading(key, DONE):
        names = [*from_json((store.root / key / DONE).read_bytes())["sha256"], DONE]
    for name in names:
        with damage.reading(key, name):
            files[name] = (store.root / key / name).read_bytes()
    check(key, files)
    return files


def check(key: str, files: Mapping[str, bytes]) -> None:
    """Compare the files of a finished run with their checksums.

    Args:
        key: of the run.
        files: content by name, the done marker among them.

    Raises:
        Damaged: for the first that is not what was written, is missing, or is one too many.
    """
    with damage.reading(key, DONE):
        done = from_json(files[DONE])
        if done["key"] != key:
            raise ValueError(f"is that of run {done['key']}")
        sums = dict(done["sha256"])
    for name in sorted(sums.keys() | files.keys() - {DONE}):
        with damage.reading(key, name):
            if name not in sums or PurePath(name).name != name:
                raise ValueError("is no file of a run")
            if hashlib.sha256(files[name]).hexdigest() != sums[name]:
                raise ValueError("it no longer matches its checksum")


def unpack(parcel: Parcel, store: Store) -> None:
    """Put what was sent into a store, each run at once; a run that is there stays.

    Args:
        parcel: whose sender was asked for these runs.
        store: where to put them.

    Raises:
        Damaged: when a file did not arrive as it was written; its run is not put in place.
        SpecError: when the disk refuses.
    """
    for key, files in parcel.runs.items():
        if not store.has(key):
            check(key, files)
            store.place(key, files)
    for key, content in parcel.checkpoints.items():
        if not store.has(key):
            path = store.checkpoint_path(key)
            with store.disk():
                path.parent.mkdir(parents=True, exist_ok=True)
                with paths.replacing(path) as aside:
                    paths.write_synced(aside, content)
