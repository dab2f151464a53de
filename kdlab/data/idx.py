"""Fashion-MNIST: the bundled balanced subset, and the whole set from its IDX files.

Reference: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms, arXiv:1708.07747, 2017.
"""

from __future__ import annotations

import functools
import gzip
import lzma
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kdlab.data.arrays import check_classes, checked_images, checked_labels
from kdlab.data.source import Source, from_arrays, locate
from kdlab.errors import SpecError
from kdlab.paths import open_file

PACK = Path(__file__).with_name("fashion.xz")
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
UNSIGNED_BYTE, GZIPPED = b"\x08", b"\x1f\x8b"
LARGEST = 200_000_000  # values of a file; of published sets of ten classes EMNIST's digits have most, 188 million
DIMENSIONS = 4


def fashion_files(root: Path) -> list[Path]:
    """The bundled pack, wherever the root is."""
    return [PACK]


def read_fashion(files: list[Path]) -> Source:
    """The bundled subset: 12,000 train, 2,000 val, 10,000 test, ten balanced classes of 28 x 28 grey images.

    The pack is an xz stream of ``.npy`` arrays: images, labels and rows of train, then of test.
    """
    try:
        there = files[0].stat()
        arrays = _unpacked(files[0], there.st_mtime_ns, there.st_size)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise SpecError(f"the bundled data {files[0]} is damaged: {error}. Install kdlab again.") from error
    return from_arrays(arrays[:3], arrays[3:], CLASSES, val_share=1 / 7)


@functools.lru_cache(maxsize=1)  # 19 MB, which take up to a second to unpack; a process asks for them many times
def _unpacked(pack: Path, changed: int, size: int) -> tuple[np.ndarray, ...]:
    """The arrays of the pack, as it was when it was last changed; nobody may write to them."""
    with lzma.open(pack) as stream:
        arrays = tuple(np.lib.format.read_array(stream) for _ in range(6))
    for array in arrays:
        array.setflags(write=False)
    return arrays


def fashion_mnist_files(root: Path) -> list[Path]:
    """The four IDX files in torchvision's folder, in ``fashion-mnist`` or in the root itself."""
    return locate(root, ("FashionMNIST/raw", "fashion-mnist", "."), FILES, "fashion-mnist")


def read_fashion_mnist(files: list[Path]) -> Source:
    """The whole set: 54,000 train, 6,000 val, 10,000 test."""
    train, test = _part(files[0], files[1], 2, "train"), _part(files[2], files[3], 1, "test")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise SpecError(f"{files[2]} holds images of {test[0].shape[2:]}, but {files[0]} of {train[0].shape[2:]}.")
    return from_arrays(train, test, CLASSES, val_share=0.1)


def _part(images: Path, labels: Path, least: int, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels = read_idx(images)
    if pixels.ndim != 3:
        raise SpecError(f"{images} must hold images x height x width values, but its header says {pixels.shape}.")
    pixels = checked_images(pixels, pixels.shape[1:], images)
    targets = checked_labels(read_idx(labels), len(pixels), CLASSES, labels)
    check_classes(CLASSES, targets, least, part, labels)
    return pixels[:, None], targets, np.arange(len(targets))


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file of unsigned bytes, gzipped or not, whatever its name ends in.

    Layout: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian 32-bit
    integer, then the values.

    Raises:
        SpecError: when the file cannot be read, is of another kind, is cut short, or holds more than it promises. No
            more is unpacked than that, and of more than ``LARGEST`` values nothing.
    """
    try:
        with open_file(path) as file:
            packed = file.read(2) == GZIPPED
            file.seek(0)
            return _values(path, gzip.GzipFile(fileobj=file) if packed else file)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise SpecError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _values(path: Path, file: BinaryIO | gzip.GzipFile) -> np.ndarray:
    head = file.read(4)
    sides = file.read(4 * head[3]) if len(head) == 4 else b""
    if head[:3] != b"\0\0" + UNSIGNED_BYTE or len(head) < 4 or len(sides) < 4 * head[3]:
        raise SpecError(
            f"{path} is not an IDX file of unsigned bytes, gzipped or not: it begins with {head + sides[:4]!r}. "
            "Fetch the file again."
        )
    shape = tuple(np.frombuffer(sides, ">u4").tolist())
    promised = math.prod(shape)
    if len(shape) > DIMENSIONS or promised > LARGEST:
        raise SpecError(
            f"{path}: its header promises the shape {str(shape)[:80]}, of which at most {LARGEST:,} values in "
            f"{DIMENSIONS} dimensions are read. Fetch the file again."
        )
    content = file.read(promised + 1)
    if len(content) != promised:
        count = "more" if len(content) > promised else f"{len(content)}"
        raise SpecError(
            f"{path} holds {count} values, but its header promises the shape {shape}. Fetch the file again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
