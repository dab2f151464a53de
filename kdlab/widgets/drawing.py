"""What an explorer draws: charts and images in rows, their alternative text, caption and numbers."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from kdlab.widgets.charts.chart import Panel
from kdlab.widgets.charts.tiles import Tiles
from kdlab.widgets.charts.twin import Cell, Part, parts, picture

WITHOUT = "This chart is drawn by a script; its numbers are below."


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table; the first cell of a row names it.

    Args:
        heads: of the columns.
        rows: a cell for each column; floats are written with four digits.
    """

    def text(cell: object) -> str:
        return escape(f"{cell:.4g}" if isinstance(cell, float) else str(cell))

    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in heads)
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>{"".join(f"<td>{text(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class Drawing:
    """What an explorer shows for its settings.

    Args:
        rows: from above to below; a row holds cells side by side, a cell one part or some below each other.
        alt: what a reader who cannot see it needs to know, in at most 150 characters that hold for any trained numbers.
        caption: what to read beside it, as an HTML fragment that is also Markdown.
        numbers: those that are drawn, as an HTML table (``table``) to unfold, which describes the picture to a screen
            reader; empty where the caption does that.
    """

    rows: Sequence[Sequence[Cell]]
    alt: str
    caption: str = ""
    numbers: str = ""

    @property
    def told(self) -> list[str]:
        """What mouse and keyboard are told of the items of all charts."""
        panels = (part for row in self.rows for cell in row for part in parts(cell) if isinstance(part, Panel))
        return [text for panel in panels for mark in panel.marks for text in mark.told]

    @functools.cached_property
    def png(self) -> bytes:
        """The picture of the same for where no browser draws, made when it is asked for."""
        return picture(self.rows)

    def image(self, style: str = "") -> str:
        """The picture alone, as an HTML element.

        Args:
            style: css.
        """
        width, height = struct.unpack(">II", self.png[16:24])
        source = base64.b64encode(self.png).decode()
        look = f' style="{style}"' if style else ""
        return (
            f'<img src="data:image/png;base64,{source}" width="{width}" height="{height}" decoding="sync" '
            f'alt="{escape(self.alt)}"{look}>'
        )

    def html(self) -> str:
        """Charts to touch and images, with caption and numbers, for an HTML widget."""
        rows = "".join(f'<div class="kd-row">{"".join(map(_cell, row))}</div>' for row in self.rows)
        name = f"kd-{hashlib.sha256((rows + self.numbers).encode()).hexdigest()[:12]}"
        told = f' aria-describedby="{name}"' if self.numbers or self.caption else ""
        here = "" if self.numbers else f' id="{name}"'
        caption = f'<div class="kd-caption"{here}>{self.caption}</div>' if self.caption else ""
        numbers = (
            f'<details class="kd-numbers"><summary>The numbers of the picture</summary><div id="{name}" '
            f'class="kd-scroll" tabindex="0" role="region" aria-label="numbers">{self.numbers}</div></details>'
            if self.numbers
            else ""
        )
        canvas = f'<div class="kd-canvas" role="group" aria-label="{escape(self.alt)}"{told}>{rows}</div>'
        return f'<figure class="kd-picture">{canvas}{caption}{numbers}</figure>'

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        shown = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        display(shown, metadata={"image/png": {"alt": self.alt}}, raw=True)
        if self.caption:
            display(Markdown(self.caption))


def _cell(cell: Cell) -> str:
    wide = max(part.least for part in parts(cell))
    return f'<div class="kd-cell" style="flex:{wide} 1 {wide}px">{"".join(map(_part, parts(cell)))}</div>'


def _part(part: Part) -> str:
    if isinstance(part, Tiles):
        return part.html()
    data = json.dumps(part.data(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f'<div class="kd-chart" style="min-height:{part.height}px" data-chart="{escape(data)}">{WITHOUT}</div>'
