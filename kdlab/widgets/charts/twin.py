"""The same drawing where no browser draws: panels by matplotlib, images by Pillow, on one page of a fixed width."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from kdlab.plotting.contact import font, thumbnail
from kdlab.plotting.look import INK
from kdlab.widgets.charts.chart import Panel
from kdlab.widgets.charts.colours import readable
from kdlab.widgets.charts.tiles import Images, Share, Tiles, Words

WIDTH, GAP, LARGER = 1040, 18, 1.3  # pixels of the page, between parts, and for one of CSS
DPI = 144
Part = Panel | Tiles
Cell = Part | tuple[Part, ...]


def parts(cell: Cell) -> tuple[Part, ...]:
    """The parts of a cell, from above to below."""
    return cell if isinstance(cell, tuple) else (cell,)


def picture(rows: Sequence[Sequence[Cell]]) -> bytes:
    """Rows of cells as one png, all of the same width.

    Args:
        rows: from above to below.
    """
    strips = [_row(row) for row in rows]
    page = Image.new("RGB", (WIDTH, max(1, sum(strip.height for strip in strips))), "white")
    top = 0
    for strip in strips:
        page.paste(strip, (0, top))
        top += strip.height
    buffer = io.BytesIO()
    page.save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _row(row: Sequence[Cell]) -> Image.Image:
    room = WIDTH - GAP * (len(row) + 1)
    shares = np.array([max(part.least for part in parts(cell)) for cell in row], float)
    widths = (room * shares / shares.sum()).astype(int)
    stacks = [[_part(part, int(width)) for part in parts(cell)] for cell, width in zip(row, widths, strict=True)]
    strip = Image.new("RGB", (WIDTH, GAP + max(sum(i.height + GAP for i in stack) for stack in stacks)), "white")
    for stack, left in zip(stacks, GAP + np.cumsum([0, *(widths[:-1] + GAP)]), strict=True):
        top = GAP
        for image in stack:
            strip.paste(image, (int(left), top))
            top += image.height + GAP
    return strip


def _part(part: Part, width: int) -> Image.Image:
    if isinstance(part, Tiles):
        return _tiles(part, width)
    # Here, since a first picture of images alone needs nothing of matplotlib, which takes long to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from kdlab.widgets.charts.axes import draw, drawing

    legend = list(dict.fromkeys(mark.name for mark in part.marks if mark.name))
    columns = max(1, width // (60 + max((int(font(15).getlength(name)) for name in legend), default=0)))
    lines = math.ceil(len(legend) / columns)
    height = round(LARGER * part.height) + 34 + 22 * lines
    with drawing():
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        draw(figure, part, 34 + 22 * lines, columns)
        agg = FigureCanvasAgg(figure)
        agg.draw()
        return Image.fromarray(np.asarray(agg.buffer_rgba())).convert("RGB")


def _tiles(part: Tiles, width: int) -> Image.Image:
    wide = round(1.14 * part.wide)
    columns = max(1, min(len(part.tiles), width // wide))
    wide = width // columns
    tiles = [_tile(tile, wide - 6) for tile in part.tiles]
    rows = [tiles[k : k + columns] for k in range(0, len(tiles), columns)]
    page = Image.new("RGB", (width, sum(max(t.height for t in row) + 10 for row in rows)), "white")
    top = 0
    for row in rows:
        for column, tile in enumerate(row):
            page.paste(tile, (column * wide, top))
        top += max(tile.height for tile in row) + 10
    return page


def _tile(items: Sequence[Words | Share | Images], width: int) -> Image.Image:
    made = [_images(item, width) if isinstance(item, Images) else _text(item, width) for item in items]
    page = Image.new("RGB", (width, sum(image.height for image in made)), "white")
    top = 0
    for image in made:
        page.paste(image, (0, top))
        top += image.height
    return page


def _text(item: Words | Share, width: int) -> Image.Image:
    size, color = (item.size, item.color) if isinstance(item, Words) else (12, item.ink)
    face = font(round(1.1 * size), item.bold)
    letters = max(4, int(width / max(face.getlength("n"), 1)))
    text = "\n".join(textwrap.wrap(item.text, letters, max_lines=4, placeholder=" …")) if item.text else ""
    lines = text.count("\n") + 1
    page = Image.new("RGB", (width, round(1.45 * size * lines) + (6 if isinstance(item, Share) else 2)), "white")
    pen = ImageDraw.Draw(page)
    pen.multiline_text((0, 0), text, font=face, fill=readable(color), spacing=2)
    if isinstance(item, Share):
        pen.rectangle((0, page.height - 5, max(1, round(item.share * (width - 4))), page.height - 4), fill=item.color)
    return page


def _images(item: Images, width: int) -> Image.Image:
    side = min(round(1.1 * item.side), width)
    columns = max(1, (width + 6) // (side + 6))
    pictures = [thumbnail(image, side).convert("RGB") for image in item.images]
    page = Image.new("RGB", (width, (side + 10) * math.ceil(len(pictures) / columns)), "white")
    pen = ImageDraw.Draw(page)
    for number, image in enumerate(pictures):
        x, y = number % columns * (side + 6), number // columns * (side + 10) + 4
        page.paste(image, (x, y))
        pen.rectangle((x, y, x + image.width - 1, y + image.height - 1), outline=item.frame or "#D5D5D5",
                      width=3 if item.frame else 1)  # fmt: skip
    if item.mark:
        pen.text(
            (min(width - 16, side + 6), side // 2), item.mark, font=font(17, True), fill=readable(item.frame or INK)
        )
    return page
