"""All claims of several studies at a glance: one forest plot, studies one below the other."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kdlab.plotting.look import BAND, INK, PAGE, figure
from kdlab.plotting.panels import MINUS, OUTCOME_LOOKS, scale

REACH = 2.0  # points; what lies beyond is drawn at the edge as an arrow, and its number tells
ROW = 0.165  # inches


def claims(table: pd.DataFrame) -> Figure:
    """One row per claim with its effect, 95 % interval, margin and outcome.

    Args:
        table: in the order of drawing: ``study`` (title), ``name``, ``outcome``, and ``effect``, ``low``, ``high`` and
            ``margin`` in ``unit``; NaN for an end that nothing bounds. Rows of one study stand together below its
            title; a unit that is not points stands in the row's name.
    """
    rows: list[tuple[str, pd.Series | None]] = []
    for title, own in table.groupby("study", sort=False):
        rows += [(str(title), None), *((_name(row), row) for _, row in own.iterrows())]
    made = figure(0.55 + ROW * len(rows), PAGE)
    ax, words = made.subplots(1, 2, sharey=True, width_ratios=(1.45, 1))
    for place, (_, row) in enumerate(rows):
        if row is not None:
            _row(ax, place, row)
            color = OUTCOME_LOOKS[row["outcome"]]["color"]
            numbers = f"{row['effect']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
            numbers = numbers.replace("-", MINUS).replace("+nan", "?")
            words.text(0, place, numbers, va="center", fontsize=6.5)
            words.text(1, place, row["outcome"], va="center", ha="right", fontsize=6.5, color=color, fontweight="bold")
    words.set_axis_off()
    ax.axvline(0, color=INK, lw=0.8, zorder=1)
    ax.set_yticks(range(len(rows)), [name.replace(" - ", f" {MINUS} ") for name, _ in rows])
    for label, (_, row) in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row is None else "normal")
    ax.set(
        xlim=(-REACH, REACH), ylim=(len(rows) - 0.4, -0.6), xlabel="effect (points, or as a row says), 95 % intervals"
    )
    ax.tick_params(axis="y", length=0)
    ax.grid(True, axis="x")
    return made


def _name(row: pd.Series) -> str:
    unit = scale(str(row["unit"]))
    return str(row["name"]) + (f" ({unit})" if unit != "points" else "")


def _row(ax: Axes, place: int, row: pd.Series) -> None:
    look, margin = OUTCOME_LOOKS[row["outcome"]], row["margin"]
    ax.add_patch(Rectangle((-margin, place - 0.42), 2 * margin, 0.84, color=BAND, lw=0, zorder=0))
    low, high = (np.clip(np.nan_to_num(row[end], nan=far), -REACH, REACH) for end, far in (("low", -9), ("high", 9)))
    ax.plot([low, high], [place] * 2, color=look["color"], lw=1.8, solid_capstyle="butt", zorder=2)
    arrow = {"ms": 4, "mew": 0, "color": look["color"], "clip_on": False}
    if not row["high"] <= REACH:
        ax.plot(REACH, place, marker=">", **arrow)
    if not row["low"] >= -REACH:
        ax.plot(-REACH, place, marker="<", **arrow)
    if abs(row["effect"]) <= REACH:
        ax.plot(row["effect"], place, ms=5, zorder=3, **look)
