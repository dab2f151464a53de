"""A folder's images at the size asked for: decoded once, in threads, and kept for every process that follows.

What was decoded lies in one file under ``home()/data``: the pixels as numpy writes them, so that a few can be read
without the others, then a description. It is known by a hash of how the folder is read and of every file's path, size
and times, and each image by a hash of its pixels, so that a damaged or outdated file is noticed and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kdlab import paths
from kdlab.data import image
from kdlab.data.names import COLOURS, SMALLEST, Asked, plain, with_option
from kdlab.data.walk import File
from kdlab.errors import SpecError

REVISION = 2  # raised whenever a folder reads differently: the rules of ``image``, of sizes, of splits
DIM = 32  # of 255: deep images that stay below it use less than an eighth of their type's range
WIDEST = 96  # pixels a side above which a size must be asked for
PAGES = "pages after a file's first (?pages=all takes each as an image)"
STALE = 3600  # seconds after which a half-written file is nobody's


@dataclass
class Decoded:
    """Images of one shape, each known by a hash of its pixels.

    Args:
        shape: (channels, height, width).
        pages: images taken from each file, in the order of the files.
        digests: hash of each image's pixels, hexadecimal.
        left_out: reason to number, of what was not read.
        notes: sentences on how images were read.
        dim: where every file has more than 8 bits and none uses an eighth of its range, the largest pixel of all.
        kept: where the pixels lie, or None when they are in memory.
        pixels: (N, C, H, W) uint8, when they are in memory.
    """

    shape: tuple[int, int, int]
    pages: list[int]
    digests: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    dim: int | None = None
    kept: Path | None = None
    pixels: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> np.ndarray | None:
        """Images (M, C, H, W) at some rows, or None when what was kept is gone or damaged."""
        if self.pixels is not None:
            return self.pixels[rows]
        with suppress(OSError, ValueError), self.kept.open("rb") as file:
            there, offset = _pixels_of(file)
            if there == (len(self.digests), *self.shape):
                pixels = np.memmap(self.kept, np.uint8, "r", offset, there)[rows]
                if all(_digest(one) == self.digests[row] for one, row in zip(pixels, rows, strict=True)):
                    return np.asarray(pixels)
        return None


_in_memory: dict[str, Decoded] = {}  # the last folder that could not be kept on disk


def decoded(asked: Asked, files: list[tuple[str, File]], name: str, again: bool = False) -> Decoded:
    """The images of some files, from what was kept or decoded now.

    Args:
        asked: how to read them.
        files: with the split and class that each belongs to, as one word.
        name: of the data, for messages.
        again: decode even when they are kept, since those are damaged.

    Raises:
        SpecError: for files that cannot be read, or when a size must be asked for.
    """
    key = _key(asked, files)
    kept = paths.home() / "data" / f"{_hash(repr(replace(asked, keep_same=False)))[:16]}.pixels"
    if not again and (found := _in_memory.get(key) or _load(kept, key)):
        return found
    headers = _headers([Path(file.path) for _, file in files])
    made = _planned(headers, asked, name, [word.rpartition("/")[2] for word, _ in files])
    jobs = [
        (Path(file.path), page) for (_, file), count in zip(files, made.pages, strict=True) for page in range(count)
    ]
    pages = [head for head, count in zip(headers, made.pages, strict=True) for _ in range(count)]
    top = _largest(jobs, pages, name)
    if top is not None:
        count = sum(head.open_range for head in pages)
        made.notes.append(f"{count} images of open range were scaled by the set's largest value, {top:g}")

    def one(job: tuple[Path, int]) -> tuple[np.ndarray, str]:
        path, page = job
        channels, height, width = made.shape
        read = image.decode(path, channels, width, height, background=asked.background, largest=top, page=page)
        return read, _digest(read)

    deep = np.array([head.mode.startswith(("I", "F")) for head in pages])

    def pixels() -> Iterator[np.ndarray]:
        """Decoded in order; the digests are filled on the way."""
        made.digests.clear()
        bad, brightest = [], 0
        for job, result in zip(jobs, _shown(_in_threads(_or_error(one), jobs), len(jobs)), strict=True):
            if isinstance(result, SpecError):
                bad.append((job[0], result))
            else:
                brightest = max(brightest, int(result[0].max()) if deep[len(made.digests)] else 0)
                made.digests.append(result[1])
                yield result[0]
        _refuse(bad)
        made.dim = brightest if deep.all() and brightest < DIM else None

    if not _write(kept, key, made, len(jobs), pixels):
        made.pixels = np.empty((len(jobs), *made.shape), np.uint8)
        for row, read in enumerate(pixels()):
            made.pixels[row] = read
        _in_memory.clear()
        _in_memory[key] = made
    return made


def _largest(jobs: list[tuple[Path, int]], pages: list[image.Header], name: str) -> float | None:
    """The largest value of the files that do not say theirs; None where there is no such file.

    Raises:
        SpecError: for whole numbers and floating point in one set, which can hardly have one unit.
    """
    ranged = {job: head.mode for job, head in zip(jobs, pages, strict=True) if head.open_range}
    modes = {mode: job[0] for job, mode in ranged.items()}
    if len(modes) > 1:
        raise SpecError(
            f"data {name!r}: some hold 32-bit whole numbers (such as {str(modes['I'])!r}) and some floating point "
            f"(such as {str(modes['F'])!r}); which value is white cannot be told. Save them all in one type."
        )
    return max(_in_threads(lambda job: image.largest(*job), ranged), default=None)


def _whose(flags: list[bool], classes: list[str]) -> str:
    """A clause for what is true of one class alone, by which a network could tell it from the others."""
    having = {label for label, flag in zip(classes, flags, strict=True) if flag}
    return f", all of class {having.pop()!r}" if len(having) == 1 and len(set(classes)) > 1 else ""


def _planned(headers: list[image.Header], asked: Asked, name: str, classes: list[str]) -> Decoded:
    """Shape and pages of the images, what is left out of them and what is said of them."""
    sizes = Counter((head.width, head.height) for head in headers)
    (width, height), count = sizes.most_common(1)[0]
    if asked.size is None and (max(width, height) > WIDEST or min(width, height) < SMALLEST):
        wide = max(width, height) > WIDEST
        why, size = (f"above {WIDEST}", "size=32") if wide else (f"below {SMALLEST}", f"size={SMALLEST}")
        raise SpecError(
            f"data {name!r}: its images have {width} x {height} pixels ({count} of {len(headers)} do), and {why} a "
            f"side the size to read them at must be asked for, for example: "
            f"kdlab data '{with_option(name, size)}'"
        )
    taken = asked.size or (width, height)
    hidden = sum(head.alpha for head in headers)
    grey = sum(head.grey for head in headers)
    one_channel = grey == len(headers) and (not hidden or len(set(asked.background)) == 1)
    notes = []
    if other := len(headers) - sizes[taken]:
        most = f"; most have {width} x {height}" if taken != (width, height) else ", which most have"
        whose = _whose([(head.width, head.height) != taken for head in headers], classes)
        notes.append(f"{other} of {len(headers)} images were resized to {taken[0]} x {taken[1]} pixels{most}{whose}")
    if grey and not one_channel:
        notes.append(f"{grey} grey images are read as colour{_whose([head.grey for head in headers], classes)}")
    deep = Counter(head.mode for head in headers if head.mode.startswith(("I", "F")) and not head.open_range)
    notes += [f"{n} images of mode {mode} were scaled to 8 bits by their full range" for mode, n in deep.items()]
    if hidden:
        colour = next((word for word, rgb in COLOURS.items() if rgb == asked.background), None)
        colour = colour or "#" + bytes(asked.background).hex()
        whose = _whose([head.alpha for head in headers], classes)
        notes.append(f"{hidden} images with transparency were laid on {colour}{whose}")
    if turned := sum(head.turned for head in headers):
        whose = _whose([head.turned for head in headers], classes)
        notes.append(f"{turned} images were turned by their EXIF orientation{whose}")
    more = sum(head.pages - 1 for head in headers)
    pages = [head.pages if asked.all_pages else 1 for head in headers]
    if more and asked.all_pages:
        notes.append(f"{more} pages after a file's first are images too; pages of one file stay in one split")
    left_out = {PAGES: more} if more and not asked.all_pages else {}
    return Decoded((1 if one_channel else 3, taken[1], taken[0]), pages, left_out=left_out, notes=notes)


def _headers(files: list[Path]) -> list[image.Header]:
    """Of every file, or a refusal."""
    headers = list(_in_threads(_or_error(image.header), files))
    _refuse([(file, head) for file, head in zip(files, headers, strict=True) if isinstance(head, SpecError)])
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
        names = ", ".join(repr(plain(file.name)) for file, _ in bad[1:6]) + (" ..." if len(bad) > 6 else "")
        also = f" (nor are {len(bad) - 1} more that cannot be read: {names})" if len(bad) > 1 else ""
        raise SpecError(f"{bad[0][1]} It is not left out in silence{also}: mend it, or take it out of the folder.")


# --- threads ----------------------------------------------------------------------------------------------------------


def _in_threads(function: Callable, jobs: Iterable) -> Iterator:
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


def _shown(results: Iterable, total: int) -> Iterable:
    """With a bar on a screen when it takes more than some seconds."""
    from tqdm import tqdm

    return tqdm(results, "reading images", total, leave=False, file=sys.stderr, disable=None, delay=3)


# --- what is kept -----------------------------------------------------------------------------------------------------


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _digest(pixels: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=16).hexdigest()


def _key(asked: Asked, files: list[tuple[str, File]]) -> str:
    import PIL

    how = (REVISION, PIL.__version__, asked.size, asked.background, asked.all_pages)
    return _hash(repr((how, [(place, file.name, file.state) for place, file in files])))


def _pixels_of(file: Any) -> tuple[tuple[int, ...], int]:
    """(shape, offset) of the pixels in an open file."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    end = file.tell() + int(np.prod(shape, dtype=np.int64))
    if dtype != np.uint8 or os.fstat(file.fileno()).st_size < end:
        raise ValueError
    return shape, file.tell()


def _load(kept: Path, key: str) -> Decoded | None:
    """What was kept under this key; None when there is nothing, or it is outdated or damaged in any way."""
    try:
        with kept.open("rb") as file:
            shape, offset = _pixels_of(file)
            file.seek(offset + int(np.prod(shape, dtype=np.int64)))
            digest, text = json.loads(file.read())
        about = json.loads(text)
        whole = digest == _hash(text) and about.pop("key") == key and len(about["digests"]) == shape[0]
        return Decoded(**about | {"shape": tuple(about["shape"]), "kept": kept}) if whole else None
    except Exception:  # a damaged header may fail in many ways, and each of them only means to decode again
        return None


def _write(kept: Path, key: str, made: Decoded, count: int, pixels: Callable[[], Iterator[np.ndarray]]) -> bool:
    """Keep images for the next process; False where nothing can be written, as in a read-only folder."""
    part = kept.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        for left in kept.parent.glob(f"{kept.stem}.*.part"):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
        with part.open("wb") as file:
            form = {"descr": "|u1", "fortran_order": False, "shape": (count, *made.shape)}
            np.lib.format.write_array_header_1_0(file, form)
            for one in pixels():
                file.write(one.tobytes())
            about = {k: v for k, v in asdict(made).items() if k not in ("kept", "pixels")} | {"key": key}
            text = json.dumps(about)
            file.write(json.dumps([_hash(text), text]).encode())
        os.replace(part, kept)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    made.kept = kept
    return True
