"""An executed notebook as one web page, and the templates that all pages are made with."""

from __future__ import annotations

import html as entities
import json
import math
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdlab import __version__
from kdlab.paths import CHECKOUT
from kdlab.report.policy import guarded

TEMPLATES = Path(__file__).parent / "templates"
# Where a notebook output holds text: beside its data, and in it.
TEXT_PARTS = ("text", "evalue", "traceback")
TEXT_KINDS = ("text/plain", "text/html", "text/markdown")
# A formula in HTML, or code, where a dollar means nothing.
FORMULA = re.compile(r"<(code|pre)\b.*?</\1>|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$]+)\$", re.DOTALL)
# A link to a file beside the notebook: no address of another site, no place in the page itself.
LOCAL_LINK = re.compile(r'<a href="(?![\w+.-]+:|#)([^"#]*)(#[^"]*)?"[^>]*>(.*?)</a>', re.DOTALL)


def html(
    executed: Path, error: str = "", place: str = "perspectives", beside: Sequence[Path | None] = (None, None),
    download: str = "", made_of: str = "",
) -> str:  # fmt: skip
    """An executed notebook as one self-contained page, which loads nothing from anywhere.

    Args:
        executed: path of the executed ``.ipynb``.
        error: what stopped it, shown on top; empty when it finished.
        place: folder of the notebook within ``notebooks/``, where its links start.
        beside: the lessons before and after it; None where there is none.
        download: link to the notebook that the page offers; empty where it offers none.
        made_of: kept in the page, to tell whether it would be the same if it were made again.
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
    title = heading(executed)["title"] if lesson else executed.stem.replace("_", " ")
    up = posixpath.relpath("index.html", posixpath.join("notebooks", _page_folder(place)))
    previous, following = (heading(path) if path else None for path in beside)
    values = {"title": title, "body": _relink(body, place), "error": error, "previous": previous, "next": following}
    return render(
        "notebook.html",
        download=download,
        made_of=made_of,
        home=f"{up}#{'learn' if lesson else executed.stem}",
        **values,
    )


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


def heading(source: Path) -> dict[str, str]:
    """First heading of a notebook and the first paragraph below it, as plain text, and its page."""
    cells = [cell for cell in read_json(source)["cells"] if cell["cell_type"] == "markdown"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells)
    found = re.search(r"^#+ +(.+)$", text, re.MULTILINE)
    below = re.split(r"\n\s*\n", text[found.end() :]) if found else []
    summary = next((part for part in below if part.strip() and part.lstrip()[0] not in "#!<|"), "")
    title = found.group(1) if found else source.stem.replace("_", " ")
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


def render(name: str, **values: Any) -> str:
    """A template with its values, the style sheet, the version and the policy of what may run and be loaded.

    Args:
        name: of the template.
        values: its own. ``script`` is the one that may run; a page without one runs none, whatever its outputs hold.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["signed"] = lambda value: f"{value:+.2f}" if finite(value) else "not known"
    page = environment.get_template(name).render(style=template("style.css"), version=__version__, **values)
    script = values.get("script")
    return guarded(page, [script] if script else [], beside=["img-src"] if script else [])


def template(name: str) -> Any:
    """A style sheet or script as it stands, to be written into a page."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704  a file of ours


def read_json(path: Path) -> dict[str, Any]:
    """The object in a json file."""
    return json.loads(path.read_text(encoding="utf-8"))


def finite(value: float | None) -> bool:
    """Whether there is a number that can be drawn."""
    return value is not None and math.isfinite(value)
