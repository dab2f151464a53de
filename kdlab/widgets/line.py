"""The line of Python that shows the state of an explorer again."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from kdlab.data import visitors


def line(explorer: Any) -> str:
    """``widgets.BudgetExplorer(x='shots', ratio=25.0)``: what is not usual, after what is given by place.

    A table that was given cannot be written down: the line has a name for it, and a comment that says so.

    Args:
        explorer: any; its settings are read.
    """
    own = {name: value for name, value in explorer.settings.items() if value != explorer.DEFAULTS[name]}
    given = explorer.given()
    arguments = [*given, *(f"{name}={shown(value)}" for name, value in own.items())]
    note = "".join(f"  # {name}: what it was given here" for name in given if name.isidentifier())
    return f"widgets.{type(explorer).__name__}({', '.join(arguments)}){note}"


def copy_button(explorer: Any) -> str:
    """A button that copies the line, and the line, as an HTML fragment; ``page.js`` does the copying."""
    code = escape(line(explorer))
    button = f'<button type="button" class="kd-copy" data-line="{code}">Copy settings</button>'
    return f'<p class="kd-line">{button} <code>{code}</code></p>'


def shown(value: Any) -> str:
    """The code of a value, as text; a visitor of a classroom page is not told where the host's folders are."""
    hidden = visitors.here() and isinstance(value, str) and "/" in value
    return repr(Path(value).name if hidden else value)
