"""Checks of arrays read from files: uint8 images of one shape, a valid label for each, enough images per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdlab.errors import SpecError


def checked_images(pixels: object, shape: Sequence[int], file: Path) -> np.ndarray:
    """uint8 rows of a known shape, as ``(N, *shape)``.

    Args:
        pixels: what the file holds.
        shape: of one image in the file.
        file: named when it is wrong.

    Raises:
        SpecError: for another type or shape, or no images.
    """
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = getattr(pixels, "dtype", type(pixels).__name__)
        raise SpecError(f"{file} must hold its pixels as uint8 in 0 .. 255, but holds {kind}. Save them so.")
    if pixels.shape[1:] != tuple(shape) or not pixels.size:
        wanted = " x ".join(map(str, ("images", *shape)))
        raise SpecError(f"{file} must hold {wanted} values, but its pixels have the shape {pixels.shape}.")
    return pixels


def checked_labels(labels: object, images: int, classes: Sequence[str], file: Path, named: Path | None = None):
    """Labels as int64 (N,), one for each image, each the number of a class.

    Args:
        labels: what the file holds.
        images: how many images there are.
        classes: class names.
        file: named when the labels are wrong.
        named: the file of the class names, where there is one.

    Raises:
        SpecError: for anything but whole numbers, another count, or a label without a class.
    """
    try:
        array = np.asarray(labels)
    except ValueError:  # a list of lists of several lengths
        array = np.empty(0)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SpecError(f"{file} must hold its labels as a list of whole numbers.")
    if len(array) != images:
        raise SpecError(f"{file} holds {len(array)} labels, but there are {images} images. Fetch both files again.")
    wrong = array[(array < 0) | (array >= len(classes))]
    if len(wrong):
        source = f"{named} names" if named else "there are"
        raise SpecError(
            f"{file} holds the label {wrong[0]}, but {source} {len(classes)} classes, which are counted from 0 to "
            f"{len(classes) - 1}. Mend the labels or the class names."
        )
    return array.astype(np.int64)


def check_classes(classes: Sequence[str], labels: np.ndarray, least: int, part: str, file: Path) -> None:
    """Refuse a split in which a class has fewer than ``least`` images."""
    for name, count in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True):
        if count < least:
            raise SpecError(
                f"{file}: class {name!r} has {count} images in {part}, but at least {least} are needed. "
                "Take the class out of the class names, or add images of it."
            )
