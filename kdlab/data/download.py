"""Fetch a published data set: once, going on where a connection broke, and checked by the checksums torchvision knows.

A file that is being fetched lies in ``.NAME.part`` beside its place, where the next try goes on from, and takes that
place only when its md5 is right. What an archive holds is unpacked aside, checked file by file, and moved in at the
end: whatever stops a download, the reader never sees half of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kdlab.data.connection import Broken, bring, size
from kdlab.errors import SpecError

SETS = {"fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # torchvision's names


@dataclass(frozen=True)
class Published:
    """What can be fetched of a data set.

    Args:
        files: (address, place below the data root, md5) of each file.
        folder: below the data root, where an archive's files go; empty for files that are read as they come.
        members: name in the folder to md5, for the files of the archive that are read.
    """

    files: tuple[tuple[str, str, str], ...]
    folder: str = ""
    members: Mapping[str, str] | None = None


def published(name: str) -> Published:
    """Addresses and checksums of a data set, from torchvision.

    Args:
        name: one of ``SETS``.
    """
    import torchvision.datasets

    known: Any = getattr(torchvision.datasets, SETS[name])
    if hasattr(known, "resources"):
        folder = f"{SETS[name]}/raw"
        return Published(tuple((known.mirrors[0] + file, f"{folder}/{file}", md5) for file, md5 in known.resources))
    members = dict([*known.train_list, *known.test_list, (known.meta["filename"], known.meta["md5"])])
    return Published(((known.url, known.filename, known.tgz_md5),), known.base_folder, members)


def fetch(name: str, root: Path, find: Callable[[Path], list[Path]]) -> str:
    """Fetch what is missing, unpack it, and say in a sentence what was done.

    An archive that lies in the data root already is checked and unpacked; where the data set can be read already,
    nothing is fetched or changed.

    Args:
        name: one of ``SETS``.
        root: the data root, made if need be.
        find: the reader's list of files under a root; it raises SpecError where some are missing.

    Raises:
        SpecError: when a file cannot be fetched, written or verified; it says what is kept, and how to do it by hand.
    """
    wanted = published(name)
    with contextlib.suppress(SpecError):
        return f"data {name!r}: {_compared(find(root), wanted)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root / f".{name}.lock", name):
            done = [_fetched(name, wanted, root, *file) for file in wanted.files]
            if wanted.members:
                (archive, fresh) = root / wanted.files[0][1], done[0]
                _unpack(archive, root / wanted.folder, wanted.members)
                if fresh:  # what was put there by hand stays
                    archive.unlink()
    except OSError as error:
        raise SpecError(f"data {name!r}: {error.filename or str(root)!r} cannot be written: {_why(error)}") from error
    how = "fetched" if any(done) else "found"
    files = ", ".join(Path(place).name for _, place, _ in wanted.files)
    return f"data {name!r}: {how} {files}, as published (md5); now in {str(find(root)[0].parent)!r}"


def _compared(files: list[Path], wanted: Published) -> str:
    """Files that can be read, held against the published ones."""
    sums = wanted.members or {Path(place).name: md5 for _, place, md5 in wanted.files}
    known = [file for file in files if file.name in sums]  # not those that somebody packed or unpacked
    other = [file.name for file in known if _md5(file) != sums[file.name]]
    place = str(files[0].parent)
    if other:
        return (
            f"here already, in {place!r}, and nothing was fetched. Not as published (md5): {', '.join(other)}; where "
            "that is not meant, move that folder away, and the same command fetches it"
        )
    sure = ", as published (md5)" if len(known) == len(files) else ""
    return f"here already, in {place!r}{sure}; nothing was fetched"


def _fetched(name: str, wanted: Published, root: Path, url: str, place: str, md5: str) -> bool:
    """Bring one file to its place, checked; False if it was there."""
    target = root / place
    part = target.with_name(f".{target.name}.part")
    if target.exists():
        if (found := _md5(target)) != md5:
            raise SpecError(
                f"data {name!r}: {str(target)!r} is not the published file: its md5 is {found}, not {md5}. Move it "
                f"away, and the same command fetches it."
            )
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    if not _right(part, md5):
        resumed = part.exists()
        _bring(name, wanted, root, url, part)
        if resumed and not _right(part, md5):  # what lay there was of another file: from the beginning, once
            part.unlink()
            _bring(name, wanted, root, url, part)
    if not _right(part, md5):
        found, page = _md5(part), not _packed(part)
        part.unlink()
        what = "no archive came but something else, perhaps a page of this network to log in; " if page else ""
        raise SpecError(
            f"data {name!r}: what came from {url} has the md5 {found}, not {md5}; {what}it was thrown away. Try again "
            f"later. {_by_hand(wanted, root)}"
        )
    os.replace(part, target)
    return True


def _bring(name: str, wanted: Published, root: Path, url: str, part: Path) -> None:
    try:
        bring(url, part)
    except Broken as error:
        done = size(part) / 1e6
        kept = f"{done:.1f} MB are kept in {str(part)!r}, from where the same command goes on. " if done else ""
        raise SpecError(f"data {name!r}: cannot fetch {url}: {error}. {kept}{_by_hand(wanted, root)}") from error


def _unpack(archive: Path, folder: Path, members: Mapping[str, str]) -> None:
    """The wanted files of an archive into a folder, all checked before the first appears."""
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        with tarfile.open(archive) as packed:
            for name, md5 in members.items():
                source: BinaryIO | None = packed.extractfile(f"{folder.name}/{name}")
                with source, open(aside / name, "wb") as file:
                    shutil.copyfileobj(source, file)
                if (found := _md5(aside / name)) != md5:
                    raise SpecError(f"{str(archive)!r}: {name} in it has the md5 {found}, not {md5}; nothing was kept.")
        folder.mkdir(exist_ok=True)
        # A file that is missing comes last: until then the reader finds the set incomplete, not mixed.
        for name in sorted(members, key=lambda name: not (folder / name).exists()):
            os.replace(aside / name, folder / name)
    except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        raise SpecError(f"{str(archive)!r} cannot be unpacked: {error}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """One process fetches a data set at a time, where the system has locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecError(f"data {name!r} is being fetched by another process; wait for that one.") from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _by_hand(wanted: Published, root: Path) -> str:
    files = "; ".join(f"{url} (md5 {md5}) as {str(root / place)!r}" for url, place, md5 in wanted.files)
    return (
        f"By hand: fetch {files} where there is a network, and give the same command again, which checks it and goes "
        "on. Behind a proxy set https_proxy."
    )


def _why(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{error.strerror}. {'Make room, and give the same command again: it goes on from there.' if full else ''}"


def _packed(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _right(path: Path, md5: str) -> bool:
    return path.exists() and _md5(path) == md5


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
