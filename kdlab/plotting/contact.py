"""A contact sheet: some images of each class and split on one page, for a glance at what was read."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kdlab.data.source import SPLITS, Source
from kdlab.plotting.look import FAINT, INK

MOST_CLASSES = 12
SHOWN = {"train": 6, "val": 3, "test": 3}  # images of a class
COLOURS = {"train": "#0072B2", "val": "#E69F00", "test": "#009E73"}
SIDE, GAP, BREAK, MARGIN, NAMES = 96, 8, 40, 48, 230  # pixels: an image, between two, between splits, edge, class names
LINE = 30  # pixels of a line of text


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


def contact_sheet(source: Source, lines: Sequence[str]) -> bytes:
    """A png with the first images of each class, in a row, by split.

    Args:
        source: the data set; of more than MOST_CLASSES classes the first are shown, and the page says so.
        lines: what stands above: a title, then smaller words, each in a line.
    """
    classes = source.classes[:MOST_CLASSES]
    left = dict(zip(SPLITS, np.cumsum([MARGIN + NAMES, *(_width(s) + BREAK for s in SPLITS[:-1])]), strict=True))
    width = int(left["test"]) + _width("test") + MARGIN
    words = [word for line in lines[1:] for word in _lines(line, width - 2 * MARGIN)]
    top = MARGIN + 52 + LINE * len(words) + 76
    more = len(source.classes) - len(classes)
    page = Image.new("RGB", (width, top + len(classes) * (SIDE + GAP) + (LINE + 8 if more else 0) + MARGIN), "white")
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN - 10), _cut(lines[0], width - 2 * MARGIN, 30, True), font=font(30, True), fill=INK)
    for place, line in enumerate(words):
        pen.text((MARGIN, MARGIN + 42 + LINE * place), line, font=font(19), fill=INK)
    for split in SPLITS:
        x, end = int(left[split]), int(left[split]) + _width(split)
        pen.text((x, top - 52), split, font=font(20, True), fill=INK)
        total = f"{len(source.labels[split]):,} images"
        pen.text((end - font(17).getlength(total), top - 50), total, font=font(17), fill=FAINT)
        pen.rectangle((x, top - 22, end, top - 19), fill=COLOURS[split])
        for label, column, image in _first(source, split, len(classes)):
            _paste(page, pen, image, x + column * (SIDE + GAP), top - 8 + label * (SIDE + GAP))
    for label, name in enumerate(classes):
        counts = " + ".join(f"{int((source.labels[split] == label).sum()):,}" for split in SPLITS)
        y = top - 8 + label * (SIDE + GAP) + SIDE // 2
        pen.text((MARGIN, y - 26), _cut(name, NAMES - 20, 20, True), font=font(20, True), fill=INK)
        pen.text((MARGIN, y + 4), counts, font=font(16), fill=FAINT)
    if more:
        said = f"the first {len(classes)} of {len(source.classes)} classes; {more} more are not shown"
        pen.text((MARGIN, page.height - MARGIN - LINE + 8), said, font=font(19), fill=INK)
    return _png(page)


def _width(split: str) -> int:
    return SHOWN[split] * (SIDE + GAP) - GAP


def _first(source: Source, split: str, classes: int):
    """Label, column and pixels of the first images of each shown class; only as many are decoded as that takes."""
    labels = source.labels[split]
    rows = [(label, row) for label in range(classes) for row in np.flatnonzero(labels == label)[: SHOWN[split]]]
    pixels = source.pixels(split, max((int(row) for _, row in rows), default=-1) + 1)
    columns = {label: 0 for label in range(classes)}
    for label, row in rows:
        yield label, columns[label], pixels[row]
        columns[label] += 1


def _paste(page: Image.Image, pen: ImageDraw.ImageDraw, image: np.ndarray, x: int, y: int) -> None:
    picture = thumbnail(image, SIDE).convert("RGB")
    x, y = x + (SIDE - picture.width) // 2, y + (SIDE - picture.height) // 2
    page.paste(picture, (x, y))
    pen.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline="#D5D5D5")  # white images on white


def _cut(text: str, width: int, size: int, bold: bool = False) -> str:
    """The text, cut short with an ellipsis where it is wider."""
    while len(text) > 2 and font(size, bold).getlength(text) > width:
        text = text[:-2].rstrip() + "…"
    return text


def _lines(text: str, width: int) -> list[str]:
    """The text broken between words to lines of at most so many pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font(19).getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_cut(line, width, 19) for line in lines]


def _png(page: Image.Image) -> bytes:
    buffer = io.BytesIO()
    page.save(buffer, "png", optimize=True)
    return buffer.getvalue()
