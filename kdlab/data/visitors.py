"""What a visitor of a classroom page may see: the bundled data, and the folders that the host names.

``kdlab lab --voila`` sets ``$KDLAB_VISITORS`` to a JSON list of these folders for the kernels of its visitors. Where it
is not set, a person sits at their own machine, and nothing is held back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from kdlab.errors import SpecError
from kdlab.paths import absolute

VISITORS = "KDLAB_VISITORS"


def here() -> bool:
    """Whether this kernel is a visitor's."""
    return VISITORS in os.environ


def folders() -> tuple[str, ...]:
    """The folders that the host names, absolute; none where nobody visits."""
    return tuple(json.loads(os.environ.get(VISITORS, "[]")))


def named(paths: Iterable[str | Path]) -> str:
    """The value of the variable for some folders.

    Args:
        paths: as typed.

    Raises:
        SpecError: for one that is no folder.
    """
    found = [absolute(path) for path in paths]
    for path in found:
        if not path.is_dir():
            raise SpecError(f"--folder must name a folder, but got {str(path)!r}.")
    return json.dumps([str(path) for path in found])


def may_see(data: str) -> bool:
    """Whether runs on these data may be shown.

    Args:
        data: as a spec names them; only folders are anyone's own.
    """
    if not here() or not data.startswith("folder:"):
        return True
    return str(absolute(data.removeprefix("folder:").partition("?")[0])) in folders()


def check_folder(folder: str, also: str = "") -> None:
    """Refuse a folder that a visitor may not read.

    Args:
        folder: absolute path.
        also: one more that may be read.

    Raises:
        SpecError: for any other.
    """
    if here() and folder not in (*folders(), also):
        raise SpecError("folder must be one of those that this page offers.")
