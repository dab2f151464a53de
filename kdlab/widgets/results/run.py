"""Pictures of one run: its training curve, its confusions and its calibration on val."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image, ImageDraw

from kdlab import metrics
from kdlab.plotting.look import FAINT, INK
from kdlab.widgets import canvas
from kdlab.widgets.runs.panels import Picture, axes, pixels, wiped

WRITTEN = 12  # classes up to which counts and names of classes can be read
RUN_HEIGHT, GRID, GRID_AT = 410, (108, 84, 236), 335  # pixels; GRID is left, top and side of the confusion matrix


class _Frame(NamedTuple):
    """What the pictures of all runs have in common."""

    figure: Figure
    title: Text
    course: tuple[Axes, Axes]
    reliability: tuple[Axes, Axes]
    silent: tuple[Axes, Axes]


@functools.cache
def _frame() -> _Frame:
    """The frame, to be used inside ``canvas.drawing``, which lets in one thread at a time."""
    figure = canvas.chart(RUN_HEIGHT)
    title = figure.text(16 / canvas.WIDTH, 1 - 26 / RUN_HEIGHT, "", fontsize=8)
    upper, lower = axes(figure, 70, 208, 235, 118, "Training curve"), axes(figure, 70, 62, 235, 118)
    upper.set(ylabel="val accuracy (%)", xticks=[])
    lower.set(ylabel="train loss", xlabel="step")
    right, below = axes(figure, 770, 138, 235, 188), axes(figure, 770, 62, 235, 56)
    right.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy", xticks=[], yticks=[0, 0.5, 1])
    below.set(xlim=(0, 1), xticks=[0, 0.5, 1], yticks=[], xlabel="confidence", ylabel="images")
    for ax in (upper, lower, right):
        ax.grid(True, axis="y")
    silent = axes(figure, 430, 90, 236, 236, "Confusion, val"), axes(figure, 770, 90, 236, 236, "Reliability, val")
    for ax in silent:
        ax.set(xticks=[], yticks=[])
    return _Frame(figure, title, (upper, lower), (right, below), silent)


def run_picture(title: str, curve: Sequence[dict], logits, labels, classes: Sequence[str], why: str = "") -> Picture:
    """A run's training curve, and confusions and reliability on val.

    Args:
        title: which run it is.
        curve: of ``result.json``: step, train_loss, val_accuracy.
        logits: (N, K) on val, or None.
        labels: (N,) of val, or None.
        classes: K names.
        why: a text in place of what cannot be drawn without logits or labels.
    """
    known = logits is not None and labels is not None
    with canvas.drawing():
        frame = _frame()
        wiped(*frame.course, *frame.reliability, *frame.silent)
        for ax in (*frame.reliability, *frame.silent):
            ax.set_visible(known == (ax in frame.reliability))
        frame.title.set_text(title)
        spots = _course(*frame.course, curve)
        if not known:
            for ax in frame.silent:
                text = textwrap.fill(why, 34)
                ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color=INK)
            return pixels(frame.figure, spots)
        ece = metrics.calibration_error(logits, labels)
        frame.reliability[0].set_title(f"Reliability, val: ECE {ece:.3f}", y=1.0)
        bins = pd.DataFrame(metrics.reliability(logits, labels))
        page = pixels(frame.figure, spots + _reliability(*frame.reliability, bins))
    grid = confusion_sheet(metrics.confusion(logits, labels), classes)
    page.image.paste(grid.image.crop((0, 40, *grid.image.size)), (GRID_AT, 40))  # below the title of the page
    return Picture(page.image, page.spots + tuple((x + GRID_AT, y, text) for x, y, text in grid.spots))


def _course(upper: Axes, lower: Axes, curve: Sequence[dict]) -> list[tuple]:
    steps = [point["step"] for point in curve]
    spots = []
    for ax, name, color, marker in ((upper, "val_accuracy", canvas.STUDENT, "o"), (lower, "train_loss", INK, "s")):
        values = np.array([np.nan if point.get(name) is None else point[name] for point in curve], float)
        shown = np.where(np.isfinite(values), values, np.nan)
        ax.plot(steps, shown, color=color, marker=marker, ms=4, lw=1.4, mec="white", mew=0.6)
        ax.set_xlim(0, 1.05 * max(steps, default=1))
        text = f"{ax.get_ylabel()} {shown[-1]:.4g}" if steps else ""
        spots += [(ax, steps[-1], shown[-1], f"step {steps[-1]:,}: {text}")] if steps else []
    return spots


def confusion_sheet(counts: np.ndarray, classes: Sequence[str]) -> Picture:
    """Labels by predictions, darker where a larger share of the row is; Pillow draws a hundred numbers at once.

    Args:
        counts: (K, K) of ``metrics.confusion``: row k holds the images labelled k.
        classes: K names, written like the counts where there are few enough to be read.
    """
    k, (left, top, side) = len(counts), GRID
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    colours = (255 * matplotlib.colormaps["Blues"](shares)[..., :3]).astype(np.uint8)
    sheet = canvas.Sheet(RUN_HEIGHT, 352)
    sheet.write(left, top - 30, "Confusion, val", 16, bold=True)
    quiet = canvas.readable(FAINT)
    sheet.pen.text((left + side, top - 4), "column: predicted", font=canvas.font(11), fill=quiet, anchor="rs")
    sheet.pen.text((left - 5, top - 4), "row: label", font=canvas.font(11), fill=quiet, anchor="rs")
    sheet.image.paste(Image.fromarray(colours).resize((side, side), Image.Resampling.NEAREST), (left, top))
    sheet.pen.rectangle((left, top, left + side, top + side), outline=FAINT)
    cell = side / k

    def centre(row: int, column: int) -> tuple[float, float]:
        return left + cell * (column + 0.5), top + cell * (row + 0.5)

    if k > WRITTEN:
        sheet.write(left, top + side + 8, f"rows: {k} labels, columns: predicted", 13)
    else:
        for row, column in np.argwhere(counts > 0):
            ink = "white" if shares[row, column] > 0.55 else INK
            sheet.pen.text(centre(row, column), str(counts[row, column]), font=canvas.font(11), fill=ink, anchor="mm")
        for number, name in enumerate(textwrap.shorten(str(name), 14, placeholder="…") for name in classes):
            middle = cell * (number + 0.5)
            sheet.pen.text((left - 5, top + middle), name, font=canvas.font(12), fill=INK, anchor="rm")
            _slanted(sheet.image, name, round(left + middle), top + side + 5)
    wrong = np.where(np.eye(k, dtype=bool), 0, counts)
    worst = [divmod(int(at), k) for at in np.argsort(-wrong, axis=None, kind="stable")[:5]]
    spots = [(*centre(row, column),
             f"{wrong[row, column]} of {counts[row].sum()} {classes[row]} taken for {classes[column]}")
            for row, column in worst if wrong[row, column]]  # fmt: skip
    return Picture(sheet.image, tuple(spots))


def _slanted(image: Image.Image, text: str, x: int, y: int) -> None:
    """Write upwards at 60 degrees, so that the text ends at (x, y)."""
    face = canvas.font(12)
    mask = Image.new("L", (round(face.getlength(text)) + 4, 17))
    ImageDraw.Draw(mask).text((0, 1), text, font=face, fill=255)
    mask = mask.rotate(60, Image.Resampling.BICUBIC, expand=True)
    image.paste(Image.new("RGB", mask.size, INK), (x - mask.width + 8, y), mask)


def _reliability(ax: Axes, below: Axes, bins: pd.DataFrame) -> list[tuple]:
    """Accuracy against confidence with the diagonal, gaps as lines, and the number of images in each bin below."""
    edges = (np.arange(len(bins)) + 0.5) / len(bins)
    ax.plot([0, 1], [0, 1], color=FAINT, lw=0.8, ls="--", zorder=1)
    ax.vlines(bins["confidence"], bins["confidence"], bins["accuracy"], color=canvas.STUDENT, lw=2.4, alpha=0.45)
    ax.plot(bins["confidence"], bins["accuracy"], color=canvas.STUDENT, marker="o", ms=4.5, lw=1, mec="white", mew=0.6)
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    below.bar(edges, bins["count"], 0.86 / len(bins), color=canvas.PLAIN)
    for x, n in zip(edges, bins["count"], strict=True):
        if n:
            below.text(x, n, str(n), ha="center", va="bottom", fontsize=5.5)
    below.set(xlim=(0, 1), ylim=(0, 1.3 * max(1, bins["count"].max())))
    filled = bins[bins["count"] > 0].to_numpy()
    return [(ax, x, y, f"confidence {x:.2f}, accuracy {y:.2f}, {n:,.0f} images") for n, x, y in filled]
