"""The classroom page: a notebook without what only makes sense in JupyterLab, and one loaded room for its visitors."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

POSSIBLE = hasattr(os, "fork") and hasattr(socket, "AF_UNIX")
PAGE = "page"  # in a cell's metadata: its text on a page, as lines; no line leaves the cell out


def as_page(notebook: Path, folder: Path) -> Path:
    """Copy a notebook for voila.

    A cell whose metadata have ``page`` is a text cell with that text, or is not there where it is empty.

    Args:
        notebook: the original; only read.
        folder: where the copy goes.

    Returns:
        The copy.
    """
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if PAGE in cell["metadata"]:
            cell["source"] = cell["metadata"][PAGE]
    content["cells"] = [cell for cell in content["cells"] if cell["metadata"].get(PAGE) != []]
    copy = folder / notebook.name
    copy.write_text(json.dumps(content), encoding="utf-8")
    return copy


@contextlib.contextmanager
def room(folder: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """A room beside a server, for as long as that runs (``kdlab.widgets.room``).

    Args:
        folder: an empty one that no other user can enter, with a short path.
        environment: of the server.

    Yields:
        What the server's environment needs more; nothing where a system cannot fork.
    """
    if not POSSIBLE:
        yield {}
        return
    place = str(folder / "room")
    spec = {"argv": [*_command(place), "--door", "{connection_file}"], "display_name": "Python 3", "language": "python"}
    kernel = folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps(spec), encoding="utf-8")
    keeper = subprocess.Popen(_command(place), env=environment, start_new_session=True)
    paths = [str(folder / "jupyter"), *filter(None, [environment.get("JUPYTER_PATH")])]
    try:
        yield {"JUPYTER_PATH": os.pathsep.join(paths)}
    finally:
        keeper.terminate()
        keeper.wait()


def _command(place: str) -> list[str]:
    return [sys.executable, "-m", "kdlab.widgets.room", place]
