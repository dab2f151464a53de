"""The gallery of verdicts and figures, and the pages of the lessons.

Nothing on them is loaded from another site, so they read the same offline and in ten years.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

from kdlab.paths import CHECKOUT, write_file
from kdlab.perspectives import NAMES
from kdlab.report.notebook_page import finite, heading, html, read_json, render, template
from kdlab.stats import health_line

TEACHING = CHECKOUT / "notebooks" / "teaching"
# Pixels; figures are drawn one column or two columns wide, and two of one column stand side by side.
BROAD = 1000
# A sentence has ended, and another begins.
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")


def load_verdicts(figures: Path) -> list[dict[str, Any]]:
    """The ``*.verdict.json`` of a figures folder, in the order of the perspectives."""
    order = {name: position for position, name in enumerate(NAMES)}
    studies = [read_json(path) for path in sorted(figures.glob("*.verdict.json"))]
    return sorted(studies, key=lambda study: order.get(study["perspective"], len(order)))


def unfinished(notebooks: Path) -> list[str]:
    """Names of executed notebooks without a done marker."""
    marked = {path.name.removesuffix(".done.json") for path in notebooks.glob("*.done.json")}
    return sorted({path.stem for path in notebooks.glob("*.ipynb")} - marked)


def gallery(folder: Path, figures: Path | None = None, teaching: Path | None = None) -> Path:
    """Write ``folder/index.html`` from the verdicts and figures of the notebooks.

    A notebook without its done marker is shown as failed or unfinished, with none of its numbers. A lesson is listed
    when ``lessons`` has made its page.

    Args:
        folder: a profile's folder, with ``notebooks/`` in it.
        figures: where the verdicts and figures lie; None takes ``folder/figures``.
        teaching: folder of the teaching notebooks; None takes the checkout's.

    Returns:
        Path of the page.
    """
    figures = figures or folder / "figures"
    open_ones = unfinished(folder / "notebooks")
    finished = [study for study in load_verdicts(figures) if study["perspective"] not in open_ones]
    studies = [_for_template(study, figures, folder) for study in finished]
    nothing = {"claim": "", "verdicts": [], "figures": []}
    studies += [nothing | {"perspective": name, "title": name.replace("_", " ")} for name in open_ones]
    for study in studies:
        page = f"notebooks/{study['perspective']}.html"
        study["notebook"] = page if (folder / page).is_file() else ""
        # The page is written when a notebook ends, well or not; without one it is running, or was interrupted.
        study.setdefault("overall", "failed" if study["notebook"] else "unfinished")
    profile = finished[0]["profile"] if finished else folder.name
    listed = [heading(path) for path in _numbered(teaching or TEACHING)]
    listed = [lesson for lesson in listed if (folder / "notebooks" / "teaching" / lesson["page"]).is_file()]
    values = {"studies": studies, "lessons": listed, "profile": profile, "script": template("gallery.js")}
    write_file(folder / "index.html", render("gallery.html", **values))
    return folder / "index.html"


def lessons(folder: Path, teaching: Path | None = None) -> list[Path]:
    """Write the teaching notebooks as pages ``folder/notebooks/teaching/NAME.html``.

    They are shown as committed, outputs and all; nothing is executed. Notebooks one folder below (solutions) get pages
    too. The page of a notebook that is gone is removed.

    Args:
        folder: a profile's folder.
        teaching: folder of the notebooks, which may be missing; None takes the checkout's.

    Returns:
        Paths of the pages.
    """
    teaching, target = teaching or TEACHING, folder / "notebooks" / "teaching"
    row = _numbered(teaching)
    before, after = dict(zip(row[1:], row, strict=False)), dict(zip(row, row[1:], strict=False))
    pages = []
    for source in [*row, *sorted(teaching.glob("[!.]*/*.ipynb"))]:
        name = source.relative_to(teaching)
        page = target / name.with_suffix(".html")
        page.parent.mkdir(parents=True, exist_ok=True)
        place = (Path("teaching") / name.parent).as_posix()
        write_file(page, html(source, place=place, beside=(before.get(source), after.get(source))))
        pages.append(page)
    for stale in set(target.rglob("*.html")) - set(pages):
        stale.unlink()
    return pages


def _numbered(teaching: Path) -> list[Path]:
    return sorted(teaching.glob("*.ipynb"))


def _for_template(study: dict[str, Any], figures: Path, folder: Path) -> dict[str, Any]:
    """A study as the template takes it: figures with sizes and links, and one scale for its intervals."""
    ends = ("effect", "low", "high")
    verdicts = [v | {"drawn": all(finite(v[end]) for end in ends)} for v in study["verdicts"]]
    reach = max((abs(v[end]) for v in verdicts if v["drawn"] for end in ends), default=0)
    drawn = [_figure(figures / name, folder) for name in study["figures"]]
    _lay_out(drawn)
    told = {"health_line": health_line(study["health"])} if "health" in study else {}  # older studies have none
    return study | told | {"verdicts": verdicts, "figures": drawn, "reach": reach or 1}


def _lay_out(figures: list[dict[str, Any]]) -> None:
    """Two narrow figures in a row stand side by side; one that has no partner gets its caption beside it."""
    waiting: dict[str, Any] | None = None
    for figure in figures:
        if figure["width"] > BROAD:
            figure["layout"], waiting = "broad", None
        elif waiting:
            waiting["layout"], waiting = "half", None
            figure["layout"] = "half"
        else:
            figure["layout"], waiting = "alone", figure


def _figure(stem: Path, folder: Path) -> dict[str, Any]:
    record = read_json(stem.with_name(f"{stem.name}.json"))
    # A png states its size in bytes 16 to 24; the browser keeps the place free while the image loads.
    with open(stem.with_name(f"{stem.name}.png"), "rb") as png:
        width, height = struct.unpack(">II", png.read(24)[16:])
    # What is seen and how to read it stand before the data; how it was made, after.
    seen, *made = re.split(r"\s+(?=Data: )", record["caption"], maxsplit=1)
    says, *reading = SENTENCE.split(seen, maxsplit=1)
    caption = {"says": says, "reading": "".join(reading), "made": "".join(made)}
    place = {"name": stem.name, "path": Path(os.path.relpath(stem, folder)).as_posix()}
    return place | caption | {"width": width, "height": height, "alt": record["alt"]}
