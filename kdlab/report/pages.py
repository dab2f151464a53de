"""The gallery of verdicts and figures, and the pages of the lessons.

Nothing on them is loaded from another site, so they read the same offline and in ten years.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kdlab import __version__
from kdlab.paths import CHECKOUT, write_file
from kdlab.perspectives.places import data_title
from kdlab.report.documents import FIRST, by_perspective, data_sets, load_verdicts, record
from kdlab.report.notebook_page import finite, heading, html, render, template
from kdlab.report.overview import NAME, drawn
from kdlab.stats import health_line
from kdlab.stats.judging import SEQUENTIAL

TEACHING = CHECKOUT / "notebooks" / "teaching"
# Pixels; figures are drawn one column or two columns wide, and two of one column stand side by side.
BROAD = 1000
# The link of a page to its notebook.
DOWNLOAD = re.compile(r'(?<=<a href=")[^"]*(?=" download>)')
# A sentence has ended, and another begins.
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")


def unfinished(notebooks: Path) -> list[str]:
    """Names of executed notebooks without a done marker."""
    marked = {path.name.removesuffix(".done.json") for path in notebooks.glob("*.done.json")}
    return sorted({path.stem for path in notebooks.glob("*.ipynb")} - marked)


def gallery(folder: Path, figures: Path | None = None, teaching: Path | None = None) -> Path:
    """Write ``folder/index.html`` from the verdicts and figures of the notebooks.

    A notebook without its done marker is shown as failed or unfinished, with none of its numbers. A lesson is listed
    when ``lessons`` has made its page. Where folders below ``figures`` hold further data sets, the page shows them all,
    a column of the summary each.

    Args:
        folder: a profile's folder, with ``notebooks/`` in it.
        figures: where the verdicts and figures lie; None takes ``folder/figures``. Further data sets have their
            ``notebooks/`` in their own folder below it.
        teaching: folder of the teaching notebooks; None takes the checkout's.

    Returns:
        Path of the page.
    """
    figures = figures or folder / "figures"
    open_ones = unfinished(folder / "notebooks")
    finished = [s for s in load_verdicts(figures) if s["folder"] or s["perspective"] not in open_ones]
    sets = data_sets(finished) or {FIRST: data_title(FIRST)}
    studies = [_for_template(study, figures, folder) for study in finished]
    nothing = {"claim": "", "verdicts": [], "figures": [], "folder": "", "data": next(iter(sets))}
    studies += [nothing | {"perspective": name, "title": name.replace("_", " ")} for name in open_ones]
    for study in studies:
        page = (Path(study["folder"]) / "notebooks" / f"{study['perspective']}.html").as_posix()
        study["notebook"] = page if (folder / page).is_file() else ""
        study["id"] = anchor(study["folder"], study["perspective"])
        study["code"] = code(study["perspective"], folder)
        # The page is written when a notebook ends, well or not; without one it is running, or was interrupted.
        study.setdefault("overall", "failed" if study["notebook"] else "unfinished")
    profile = ", ".join(dict.fromkeys(study["profile"] for study in finished)) or folder.name
    listed = [heading(path) for path in _numbered(teaching or TEACHING)]
    listed = [lesson for lesson in listed if (folder / "notebooks" / "teaching" / lesson["page"]).is_file()]
    shown = {"studies": studies, "rows": by_perspective(studies), "sets": sets}
    values = shown | {"lessons": listed, "profile": profile, "script": template("gallery.js")}
    values |= {"processors": processors(figures), "overviews": _overviews(figures, folder, studies)}
    write_file(folder / "index.html", render("gallery.html", **values))
    return folder / "index.html"


def _overviews(figures: Path, folder: Path, studies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figure of all claims of each data set on the page, where it has been drawn."""
    places = dict.fromkeys(study["folder"] for study in studies)
    found = {place: _figure(figures / place / NAME, folder) for place in places if drawn(figures / place)}
    return [figure | {"id": anchor(place, NAME)} for place, figure in found.items()]


def code(name: str, folder: Path) -> str:
    """Where a perspective's code is, seen from a page's folder; empty where that is not in the checkout.

    Args:
        name: of the perspective.
        folder: of the page.
    """
    module = CHECKOUT / "kdlab" / "perspectives" / f"{name}.py"
    inside = module.is_file() and folder.absolute().is_relative_to(CHECKOUT)
    return Path(os.path.relpath(module, folder)).as_posix() if inside else ""


def command(meta: Mapping[str, Any]) -> str:
    """The line that draws a figure anew, training what neither store nor ledger has; empty for one of before.

    Args:
        meta: of the figure's record. A folder of images is told as ``folder:PATH``: where it lies is nobody's business.
    """
    if not {"perspective", "profile", "overrides"} <= meta.keys():
        return ""
    words = ["kdlab figures", meta["perspective"], "--profile", meta["profile"]]
    for name, value in meta["overrides"].items():
        if name == "design":
            words += ["--until decided"] * (value == SEQUENTIAL)
        elif name == "seeds":
            words += [f"--seeds {len(value)}"] * (SEQUENTIAL != meta["overrides"].get("design"))
        else:
            shown = re.sub(r"^folder:[^?]*", "folder:PATH", value) if name == "data" else value
            words.append(f"--{name.replace('_', '-')} {shlex.quote(str(shown))}")
    return " ".join(words)


def processors(figures: Path) -> dict[str, Any]:
    """What ``figures/cpus.py`` found of the verdicts on another processor: ``sentence`` and ``rows``, or nothing.

    Args:
        figures: folder that may hold ``cpus.csv``.
    """
    path = figures / "cpus.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path)
    moved, differ = table["moved"].abs(), int((table["outcome"] != table["outcome_2"]).sum())
    inside = int(table["within"].sum())
    sentence = (
        f"The same runs with the code paths of AVX2 forced ({table['seeds'].max()} seeds, other bits from the first "
        f"step on): {differ} of {len(table)} outcomes differ, effects moved by {moved.median():.2f} points in the "
        f"middle and {moved.max():.2f} at most, and in {inside} of {len(table)} comparisons each effect lies within "
        "the other's 95 % interval."
    )
    return {"sentence": sentence, "rows": table.to_dict("records")}


def anchor(folder: str, name: str) -> str:
    """The place in the gallery of a study or figure of a data set; those of the first are named plainly."""
    return f"{folder}-{name}" if folder else name


def lessons(folder: Path, teaching: Path | None = None) -> list[Path]:
    """Write the teaching notebooks as pages ``folder/notebooks/teaching/NAME.html``, which offer them for download.

    They are shown as committed, outputs and all; nothing is executed. Notebooks one folder below (solutions) get pages
    too. A published page that would be the same is taken as it is, since making one takes a second. A page within the
    checkout links to its notebook there, any other to a copy beside it. Pages and copies of notebooks that are gone are
    removed.

    Args:
        folder: a profile's folder.
        teaching: folder of the notebooks, which may be missing; None takes the checkout's.

    Returns:
        Paths of the pages.
    """
    teaching, target = teaching or TEACHING, folder / "notebooks" / "teaching"
    row = _numbered(teaching)
    before, after = dict(zip(row[1:], row, strict=False)), dict(zip(row, row[1:], strict=False))
    within = all(path.absolute().is_relative_to(CHECKOUT) for path in (teaching, target))
    pages, copies = [], []
    for source in [*row, *sorted(teaching.glob("[!.]*/*.ipynb"))]:
        name = source.relative_to(teaching)
        page = target / name.with_suffix(".html")
        page.parent.mkdir(parents=True, exist_ok=True)
        place = (Path("teaching") / name.parent).as_posix()
        link = Path(os.path.relpath(source, page.parent)).as_posix() if within else source.name
        beside = before.get(source), after.get(source)
        made_of = _made_of(source, *beside)
        text = _published(name, made_of) or html(source, place=place, beside=beside, made_of=made_of, download=link)
        write_file(page, DOWNLOAD.sub(lambda _, link=link: link, text, count=1))
        if not within:
            copies.append(shutil.copyfile(source, page.with_suffix(".ipynb")))
        pages.append(page)
    for stale in {*target.rglob("*.html"), *target.rglob("*.ipynb")}.difference(pages, copies):
        stale.unlink()
    return pages


def _made_of(source: Path, *beside: Path | None) -> str:
    """A hash of what a lesson's page is made of: the notebook, the titles beside it, and the code of pages."""
    total = hashlib.sha256(__version__.encode())
    parts = (part for part in Path(__file__).parent.rglob("*") if part.suffix in (".py", ".html", ".css", ".js"))
    for path in (source, *sorted(parts)):
        total.update(path.read_bytes())
    total.update(repr([path and heading(path) for path in beside]).encode())
    return total.hexdigest()[:32]


def _published(name: Path, made_of: str) -> str:
    """The published page of a lesson that was made of the same; empty where there is none."""
    path = CHECKOUT / "figures" / "notebooks" / "teaching" / name.with_suffix(".html")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text if f'<meta name="made-of" content="{made_of}">' in text else ""


def _numbered(teaching: Path) -> list[Path]:
    return sorted(teaching.glob("*.ipynb"))


def _for_template(study: dict[str, Any], figures: Path, folder: Path) -> dict[str, Any]:
    """A study as the template takes it: figures with sizes and links, and one scale for its intervals."""
    ends = ("effect", "low", "high")
    verdicts = [v | {"drawn": all(finite(v[end]) for end in ends)} for v in study["verdicts"]]
    reach = max((abs(v[end]) for v in verdicts if v["drawn"] for end in ends), default=0)
    drawn = [_figure(figures / study["folder"] / name, folder) for name in study["figures"]]
    for figure in drawn:
        figure["id"] = anchor(study["folder"], figure["name"])
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
    found = record(stem.with_name(f"{stem.name}.json"))
    # A png states its size in bytes 16 to 24; the browser keeps the place free while the image loads.
    with open(stem.with_name(f"{stem.name}.png"), "rb") as png:
        width, height = struct.unpack(">II", png.read(24)[16:])
    # What is seen and how to read it stand before the data; how it was made, after.
    seen, *made = re.split(r"\s+(?=Data: )", found["caption"], maxsplit=1)
    says, *reading = SENTENCE.split(seen, maxsplit=1)
    caption = {"says": says, "reading": "".join(reading), "made": "".join(made)}
    place = {"name": stem.name, "path": Path(os.path.relpath(stem, folder)).as_posix()}
    return place | caption | {
        "width": width, "height": height, "alt": found["alt"], "command": command(found.get("meta", {})),
    }  # fmt: skip
