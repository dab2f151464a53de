"""Parts of pictures that are drawn apart and stacked, and the one of two arms beside their paired difference."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from kdlab import plotting, stats
from kdlab.plotting.look import INK
from kdlab.plotting.panels import EFFECT, MINUS
from kdlab.widgets import canvas
from kdlab.widgets.drawing import Spot

HALF = canvas.WIDTH // 2


class Picture(NamedTuple):
    """A part of a drawing: RGB pixels, and its spots, as (x, y in pixels from the upper left, text)."""

    image: Image.Image
    spots: tuple[tuple[float, float, str], ...] = ()


def pixels(figure, spots: Sequence[tuple[Any, float, float, str]] = ()) -> Picture:
    """A figure as it will lie on the sheet.

    Args:
        figure: from ``canvas.chart``.
        spots: (axes, x, y, text) in the axes' own coordinates.
    """
    image = canvas.pixels(figure).convert("RGB")
    known = [spot for spot in spots if np.isfinite(spot[1:3]).all()]
    return Picture(image, tuple((*canvas.placer(figure, ax)(x, y), text) for ax, x, y, text in known))


def axes(figure, left: float, bottom: float, width: float, height: float, title: str = ""):
    """Axes as of ``canvas.axes`` that are drawn twice as fast: few ticks, and a title at a fixed place."""
    made = canvas.axes(figure, left, bottom, width, height)
    made.set_title(title, y=1.0)
    for side in (made.xaxis, made.yaxis):
        side.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
    return made


def wiped(*all_axes: Axes) -> None:
    """Take out what an earlier picture has left, and let the axes fit what comes.

    Making axes and ticks takes longer than drawing what is in them, so pictures of one kind share theirs: whoever draws
    is alone inside ``canvas.drawing``.
    """
    for ax in all_axes:
        for artist in (*ax.lines, *ax.collections, *ax.patches, *ax.texts):
            artist.remove()
        ax.relim()
        ax.autoscale()


def stack(pictures: Sequence[Picture]) -> tuple[bytes, tuple[Spot, ...]]:
    """Pictures below each other as one png, and its spots."""
    height = sum(p.image.height for p in pictures)
    sheet, spots, top = canvas.Sheet(height), [], 0
    for picture in pictures:
        sheet.stick(picture.image, 0, top)
        spots += [Spot(x / canvas.WIDTH, (y + top) / height, text) for x, y, text in picture.spots]
        top += picture.image.height
    return sheet.png(), tuple(spots)


def notice(text: str, height: int = 150) -> Picture:
    """A sheet with a text in place of a picture."""
    sheet = canvas.Sheet(height)
    for number, line in enumerate(textwrap.wrap(text, 100)):
        sheet.write(40, height // 2 - 20 + 26 * number, line, 17, INK)
    return Picture(sheet.image)


# ---- two arms --------------------------------------------------------------------------------------------------------


def comparison(
    table: pd.DataFrame, names: dict[str, str], looks: dict[str, dict], verdict: stats.Verdict | None, metric: str,
    line: float | None = None,
) -> Picture:  # fmt: skip
    """The seeds and means of one or two arms, and their paired difference with its verdict.

    Args:
        table: runs of the arms, whose column ``arm`` holds ``"A"`` and ``"B"``.
        names: of A and B.
        looks: of A and B.
        verdict: on A minus B, or None where there are no two arms.
        metric: column that is compared.
        line: the linear model's value of it, where known.
    """
    label = metric.replace("_", " ").capitalize() + " (%)"
    with canvas.drawing():
        figure, left, right = _pair_frame()
        wiped(left, right)
        right.set_visible(verdict is not None)
        left.set_title("Two arms" if verdict else "One arm", y=1.0)
        order = list(looks)
        plotting.interval_dots(left, table, order, value=metric, label=label, looks=looks)
        if line is not None:
            plotting.accuracy_line(figure, line, label=label)
        spots = _means(left, table, order, metric)
        left.set_yticks(range(len(names)), [_arm_label(*arm) for arm in names.items()])
        if verdict:
            short = replace(verdict, contrast=replace(verdict.contrast, name="A - B"))
            plotting.contrast_panel(right, [short], label=EFFECT)
            spots.append((right, verdict.effect, 0.08, verdict.reason))
        return pixels(figure, spots)


@functools.cache
def _pair_frame() -> tuple[Figure, Axes, Axes]:
    figure = canvas.chart(210)
    left = axes(figure, 190, 52, 320, 120)
    left.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    return figure, left, axes(figure, HALF + 145, 52, 345, 120, f"A {MINUS} B, paired by seed")


def _arm_label(letter: str, name: str) -> str:
    return textwrap.fill(f"{letter}: {name}", 20, max_lines=3, placeholder=" …")


def _means(ax: Axes, table: pd.DataFrame, order: Sequence[str], metric: str) -> list[tuple]:
    """What the mean of each arm says, and where it stands."""
    good = table[~table["diverged"].astype(bool)]
    means = {arm: stats.interval(good.loc[good["arm"] == arm, metric]) for arm in order}
    return [(ax, m.mean, row - 0.14, f"{arm}: {interval_text(m)}") for row, (arm, m) in enumerate(means.items())]


def interval_text(mean: stats.Interval) -> str:
    """``75.13 % (95 % interval 74.13 to 76.13), 6 seeds``."""
    if mean.n < 2:
        return f"{mean.mean:.2f} %, one seed: no interval" if mean.n else "no finished seed"
    return f"{mean.mean:.2f} % (95 % interval {mean.low:.2f} to {mean.high:.2f}), {mean.n} seeds"
