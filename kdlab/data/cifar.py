"""CIFAR-10 and CIFAR-100 from their python archives, unpacked as torchvision leaves them.

Reference: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, 2009.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from kdlab.data.source import Source, from_arrays, locate
from kdlab.registry import SpecError

CIFAR10_FILES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta")
CIFAR100_FILES = ("train", "test", "meta")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of plain containers and numpy arrays, and nothing that could run code."""

    allowed = {
        "_reconstruct": np.empty(0).__reduce__()[0],
        "ndarray": np.ndarray,
        # The archives hold integers where numpy wants booleans, which newer versions warn about.
        "dtype": lambda name, align=False, copy=False: np.dtype(name, align=bool(align), copy=bool(copy)),
    }

    def find_class(self, module: str, name: str):
        if module.partition(".")[0] == "numpy" and name in self.allowed:
            return self.allowed[name]
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in an image archive")


def read_archive(path: Path, *keys: str) -> list:
    """The values of some keys of the dictionary inside one file of the archive.

    Raises:
        SpecError: naming the file, when it is damaged, lacks a key, or holds anything but arrays and text.
    """
    try:
        with path.open("rb") as file:
            archive = _ArrayUnpickler(file, encoding="latin1").load()
        return [archive[key] for key in keys]
    except (OSError, EOFError, pickle.UnpicklingError, ValueError, LookupError, TypeError) as error:
        raise SpecError(f"{path} cannot be read as a CIFAR archive: {error!r}.") from error


def cifar10_files(root: Path) -> list[Path]:
    """The seven files of the archive, in ``cifar-10-batches-py`` or in the root itself."""
    return locate(root, ("cifar-10-batches-py", "."), CIFAR10_FILES, "cifar10")


def read_cifar10(files: list[Path]) -> Source:
    """45,000 train, 5,000 val and 10,000 test colour images of 32 x 32 in 10 classes."""
    return _read(files[:-2], files[-2], files[-1], "labels", "label_names")


def cifar100_files(root: Path) -> list[Path]:
    """The three files of the archive, in ``cifar-100-python`` or in the root itself."""
    return locate(root, ("cifar-100-python", "."), CIFAR100_FILES, "cifar100")


def read_cifar100(files: list[Path]) -> Source:
    """45,000 train, 5,000 val and 10,000 test colour images of 32 x 32 in 100 classes."""
    return _read(files[:1], files[1], files[2], "fine_labels", "fine_label_names")


def _read(train: list[Path], test: Path, meta: Path, labels: str, names: str) -> Source:
    (classes,) = read_archive(meta, names)
    return from_arrays(_arrays(train, labels), _arrays([test], labels), classes, val_share=0.1)


def _arrays(files: list[Path], labels: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels, targets = [], []
    for path in files:
        data, target = read_archive(path, "data", labels)
        if np.shape(data) != (len(target), 3072):
            raise SpecError(f"{path} is no CIFAR archive: {len(target)} labels, but pixels {np.shape(data)}.")
        pixels.append(data.reshape(-1, 3, 32, 32))
        targets += target
    return np.concatenate(pixels), np.array(targets), np.arange(len(targets))
