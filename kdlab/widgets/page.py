"""What stands at the top of a widget's page: the style sheet, and scripts for charts, keys and names of sliders."""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).parent
STYLE, SCRIPTS = HERE / "page.css", (HERE / "charts" / "chart.js", HERE / "page.js")


def head(html: str) -> str:
    """The style sheet and the scripts before the first words of a widget.

    A script element in an HTML widget is not run by browsers; a style element's ``onload`` is, once it is in the page.

    Args:
        html: what follows.
    """
    script = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    return f'<style onload="{escape(script)}">{STYLE.read_text(encoding="utf-8")}</style>{html}'
