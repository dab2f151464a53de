"""CIFAR-10 and CIFAR-100 from their python archives, unpacked as torchvision leaves them.

Reference: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, 2009.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from kdlab.data.arrays import check_classes, checked_images, checked_labels
from kdlab.data.source import Source, from_arrays, locate
from kdlab.errors import SpecError
from kdlab.paths import open_file

CIFAR10_FILES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta")
CIFAR100_FILES = ("train", "test", "meta")


class _ArrayUnpickler(pickle._Unpickler):
    """Reads pickles of plain containers and numpy arrays, and nothing that could run code or ask for more memory.

    It is Python's own in Python: the one in C fills a table as long as any number in the file says.
    """

    allowed = {
        ("numpy", "_reconstruct"): lambda *what: np.empty(0).__reduce__()[0](np.ndarray, (0,), b"b"),
        ("numpy", "ndarray"): None,  # as arguments of the former; called, it would make an array of any size
        ("numpy", "_frombuffer"): lambda buffer, dtype, shape, order: np.frombuffer(buffer, dtype).reshape(
            shape, order=order
        ),
        # The archives hold integers where numpy wants booleans, which newer versions warn about.
        ("numpy", "dtype"): lambda name, align=False, copy=False: np.dtype(name, align=bool(align), copy=bool(copy)),
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
    }

    def find_class(self, module: str, name: str):
        known = module.partition(".")[0], name
        if known not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in an image archive")
        return self.allowed[known]


def read_archive(path: Path, *keys: str) -> list:
    """The values of some keys of the dictionary inside one file of the archive.

    Keys may be bytes, as Python 3 writes them again after reading the original.

    Raises:
        SpecError: naming the file, when it is damaged, lacks a key, or holds anything but arrays and text.
    """
    try:
        with open_file(path) as file:
            archive = _ArrayUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle is a damaged program: it may fail in any way
        raise SpecError(
            f"{path} cannot be read as a CIFAR archive: {error!r}. Unpack it again from the python version of CIFAR."
        ) from error
    if not isinstance(archive, dict):
        raise SpecError(f"{path} is no CIFAR archive: it holds {type(archive).__name__} where a dictionary is needed.")
    archive = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in archive.items()}
    for key in keys:
        if key not in archive:
            raise SpecError(f"{path} is no CIFAR archive: it lacks {key!r} and holds {', '.join(map(repr, archive))}.")
    return [archive[key] for key in keys]


def cifar10_files(root: Path) -> list[Path]:
    """The seven files of the archive, unpacked in the root, in the root itself or in a folder of the archive's name."""
    return _files(root, "cifar-10-batches-py", "cifar-10-python", CIFAR10_FILES, "cifar10")


def read_cifar10(files: list[Path]) -> Source:
    """45,000 train, 5,000 val and 10,000 test colour images of 32 x 32 in 10 classes."""
    return _read(files[:-2], files[-2], files[-1], "labels", "label_names")


def cifar100_files(root: Path) -> list[Path]:
    """The three files of the archive, unpacked in the root, in the root itself or in a folder of the archive's name."""
    return _files(root, "cifar-100-python", "cifar-100-python", CIFAR100_FILES, "cifar100")


def read_cifar100(files: list[Path]) -> Source:
    """45,000 train, 5,000 val and 10,000 test colour images of 32 x 32 in 100 classes."""
    return _read(files[:1], files[1], files[2], "fine_labels", "fine_label_names")


def _files(root: Path, folder: str, archive: str, names: tuple[str, ...], data: str) -> list[Path]:
    return locate(root, (folder, f"{archive}/{folder}", "."), names, data, f"{archive}.tar.gz")


def _read(train: list[Path], test: Path, meta: Path, labels: str, names: str) -> Source:
    classes = _class_names(meta, names)
    arrays = _arrays(train, labels, classes, meta), _arrays([test], labels, classes, meta)
    check_classes(classes, arrays[0][1], 2, "train", meta)
    check_classes(classes, arrays[1][1], 1, "test", meta)
    return from_arrays(*arrays, classes, val_share=0.1)


def _class_names(meta: Path, key: str) -> list[str]:
    (names,) = read_archive(meta, key)
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, (str, bytes)) for name in names):
        raise SpecError(f"{meta} is no CIFAR archive: {key!r} must be a list of class names, but is {names!r:.80}.")
    classes = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names]
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise SpecError(f"{meta} must name at least two classes, each once, but names {classes!r:.80}.")
    return classes


def _arrays(files: list[Path], key: str, classes: list[str], meta: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels, targets = [], []
    for path in files:
        data, target = read_archive(path, "data", key)
        pixels.append(checked_images(data, (3072,), path).reshape(-1, 3, 32, 32))
        targets.append(checked_labels(target, len(data), classes, path, meta))
    return np.concatenate(pixels), np.concatenate(targets), np.arange(sum(map(len, targets)))
