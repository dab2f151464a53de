"""The reader of ``folder:PATH``: a user's images, a folder for each class, split by a hash of their paths."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdlab.data import image, image_cache
from kdlab.data.decoded import REVISION, decoded, in_threads
from kdlab.data.image_cache import Decoded
from kdlab.data.layout import find
from kdlab.data.names import Asked, parse, printable, with_option
from kdlab.data.source import SPLITS, Reader, Source, balanced_order, carve
from kdlab.errors import SpecError
from kdlab.rng import stream_seed

HELD_OUT = 0.1


def open_folder(name: str) -> Reader:
    """Find the images of ``folder:PATH``, decode them or find them decoded, and split them.

    Folders that are named as splits are these splits. Where there is no test, a tenth of each class of train becomes
    test; where there is no val, a tenth of each class of what then is train. A hash of the paths decides which images;
    images with equal pixels go together, and so do the pages of a file. A test split that was given stays as it is:
    copies of its images leave val and train, copies of val leave train.

    All are resized to the size asked for, or to the most common one when that has 8 to 96 pixels a side; they are
    grey when every file is. Options after "?", joined by "&": ``size=32`` or ``size=32x24`` (width x height),
    ``background=white|black|#rrggbb`` behind transparent pixels, ``same=keep`` to go on when equal images stand in
    two classes, ``pages=all`` to take each page of a file as an image, ``stream=yes`` to decode images when a step
    asks for them, since all of them would not fit in memory.

    Raises:
        SpecError: for anything that cannot be read and learned from, naming the folder or file and what to do.
    """
    asked = parse(name)
    layout = find(asked.path, name)
    placed = [
        (split, label, file)
        for split, classes in layout.files.items()
        for label, files in enumerate(classes)
        for file in files
    ]
    words = {(s, k): f"{s}/{word}" for s in layout.files for k, word in enumerate(layout.classes)}
    files = [(words[split, label], file) for split, label, file in placed]
    read = decoded(asked, files, name)
    digests = np.array(read.digests, "S32")
    origin = np.repeat(np.arange(len(files)), read.pages)
    labels = np.array([label for _, label, _ in placed])[origin]
    given = np.array([split for split, _, _ in placed])[origin]
    content = np.unique(digests, return_inverse=True)[1]  # equal numbers are equal pixels
    if not asked.keep_same:
        _refuse_two_classes(name, labels, content, origin, files, read.dim)
    places = [f"{word}/{file.name}".lstrip("/") for word, file in files]
    # Hashed order within a class: the last ones are held out.
    order = np.argsort([stream_seed(0, "split", places[row]) for row in origin], kind="stable")
    kept, same = _without_copies(given, content)
    groups = _linked(content, origin) if asked.all_pages else content
    rows = _split(given, labels, groups, order[kept[order]])
    _check(name, layout.classes, rows, labels, groups, same)
    if again := int(kept.sum()) - len(np.unique(content[kept])):
        same["kept beside an equal one of the same split"] = again
    one = _on_demand(asked, read, [file.path for _, file in files], digests) if asked.stream else None
    source = Source(
        classes=tuple(layout.classes),
        shape=read.shape,
        labels={split: labels[index] for split, index in rows.items()},
        rows=rows,
        pixels=_in_memory(asked, files, name, read, rows) if one is None else _at_once(one, rows, read.shape),
        read=one,
        left_out=dict(layout.left_out + Counter(read.left_out)),
        same=same,
        notes=(*layout.notes, *_split_notes(layout.files), *read.notes, *_depth_notes(read.dim)),
    )
    digest = _fingerprint(source, read.digests)
    return Reader(lambda: source, lambda: digest)


def _in_memory(asked, files, name: str, read: Decoded, rows: dict[str, np.ndarray]) -> Callable:
    """A function of a split and n that reads its first n images; they are decoded again when the cache is damaged."""

    def pixels(split: str, n: int) -> np.ndarray:
        wanted = rows[split][:n]
        found = read.take(wanted)
        if found is None:
            anew = decoded(asked, files, name, again=True)
            found = anew.take(wanted) if anew.digests == read.digests else None
        if found is None:
            raise SpecError(
                f"data {name!r}: its files, or what was kept of them, changed while they were read. Try again."
            )
        return found

    return pixels


def _at_once(one: Callable[[int], np.ndarray], rows: dict[str, np.ndarray], shape: tuple[int, int, int]) -> Callable:
    """The same of a set that is streamed; it holds nothing of the files but what ``one`` holds."""
    return lambda split, n: np.array(list(in_threads(one, rows[split][:n].tolist())), np.uint8).reshape(-1, *shape)


def _on_demand(asked: Asked, images: Decoded, paths: list[str], digests: np.ndarray) -> Callable[[int], np.ndarray]:
    """A function that decodes one image by its row, uint8 (C, H, W), as it was first decoded.

    It lives as long as the set: of each of perhaps millions of files it holds the bytes of its path and of its digest.

    Args:
        asked: how to read them.
        images: what ``decoded`` has found of them.
        paths: of the files.
        digests: of the images, bytes (N,).
    """
    channels, height, width = images.shape
    options = {"background": asked.background, "largest": images.largest}
    first, common = np.cumsum([0, *images.pages]), os.fsencode(os.path.commonprefix(paths))
    rest = [os.fsencode(path)[len(common) :] for path in paths]
    ends, names = np.cumsum([0, *map(len, rest)]), b"".join(rest)

    def read(row: int) -> np.ndarray:
        number = int(np.searchsorted(first, row, "right")) - 1
        file = Path(os.fsdecode(common + names[ends[number] : ends[number + 1]]))
        pixels = image.decode(file, channels, width, height, page=row - int(first[number]), **options)
        if image_cache.digest(pixels).encode() != digests[row]:
            raise SpecError(f"image {printable(str(file))!r} is not what it was when its folder was read. Try again.")
        return pixels

    return read


def _fingerprint(source: Source, digests: list[str]) -> str:
    """Hash of class names, shape, and the labels and pixels of each split in their order: of no file."""
    total = hashlib.sha256(json.dumps(["folder", REVISION, source.classes, source.shape]).encode())
    for split in SPLITS:
        said = [split, source.labels[split].tolist(), [digests[row] for row in source.rows[split]]]
        total.update(json.dumps(said).encode())
    return total.hexdigest()[:32]


def _refuse_two_classes(
    name: str, labels: np.ndarray, content: np.ndarray, origin: np.ndarray, files: list, dim: int | None
) -> None:
    """Refuse equal pixels under two labels, naming the first pair."""
    first = np.unique(content, return_index=True)[1][content]
    odd = np.flatnonzero(labels != labels[first])
    if len(odd):
        pair = [files[origin[row]] for row in (first[odd[0]], odd[0])]
        one, other = (f"'{word}/{file.name}'".replace("'/", "'") for word, file in pair)
        if dim is not None:
            raise SpecError(f"data {name!r}: {one} and {other} have the same pixels as read: {_depth_notes(dim)[0]}.")
        raise SpecError(
            f"data {name!r}: {one} and {other} are the same image in two classes "
            f"({len(odd)} such images). Remove them from one class, or go on with {with_option(name, 'same=keep')}"
        )


def _without_copies(given: np.ndarray, content: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """(which images stay, sentence to number of those that leave) where splits were given."""
    kept, same = np.ones(len(given), bool), {}
    for loser, winner in (("val", "test"), ("train", "test"), ("train", "val")):
        copies = kept & (given == loser) & np.isin(content, content[kept & (given == winner)])
        if copies.any():
            same[f"left out of {loser}, also in {winner}"] = int(copies.sum())
            kept &= ~copies
    return kept, same


def _linked(content: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Groups of images that are equal or pages of one file, or are linked by a chain of such."""
    groups = origin.copy()
    while True:
        before = groups
        for other in (content, origin):
            least = np.full(other.max() + 1, len(groups))
            np.minimum.at(least, other, groups)
            groups = least[other]
        if np.array_equal(before, groups):
            return groups


def _split(given: np.ndarray, labels: np.ndarray, groups: np.ndarray, order: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of train, val and test: those given, and otherwise carved from train by whole groups.

    Args:
        given: (N,) split of each image, or "" where none is.
        labels: (N,) of all images.
        groups: (N,) numbers; images of one group stay together.
        order: rows of the images that are kept, in hashed order.
    """
    rows, rest = {}, order[(given[order] == "train") | (given[order] == "")]
    for split in ("test", "val"):
        if split in given:
            index = order[given[order] == split]
            rows[split] = index[balanced_order(labels[index])]
        else:
            stay, out = carve(labels[rest], HELD_OUT, groups[rest])
            rows[split], rest = rest[out], rest[np.sort(stay)]
    rows["train"] = rest[balanced_order(labels[rest])]
    return {split: rows[split] for split in SPLITS}


def _check(name: str, classes: list[str], rows, labels, groups, same: dict[str, int]) -> None:
    """Refuse a class that copies, or groups that are not parted, leave without images in a split."""
    for split, index in rows.items():
        for label in np.flatnonzero(np.bincount(labels[index], minlength=len(classes)) == 0):
            left = "".join(f"; {count} images of all classes were {said}" for said, count in same.items())
            raise SpecError(
                f"data {name!r}: class {classes[label]!r} has no image left for {split}: it has "
                f"{len(np.unique(groups[labels == label]))} different images (equal ones, or pages of one file, are "
                f"not put into two splits{left}). Every class needs one in each split that is given, and 3 otherwise."
            )


def _depth_notes(dim: int | None) -> list[str]:
    """What to do where images of many bits use little of their range, so that 8 bits hold few levels of it."""
    if dim is None:
        return []
    return [
        f"the brightest pixel is {dim} of 255 after scaling by the files' full range, so that at most {dim + 1} levels "
        "are left; where they hold 10 or 12 bits, say, scale them to their type's range yourself"
    ]


def _split_notes(files: dict) -> list[str]:
    """What was decided on splits that were not given, when some were."""
    tenth = f"{HELD_OUT:.0%} of each class of train"
    carved = [split for split in ("test", "val") if split not in files and "" not in files]
    return [f"there is no {split} folder: {tenth} became {split}" for split in carved]
