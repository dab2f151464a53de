"""Decoding the images of a folder at the size asked for, in threads; what was decoded before is read from the cache.

The cache (``image_cache``) is looked up by a hash of how the folder is read and of every file's path, size and times.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdlab import paths
from kdlab.data import image, image_cache
from kdlab.data.image_cache import Decoded, text_hash
from kdlab.data.names import COLOURS, SMALLEST, Asked, printable, with_option
from kdlab.data.walk import File
from kdlab.errors import SpecError

REVISION = 2  # raised whenever a folder reads differently: the rules of ``image``, of sizes, of splits
DIM = 32  # of 255: deep images that stay below it use less than an eighth of their type's range
WIDEST = 96  # pixels a side above which a size must be asked for
PAGES = "pages after a file's first (?pages=all takes each as an image)"


_in_memory: dict[str, Decoded] = {}  # the last folder that could not be stored on disk


class Page(NamedTuple):
    """One image to decode: its file, its number within the file, and the file's header."""

    file: Path
    number: int
    header: image.Header


def decoded(asked: Asked, files: list[tuple[str, File]], name: str, again: bool = False) -> Decoded:
    """The images of some files, from the cache or decoded now.

    Args:
        asked: how to read them.
        files: with the split and class that each belongs to, as one word.
        name: of the data, for messages.
        again: decode even when they are cached, since the cache is damaged.

    Raises:
        SpecError: for files that cannot be read, or when a size must be asked for.
    """
    key = _key(asked, files)
    cache = paths.home() / "data" / f"{text_hash(repr(replace(asked, keep_same=False)))[:16]}.pixels"
    cache = cache.with_suffix(".digests") if asked.stream else cache
    if not again and (found := _in_memory.get(key) or image_cache.load(cache, key)):
        return found
    headers = _headers([file for _, file in files])
    images = _planned(headers, asked, name, [word.rpartition("/")[2] for word, _ in files])

    def pages() -> Iterator[Page]:
        for (_, file), header, count in zip(files, headers, images.pages, strict=True):
            yield from (Page(Path(file.path), number, header) for number in range(count))

    largest = images.largest = _largest([page for page in pages() if page.header.open_range], name)
    if largest is not None:
        count = sum(page.header.open_range for page in pages())
        images.notes.append(f"{count} images of open range were scaled by the set's largest value, {largest:g}")
    _keep(cache, key, images, lambda: _pixels(pages, images, asked, largest), asked.stream)
    return images


def _keep(cache: Path, key: str, images: Decoded, pixels: Callable, stream: bool) -> None:
    """Decode all images once: onto the disk, else into memory; of a folder that is streamed to look at them only."""
    count = sum(images.pages)
    if stream:
        deque(pixels(), maxlen=0)
        stored = image_cache.write(cache, key, images, 0, lambda: iter(()))
    else:
        stored = image_cache.write(cache, key, images, count, pixels)
    if not stored and not stream:
        images.pixels = np.empty((count, *images.shape), np.uint8)
        for row, made in enumerate(pixels()):
            images.pixels[row] = made
    if not stored:
        _in_memory.clear()
        _in_memory[key] = images


def _key(asked: Asked, files: list[tuple[str, File]]) -> str:
    import PIL

    how = (REVISION, PIL.__version__, asked.size, asked.background, asked.all_pages, *["stream"] * asked.stream)
    total = hashlib.sha256(f"({how!r}, [".encode())  # file by file: the whole text of many would take much memory
    for number, (place, file) in enumerate(files):
        said = f"{', ' if number else ''}{(place, file.name, file.state)!r}"
        total.update(said.encode("utf-8", "surrogateescape"))
    total.update(b"])")
    return total.hexdigest()


def _pixels(
    pages: Callable[[], Iterator[Page]], images: Decoded, asked: Asked, largest: float | None
) -> Iterator[np.ndarray]:
    """Pixels of the pages in order; sets the digests of ``images`` on the way, and ``dim`` at the end."""
    channels, height, width = images.shape

    def one(page: Page) -> tuple[np.ndarray, str]:
        options = {"background": asked.background, "largest": largest, "page": page.number}
        pixels = image.decode(page.file, channels, width, height, **options)
        return pixels, image_cache.digest(pixels)

    images.digests.clear()
    bad, brightest = [], 0
    results = _with_progress(in_threads(_or_error(one), pages()), sum(images.pages))
    for page, result in zip(pages(), results, strict=True):
        if isinstance(result, SpecError):
            bad.append((page.file, result))
        else:
            brightest = max(brightest, int(result[0].max()) if page.header.deep else 0)
            images.digests.append(result[1])
            yield result[0]
    _refuse(bad)
    images.dim = brightest if all(page.header.deep for page in pages()) and brightest < DIM else None


def _largest(ranged: list[Page], name: str) -> float | None:
    """The largest value of pages that do not say theirs; None where there is no such page.

    Raises:
        SpecError: for whole numbers and floating point in one set, which can hardly have one unit.
    """
    modes = {page.header.mode: page.file for page in ranged}
    if len(modes) > 1:
        raise SpecError(
            f"data {name!r}: some hold 32-bit whole numbers (such as {str(modes['I'])!r}) and some floating point "
            f"(such as {str(modes['F'])!r}); which value is white cannot be told. Save them all in one type."
        )
    return max(in_threads(lambda page: image.largest(page.file, page.number), ranged), default=None)


def _whose(flags: list[bool], classes: list[str]) -> str:
    """A clause for what is true of one class alone, by which a network could tell it from the others."""
    having = {label for label, flag in zip(classes, flags, strict=True) if flag}
    return f", all of class {having.pop()!r}" if len(having) == 1 and len(set(classes)) > 1 else ""


def _planned(headers: list[image.Header], asked: Asked, name: str, classes: list[str]) -> Decoded:
    """Shape and pages of the images, what is left out of them, and notes on how they are read."""
    size, notes = _size(headers, asked, name), []

    def note(flags: list[bool], sentence: str) -> None:
        if any(flags):
            notes.append(f"{sum(flags)} {sentence}{_whose(flags, classes)}")

    usual = Counter((head.width, head.height) for head in headers).most_common(1)[0][0]
    most = f"; most have {usual[0]} x {usual[1]}" if size != usual else ", which most have"
    resized = f"of {len(headers)} images were resized to {size[0]} x {size[1]} pixels{most}"
    note([(head.width, head.height) != size for head in headers], resized)
    hidden, grey = any(head.alpha for head in headers), all(head.grey for head in headers)
    one_channel = grey and (not hidden or len(set(asked.background)) == 1)
    note([head.grey and not one_channel for head in headers], "grey images are read as colour")
    deep = Counter(head.mode for head in headers if head.deep and not head.open_range)
    notes += [f"{n} images of mode {mode} were scaled to 8 bits by their full range" for mode, n in deep.items()]
    colours = {rgb: word for word, rgb in COLOURS.items()}
    colour = colours.get(asked.background, "#" + bytes(asked.background).hex())
    note([head.alpha for head in headers], f"images with transparency were laid on {colour}")
    note([head.turned for head in headers], "images were turned by their EXIF orientation")
    more = sum(head.pages - 1 for head in headers)
    if more and asked.all_pages:
        notes.append(f"{more} pages after a file's first are images too; pages of one file stay in one split")
    pages = [head.pages if asked.all_pages else 1 for head in headers]
    left_out = {PAGES: more} if more and not asked.all_pages else {}
    return Decoded((1 if one_channel else 3, size[1], size[0]), pages, left_out=left_out, notes=notes)


def _size(headers: list[image.Header], asked: Asked, name: str) -> tuple[int, int]:
    """(width, height) to read the images at: the size asked for, or the most common one where it is of a few pixels."""
    (width, height), count = Counter((head.width, head.height) for head in headers).most_common(1)[0]
    wide = max(width, height) > WIDEST
    if asked.size is None and (wide or min(width, height) < SMALLEST):
        why, size = (f"above {WIDEST}", "size=32") if wide else (f"below {SMALLEST}", f"size={SMALLEST}")
        raise SpecError(
            f"data {name!r}: its images have {width} x {height} pixels ({count} of {len(headers)} do), and {why} a "
            f"side the size to read them at must be asked for, for example: "
            f"kdlab data '{with_option(name, size)}'"
        )
    return asked.size or (width, height)


def _headers(files: list[File]) -> list[image.Header]:
    """Of every file, or a refusal. Equal ones, as most are in a folder of many images, are one object."""
    met: dict = {}
    found = in_threads(_or_error(image.header), (Path(file.path) for file in files))
    headers = [head if isinstance(head, SpecError) else met.setdefault(head, head) for head in found]
    _refuse([(Path(f.path), head) for f, head in zip(files, headers, strict=True) if isinstance(head, SpecError)])
    return headers


def _or_error(function: Callable) -> Callable:
    """The function, returning the SpecError that it would raise, so that one bad file does not hide the next."""

    def tried(job):
        try:
            return function(job)
        except SpecError as error:
            return error

    return tried


def _refuse(bad: list[tuple[Path, SpecError]]) -> None:
    """Say what is wrong with the first of the files that cannot be read, and which the others are."""
    if bad:
        names = ", ".join(repr(printable(file.name)) for file, _ in bad[1:6]) + (" ..." if len(bad) > 6 else "")
        also = f" (nor are {len(bad) - 1} more that cannot be read: {names})" if len(bad) > 1 else ""
        raise SpecError(f"{bad[0][1]} It is not left out in silence{also}: mend it, or take it out of the folder.")


# --- threads ----------------------------------------------------------------------------------------------------------


def in_threads(function: Callable, jobs: Iterable) -> Iterator:
    """Results in the order of the jobs, a few ahead of what is taken. Pillow lets other threads run as it decodes."""
    count = min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    waiting, pool = deque(), ThreadPoolExecutor(count)
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) > 8 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _with_progress(results: Iterable, total: int) -> Iterable:
    """The results; a progress bar is shown on a terminal when they take more than some seconds."""
    from tqdm import tqdm

    return tqdm(results, "reading images", total, leave=False, file=sys.stderr, disable=None, delay=3)
