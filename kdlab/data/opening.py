"""Opening one image file with Pillow; whatever is wrong with the file becomes a SpecError of one sentence."""

from __future__ import annotations

import contextlib
import functools
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kdlab.errors import SpecError

if TYPE_CHECKING:
    from PIL.Image import Image

HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
MAGIC = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"BM": "BMP",
}
DRAWINGS = ("EPS", "WMF")  # reading one runs another program
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
_SETTINGS = threading.Lock()  # Pillow's limit and Python's warnings belong to the whole process


def quoted(file: Path) -> str:
    """The path in quotes, as any terminal can print it: bytes that are no UTF-8 stand as ``\\xe9``."""
    return f"'{os.fsencode(file).decode('utf-8', 'backslashreplace')}'"


@contextlib.contextmanager
def opened(file: Path, page: int = 0) -> Iterator[Image]:
    """The file, opened at a page and not yet decoded; whatever goes wrong with it becomes a SpecError.

    Damaged files make Pillow raise nearly anything (OSError, SyntaxError, struct.error, ValueError, IndexError,
    KeyError, OverflowError, MemoryError ...), so every Exception that passes through is about the file.
    """
    from PIL import Image

    try:
        if not Path(file).is_file():
            raise SpecError(f"image {quoted(file)} cannot be read: {_no_file(Path(file))}.")
        register_heif()
        # From a stream, since Pillow maps files by name into memory and then mistakes width for height in a raw TIFF
        # that lies on its side.
        with open(file, "rb") as stream:
            with quietly():
                image = Image.open(stream)
                _turn_to(file, image, page)
                if image.format == "PNG" and "exif" not in image.info:
                    image.info |= _late_exif(file)
                Image.Image.getexif(image)  # kept by the image; a PNG's own would decode it first
            if image.format in DRAWINGS:
                raise SpecError(f"image {quoted(file)} cannot be read: it is a drawing ({image.format}).")
            yield image
    except SpecError:
        raise
    except Exception as error:
        raise SpecError(f"image {quoted(file)} cannot be read: {_reason(Path(file), error)}.") from error


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without Pillow's own limit, which does not know of draft mode, and its warnings, which name no file."""
    from PIL import Image

    with _SETTINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _turn_to(file: Path, image: Image, page: int) -> None:
    try:
        image.seek(page)
    except EOFError as error:
        raise SpecError(f"image {quoted(file)} has no page {page}; pages count from 0.") from error


@functools.cache
def register_heif() -> None:
    """Let Pillow read HEIC where somebody installed the package for it."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()


def _late_exif(file: Path) -> dict[str, bytes]:
    """The eXIf chunk of a PNG that stands behind the pixels, where Pillow finds it only by decoding them."""
    with open(file, "rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return {"exif": b"Exif\0\0" + stream.read(length)}
            stream.seek(length + 4, os.SEEK_CUR)
    return {}


def is_sideways(image: Image) -> bool:
    """Whether width and height change places on the way upright; for TIFF, Pillow has changed them already."""
    from PIL import Image

    return image.format != "TIFF" and Image.Image.getexif(image).get(ORIENTATION) in SIDEWAYS


def _no_file(file: Path) -> str:
    if file.is_dir():
        return "it is a folder"
    if file.is_symlink():
        return "it is a link that leads nowhere"
    return "it is no regular file" if file.exists() else "it does not exist"


def _reason(file: Path, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return _content(file)
    if isinstance(error, MemoryError):
        return "there is not enough memory for it, or it is damaged"
    if strerror := getattr(error, "strerror", None):
        return strerror
    return f"it is damaged or cut short ({str(error).rstrip('.') or type(error).__name__})"


def _content(file: Path) -> str:
    """What a file holds that Pillow does not take for an image."""
    with open(file, "rb") as stream:
        start = stream.read(64)
    if not start:
        return "the file is empty"
    if start[4:8] == b"ftyp" and start[8:12] in HEIC_BRANDS:
        return (
            "it is HEIC, which Pillow does not read. Convert it to JPEG or PNG, or install the package pillow-heif, "
            "which is not part of kdlab"
        )
    if start[4:8] == b"ftyp":
        return f"it is a media file of brand {start[8:12].decode('latin1')!r}, which this Pillow does not read"
    if start.startswith(b"\0\5\26\7"):
        return "it holds the attributes that macOS keeps beside a file, not the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS. Fetch the image itself with 'git lfs pull'"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    for magic, format in MAGIC.items():
        if start.startswith(magic):
            return f"it is {format}, but damaged, cut short or of a kind that Pillow does not read. Save it as PNG"
    return f"it is no image that Pillow knows; it begins with {start[:8]!r}"
