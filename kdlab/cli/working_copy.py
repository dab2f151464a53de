"""Notebooks to play with: copies, so that opening, running and saving one changes nothing that is committed.

What a person has edited is never overwritten; what was only opened, run or saved follows a new version of kdlab.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from kdlab.errors import from_json
from kdlab.lab.unfinished import writing

LIST = ".copied.json"  # of each file: digests of the original as it was copied, and of its cells' sources
SKIPPED = {".ipynb_checkpoints", "__pycache__", LIST}
VIEW, SAVED = "application/vnd.jupyter.widget-view+json", "text/html"


def working_copy(source: Path, place: Path) -> list[str]:
    """Bring the copies of all notebooks up to date.

    Args:
        source: the folder of the originals; only read.
        place: the folder of the copies; made where it is not there.

    Returns:
        Names of edited copies whose original has changed since; they are left as they are.

    Raises:
        SpecError: when the disk refuses.
    """
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        known, kept = _known(place / LIST), []
        for original in sorted(path for path in source.rglob("*") if path.is_file() and not SKIPPED & {*path.parts}):
            name = original.relative_to(source).as_posix()
            copy, now = place / name, [_digest(original.read_bytes()), _cells(original)]
            if copy.exists() and name in known:
                if known[name][0] == now[0]:
                    continue
                if _cells(copy) not in (known[name][1], now[1]):
                    kept.append(name)
                    continue
            elif copy.exists() and _cells(copy) != now[1]:
                kept.append(name)
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, copy)
            known[name] = now
        (place / LIST).write_text(json.dumps(known, indent=1), encoding="utf-8")
    return kept


def _known(path: Path) -> dict[str, list[str]]:
    try:
        known = from_json(path.read_text(encoding="utf-8"))
        pairs = known.items() if isinstance(known, dict) else ()
        return {name: pair for name, pair in pairs if isinstance(pair, list) and len(pair) == 2}
    except (OSError, ValueError):  # the first time, or a damaged one: what is there counts as edited
        return {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _cells(path: Path) -> str:
    """A digest of what a person writes in a notebook: kinds and sources of its cells; of other files, all of it."""
    content = path.read_bytes()
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in from_json(content)["cells"]]
    except (ValueError, KeyError, TypeError):
        return _digest(content)
    return _digest(json.dumps(cells).encode())


def pictures_for_widgets(model: dict[str, Any], **_: Any) -> None:
    """Let a saved notebook keep a widget's picture and not the widget, which ends with its kernel.

    A ``pre_save_hook`` of Jupyter. Without it, a notebook that is opened again says "model not found".

    Args:
        model: what is being saved, changed in place.
        **_: path and contents manager.
    """
    if model.get("type") != "notebook" or not isinstance(model.get("content"), dict):
        return
    notebook, left = model["content"], False
    for cell in notebook.get("cells", ()):
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if VIEW in data and SAVED in data:
                del data[VIEW]
            left = left or VIEW in data
    if not left:
        notebook.get("metadata", {}).pop("widgets", None)
