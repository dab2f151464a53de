"""Where kdlab reads and writes. Every path becomes absolute once, where it comes in.

A sweep is trained by workers and drawn by kernels, and a kernel stands in its notebook's folder: a path that means
something where a person typed it means something else there. So the edge is where a value gets its type:

- ``RunSpec`` and ``Profile`` make the folder in ``data`` absolute, ``Checkpoint`` its file (``kdlab.data.absolute``,
  ``absolute``), so that nothing relative can get into a spec, a store, a notebook's parameters or a caption;
- ``home()``, ``Store``, ``data_root()`` and the functions that write tables, figures and exports do so with what they
  are given;
- the command line settles the environment's folders (``settle``) before anything starts another process.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

OUT, DATA, LEDGER = "KDLAB_OUT", "KDLAB_DATA", "KDLAB_LEDGER"
CHECKOUT = Path(__file__).resolve().parents[1]  # the folder that holds ``kdlab``, notebooks and figures


def absolute(path: str | os.PathLike) -> Path:
    """The path from the root of the file system, seen from the current folder; ``~`` is one's own folder.

    Links stay as they are: whoever moves what a link leads to means the link.

    Args:
        path: as typed.
    """
    return Path(os.path.abspath(os.path.expanduser(path)))


def home() -> Path:
    """Where everything kdlab writes goes: ``$KDLAB_OUT``, else ``out`` in the checkout, else ``out`` right here."""
    if os.environ.get(OUT):
        return absolute(os.environ[OUT])
    return (CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()) / "out"


def ledger() -> Path:
    """The folder of the ledger, which need not be there: ``$KDLAB_LEDGER``, else ``figures/ledger`` in the checkout."""
    return absolute(os.environ[LEDGER]) if os.environ.get(LEDGER) else CHECKOUT / "figures" / "ledger"


def settle() -> None:
    """Make the folders that the environment names absolute, for the processes that will be started elsewhere.

    ``data`` in the current folder, the data root where nothing is said, is said from then on if it is there.
    """
    os.environ[OUT] = str(home())
    if os.environ.get(DATA) or os.path.isdir("data"):
        os.environ[DATA] = str(absolute(os.environ.get(DATA) or "data"))
    if os.environ.get(LEDGER):
        os.environ[LEDGER] = str(ledger())


def file_digest(path: str | os.PathLike) -> str:
    """sha256 of a file's content, hexadecimal; read again only when its size or time of change moved."""
    status = os.stat(path)
    return _file_digest(str(path), status.st_size, status.st_mtime_ns)


@functools.cache
def _file_digest(path: str, _size: int, _modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_file(path: str | os.PathLike) -> BinaryIO:
    """A file, open to be read. A pipe would be waited for, and a device may never end.

    Raises:
        OSError: for what cannot be opened, or is no file.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return file


def owner() -> str:
    """Who writes, as the end of a file's name: ``host@pid-thread``, by which others can tell when nobody does."""
    import socket

    host = "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in socket.gethostname())
    return f"{host}@{os.getpid()}-{threading.get_ident()}"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that a reader sees the old or the new one, never half of it.

    Yields:
        A path beside it to write to, this thread's own. It takes the file's place when the block ends; when the block
        fails, nothing is left of it.
    """
    aside = path.with_name(f".{path.name}.{owner()}.part")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def write_file(path: str | os.PathLike, content: str | bytes) -> Path:
    """Replace a file by a whole new one, making its folder, and return its absolute path."""
    path = absolute(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_synced(path: Path, content: bytes) -> None:
    """Write a file, and wait until the disk has it."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
