"""Fashion-MNIST: the bundled balanced subset, and the whole set from its IDX files.

Reference: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms, arXiv:1708.07747, 2017.
"""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np

from kdlab.data.source import Source, from_arrays, locate
from kdlab.registry import SpecError

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
UNSIGNED_BYTE = 8


def fashion_files(root: Path) -> list[Path]:
    """The bundled pack, wherever the root is."""
    return [PACK]


def read_fashion(files: list[Path]) -> Source:
    """The bundled subset: 6,000 train, 1,000 val, 5,000 test, ten balanced classes of 28 x 28 grey images.

    The pack is an xz stream of ``.npy`` arrays: images, labels and rows of train, then of test.
    """
    with lzma.open(files[0]) as stream:
        arrays = [np.lib.format.read_array(stream) for _ in range(6)]
    return from_arrays(arrays[:3], arrays[3:], CLASSES, val_share=1 / 7)


def fashion_mnist_files(root: Path) -> list[Path]:
    """The four IDX files in torchvision's folder, in ``fashion-mnist`` or in the root itself."""
    return locate(root, ("FashionMNIST/raw", "fashion-mnist", "."), FILES, "fashion-mnist")


def read_fashion_mnist(files: list[Path]) -> Source:
    """The whole set: 54,000 train, 6,000 val, 10,000 test."""
    images, labels, test_images, test_labels = (read_idx(path) for path in files)
    train, test = (
        (images[:, None], labels, np.arange(len(labels))),
        (test_images[:, None], test_labels, np.arange(len(test_labels))),
    )
    return from_arrays(train, test, CLASSES, val_share=0.1)


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file of unsigned bytes, gzipped when the name ends in ``.gz``.

    Layout: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian 32-bit
    integer, then the values.

    Raises:
        SpecError: when the file cannot be read, is of another kind, or is cut short.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError) as error:
        raise SpecError(f"{path} cannot be read: {error}.") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE:
        raise SpecError(f"{path} is not an IDX file of unsigned bytes.")
    start = 4 + 4 * content[3]
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    if len(content) - start != np.prod(shape, dtype=np.int64):
        raise SpecError(f"{path} holds {len(content) - start} values, but its header promises the shape {shape}.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
