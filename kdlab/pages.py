"""The web pages: the gallery of verdicts and figures, and executed notebooks.

Nothing on them is loaded from another site, so they read the same offline and in ten years.
"""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

from kdlab import __version__
from kdlab.perspectives import NAMES

TEMPLATES = Path(__file__).parent / "templates"
# Where a notebook output holds text: beside its data, and in it.
TEXT_PARTS = ("text", "evalue", "traceback")
TEXT_KINDS = ("text/plain", "text/html", "text/markdown")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def load_verdicts(figures: Path) -> list[dict[str, Any]]:
    """The ``*.verdict.json`` of a figures folder, in the order of the perspectives."""
    order = {name: position for position, name in enumerate(NAMES)}
    studies = [_read(path) for path in sorted(figures.glob("*.verdict.json"))]
    return sorted(studies, key=lambda study: order.get(study["perspective"], len(order)))


def unfinished(notebooks: Path) -> list[str]:
    """Names of executed notebooks without a done marker."""
    marked = {path.name.removesuffix(".done.json") for path in notebooks.glob("*.done.json")}
    return sorted({path.stem for path in notebooks.glob("*.ipynb")} - marked)


def gallery(folder: Path, figures: Path | None = None) -> Path:
    """Write ``folder/index.html`` from what the notebooks left behind.

    A notebook without its done marker is shown as failed or unfinished, with none of its numbers.

    Args:
        folder: a profile's folder, with ``notebooks/`` in it.
        figures: where the verdicts and figures lie; None takes ``folder/figures``.

    Returns:
        Path of the page.
    """
    figures = figures or folder / "figures"
    open_ones = unfinished(folder / "notebooks")
    finished = [study for study in load_verdicts(figures) if study["perspective"] not in open_ones]
    studies = [_shown(study, figures, folder) for study in finished]
    studies += [{"perspective": name, "title": name.replace("_", " "), "claim": ""} for name in open_ones]
    for study in studies:
        page = f"notebooks/{study['perspective']}.html"
        study["notebook"] = page if (folder / page).is_file() else ""
        # The page is written when a notebook ends, well or not; without one it is running, or was interrupted.
        study.setdefault("overall", "failed" if study["notebook"] else "unfinished")
    profile = finished[0]["profile"] if finished else folder.name
    write_text(folder / "index.html", _render("gallery.html", studies=studies, profile=profile))
    return folder / "index.html"


def html(executed: Path, error: str = "") -> str:
    """An executed notebook as one self-contained page, which loads nothing from anywhere.

    Args:
        executed: path of the executed ``.ipynb``.
        error: what stopped it, shown on top; empty when it finished.
    """
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(executed, as_version=4)
    _forget_paths(notebook, executed.resolve().parents[1])
    exporter = HTMLExporter(template_name="basic", embed_images=True)
    # of a progress bar only its last state
    exporter.register_preprocessor("nbconvert.preprocessors.CoalesceStreamsPreprocessor", enabled=True)
    body, _ = exporter.from_notebook_node(notebook)
    return _render("notebook.html", title=executed.stem.replace("_", " "), body=body, error=error)


def _forget_paths(notebook: Any, folder: Path) -> None:
    """Write folders of this machine as ``.`` in sources and texts: pages are published, paths are private."""
    places = [str(folder), str(Path(__file__).resolve().parents[1])]

    def neutral(value: Any) -> Any:
        if isinstance(value, list):
            return [neutral(item) for item in value]
        for place in places:
            value = value.replace(place, ".")
        return value

    for cell in notebook.cells:
        cell.source = neutral(cell.source)
        for output in cell.get("outputs", []):
            for holder, parts in ((output, TEXT_PARTS), (output.get("data", {}), TEXT_KINDS)):
                holder.update({part: neutral(holder[part]) for part in parts if part in holder})


def _shown(study: dict[str, Any], figures: Path, folder: Path) -> dict[str, Any]:
    """A study as the template wants it: figures with sizes and links, and one scale for its intervals."""
    ends = ("effect", "low", "high")
    verdicts = [v | {"drawn": all(_finite(v[end]) for end in ends)} for v in study["verdicts"]]
    reach = max((abs(v[end]) for v in verdicts if v["drawn"] for end in ends), default=0)
    drawn = [_figure(figures / name, folder) for name in study["figures"]]
    return study | {"verdicts": verdicts, "figures": drawn, "reach": reach or 1}


def _figure(stem: Path, folder: Path) -> dict[str, Any]:
    record = _read(stem.with_name(f"{stem.name}.json"))
    # A png states its size in bytes 16 to 24; the browser keeps the place free while the image loads.
    with open(stem.with_name(f"{stem.name}.png"), "rb") as png:
        width, height = struct.unpack(">II", png.read(24)[16:])
    path = Path(os.path.relpath(stem, folder)).as_posix()
    return {"path": path, "width": width, "height": height} | {part: record[part] for part in ("caption", "alt")}


def _render(template: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["signed"] = lambda value: f"{value:+.2f}" if _finite(value) else "not known"
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(style=style, version=__version__, **values)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
