"""An effect over two numbers as coloured cells, each with its words; the axes are logarithmic, a cell per doubling."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from kdlab.plotting.look import FAINT, INK

Cell = tuple[float, float]


def place(values: Sequence[float], at: float | np.ndarray) -> np.ndarray:
    """Where numbers lie on an axis of ``surface``: a cell is as wide as its step, and beyond both ends it goes on so.

    Args:
        values: of the axis, ascending, > 0, at least two.
        at: numbers > 0.

    Returns:
        The place of each: 0 for the first value, 1 for the second; straight in the logarithm between neighbours.
    """
    x, wanted = np.log2(values), np.log2(at)
    first, last = x[1] - x[0], x[-1] - x[-2]
    knots = np.concatenate([[x[0] - first], x, [x[-1] + last]])
    return np.interp(wanted, knots, np.arange(-1, len(x) + 1), left=np.nan, right=np.nan)


def surface(
    ax: Axes, values: Mapping[Cell, float], words: Mapping[Cell, str], hatched: Mapping[Cell, str], *,
    rows: Sequence[float], columns: Sequence[float], limit: float, bold: Container[Cell] = (),
) -> ScalarMappable:  # fmt: skip
    """Cells of (row, column), the first row at the bottom, coloured around zero with their words in them.

    Args:
        ax: to draw on.
        values: the effect of each cell; NaN is drawn without a colour.
        words: what stands in a cell, in two lines of which the second is small.
        hatched: cells that have no value, and why, in a word or two.
        rows, columns: the numbers of the axes, ascending.
        limit: the colours run from ``-limit`` to ``limit``.
        bold: cells whose first line is.

    Returns:
        What a colour bar is made from.
    """
    from seaborn.utils import relative_luminance  # here, since it takes a second that other panels need not wait

    colours = ScalarMappable(Normalize(-limit, limit), "RdBu")
    for row, y in enumerate(rows):
        for column, x in enumerate(columns):
            corner, value = (column - 0.5, row - 0.5), values.get((y, x), np.nan)
            if np.isfinite(value):
                face = colours.to_rgba(value)
                ax.add_patch(Rectangle(corner, 1, 1, facecolor=face, edgecolor="white", lw=1))
                first, _, second = words[y, x].partition("\n")
                # of black and white, the one with the higher contrast ratio
                ink = "black" if relative_luminance(face) > 0.18 else "white"
                look = {"ha": "center", "color": ink, "zorder": 5}
                look["bbox"] = {"facecolor": face, "edgecolor": "none", "pad": 0.4}  # over the lines of a figure
                weight = "bold" if (y, x) in bold else "normal"
                ax.text(column, row + 0.02, first, va="bottom", fontsize=6.2, fontweight=weight, **look)
                ax.text(column, row - 0.05, second, va="top", fontsize=5.5, **look)
            else:
                ax.add_patch(Rectangle(corner, 1, 1, facecolor="#F4F4F4", edgecolor=FAINT, hatch="////", lw=0))
                said = ax.text(column, row, hatched.get((y, x), ""), ha="center", va="center", fontsize=5.5, color=INK)
                said.set_bbox({"facecolor": "#F4F4F4", "edgecolor": "none", "pad": 1})
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(-0.5, len(rows) - 0.5)
    ax.set_xticks(range(len(columns)), [f"{x:,g}" for x in columns])
    ax.set_yticks(range(len(rows)), [f"{y:,g}" for y in rows])
    ax.tick_params(length=0)
    return colours
