"""Decoded images in one file under ``home()/data``, so that a folder is decoded once for all processes.

Of a folder that is streamed the file holds no pixels, and what is known of each image alone.

The file holds the pixels as numpy writes them, so that a few can be read without the others, then a description. Each
image is known by a hash of its pixels, so that a damaged file is noticed and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdlab.paths import replacing

KINDS = (".pixels", ".digests", ".counts")  # images, what is known of each, how often each value occurs
TOGETHER = 256  # images that are held against their hashes in one go
STALE = 3600  # seconds after which a half-written file belongs to no running process


@dataclass
class Decoded:
    """Images of one shape, each known by a hash of its pixels.

    Args:
        shape: (channels, height, width).
        pages: images taken from each file, in the order of the files.
        digests: hash of each image's pixels, hexadecimal.
        left_out: reason to number, of what was not read.
        notes: sentences on how images were read.
        largest: of the whole set, where files do not say their range.
        dim: where every file has more than 8 bits and none uses an eighth of its range, the largest pixel of all.
        file: where the pixels are stored, or None when they are in memory.
        pixels: (N, C, H, W) uint8, when they are in memory.
    """

    shape: tuple[int, int, int]
    pages: list[int]
    digests: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    largest: float | None = None
    dim: int | None = None
    file: Path | None = None
    pixels: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> np.ndarray | None:
        """Images (M, C, H, W) at some rows, or None when their file is gone or damaged."""
        if self.pixels is not None:
            return self.pixels[rows]
        with suppress(OSError, ValueError), self.file.open("rb") as file:
            there, offset = _pixels_of(file)
            if there == (len(self.digests), *self.shape):
                pixels = np.memmap(self.file, np.uint8, "r", offset, there)[rows]
                if all(digest(one) == self.digests[row] for one, row in zip(pixels, rows, strict=True)):
                    return np.asarray(pixels)
        return None


def text_hash(text: str) -> str:
    """sha256 of a text that may hold file names of any bytes, hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def digest(pixels: np.ndarray) -> str:
    """Hash of an image's pixels, hexadecimal."""
    return hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=16).hexdigest()


def sealed(document: dict[str, Any]) -> str:
    """A document as json together with a hash of it, so that a damaged one is noticed."""
    text = json.dumps(document)
    return json.dumps([text_hash(text), text])


def unsealed(content: bytes) -> dict[str, Any]:
    """What ``sealed`` was given.

    Raises:
        Exception: of many kinds, when it is not what was written.
    """
    text_digest, text = json.loads(content)
    if text_digest != text_hash(text):
        raise ValueError("it no longer matches its checksum")
    return json.loads(text)


def damaged(path: Path) -> bool:
    """Whether a file of decoded images, or of what else is kept beside them, is not what was written to it.

    Args:
        path: of ``home()/data``, NAME.pixels, NAME.digests or NAME.counts.
    """
    try:
        if path.suffix == ".counts":
            return not path.name.startswith(f"{unsealed(path.read_bytes())['data']}-")
        about = _described(path)
    except FileNotFoundError:
        return False
    except Exception:  # a damaged header may fail in many ways
        return True
    if path.suffix == ".digests":
        return False
    del about["key"]
    kept = Decoded(**about | {"shape": tuple(about["shape"]), "file": path})
    rows = np.arange(len(kept.digests))
    return any(kept.take(part) is None for part in np.array_split(rows, len(rows) // TOGETHER + 1))


def _described(path: Path) -> dict[str, Any]:
    """What stands behind the pixels of a file."""
    with path.open("rb") as file:
        shape, offset = _pixels_of(file)
        file.seek(offset + int(np.prod(shape, dtype=np.int64)))
        about = unsealed(file.read())
    if shape[0] not in (0, len(about["digests"])):
        raise ValueError("it holds other images than it says")
    return about


def _pixels_of(file: Any) -> tuple[tuple[int, ...], int]:
    """(shape, offset) of the pixels in an open file."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    end = file.tell() + int(np.prod(shape, dtype=np.int64))
    if dtype != np.uint8 or os.fstat(file.fileno()).st_size < end:
        raise ValueError
    return shape, file.tell()


def load(path: Path, key: str) -> Decoded | None:
    """The images stored under this key; None when there are none, or they are outdated or damaged in any way."""
    try:
        about = _described(path)
        if about.pop("key") != key:
            return None
        return Decoded(**about | {"shape": tuple(about["shape"]), "file": path})
    except Exception:  # a damaged header may fail in many ways, and each of them only means to decode again
        return None


def write(path: Path, key: str, images: Decoded, count: int, pixels: Callable[[], Iterator[np.ndarray]]) -> bool:
    """Store images for the next process; False where nothing can be written, as in a read-only folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*"):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
        with replacing(path) as part, part.open("wb") as file:
            form = {"descr": "|u1", "fortran_order": False, "shape": (count, *images.shape)}
            np.lib.format.write_array_header_1_0(file, form)
            for one in pixels():
                file.write(one.tobytes())
            about = {k: v for k, v in asdict(images).items() if k not in ("file", "pixels")} | {"key": key}
            file.write(sealed(about).encode())
    except OSError:
        return False
    images.file = path
    return True
