"""Images with words and bars under them, as HTML that fits every screen: images stay images, words stay words."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from kdlab.plotting.contact import thumbnail
from kdlab.plotting.look import INK
from kdlab.widgets.charts.colours import on_dark, readable


def colours(color: str, text: bool = False) -> str:
    """CSS properties that hold a colour for a light and for a dark page.

    Args:
        color: ``"#RRGGBB"``.
        text: small text, which is darkened until it can be read.
    """
    return f"--c:{readable(color) if text else color};--d:{on_dark(color)}"


def opener(menu: str, option: str, html: str) -> str:
    """What chooses in a menu of the explorer when it is clicked, as an HTML button; ``page.js`` does it.

    Args:
        menu: name of the control.
        option: the text of the option there.
        html: what is on it.
    """
    what = f'data-menu="{escape(menu)}" data-option="{escape(option)}" title="{escape(option)}"'
    return f'<button type="button" class="kd-open" {what} aria-label="{escape(option)}">{html}</button>'


@dataclass(frozen=True)
class Words:
    """A line of text.

    Args:
        text: it is cut short where it does not fit; the browser breaks it.
        color: of the text.
        bold: in bold.
        size: in CSS pixels.
    """

    text: str
    color: str = INK
    bold: bool = False
    size: int = 13

    def html(self) -> str:
        """As an element of a tile."""
        style = f"{colours(self.color, True)};font-size:{self.size}px" + (";font-weight:650" if self.bold else "")
        return f'<p class="kd-words" style="{style}">{escape(self.text)}</p>'


@dataclass(frozen=True)
class Share:
    """A line of text over a bar of a share in [0, 1].

    Args:
        text: above the bar.
        share: length of the bar.
        color: of the bar.
        ink: of the text.
        bold: in bold.
    """

    text: str
    share: float
    color: str
    ink: str = INK
    bold: bool = False

    def html(self) -> str:
        """As an element of a tile."""
        bar = f'<i class="kd-bar" style="{colours(self.color)};width:{100 * self.share:.1f}%"></i>'
        return f'<div class="kd-share">{Words(self.text, self.ink, self.bold, 12).html()}{bar}</div>'


@dataclass(frozen=True)
class Images:
    """Images side by side.

    Args:
        images: uint8 (C, H, W) each.
        side: of each, in CSS pixels, where there is room.
        frame: colour of a frame around each; empty for none.
        mark: a sign at their right.
        menu: the menu of the explorer in which a click on an image chooses; empty for none.
        opens: the text of the option that it chooses there, of each image.
    """

    images: Sequence[np.ndarray]
    side: int
    frame: str = ""
    mark: str = ""
    menu: str = ""
    opens: Sequence[str] = ()

    def html(self) -> str:
        """As an element of a tile."""
        frame = f' class="kd-framed" style="{colours(self.frame)}"' if self.frame else ""
        shown = [f'<img src="{_source(i, self.side)}" alt="" width="{self.side}"{frame}>' for i in self.images]
        if self.menu:
            shown = [opener(self.menu, text, image) for text, image in zip(self.opens, shown, strict=True)]
        mark = f'<b style="{colours(self.frame or INK, True)}">{escape(self.mark)}</b>' if self.mark else ""
        return f'<div class="kd-images">{"".join(shown)}{mark}</div>'


Item = Words | Share | Images


@dataclass(frozen=True)
class Tiles:
    """Columns of items, as many side by side as fit.

    Args:
        tiles: the items of each, from above to below.
        wide: of a tile at the least, in CSS pixels.
        least: CSS pixels below which they take a row of their own.
    """

    tiles: Sequence[Sequence[Item]]
    wide: int = 116
    least: int = 180

    def html(self) -> str:
        """The tiles as a grid."""
        inside = "".join(f'<div class="kd-tile">{"".join(item.html() for item in tile)}</div>' for tile in self.tiles)
        return f'<div class="kd-tiles" style="--wide:{self.wide}px">{inside}</div>'


def _source(image: np.ndarray, side: int) -> str:
    """An image as a data address: small ones as they are, large ones at twice their size on the page."""
    buffer = io.BytesIO()
    thumbnail(image, min(max(np.shape(image)[-2:]), 2 * side)).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
