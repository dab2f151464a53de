"""Data sets as uint8 images: ``load`` for training, ``facts`` and ``fingerprint`` for planning without torch.

Names: ``fashion`` (bundled), ``fashion-mnist``, ``cifar10``, ``cifar100`` (files under the data root) and
``folder:PATH`` (one folder of images per class). To add a data set, write a reader (``files(root)`` and
``read(files)``) and name it in ``READERS`` with a revision, which is raised whenever it reads differently.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab import paths
from kdlab.data import cifar, download, folder, idx
from kdlab.data.names import PREFIX, absolute
from kdlab.data.source import SPLITS, Reader, Source, digest_files
from kdlab.errors import SpecError, choose
from kdlab.memo import memoised

if TYPE_CHECKING:
    from kdlab.data.sets import ImageSet, Splits

__all__ = [
    "NAMES",
    "SPLITS",
    "ImageSet",
    "Splits",
    "absolute",
    "describe",
    "facts",
    "fetch",
    "fingerprint",
    "load",
    "train_size",
]

READERS = {
    "fashion": (idx.fashion_files, idx.read_fashion, 1),
    "fashion-mnist": (idx.fashion_mnist_files, idx.read_fashion_mnist, 1),
    "cifar10": (cifar.cifar10_files, cifar.read_cifar10, 1),
    "cifar100": (cifar.cifar100_files, cifar.read_cifar100, 1),
}
NAMES = (*READERS, "folder:PATH")
DESCRIPTIONS = {
    "fashion": "Fashion-MNIST, bundled balanced subset",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}


def load(
    name: str = "fashion",
    root: str | Path | None = None,
    sizes: tuple[int, int, int] | None = None,
    download: bool = False,
) -> Splits:
    """Read a data set into memory; of ``folder:PATH?stream=yes`` what is known of its images, which stay on disk.

    Val is carved from train before anything is left out. Images are in balanced order, so ``sizes`` are
    nested prefixes with equally many images of each class. Mean and std are those of the kept train images.

    Args:
        name: one of ``NAMES``.
        root: folder of the files; default ``$KDLAB_DATA``, else ``data`` in the current folder.
        sizes: (train, val, test) images to keep, or None for all.
        download: fetch missing files first, as ``fetch`` does.

    Returns:
        Splits(train, val, test) of ImageSets.

    Raises:
        SpecError: for an unknown name, missing or unreadable files, or sizes that the data cannot fill.
    """
    import torch

    from kdlab.data.sets import ImageSet, Splits, channel_statistics, pixels_of, value_counts

    if download:
        fetch(name, root)
    reader = _reader(name, root)
    source = reader.read()
    counts = _counts(source, sizes)
    images = {split: pixels_of(source, split, n) for split, n in counts.items()}
    digest = reader.digest()
    mean, std = channel_statistics(value_counts(images["train"], digest))
    return Splits(
        *(
            ImageSet(
                images=images[split],
                labels=torch.from_numpy(source.labels[split][:n]),
                rows=torch.from_numpy(source.rows[split][:n]),
                classes=source.classes,
                mean=mean,
                std=std,
                fingerprint=digest,
            )
            for split, n in counts.items()
        )
    )


def fetch(name: str, root: str | Path | None = None) -> str:
    """Fetch the published files of a data set that are not here: once, checked, going on where it was cut.

    Args:
        name: ``fashion-mnist``, ``cifar10`` or ``cifar100``; ``fashion`` comes with kdlab.
        root: as in ``load``.

    Returns:
        A sentence that says what was done, and where the files are.

    Raises:
        SpecError: for other names, and when files cannot be fetched, written or verified.
    """
    if name in READERS and name not in download.SETS:
        return f"data {name!r}: comes with kdlab; nothing was fetched"
    return download.fetch(choose("data to download", name, download.SETS), data_root(root), READERS[name][0])


@memoised
def fingerprint(name: str, root: str | Path | None = None) -> str:
    """Hash of what a data set reads as, without torch.

    Of a folder these are its class names and the labels and decoded pixels of each split; of other data sets their
    files. The revision of the reader goes in as well.

    Args:
        name: one of ``NAMES``.
        root: as in ``load``.
    """
    return _reader(name, root).digest()


@memoised
def facts(name: str, root: str | Path | None = None) -> dict[str, Any]:
    """What planning must know: images per split, number of classes, channels and size, without torch.

    Args:
        name: one of ``NAMES``.
        root: as in ``load``.

    Returns:
        dict with ``train``, ``val``, ``test`` (images), ``classes``, ``channels``, ``size`` (the larger side
        in pixels) and ``per_class`` (training images of each class).
    """
    reader = _reader(name, root)
    key = name, reader.digest()
    if key not in _facts:
        source = reader.read()
        _facts[key] = {split: len(source.labels[split]) for split in SPLITS} | {
            "classes": len(source.classes),
            "channels": source.shape[0],
            "size": max(source.shape[1:]),
            "per_class": np.bincount(source.labels["train"], minlength=len(source.classes)).tolist(),
        }
    return dict(_facts[key])


_facts: dict[tuple[str, str], dict[str, Any]] = {}  # by fingerprint: what the files hold now, whatever they held before


def shape(name: str) -> tuple[int, int, int]:
    """Channels, height and width of a data set's images, in pixels."""
    there = facts(name)
    return there["channels"], there["size"], there["size"]


def describe(name: str, root: str | Path | None = None) -> Source:
    """A data set without its images in memory: class names, labels and, on demand, pixels. No torch.

    Args:
        name: one of ``NAMES``.
        root: as in ``load``.
    """
    return _reader(name, root).read()


def sizes(name: str, kept: Sequence[int] | None = None) -> list[int]:
    """Images in train, val and test: those kept, or all there are.

    Args:
        name: as in ``load``.
        kept: (train, val, test) images, or None for all.
    """
    return list(kept or (facts(name)[split] for split in SPLITS))


@memoised
def train_size(name: str, sizes: tuple[int, int, int] | None = None, fraction: float = 1.0) -> int:
    """Training images of a stratified subset (``ImageSet.subset``), without loading it.

    Args:
        name: one of ``NAMES``.
        sizes: (train, val, test) images kept, or None for all.
        fraction: share of the kept training images, in (0, 1].
    """
    per_class = facts(name)["per_class"]
    if sizes is not None:
        whole, more = divmod(sizes[0], len(per_class))
        per_class = [whole + (label < more) for label in range(len(per_class))]
    return sum(max(1, round(fraction * count)) for count in per_class)


def data_root(root: str | Path | None) -> Path:
    """The folder of data sets: ``root``, else ``$KDLAB_DATA``, else ``data`` in the current folder; absolute."""
    return paths.absolute(root or os.environ.get(paths.DATA) or "data")


def _reader(name: str, root: str | Path | None) -> Reader:
    if name.startswith(PREFIX):
        return folder.open_folder(name)
    files, read, revision = READERS[choose("data", name, READERS if name in READERS else NAMES)]
    found = files(data_root(root))
    return Reader(lambda: read(found), lambda: digest_files(found, name, revision))


def _counts(source: Source, sizes: tuple[int, int, int] | None) -> dict[str, int]:
    """Images to keep per split, refused where a class cannot fill its equal part."""
    if sizes is None:
        return {split: len(source.labels[split]) for split in SPLITS}
    if len(sizes) != len(SPLITS):
        raise SpecError(f"sizes must be (train, val, test), but got {sizes!r}.")
    classes = len(source.classes)
    for split, size in zip(SPLITS, sizes, strict=True):
        labels = source.labels[split]
        if not 1 <= size <= len(labels):
            raise SpecError(f"sizes: {split} must be between 1 and {len(labels)}, but got {size}.")
        for label, name in enumerate(source.classes):
            needed, there = size // classes + (label < size % classes), int((labels == label).sum())
            if there < needed:
                raise SpecError(
                    f"sizes: {size} balanced {split} images need {needed} of class {name!r}, which has {there}."
                )
    return dict(zip(SPLITS, sizes, strict=True))
