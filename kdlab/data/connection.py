"""Bring a file over connections that may break: go on where the last one ended, and say what went wrong."""

from __future__ import annotations

import errno
import http.client
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdlab import __version__

TIMEOUT, BLOCK = 30.0, 1 << 16  # seconds without a byte; bytes
TRIES, PAUSE = 3, 1.0  # connections in a row that brought nothing new; seconds after the first of them


class Broken(Exception):
    """Nothing more comes; what came so far stays in the file."""


def bring(url: str, part: Path) -> None:
    """Append to a file what it lacks, until it is whole as far as the server says.

    Args:
        url: of the file; a proxy is taken from the environment, as urllib does.
        part: where it goes; what is there already is taken for its beginning.

    Raises:
        Broken: when TRIES connections in a row have brought nothing new, or the server refuses.
        OSError: when the disk does not take it.
    """
    best, idle = size(part), 0
    while True:
        try:
            if _receive(url, part):
                return
            fault: Any = "the connection was cut"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and part.exists():  # it asked for what the file there does not have
                part.unlink()
                continue
            fault = f"the server answers {error.code} {error.reason}"
            if 400 <= error.code < 500 and error.code not in (408, 429):
                raise Broken(fault) from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            fault = getattr(error, "reason", None) or repr(error)
        idle = 0 if size(part) > best else idle + 1
        best = max(best, size(part))
        if idle >= TRIES:
            raise Broken(str(fault))
        time.sleep(PAUSE * idle)


def _receive(url: str, part: Path) -> bool:
    """Append to a file what it lacks, over one connection; whether that is all, as far as the server says."""
    have = size(part)
    headers = {"User-Agent": f"kdlab/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    opener = urllib.request.build_opener()  # urlopen's own remembers the proxies of its first call
    asked = urllib.request.Request(url, headers=headers)  # noqa: S310  the addresses stand in our own source
    with opener.open(asked, timeout=TIMEOUT) as answer:
        # A server that does not know ranges sends the whole; one that does says where it begins.
        said = answer.headers.get("Content-Range", "") if answer.status == 206 else ""
        start = have if said.startswith(f"bytes {have}-") else 0
        if answer.status == 206 and start != have:
            raise http.client.HTTPException(f"asked for bytes from {have}, the server sent {said!r}")
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        if total and total - start > (free := shutil.disk_usage(part.parent).free):
            raise OSError(errno.ENOSPC, f"{(total - start) / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")
        with open(part, "ab" if start else "wb") as file, _bar(url, start, total) as bar:
            for block in _blocks(answer):
                file.write(block)
                bar.update(len(block))
    return total is None or size(part) == total


def _blocks(answer) -> Iterator[bytes]:
    """What arrives; a fault of the line is told apart from one of the disk, which is an OSError too."""
    while True:
        try:
            block = answer.read(BLOCK)
        except OSError as error:
            raise urllib.error.URLError(error) from error
        if not block:
            return
        yield block


def _bar(url: str, start: int, total: int | None):
    from tqdm import tqdm

    return tqdm(
        desc=url.rpartition("/")[2], initial=start, total=total, unit="B", unit_scale=True, file=sys.stderr,
        mininterval=0.2 if sys.stderr.isatty() else 20.0,  # a log is not a screen
    )  # fmt: skip


def size(part: Path) -> int:
    """Bytes in a file, 0 where there is none."""
    return part.stat().st_size if part.exists() else 0
