"""Source, which every reader returns (labels at once, pixels on demand), and splitting into train, val and test."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdlab.errors import SpecError
from kdlab.paths import file_digest

SPLITS = ("train", "val", "test")
HELD = 2**26  # bytes of images that a set which is streamed keeps


@dataclass(frozen=True)
class Source:
    """A data set on disk, described without decoding its images.

    Args:
        classes: class names; label k is ``classes[k]``.
        shape: (channels, height, width) of every image.
        labels: per split, (N,) int64 labels in balanced order: every prefix has as equal classes as it can.
        rows: per split, (N,) int64 row of each image in the files it came from.
        pixels: ``pixels(split, n)`` reads the first n images of a split, uint8 (n, C, H, W).
        read: of a set that is streamed, reads one image by its row, uint8 (C, H, W); None where it fits memory.
        left_out: reason to number of files that were found and not read.
        same: sentence to number of images that stood more than once, such as ``"left out of train, also in test"``.
        notes: how the images were read where that is not obvious (depth, transparency, orientation), as sentences.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    labels: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    pixels: Callable[[str, int], np.ndarray]
    read: Callable[[int], np.ndarray] | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    same: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def take(self, split: str, places: np.ndarray) -> np.ndarray:
        """The images at some places of a split, uint8 (M, C, H, W); of a set that is streamed these alone are read.

        Args:
            split: ``"train"``, ``"val"`` or ``"test"``.
            places: (M,) in ascending order, at least one.
        """
        if self.read is not None:
            return np.stack([self.read(int(row)) for row in self.rows[split][places]])
        images = self.pixels(split, int(places[-1]) + 1)
        return images if len(places) == len(images) else images[places]


class Reader(NamedTuple):
    """How one data set is read.

    Args:
        read: describes it as a Source.
        digest: hash of everything that decides what is read.
    """

    read: Callable[[], Source]
    digest: Callable[[], str]


def balanced_order(labels: np.ndarray) -> np.ndarray:
    """Rows sorted by rank within their class, then class: the first K hold one image of each class."""
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank))


def carve(labels: np.ndarray, share: float, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the last ``share`` of each class (at least one image) and keep the rest.

    Args:
        labels: (N,) labels in file order.
        share: in (0, 1).
        groups: (N,) non-negative numbers; images of one group are never parted, so that a class may give a little
            less than its share, or more where its smallest group is larger.

    Returns:
        (kept, held_out) row numbers, each in balanced order.
    """
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        wanted = max(1, round(share * len(members)))
        if groups is None:
            held[members[-wanted:]] = True
        else:
            _hold_groups(members, wanted, groups, held)
    kept, out = np.flatnonzero(~held), np.flatnonzero(held)
    return kept[balanced_order(labels[kept])], out[balanced_order(labels[out])]


def _hold_groups(members: np.ndarray, wanted: int, groups: np.ndarray, held: np.ndarray) -> None:
    """Mark whole groups as held, from the last member on, as long as they fit; the smallest one if none does."""
    names, first, counts = np.unique(groups[members[::-1]], return_index=True, return_counts=True)
    taken, chosen = int(held[members].sum()), []
    for which in np.argsort(first):
        if taken + counts[which] <= wanted and not held[members[::-1][first[which]]]:
            chosen.append(names[which])
            taken += counts[which]
    if not taken:
        chosen = [names[np.lexsort((first, counts))[0]]]
    held |= np.isin(groups, chosen)


def from_arrays(train: tuple, test: tuple, classes: Iterable[str], val_share: float) -> Source:
    """Source of images already in memory; val is carved from train before anything else.

    Args:
        train: images uint8 (N, C, H, W), labels (N,) and rows (N,) of the training files, in file order.
        test: the same of the test files.
        classes: class names.
        val_share: share of each class that becomes val: its last images in file order.
    """
    kept, held_out = carve(train[1], val_share)
    parts = {"train": (train, kept), "val": (train, held_out), "test": (test, balanced_order(test[1]))}
    return Source(
        classes=tuple(classes),
        shape=tuple(train[0].shape[1:]),
        labels={split: arrays[1][order].astype(np.int64) for split, (arrays, order) in parts.items()},
        rows={split: arrays[2][order].astype(np.int64) for split, (arrays, order) in parts.items()},
        pixels=lambda split, n: parts[split][0][0][parts[split][1][:n]],
    )


def digest_files(paths: Iterable[Path], *words: object) -> str:
    """Hash of file contents and of the words that say how they are read.

    A file is hashed again only when its size or time of change moved, so asking once per spec is cheap.
    """
    total = hashlib.sha256(repr(words).encode())
    for path in paths:
        total.update(file_digest(path).encode())
    return total.hexdigest()[:32]


def locate(
    root: Path, folders: Iterable[str], names: Iterable[str], data: str, archive: str | None = None
) -> list[Path]:
    """The files of a data set in the first of several folders that holds them all, gzipped or not.

    Args:
        root: the data root.
        folders: below the root, the likeliest first.
        names: of the files.
        data: name of the set.
        archive: the file that they are packed in, where there is one.

    Raises:
        SpecError: naming the root, the missing files and the ways to supply them.
    """
    names, folders = list(names), list(folders)
    found = [[_plain_or_gz(root / folder / name) for name in names] for folder in folders]
    for files in found:
        if all(files):
            return files
    nearest = max(range(len(folders)), key=lambda k: sum(file is not None for file in found[k]))
    missing = ", ".join(name for name, file in zip(names, found[nearest], strict=True) if file is None)
    if any(found[nearest]):
        state = f"lacks {missing} beside the other files in {str(root / folders[nearest])!r}. "
    else:
        state = "lacks" if root.is_dir() else "does not exist; it should hold"
        state = f"{state} {missing} in one of the folders {', '.join(folders)}. "
    raise SpecError(f"data {data!r}: the data root {str(root)!r} {state}{_supply(data, root, archive)}")


def _supply(data: str, root: Path, archive: str | None) -> str:
    if archive and (root / archive).is_file():
        packed, place = shlex.quote(str(root / archive)), shlex.quote(str(root))
        return f"Unpack the archive that lies there: tar xzf {packed} -C {place}"
    return f"Give root=, set KDLAB_DATA, or let `kdlab data {data} --download` fetch them."


def _plain_or_gz(path: Path) -> Path | None:
    """The file under its own name, gzipped, or with the dot that some archives put into names of IDX files."""
    dotted = path.with_name(path.name.replace("-idx", ".idx"))
    choices = (path, path.with_name(path.name + ".gz"), dotted, dotted.with_name(dotted.name + ".gz"))
    return next((choice for choice in choices if choice.is_file()), None)
