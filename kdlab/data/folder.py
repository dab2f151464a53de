"""One's own images: a folder for each class, named ``folder:PATH`` or ``folder:PATH?size=32``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from kdlab.data.source import Reader, Source, balanced_order, carve
from kdlab.registry import SpecError
from kdlab.rng import stream_seed

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
HELD_OUT = 0.1
LAYOUT = "one sub-folder of images per class, or train/ and test/ with such sub-folders"


def open_folder(name: str) -> Reader:
    """Find the images of ``folder:PATH`` without decoding them.

    With ``PATH/train`` and ``PATH/test`` these are the splits; otherwise a tenth of each class becomes test.
    A tenth of each class of train becomes val. A hash of the paths decides which images. All are resized to
    ``size`` x ``size`` (PATH?size=32), or to the most common size; they are grey when every file is.

    Raises:
        SpecError: for a missing folder, no images, fewer than two classes, a class with too few images, or an option
            other than ``size``.
    """
    path, _, query = name.removeprefix("folder:").partition("?")
    size = _size(query, name)
    root = Path(path)
    if not root.is_dir():
        raise SpecError(f"data {name!r}: the folder {path!r} does not exist; it should hold {LAYOUT}.")
    parts = [root / part for part in ("train", "test") if (root / part).is_dir()]
    parts = parts if len(parts) == 2 else [root]
    classes = [_classes(part) for part in parts]
    if any(names != classes[0] for names in classes):
        odd = sorted(set(classes[0]) ^ set(classes[1]))
        raise SpecError(f"data {name!r}: train and test have other classes: {', '.join(odd)} is in one only.")
    found = [[_images(part / label) for label in classes[0]] for part in parts]
    _check(name, classes[0], found)
    files = [file for part in found for label in part for file in label]
    words = (size, *(file.relative_to(root).as_posix() for file in files))
    return Reader(files, lambda _: _read(root, classes[0], found, size), words)


def _size(query: str, name: str) -> int | None:
    if not query:
        return None
    option, _, value = query.partition("=")
    if option != "size" or not value.isdecimal() or int(value) < 8:
        raise SpecError(f"data {name!r}: after '?' only size=PIXELS (at least 8) is known, but got {query!r}.")
    return int(value)


def _classes(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def _check(name: str, classes: list[str], found: list[list[list[Path]]]) -> None:
    """Refuse what cannot be trained and tested on."""
    if not any(label for part in found for label in part):
        raise SpecError(f"data {name!r}: the folder holds no images; it should hold {LAYOUT}.")
    if len(classes) < 2:
        raise SpecError(f"data {name!r}: there is only one class, {classes[0]!r}; at least two are needed.")
    needed = {"train": 2, "test": 1} if len(found) == 2 else {"the folder": 3}
    for part, (where, least) in zip(found, needed.items(), strict=True):
        for label, images in zip(classes, part, strict=True):
            if len(images) < least:
                raise SpecError(
                    f"data {name!r}: class {label!r} has {len(images)} images in {where}; "
                    f"every class needs at least {least} to fill the splits."
                )


def _read(root: Path, classes: list[str], found: list[list[list[Path]]], size: int | None) -> Source:
    """Split the files and look at their headers; pixels are decoded on demand."""
    files = [file for part in found for label in part for file in label]
    labels = np.concatenate([np.repeat(np.arange(len(classes)), [len(label) for label in part]) for part in found])
    # Hashed order within a class: the last ones are held out.
    order = np.argsort([stream_seed(0, "split", file.relative_to(root).as_posix()) for file in files], kind="stable")
    if len(found) == 2:
        is_test = order >= sum(len(label) for label in found[0])
        train, test = order[~is_test], order[is_test]
        test = test[balanced_order(labels[test])]
    else:
        kept, held_out = carve(labels[order], HELD_OUT)
        train, test = order[np.sort(kept)], order[held_out]
    kept, held_out = carve(labels[train], HELD_OUT)
    rows = {"train": train[kept], "val": train[held_out], "test": test}
    headers = [_header(file) for file in files]
    mode = "L" if all(header[0] in ("1", "L", "LA") for header in headers) else "RGB"
    width, height = (size, size) if size else Counter(header[1] for header in headers).most_common(1)[0][0]
    return Source(
        classes=tuple(classes),
        shape=(len(mode), height, width),
        labels={split: labels[index] for split, index in rows.items()},
        rows=rows,
        pixels=lambda split, n: np.stack([_decode(files[row], mode, width, height) for row in rows[split][:n]]),
    )


def _header(file: Path) -> tuple[str, tuple[int, int]]:
    """Pillow's mode and (width, height)."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.mode, image.size
    except (OSError, ValueError) as error:
        raise SpecError(f"image {str(file)!r} cannot be read: {error}.") from error


def _decode(file: Path, mode: str, width: int, height: int) -> np.ndarray:
    """One image as uint8 (C, height, width)."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            resized = image.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError) as error:
        raise SpecError(f"image {str(file)!r} cannot be read: {error}.") from error
    return np.asarray(resized).reshape(height, width, len(mode)).transpose(2, 0, 1)
