"""Tables that the site shows of what lies in the checkout: the verdicts and the lessons."""

import json
import re
from html import escape
from pathlib import Path

from kdlab.report.documents import by_perspective, data_sets, load_verdicts
from kdlab.report.notebook_page import heading
from kdlab.report.pages import anchor

GALLERY = "gallery/index.html"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; a bar in a cell is no border."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def link(address: str, words: str) -> str:
    """A link to a page that kdlab.report makes, which sphinx does not know."""
    return f'<a href="{address}">{escape(words)}</a>'


def verdicts(figures: Path) -> str:
    """A row for each published perspective, a column for each data set, and links into the gallery.

    Args:
        figures: the published set.
    """
    studies = load_verdicts(figures)
    if not studies:
        return "Nothing is published yet.\n"
    sets = data_sets(studies)
    rows = []
    for own in by_perspective(studies):
        first = next(iter(own.values()))
        title = link(f"{GALLERY}#{anchor(first['folder'], first['perspective'])}", first["title"])
        rows.append([title, *(f"**{own[name]['overall']}**" if name in own else "–" for name in sets), first["claim"]])
    return table(["perspective", *(f"on {title}" for title in sets.values()), "claim"], rows)


def lessons(teaching: Path) -> str:
    """A row for each lesson: a link to its page, its first paragraph, its two times, and what is in it, counted.

    Args:
        teaching: folder of the lessons.
    """
    rows = []
    for path in sorted(teaching.glob("*.ipynb")):
        lesson, cells = heading(path), json.loads(path.read_text(encoding="utf-8"))["cells"]
        words = " ".join("".join(cells[0]["source"]).split())
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        times = [re.search(pattern, words)[1] for pattern in (r"Class: about (\d+ \w+)", r"Runs in about (\d+ \w+)")]
        counts = [re.findall(pattern, code, re.M) for pattern in (r"quiz\.predict\(", r"quiz\.check\(", r"^\s*assert ")]
        page = link(f"gallery/notebooks/teaching/{lesson['page']}", lesson["title"])
        rows.append([page, lesson["summary"], *times, *(str(len(found)) for found in counts)])
    head = ["lesson", "what it is about", "in class", "runs in", "predictions", "exercises", "statements checked"]
    return table(head, rows)
