"""What cannot be read any more: named, set aside, and gone on without.

A store outlives crashes, full disks and half-finished copies. One file of one run that was lost or cut must not take
the other runs with it, so whoever meets one raises ``Damaged``, and whoever can go on without it sets it aside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from kdlab.errors import SpecError

FOLDER = ".damaged"
# Where a file is what it should be, but this process may not have it, nothing is wrong with the file.
WRONG = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class Damaged(SpecError):
    """A file of a finished or unfinished run that cannot be read.

    Args:
        key: of the run.
        file: its name in the run's folder.
        reason: what is wrong with it.
        movable: False where the file may be sound but this process cannot read it.
    """

    def __init__(self, key: str, file: str, reason: str, movable: bool = True):
        super().__init__(f"run {key} is damaged: {file} {reason}.")
        self.key, self.file, self.reason, self.movable = key, file, reason, movable

    def __reduce__(self):  # it travels from workers
        return type(self), (self.key, self.file, self.reason, self.movable)


class Newer(Damaged):
    """A run that a newer kdlab wrote, which this one neither reads nor touches.

    Args:
        key: of the run.
        schema: of the run.
        known: the newest schema that this kdlab reads.
    """

    def __init__(self, key: str, schema: int, known: int):
        super().__init__(key, "done.json", f"names schema {schema}", movable=False)
        self.args = (
            f"run {key} was written by a newer kdlab (schema {schema}; this one reads up to {known}): take that, or "
            "another folder (KDLAB_OUT).",
        )
        self.schema, self.known = schema, known

    def __reduce__(self):
        return type(self), (self.key, self.schema, self.known)


@contextlib.contextmanager
def reading(key: str, file: str) -> Iterator[None]:
    """Turn whatever a file of a run makes its reader raise into ``Damaged``.

    Raises:
        Damaged: naming run, file and reason.
    """
    try:
        yield
    except SpecError:
        raise
    except WRONG as error:
        missing = isinstance(error, FileNotFoundError)
        raise Damaged(key, file, "is missing" if missing else f"is no file ({error.strerror})") from error
    except OSError as error:
        raise Damaged(key, file, f"cannot be read ({error.strerror or error})", movable=False) from error
    except KeyError as error:
        raise Damaged(key, file, f"lacks {error}") from error
    except Exception as error:  # json, numpy and safetensors have exceptions of their own
        said = str(error).splitlines()
        raise Damaged(key, file, f"cannot be read ({said[0] if said else type(error).__name__})") from error


def move(path: Path, root: Path) -> Path:
    """Put a file or folder of a store out of the way, where it can be looked at.

    Args:
        path: what to move.
        root: folder of the store.

    Returns:
        Where it lies now.

    Raises:
        OSError: when the disk refuses.
    """
    aside = root / FOLDER
    aside.mkdir(parents=True, exist_ok=True)
    number = 1
    while os.path.lexists(target := aside / f"{path.name}-{number}"):
        number += 1
    os.rename(path, target)
    return target


def remove(path: Path) -> None:
    """Remove a file that holds nothing of worth, or what lies in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def say(words: str) -> None:
    """Tell the person in a line of its own, apart from tables that another program may read."""
    print(f"kdlab: {words}", file=sys.stderr, flush=True)
