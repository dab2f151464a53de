"""What a disk refuses, said in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kdlab.errors import SpecError


@contextlib.contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Turn what the disk refuses into one sentence.

    Raises:
        SpecError: naming the path and the reason, followed by the advice.
    """
    try:
        yield
    except OSError as error:
        raise SpecError(f"cannot write to {path}: {error.strerror or error}.{advice}") from error


class OnDisk:
    """What stands in a folder of runs.

    Args:
        root: the folder, absolute.
    """

    root: Path

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Say in words what the disk of the store refused, and what to do."""
        advice = "free some space or point KDLAB_OUT at another folder, then run the same command again."
        with writing(self.root, f" Finished runs are safe; {advice}"):
            yield
