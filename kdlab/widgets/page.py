"""What stands at the top of a widget's page: the style sheet, and a script for keys and names of sliders."""

from __future__ import annotations

from html import escape
from pathlib import Path

STYLE, SCRIPT = (Path(__file__).with_name(f"page.{kind}") for kind in ("css", "js"))


def head(html: str) -> str:
    """The style sheet and the script before the first words of a widget.

    A script element in an HTML widget is not run by browsers; a style element's ``onload`` is, once it is in the page.

    Args:
        html: what follows.
    """
    style, script = (path.read_text(encoding="utf-8") for path in (STYLE, SCRIPT))
    return f'<style onload="{escape(script)}">{style}</style>{html}'
