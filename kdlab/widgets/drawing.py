"""What an explorer draws: a picture, its alternative text, its caption and the spots on it."""

from __future__ import annotations

import base64
import struct
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


@dataclass(frozen=True)
class Drawing:
    """What an explorer shows for its settings.

    Args:
        png: the picture.
        alt: what a reader who cannot see it needs to know, in words that hold for any trained numbers.
        caption: what to read beside it, as an HTML fragment that is also Markdown.
        spots: places with a text of their own.
    """

    png: bytes
    alt: str
    caption: str = ""
    spots: tuple[Spot, ...] = ()

    def html(self) -> str:
        """The picture with its spots and caption, for an HTML widget."""
        width, height = struct.unpack(">II", self.png[16:24])
        source = base64.b64encode(self.png).decode()
        image = (
            f'<img src="data:image/png;base64,{source}" width="{width}" height="{height}" decoding="sync" '
            f'alt="{escape(self.alt)}">'
        )
        spots = "".join(
            f'<span class="kd-spot{" kd-left" if spot.x > 0.6 else ""}" tabindex="0" role="note" '
            f'aria-label="{escape(spot.text)}" style="left:{100 * spot.x:.2f}%;top:{100 * spot.y:.2f}%">'
            f"<span>{escape(spot.text)}</span></span>"
            for spot in self.spots
        )
        caption = f'<div class="kd-caption">{self.caption}</div>' if self.caption else ""
        return f'<figure class="kd-picture"><div class="kd-canvas">{image}{spots}</div>{caption}</figure>'

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        shown = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        display(shown, metadata={"image/png": {"alt": self.alt}}, raw=True)
        if self.caption:
            display(Markdown(self.caption))
