"""Walking a class folder: which files are images, and why the others are not read; no file is opened."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kdlab import paths
from kdlab.data.names import printable
from kdlab.data.opening import register_heif
from kdlab.errors import SpecError

SYSTEM = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle", "$recycle.bin",
    "system volume information", "lost+found", "__pycache__",
}  # fmt: skip
ALWAYS = {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff"}
WHERE_PILLOW_CAN = {
    ".apng", ".avif", ".avifs", ".dcx", ".dds", ".dib", ".fit", ".fits", ".heic", ".heif", ".hif", ".icns", ".ico",
    ".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx", ".jxl", ".mpo", ".msp", ".pcx", ".pfm", ".psd", ".qoi", ".ras",
    ".rgb", ".rgba", ".bw", ".sgi", ".tga", ".icb", ".vda", ".vst", ".webp", ".xbm", ".xpm",
}  # fmt: skip
NEVER = {".svg", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".exr", ".hdr", ".eps", ".pdf"}
HIDDEN = "hidden images (in or under a name that begins with '.')"
MADE = "images in what systems and tools leave behind (__MACOSX, @eaDir, kdlab's own output)"


class File(NamedTuple):
    """An image that was found: its path, its name within its class, and what changes when its content does."""

    path: str
    name: str
    state: tuple[int, int, int]


class ClassFolder(NamedTuple):
    """What lies in one class folder."""

    files: list[File]
    left_out: Counter


@functools.cache
def readable() -> frozenset[str]:
    """Endings of the image files that Pillow reads here; with pillow-heif installed also .heic."""
    from PIL import Image

    register_heif()
    known = Image.registered_extensions()
    return frozenset(ALWAYS | {suffix for suffix in WHERE_PILLOW_CAN if known.get(suffix) in Image.OPEN})


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_image(name: str) -> bool:
    return _suffix(name) in ALWAYS or (_suffix(name) in WHERE_PILLOW_CAN and _suffix(name) in readable())


def _reason_to_skip(entry: os.DirEntry) -> str | None:
    """Why a file or folder is not looked at."""
    if entry.name.startswith("."):
        return HIDDEN
    ours = _is_folder(entry) and os.path.realpath(entry.path) == os.path.realpath(paths.home())
    return MADE if ours or entry.name.lower() in SYSTEM else None


@contextmanager
def _listing(folder: str | Path) -> Iterator[list[os.DirEntry]]:
    """The entries of a folder by name; an error of the file system becomes a SpecError."""
    try:
        with os.scandir(folder) as entries:
            yield sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise SpecError(
            f"folder {str(folder)!r} cannot be looked through: {os_reason(error)}. Make it readable, or move it away."
        ) from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def folders_in(folder: Path) -> list[Path]:
    """Folders directly in a folder, without what is skipped."""
    with _listing(folder) as entries:
        return [folder / entry.name for entry in entries if not _reason_to_skip(entry) and _is_folder(entry)]


def images_in(folder: Path) -> int:
    """Images directly in a folder."""
    with _listing(folder) as entries:
        return sum(not _reason_to_skip(e) and _is_image(e.name) and not _is_folder(e) for e in entries)


def walk(folder: Path) -> ClassFolder:
    """Everything below one class folder."""
    files, left_out, waiting = [], Counter(), [(str(folder), "")]
    real = Path(os.path.realpath(folder))
    visited = {str(one) for one in (real, *real.parents)}  # a link to a folder above would lead back here
    while waiting:
        here, inner = waiting.pop()
        with _listing(here) as entries:
            for entry in entries:
                if reason := _reason_to_skip(entry):
                    left_out[reason] += _images_below(entry.path) if _is_folder(entry) else _is_image(entry.name)
                elif _is_folder(entry):
                    real = os.path.realpath(entry.path)
                    if real in visited:
                        left_out["links to folders that were met before"] += 1
                    else:
                        visited.add(real), waiting.append((entry.path, f"{inner}{entry.name}/"))
                elif reason := _reason_not_read(entry):
                    left_out[reason] += 1
                else:
                    about = entry.stat()
                    state = (about.st_size, about.st_mtime_ns, about.st_ctime_ns)
                    files.append(File(entry.path, printable(inner + entry.name), state))
    return ClassFolder(sorted(files, key=lambda file: file.name), +left_out)


def _images_below(folder: str) -> int:
    return sum(_is_image(name) for _, _, names in os.walk(folder) for name in names)


def _reason_not_read(entry: os.DirEntry) -> str | None:
    """Why something that is no folder is not read as an image."""
    try:
        regular = entry.is_file()
        if not regular:
            return "links that lead nowhere" if entry.is_symlink() else "things that are no files"
    except OSError:
        return "links that lead nowhere"
    suffix = _suffix(entry.name)
    if not _is_image(entry.name):
        if suffix in WHERE_PILLOW_CAN:
            return f"{suffix} files, which this Pillow cannot read"
        if suffix in NEVER:
            return f"{suffix} files, which kdlab cannot read"
        return f"{printable(suffix)} files, which are no images" if suffix else "files whose name has no ending"
    return None if entry.stat().st_size else "empty files"


def os_reason(error: Exception) -> str:
    """The operating system's message of an error, in lower case."""
    return (getattr(error, "strerror", None) or str(error)).lower()
