"""Looking a whole store over, and clearing away what nothing refers to. Imports no torch until checkpoints are read."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kdlab import paths
from kdlab.data import image_cache
from kdlab.errors import SpecError
from kdlab.lab import damage, ledger
from kdlab.lab.damage import Damaged
from kdlab.lab.keys import digest
from kdlab.lab.leases import DAY, abandoned
from kdlab.lab.process import alive
from kdlab.lab.store import HEXADECIMAL, MEASURED, Store
from kdlab.training import teacher_cache

SMALL = (".linear", ".teachers", ".failed", ".machine", ".measured")
DOCUMENTS = ("spec", "result", "environment", "data", "cost")
TENSORS = ("logits", "student", "method")


def verify(store: Store | None = None) -> tuple[list[str], bool]:
    """Hold every file of a store, of kept images and of the ledger against its checksum; damaged runs are set aside.

    Args:
        store: None takes the default store.

    Returns:
        Lines to print, and whether all was whole.
    """
    store = store or Store()
    keys, lines = store.keys(), []
    for key in keys:
        if files := store.damaged(key):
            store.set_aside(Damaged(key, ", ".join(files), "no longer match their checksums"))
        elif error := _misplaced(store, key):
            store.set_aside(error)
    left = store.keys()
    lines += [f"damaged and set aside: run {key}" for key in keys if key not in left]
    for path in _files(store.root / ".checkpoints", "[!.]*.safetensors"):
        if fault := store.checkpoint_fault(path.stem):
            lines.append(f"{fault} The run will begin anew.")
    for folder in SMALL:
        for path in _files(store.root / folder, "[!.]*.json"):
            if not store.whole(f"{folder}/{path.stem}"):
                lines.append(f"{path} is damaged, and will be made again.")
    lines += _remade(store)
    for path in ledger.files():
        try:
            ledger.read(path)
        except SpecError as error:
            lines.append(str(error))
    said = f"store {store.root}: {len(left)} finished runs whole, {len(keys) - len(left)} set aside"
    return [*lines, said], not lines


def _remade(store: Store) -> Iterator[str]:
    """What is damaged of that which takes time to make but decides no result: teachers' outputs, decoded images."""
    for path in _files(store.teacher_cache, "[!.]*"):
        try:
            number = teacher_cache.damaged(path)
        except OSError as error:
            yield f"{path} cannot be read ({error.strerror}); what it holds will be made again."
        else:
            if number:
                yield f"{path} is damaged at {number} of its steps, which will be made again."
    for path in _files(paths.home() / "data", "[!.]*"):
        if path.suffix in image_cache.KINDS and image_cache.damaged(path):
            yield f"{path} is damaged, and will be made again."


def _misplaced(store: Store, key: str) -> Damaged | None:
    """What is wrong with a run whose files are whole: its documents cannot be read, or are those of another key."""
    try:
        saved, *_ = store.documents(key)
        if digest(saved["normal"]) != key:
            return Damaged(key, "spec.json", f"hashes to {digest(saved['normal'])}")
    except Damaged as error:
        return error
    return None


class Leftover(NamedTuple):
    """Something in a store that nothing refers to: where, and why."""

    path: Path
    why: str

    @property
    def size(self) -> int:
        """Bytes on disk."""
        files = [self.path, *self.path.rglob("*")] if self.path.is_dir() else [self.path]
        return sum(file.lstat().st_size for file in files if file.is_file())


def strays(store: Store) -> Iterator[Leftover]:
    """What processes that are dead have left half done.

    Args:
        store: whose folders to look through.
    """
    for path in _files(store.root / ".building", "*"):
        if _left_behind(path, path.name.partition("-")[2]):
            yield Leftover(path, "half-written")
    for kind in (".stop-", ".cluster-"):
        for path in _files(store.root, f"{kind}*"):
            if _left_behind(path, path.name.removeprefix(kind)):
                yield Leftover(path, "left by a process that is gone")
    for folder in ("", ".checkpoints", ".leases", ".taught", *SMALL):
        for path in _files(store.root / folder, ".*.part"):
            if _left_behind(path, path.name.removesuffix(".part").rpartition(".")[2]):
                yield Leftover(path, "half-written")
    for path in _files(store.root / ".leases", "*"):
        if not path.name.startswith(".") and abandoned(path):
            yield Leftover(path, "a lease of a process that is gone")
    for path in _files(store.root / ".checkpoints", "[!.]*.safetensors"):
        if store.has(path.stem):  # its process died between the two
            yield Leftover(path, "the checkpoint of a finished run")


def leftovers(store: Store) -> Iterator[Leftover]:
    """``strays``, and what was set aside, is of runs that are gone, or is no finished run."""
    yield from strays(store)
    for path in _files(store.root / damage.FOLDER, "*"):
        yield Leftover(path, "was damaged and set aside")
    for path in _files(store.root / MEASURED, "[!.]*.json"):
        if not store.has(path.stem):
            yield Leftover(path, "measured of a run that is gone")
    for path in _files(store.root / ".failed", "[!.]*.json"):
        if store.has(path.stem):  # its process died between the two
            yield Leftover(path, "why a run failed that is finished now")
    for path in _files(store.root, "[0-9a-f]*"):
        if _unfinished(path):
            yield Leftover(path, "no finished run")


def tidy(store: Store) -> None:
    """Remove what processes that are dead have left half done; what cannot be removed stays."""
    for left in strays(store):
        with contextlib.suppress(OSError):
            _remove(left, store)


def collect(store: Store | None = None, remove: bool = False) -> str:
    """What nothing refers to, as text; it goes only when asked.

    Args:
        store: None takes the default store.
        remove: otherwise it is only listed.

    Raises:
        SpecError: when the disk refuses.
    """
    store = store or Store()
    found = [(left, left.size) for left in leftovers(store)]
    if not found:
        return f"nothing to remove in {store.root}."
    counts, sizes = Counter(left.why for left, _ in found), Counter()
    for left, size in found:
        sizes[left.why] += size
    lines = [f"{count:4d}  {why}, {sizes[why] / 1e6:.1f} MB" for why, count in counts.items()]
    lines += [f"      {left.path.relative_to(store.root)}" for left, _ in found[:20]]
    lines += [f"      ... {len(found) - 20} more"] if len(found) > 20 else []
    if not remove:
        return "\n".join([f"would be removed from {store.root}:", *lines, "`kdlab runs gc --yes` removes them."])
    with store.disk():
        for left, _ in found:
            _remove(left, store)
    return "\n".join([f"removed from {store.root}:", *lines])


def _remove(left: Leftover, store: Store) -> None:
    if left.path.parent.name == ".leases" and not left.path.name.startswith("."):
        store.clear(left.path.name)
    else:
        damage.remove(left.path)


def _files(folder: Path, pattern: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(folder.glob(pattern))
    return []


def _left_behind(path: Path, owner: str) -> bool:
    """Whether nobody writes to a file any more: its process is gone, or is unknown and has not for a day."""
    host, _, rest = owner.rpartition("@")
    pid, ours = rest.partition("-")[0], paths.owner().partition("@")[0]
    host = socket.gethostname() if host == ours else host
    living = alive({"host": host, "pid": int(pid)}) if pid.isdecimal() else None
    if living is False:
        return True
    with contextlib.suppress(OSError):
        return living is None and time.time() - path.stat().st_mtime > DAY
    return False


def _unfinished(path: Path) -> bool:
    """Whether a folder in the place of a run holds nothing but files of ours, and no done marker among them."""
    if len(path.name) != 16 or not HEXADECIMAL.issuperset(path.name) or not path.is_dir():
        return False
    names = {file.name for file in path.iterdir()}
    return names <= {f"{name}.json" for name in DOCUMENTS} | {f"{name}.safetensors" for name in TENSORS}
