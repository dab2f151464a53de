"""Pictures of explorers: Pillow for grids of images, matplotlib for charts, in the figures' fonts and colours."""

from __future__ import annotations

import contextlib
import functools
import io
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from kdlab.plotting import theme
from kdlab.plotting.contact import font, thumbnail
from kdlab.plotting.look import INK

WIDTH = 1040  # pixels of every picture
DPI = 144
TEACHER, STUDENT, CHANGED, PLAIN = "#0072B2", "#D55E00", "#D55E00", "#7A7A7A"
READABLE = 4.5  # contrast of small text with white, as WCAG asks
_DRAWING = threading.RLock()


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw a chart with the figures' settings, which matplotlib shares between threads: one at a time."""
    with _DRAWING, theme():
        yield


@functools.cache
def readable(color: str) -> str:
    """A colour for small text on white: the same hue, as dark as a contrast of 4.5 : 1 needs.

    Contrast is ``1.05 / (L + 0.05)`` with the relative luminance L.

    Args:
        color: ``"#RRGGBB"`` or any name of matplotlib's.
    """
    share = np.array(to_rgb(color))
    while contrast(share) < READABLE:
        share = 0.97 * share
    return to_hex(share)


def contrast(color: str | np.ndarray) -> float:
    """Contrast of a colour with white, 1 to 21 (WCAG 2.2)."""
    share = np.array(to_rgb(color))
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(1.05 / (linear @ (0.2126, 0.7152, 0.0722) + 0.05))


class Sheet:
    """A white page to paste images on and write upon.

    Args:
        height: in pixels.
        width: in pixels.
    """

    def __init__(self, height: int, width: int = WIDTH):
        self.image = Image.new("RGB", (width, height), "white")
        self.pen = ImageDraw.Draw(self.image)

    def paste(self, image: np.ndarray, x: int, y: int, side: int, frame: str | None = None) -> None:
        """Put an image (C, H, W) with its upper left corner at (x, y), framed in a colour where one is given."""
        picture = thumbnail(image, side)
        w, h = picture.size
        self.image.paste(picture.convert("RGB"), (x, y))
        self.pen.rectangle((x - 1, y - 1, x + w, y + h), outline="#D5D5D5")  # a white image on a white page
        if frame:
            self.pen.rectangle((x - 4, y - 4, x + w + 3, y + h + 3), outline=frame, width=3)

    def stick(self, picture: Image.Image, x: int, y: int) -> None:
        """Put a finished picture with its upper left corner at (x, y)."""
        self.image.paste(picture.convert("RGB"), (x, y))

    def write(self, x: int, y: int, text: str, size: int = 14, color: str = INK, *, bold=False, width=None) -> None:
        """Write a line with its upper left corner at (x, y), cut short with an ellipsis to ``width`` pixels.

        Coloured text is darkened until it can be read.
        """
        face = font(size, bold)
        while width and len(text) > 2 and face.getlength(text) > width:
            text = text[:-2].rstrip() + "…"
        self.pen.text((x, y), text, font=face, fill=readable(color))

    def bar(self, x: int, y: int, share: float, length: int, height: int = 4, color: str = PLAIN) -> None:
        """A horizontal bar of a share in [0, 1]."""
        self.pen.rectangle((x, y, x + max(1, round(share * length)), y + height), fill=color)

    def dot(self, x: float, y: float, radius: float = 5, color: str = "black") -> None:
        """A filled circle about a point."""
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    def bars(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        title: str,
        rows: Sequence[tuple[str, np.ndarray, str]],
        names: Sequence[str],
        *,
        low: float = 0.0,
        high: float = 1.0,
        label: str = "",
        truth: int | None = None,
    ) -> None:
        """Horizontal bars, some for each name; ten times as fast as a chart, so that it follows a slider.

        Args:
            x, y: upper left corner of the area of the bars; names stand left of it, title and legend above.
            width, height: of that area, in pixels.
            title: in bold.
            rows: (label, a value for each name, colour), at most three.
            names: what the bars belong to, top to bottom.
            low, high: range of the values, with 0 in it.
            label: of the axis.
            truth: the name to print in bold.
        """
        self.write(x, y - 48, title, 16, bold=True)
        for number, (word, _, color) in enumerate(rows):
            at = x + number * (width // max(2, len(rows)))
            self.pen.rectangle((at, y - 20, at + 14, y - 10), fill=color)
            self.write(at + 20, y - 23, word, 13)
        ticks = _ticks(low, high)
        for tick in ticks:
            at = x + (tick - low) / (high - low) * width
            self.pen.line((at, y, at, y + height), fill=INK if tick == 0 else "#E3E3E3")
            self.centred(at, y + height + 5, f"{tick:g}".replace("-", "−"), 13)
        self.centred(x + width / 2, y + height + 24, label, 13)
        step, zero = height / len(names), x - low / (high - low) * width
        thick = 0.8 * step / len(rows)
        for place, name in enumerate(names):
            self.right(x - 8, int(y + place * step + step / 2 - 9), name, 13, bold=place == truth)
            for number, (_, values, color) in enumerate(rows):
                top = y + place * step + 0.1 * step + number * thick
                end = zero + np.clip(values[place], low, high) / (high - low) * width
                self.pen.rectangle((min(zero, end), top, max(zero, end), top + thick - 2), fill=color)

    def centred(self, x: float, y: float, text: str, size: int) -> None:
        """A line of text about x."""
        self.pen.text((x, y), text, font=font(size), fill=INK, anchor="ma")

    def right(self, x: float, y: float, text: str, size: int, bold: bool = False) -> None:
        """A line of text that ends at x."""
        self.pen.text((x, y), text, font=font(size, bold), fill=INK, anchor="ra")

    def png(self) -> bytes:
        """The page as a file."""
        buffer = io.BytesIO()
        self.image.save(buffer, "png", compress_level=1)
        return buffer.getvalue()


def _ticks(low: float, high: float) -> list[float]:
    """Some round numbers from low to high: 0, and at least one more."""
    rough = (high - low) / 5
    unit = 10 ** np.floor(np.log10(rough))
    step = unit * next(m for m in (1, 2, 5, 10) if m * unit >= rough * 0.999)
    return [round(float(k * step), 10) + 0.0 for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def chart(height: float, width: float = WIDTH) -> Figure:
    """An empty matplotlib figure; lay axes out by ``axes``, since solving a layout takes too long.

    Args:
        height: in pixels.
        width: in pixels.
    """
    return Figure(figsize=(width / DPI, height / DPI))


def axes(figure: Figure, left: float, bottom: float, width: float, height: float, title: str = ""):
    """Axes at a place given in pixels from the lower left corner."""
    w, h = figure.get_size_inches() * DPI
    made = figure.add_axes((left / w, bottom / h, width / w, height / h))
    made.set_title(title)
    return made


def pixels(figure: Figure) -> Image.Image:
    """The figure as a picture, to be put on a sheet."""
    with drawing():
        figure.set_dpi(DPI)
        agg = FigureCanvasAgg(figure)
        agg.draw()
        return Image.fromarray(np.asarray(agg.buffer_rgba()))


def png(figure: Figure) -> bytes:
    """The figure as a file; fast before small."""
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def placer(figure: Figure, ax) -> Callable[[float, float], tuple[float, float]]:
    """A function from a data point of axes to pixels from the picture's upper left corner."""
    height, transform = figure.get_size_inches()[1] * DPI, ax.transData.frozen()

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = transform.transform((x, y))
        return float(across), float(height - up)

    return place
