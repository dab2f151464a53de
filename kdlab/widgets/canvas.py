"""Pictures of explorers: Pillow for grids of images, matplotlib for charts, in the figures' fonts and colours."""

from __future__ import annotations

import contextlib
import functools
import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from kdlab.plotting import theme
from kdlab.plotting.look import FAINT, INK

WIDTH = 1040  # pixels of every picture
DPI = 144
TEACHER, STUDENT, CHANGED, PLAIN = "#0072B2", "#D55E00", "#D55E00", "#7A7A7A"
_DRAWING = threading.RLock()


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw a chart with the figures' settings, which matplotlib shares between threads: one at a time."""
    with _DRAWING, theme():
        yield


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as it travels with matplotlib.

    Args:
        size: in pixels.
        bold: the bold face.
    """
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def thumbnail(image: np.ndarray, side: int) -> Image.Image:
    """An image with pixels that stay square and sharp.

    Args:
        image: uint8 (C, H, W), one or three channels.
        side: of the result's longer side, in pixels.
    """
    image = np.asarray(image)
    plain = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    scale = side / max(plain.size)
    size = tuple(max(1, round(scale * s)) for s in plain.size)
    return plain.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BILINEAR)


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
        self.image.paste(picture.convert("RGB"), (x, y))
        if frame:
            w, h = picture.size
            self.pen.rectangle((x - 4, y - 4, x + w + 3, y + h + 3), outline=frame, width=3)

    def stick(self, picture: Image.Image, x: int, y: int) -> None:
        """Put a finished picture with its upper left corner at (x, y)."""
        self.image.paste(picture.convert("RGB"), (x, y))

    def write(self, x: int, y: int, text: str, size: int = 14, color: str = INK, *, bold=False, width=None) -> None:
        """Write a line with its upper left corner at (x, y), cut short with an ellipsis to ``width`` pixels."""
        face = font(size, bold)
        while width and len(text) > 2 and face.getlength(text) > width:
            text = text[:-2].rstrip() + "…"
        self.pen.text((x, y), text, font=face, fill=color)

    def bar(self, x: int, y: int, share: float, length: int, height: int = 4, color: str = PLAIN) -> None:
        """A horizontal bar of a share in [0, 1]."""
        self.pen.rectangle((x, y, x + max(1, round(share * length)), y + height), fill=color)

    def png(self) -> bytes:
        """The page as a file."""
        buffer = io.BytesIO()
        self.image.save(buffer, "png", compress_level=1)
        return buffer.getvalue()


def chart(height: float) -> Figure:
    """An empty matplotlib figure of the usual width; lay axes out by ``axes``, since solving a layout takes too long.

    Args:
        height: in pixels.
    """
    return Figure(figsize=(WIDTH / DPI, height / DPI))


def axes(figure: Figure, left: float, bottom: float, width: float, height: float, title: str = ""):
    """Axes at a place given in pixels from the lower left corner."""
    w, h = figure.get_size_inches() * DPI
    made = figure.add_axes((left / w, bottom / h, width / w, height / h))
    made.set_title(title)
    return made


def show_image(figure: Figure, image: np.ndarray, left: float, bottom: float, side: float, title: str = ""):
    """An image (C, H, W) at a place given in pixels."""
    made = axes(figure, left, bottom, side, side, title)
    image = np.asarray(image)
    made.imshow(image[0] if len(image) == 1 else image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    made.set_xticks([]), made.set_yticks([])
    for spine in made.spines.values():
        spine.set(visible=True, color=FAINT, linewidth=0.6)
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


def soft_bars(ax, rows: Sequence[tuple[str, Sequence[float], str]], classes: Sequence[str], truth: int | None = None):
    """Horizontal bars of soft labels, one colour a row of ``rows`` (label, probabilities (K,), colour).

    Args:
        ax: where to draw.
        rows: who says what, at most three.
        classes: names of the K classes.
        truth: the true class, whose name is bold.
    """
    thick = 0.8 / len(rows)
    for number, (label, values, color) in enumerate(rows):
        at = np.arange(len(classes)) + (number - (len(rows) - 1) / 2) * thick
        ax.barh(at, values, thick * 0.92, color=color, label=label)
    ax.set_yticks(range(len(classes)), classes)
    if truth is not None:
        ax.get_yticklabels()[truth].set_fontweight("bold")
    ax.set(ylim=(len(classes) - 0.4, -0.6), xlim=(0, 1), xlabel="probability")
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    # under the title, since bars may reach anywhere
    ax.legend(
        loc="lower left", bbox_to_anchor=(-0.03, 0.985), ncols=3, borderpad=0, columnspacing=1.2, handlelength=1.2
    )
    ax.set_title(ax.get_title("left"), pad=19)
    return ax


def spot_of(figure: Figure, ax, x: float, y: float) -> tuple[float, float]:
    """Where a data point lies on the picture, as shares from its upper left corner."""
    across, up = figure.transFigure.inverted().transform(ax.transData.transform((x, y)))
    return float(across), float(1 - up)
