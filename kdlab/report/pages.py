"""The web pages: the gallery of verdicts and figures, executed notebooks, and the lessons.

Nothing on them is loaded from another site, so they read the same offline and in ten years.
"""

from __future__ import annotations

import html as entities
import json
import math
import os
import posixpath
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdlab import __version__
from kdlab.paths import CHECKOUT, write_text
from kdlab.perspectives import NAMES

TEMPLATES = Path(__file__).parent / "templates"
# Where a notebook output holds text: beside its data, and in it.
TEXT_PARTS = ("text", "evalue", "traceback")
TEXT_KINDS = ("text/plain", "text/html", "text/markdown")
TEACHING = CHECKOUT / "notebooks" / "teaching"
# Pixels; figures are drawn one column or two columns wide, and two of one column stand side by side.
BROAD = 1000
# A sentence has ended, and another begins.
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")
# A formula in HTML, or code, where a dollar means nothing.
FORMULA = re.compile(r"<(code|pre)\b.*?</\1>|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$]+)\$", re.DOTALL)
# A link to a file beside the notebook: no address of another site, no place in the page itself.
LOCAL_LINK = re.compile(r'<a href="(?![\w+.-]+:|#)([^"#]*)(#[^"]*)?"[^>]*>(.*?)</a>', re.DOTALL)


def load_verdicts(figures: Path) -> list[dict[str, Any]]:
    """The ``*.verdict.json`` of a figures folder, in the order of the perspectives."""
    order = {name: position for position, name in enumerate(NAMES)}
    studies = [_read(path) for path in sorted(figures.glob("*.verdict.json"))]
    return sorted(studies, key=lambda study: order.get(study["perspective"], len(order)))


def unfinished(notebooks: Path) -> list[str]:
    """Names of executed notebooks without a done marker."""
    marked = {path.name.removesuffix(".done.json") for path in notebooks.glob("*.done.json")}
    return sorted({path.stem for path in notebooks.glob("*.ipynb")} - marked)


def gallery(folder: Path, figures: Path | None = None, teaching: Path | None = None) -> Path:
    """Write ``folder/index.html`` from what the notebooks left behind.

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
    studies = [_shown(study, figures, folder) for study in finished]
    nothing = {"claim": "", "verdicts": [], "figures": []}
    studies += [nothing | {"perspective": name, "title": name.replace("_", " ")} for name in open_ones]
    for study in studies:
        page = f"notebooks/{study['perspective']}.html"
        study["notebook"] = page if (folder / page).is_file() else ""
        # The page is written when a notebook ends, well or not; without one it is running, or was interrupted.
        study.setdefault("overall", "failed" if study["notebook"] else "unfinished")
    profile = finished[0]["profile"] if finished else folder.name
    shown = [_lesson(path) for path in _numbered(teaching or TEACHING)]
    shown = [lesson for lesson in shown if (folder / "notebooks" / "teaching" / lesson["page"]).is_file()]
    values = {"studies": studies, "lessons": shown, "profile": profile, "script": _template("gallery.js")}
    write_text(folder / "index.html", _render("gallery.html", **values))
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
        write_text(page, html(source, place=place, beside=(before.get(source), after.get(source))))
        pages.append(page)
    for stale in set(target.rglob("*.html")) - set(pages):
        stale.unlink()
    return pages


def html(
    executed: Path, error: str = "", place: str = "perspectives", beside: Sequence[Path | None] = (None, None)
) -> str:
    """An executed notebook as one self-contained page, which loads nothing from anywhere.

    Args:
        executed: path of the executed ``.ipynb``.
        error: what stopped it, shown on top; empty when it finished.
        place: folder of the notebook within ``notebooks/``, where its links start.
        beside: the lessons before and after it; None where there is none.
    """
    import nbformat
    from jinja2 import pass_context
    from nbconvert import HTMLExporter

    notebook = nbformat.read(executed, as_version=4)
    _forget_paths(notebook, executed.resolve().parents[1])
    exporter = HTMLExporter(template_name="basic", embed_images=True)
    # of a progress bar only its last state
    exporter.register_preprocessor("nbconvert.preprocessors.CoalesceStreamsPreprocessor", enabled=True)
    rendered = exporter.markdown2html
    exporter.register_filter("markdown2html", pass_context(lambda *given: _typeset(rendered(*given))))
    # pictures that lie beside the notebook are embedded
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(executed.parent)}})
    lesson = place != "perspectives"
    title = _lesson(executed)["title"] if lesson else executed.stem.replace("_", " ")
    up = posixpath.relpath("index.html", posixpath.join("notebooks", _page_folder(place)))
    previous, following = (_lesson(path) if path else None for path in beside)
    values = {"title": title, "body": _relink(body, place), "error": error, "previous": previous, "next": following}
    return _render("notebook.html", home=f"{up}#{'learn' if lesson else executed.stem}", **values)


def _typeset(markdown: str) -> str:
    """Formulas in rendered Markdown as MathML, which a browser draws by itself; as TeX without latex2mathml."""
    try:
        from latex2mathml.converter import convert
    except ImportError:
        return markdown

    def drawn(found: re.Match[str]) -> str:
        block, inline = found.group("block"), found.group("inline")
        if not (block or inline):  # code
            return found.group()
        try:
            formula = convert(entities.unescape(block or inline), display="block" if block else "inline")
        except Exception:  # a dollar need not begin a formula
            return found.group()
        return f'<span class="formula">{formula}</span>' if block else formula

    return FORMULA.sub(drawn, markdown)


def _numbered(teaching: Path) -> list[Path]:
    return sorted(teaching.glob("*.ipynb"))


def _lesson(source: Path) -> dict[str, str]:
    """First heading of a notebook and the first paragraph below it, as plain text, and its page."""
    cells = [cell for cell in _read(source)["cells"] if cell["cell_type"] == "markdown"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells)
    heading = re.search(r"^#+ +(.+)$", text, re.MULTILINE)
    below = re.split(r"\n\s*\n", text[heading.end() :]) if heading else []
    summary = next((part for part in below if part.strip() and part.lstrip()[0] not in "#!<|"), "")
    title = heading.group(1) if heading else source.stem.replace("_", " ")
    return {"title": _plain(title), "summary": _plain(summary), "page": f"{source.stem}.html"}


def _plain(markdown: str) -> str:
    """A line of Markdown without its marks: links are left as their words."""
    return " ".join(re.sub(r"[*`]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown)).split())


def _page_folder(place: str) -> str:
    """Where the pages of a folder of ``notebooks/`` lie: those of the perspectives are not in a folder of their own."""
    return posixpath.relpath(place, "perspectives") if place.startswith("perspectives") else place


def _relink(body: str, place: str) -> str:
    """Point links between notebooks at their pages, and leave of other local links only the words.

    Files that are not published beside the page could not be followed from there.
    """

    def lead(link: re.Match[str]) -> str:
        path, anchor, words = link.groups()
        stem, suffix = posixpath.splitext(posixpath.normpath(posixpath.join(place, path)))
        folder, name = posixpath.split(stem)
        if suffix != ".ipynb" or folder.partition("/")[0] not in ("perspectives", "teaching"):
            return words
        target = posixpath.join(_page_folder(folder), name)
        return f'<a href="{posixpath.relpath(target, _page_folder(place))}.html{anchor or ""}">{words}</a>'

    return LOCAL_LINK.sub(lead, body)


def _forget_paths(notebook: Any, folder: Path) -> None:
    """Write folders of this machine as ``.`` in sources and texts: pages are published, paths are private."""
    places = [str(folder), str(CHECKOUT)]

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
    _lay_out(drawn)
    return study | {"verdicts": verdicts, "figures": drawn, "reach": reach or 1}


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
    record = _read(stem.with_name(f"{stem.name}.json"))
    # A png states its size in bytes 16 to 24; the browser keeps the place free while the image loads.
    with open(stem.with_name(f"{stem.name}.png"), "rb") as png:
        width, height = struct.unpack(">II", png.read(24)[16:])
    # What is seen and how to read it stand before the data; how it was made, after.
    seen, *made = re.split(r"\s+(?=Data: )", record["caption"], maxsplit=1)
    says, *reading = SENTENCE.split(seen, maxsplit=1)
    caption = {"says": says, "reading": "".join(reading), "made": "".join(made)}
    place = {"name": stem.name, "path": Path(os.path.relpath(stem, folder)).as_posix()}
    return place | caption | {"width": width, "height": height, "alt": record["alt"]}


def _render(template: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["signed"] = lambda value: f"{value:+.2f}" if _finite(value) else "not known"
    return environment.get_template(template).render(style=_template("style.css"), version=__version__, **values)


def _template(name: str) -> Any:
    """A style sheet or script as it stands, to be written into a page."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
