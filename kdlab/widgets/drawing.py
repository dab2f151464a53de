"""What an explorer draws: a picture, its alternative text, its caption and the spots on it."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Spot:
    """A place of a drawing with a text that appears under the mouse or the keyboard's focus.

    Args:
        x, y: centre, as shares of width and height from the upper left corner.
        text: what appears.
    """

    x: float
    y: float
    text: str


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
        png: the picture.
        alt: what a reader who cannot see it needs to know, in at most 150 characters that hold for any trained numbers.
        caption: what to read beside it, as an HTML fragment that is also Markdown.
        spots: places with a text of their own.
        numbers: those that are drawn, as an HTML table (``table``) to unfold, which describes the picture to a screen
            reader; empty where the caption does that.
    """

    png: bytes
    alt: str
    caption: str = ""
    spots: tuple[Spot, ...] = ()
    numbers: str = ""

    def image(self, style: str = "", more: str = "") -> str:
        """The picture alone, as an HTML element.

        Args:
            style: css.
            more: further attributes.
        """
        width, height = struct.unpack(">II", self.png[16:24])
        source = base64.b64encode(self.png).decode()
        look = f' style="{style}"' if style else ""
        return (
            f'<img src="data:image/png;base64,{source}" width="{width}" height="{height}" decoding="sync" '
            f'alt="{escape(self.alt)}"{look}{more}>'
        )

    def html(self) -> str:
        """The picture with its spots and caption, for an HTML widget."""
        name = f"kd-{hashlib.sha256(self.png).hexdigest()[:12]}"
        told = f' aria-describedby="{name}"' if self.numbers or self.caption else ""
        spots = "".join(
            f'<span class="kd-spot{" kd-left" if spot.x > 0.6 else ""}" tabindex="0" role="note" '
            f'aria-label="{escape(spot.text)}" style="left:{100 * spot.x:.2f}%;top:{100 * spot.y:.2f}%">'
            f"<span>{escape(spot.text)}</span></span>"
            for spot in self.spots
        )
        here = "" if self.numbers else f' id="{name}"'
        caption = f'<div class="kd-caption"{here}>{self.caption}</div>' if self.caption else ""
        numbers = (
            f'<details class="kd-numbers"><summary>The numbers of the picture</summary><div id="{name}" '
            f'class="kd-scroll" tabindex="0" role="region" aria-label="numbers">{self.numbers}</div></details>'
            if self.numbers
            else ""
        )
        canvas = f'<div class="kd-canvas">{self.image(more=told)}{spots}</div>'
        return f'<figure class="kd-picture">{canvas}{caption}{numbers}</figure>'

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        shown = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        display(shown, metadata={"image/png": {"alt": self.alt}}, raw=True)
        if self.caption:
            display(Markdown(self.caption))
