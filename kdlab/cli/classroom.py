"""The classroom page: a notebook without what only makes sense in JupyterLab."""

from __future__ import annotations

import json
from pathlib import Path

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
