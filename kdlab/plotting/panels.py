"""Panels: functions that draw a tidy table on given axes. Seeds are always shown, intervals are t-intervals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kdlab.plotting.look import ACCURACY, BAND, FAINT, INK, PAGE, figure, style
from kdlab.stats import Verdict, interval

MINUS = "\u2212"
EFFECT = "Effect ({unit}), 95 % {bounds}"

OUTCOME_LOOKS = {
    "supported": {"color": "#0072B2", "marker": "o", "markeredgecolor": "white"},
    "contradicted": {"color": "#D55E00", "marker": "X", "markeredgecolor": "white"},
    "negligible": {"color": "#7B4B94", "marker": "s", "markeredgecolor": "white"},
    "undecided": {"color": "#666666", "marker": "o", "markerfacecolor": "white", "markeredgewidth": 1.3},
}


def interval_dots(
    ax: Axes, table: pd.DataFrame, order: Sequence[str] | None = None, *, value: str = "test_accuracy",
    label: str = ACCURACY, looks: Mapping[str, Mapping[str, str]] | None = None,
) -> Axes:  # fmt: skip
    """One row per arm: the mean with its 95 % t-interval, and below it the seeds, each joined to the next arm's.

    Args:
        table: columns ``arm``, ``seed`` and ``value``; a run that diverged is missing, and the arm's label says so.
        order: arms from top to bottom; default, as they come.
        value: column to draw.
        label: of the value axis, with the unit.
        looks: arm to its colour, marker and label; default, those of ``style``.
    """
    order = list(order or table["arm"].unique())
    looks = looks or {arm: style(arm, row) for row, arm in enumerate(order)}
    wide = _wide(table, "seed", "arm", value).reindex(index=np.sort(table["seed"].unique()), columns=order)
    rows = np.arange(len(order))
    ax.plot(wide.to_numpy().T, rows + 0.2, color=FAINT, lw=0.5, alpha=0.55, zorder=1)
    labels = []
    for row, arm in enumerate(order):
        look = looks[arm]
        ax.plot(wide[arm], np.full(len(wide), row + 0.2), ls="", marker="o", ms=2.6, mew=0, color=look["color"])
        mean = interval(wide[arm])
        ax.plot([mean.low, mean.high], [row - 0.14] * 2, color=look["color"], lw=2, solid_capstyle="butt")
        ax.plot(mean.mean, row - 0.14, marker=look["marker"], ms=6, mec="white", mew=0.7, color=look["color"])
        labels.append(look["label"] + (f"\n{mean.n} of {len(wide)} seeds" if mean.n < len(wide) else ""))
    ax.set_yticks(rows, labels)
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(True, axis="x")
    ax.set_xlabel(label)
    return ax


def dot_panels(
    table: pd.DataFrame, order: Sequence[str], panels: Sequence[tuple[str, str, str]], *, rows: int = 1,
    looks: Mapping[str, Mapping[str, str]] | None = None,
) -> Figure:  # fmt: skip
    """A figure as wide as a page with a panel of ``interval_dots`` for each of some columns, the same arms in all.

    Args:
        table: as ``interval_dots`` takes it.
        order: arms from top to bottom; those that the table lacks are left out.
        panels: title (may be empty), column and label of the value axis, with the unit.
        rows: of panels.
        looks: arm to its colour, marker and label; default, those of ``style``.
    """
    there = [arm for arm in order if arm in set(table["arm"])]
    made = figure(rows * (0.7 + 0.25 * max(len(there), 4)), PAGE)
    axes = made.subplots(rows, len(panels) // rows, sharey=True, squeeze=False)
    for ax, (title, column, label) in zip(axes.flat, panels, strict=True):
        interval_dots(ax, table, there, value=column, label=label, looks=looks)
        ax.set_title(title)
    return made


def bounded(value: float, low: float, high: float) -> str:
    """A number and its interval for a title, ``"0.09 [0.02, 0.16]"``; without bounds the number alone."""
    bounds = f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
    return f"{value:.2f}{bounds}".replace("-", MINUS)


def point_names(ax: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Names right of points, moved up where one would lie on another, with a line to whose it is.

    Args:
        ax: with everything drawn.
        places: name to (x, y).
    """
    ax.autoscale_view()
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    letter, height, ahead = 0.021 * (right - left), 0.038 * (high - low), 0.03 * (right - left)
    taken: list[tuple[float, float, float]] = []  # left end, right end, height
    line = {"arrowstyle": "-", "color": FAINT, "lw": 0.4, "shrinkA": 0, "shrinkB": 0}
    for name, (x, place) in sorted(places.items(), key=lambda named: named[1][1]):
        begin, end, y = x + ahead, x + ahead + letter * len(name), place
        while any(begin < b and a < end and abs(y - other) < height for a, b, other in taken):
            y += height / 4
        taken.append((begin, end, y))
        ax.annotate(name, (x, place), (begin, y), fontsize=6, va="center", color=INK, arrowprops=line)


def line_with_interval(
    ax: Axes, table: pd.DataFrame, x: str, *, value: str = "test_accuracy", by: str = "arm",
    order: Sequence[str] | None = None, xlabel: str = "", ylabel: str = ACCURACY, log: bool = False,
    zero: bool = False, legend: str | None = None,
) -> Axes:  # fmt: skip
    """A line of means with 95 % t-intervals for each group over a number or a factor, and the seeds as thin lines.

    Groups stand slightly apart so that no interval hides another. Two factors of two levels give the interaction plot.

    Args:
        table: runs.
        x: column of the horizontal axis, numbers, or words that are drawn at equal steps in order of appearance.
        value: column to draw.
        by: column whose values are the lines, named and drawn like arms; ``order`` is theirs, default as they come.
        xlabel, ylabel, log: labels with units, and a logarithmic horizontal axis.
        zero: draw the zero line, for differences.
        legend: its title, ``""`` for a legend without one, or None for none.
    """
    order = list(order or table[by].unique())
    numeric = pd.api.types.is_numeric_dtype(table[x])
    ticks = np.sort(table[x].unique()) if numeric else table[x].unique()
    places = np.asarray(ticks if numeric else range(len(ticks)), dtype=float)
    gap = (0.022 if numeric else 0.06) * (np.ptp(np.log(places) if log else places) or 1.0)
    if zero:
        ax.axhline(0, color=INK, lw=0.8, zorder=1)
    for position, name in enumerate(order):
        shift = (position - (len(order) - 1) / 2) * gap
        at = places * np.exp(shift) if log else places + shift
        wide = _wide(table[table[by] == name], x, "seed", value).reindex(ticks)
        _line(ax, at, wide, style(str(name), position))
    ax.set_xscale("log" if log else "linear")
    ax.set_xticks(places, [f"{t:g}" if numeric else style(str(t))["label"] for t in ticks])
    ax.minorticks_off()
    if not numeric:
        ax.set_xlim(-0.35, len(ticks) - 0.65)
    ax.grid(True, axis="y")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if legend is not None:
        ax.legend(title=legend or None, loc="best")
    return ax


def _wide(table: pd.DataFrame, index: str, columns: str, value: str) -> pd.DataFrame:
    """The value by two columns, without the runs that diverged."""
    finished = table[~table["diverged"].astype(bool)] if "diverged" in table else table
    return finished.pivot(index=index, columns=columns, values=value).astype(float)


def _line(ax: Axes, at: np.ndarray, wide: pd.DataFrame, look: dict) -> None:
    """One group: seeds (columns of ``wide``) thin, means thick, intervals as bars."""
    color = look["color"]
    ax.plot(at, wide.to_numpy(), color=color, lw=0.5, alpha=0.35, marker="o", ms=2, mew=0, zorder=2)
    means = [interval(row) for row in wide.to_numpy()]
    for place, mean in zip(at, means, strict=True):
        ax.plot([place] * 2, [mean.low, mean.high], color=color, lw=1.8, solid_capstyle="butt", zorder=3)
    ax.plot(at, [m.mean for m in means], **look, lw=1.2, ms=5.5, mec="white", mew=0.7, zorder=4)


def contrast_panel(ax: Axes, verdicts: Sequence[Verdict], *, label: str | None = None) -> Axes:
    """A forest plot: one row per contrast with its interval, its seeds, its numbers and its outcome in words.

    The zero line is drawn through, and a band from minus to plus the margin of each contrast.

    Args:
        verdicts: from ``stats.decide``, all in one unit; a row needs about 0.6 inches of height.
        label: of the effect axis, with the unit; None says what the bars are.
    """
    names = []
    for row, verdict in enumerate(verdicts):
        contrast, look = verdict.contrast, OUTCOME_LOOKS[verdict.outcome]
        margin = contrast.margin
        ax.add_patch(Rectangle((-margin, row - 0.1), 2 * margin, 0.5, color=BAND, lw=0, zorder=0))
        ax.update_datalim([(-margin, row), (margin, row)])
        values = list(verdict.differences.values())
        ax.plot(values, [row + 0.3] * len(values), ls="", marker="o", ms=2.6, mew=0, color=look["color"], alpha=0.6)
        ax.plot([verdict.low, verdict.high], [row + 0.08] * 2, color=look["color"], lw=2, solid_capstyle="butt")
        ax.plot(verdict.effect, row + 0.08, ms=6.5, **look)
        ax.text(
            0.01, row - 0.17, _numbers(verdict), transform=ax.get_yaxis_transform(), fontsize=6.2, va="bottom",
            bbox={"facecolor": "white", "lw": 0, "pad": 0.8},
        )  # fmt: skip
        role = "" if contrast.role == "claim" else f"\n({contrast.role})"
        names.append(f"{textwrap.fill(contrast.name.replace(' - ', f' {MINUS} '), 24)}\n{verdict.outcome}{role}")
    ax.axvline(0, color=INK, lw=0.8, zorder=1)
    ax.set_yticks(range(len(verdicts)), names)
    ax.set_ylim(len(verdicts) - 0.5, -0.5)
    ax.autoscale_view(scaley=False)
    ax.tick_params(axis="y", length=0)
    ax.grid(True, axis="x")
    bounds = "confidence sequences" if any(v.design == "sequential" for v in verdicts) else "intervals"
    ax.set_xlabel(label or EFFECT.format(unit=scale(verdicts[0].contrast.unit) if len(verdicts) else "", bounds=bounds))
    return ax


def scale(unit: str) -> str:
    """The unit of an effect axis: points of whatever are points."""
    return "points" if unit.startswith("points") else unit


def forest(verdicts: Sequence[Verdict]) -> Figure:
    """A figure of its own for ``contrast_panel``, as high as its rows need; many rows stand in two columns.

    Verdicts of another unit stand below the others, on an axis of their own.
    """
    half = math.ceil(len(verdicts) / 2)
    units = list(dict.fromkeys(scale(verdict.contrast.unit) for verdict in verdicts))
    if len(verdicts) <= 8 or len(units) > 1:
        parts = [[v for v in verdicts if scale(v.contrast.unit) == unit] for unit in units]
        made = figure(0.5 * len(parts) + 0.66 * len(verdicts))
        axes = made.subplots(len(parts), 1, squeeze=False, height_ratios=[len(part) for part in parts])
        for ax, part in zip(axes.flat, parts, strict=True):
            contrast_panel(ax, part)
        return made
    made = figure(0.5 + 0.66 * half, PAGE)
    for ax, part in zip(made.subplots(1, 2, sharex=True), (verdicts[:half], verdicts[half:]), strict=True):
        contrast_panel(ax, part)
        ax.set_ylim(half - 0.5, -0.5)
    return made


def effects(panels: Mapping[str, Mapping[str, pd.Series]], labels: Sequence[str]) -> Figure:
    """Small multiples that share rows and scale: mean and 95 % t-interval of each effect, with its seeds.

    Args:
        panels: title to row name to one value per seed. Rows are those of all panels in their order; a row that a panel
            lacks is hatched.
        labels: of the panels' effect axes, with the unit.
    """
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))
    made = figure(0.75 + 0.2 * len(names), PAGE)
    axes = made.subplots(1, len(panels), sharex=True, sharey=True)
    for ax, label, (title, rows) in zip(axes, labels, panels.items(), strict=True):
        ax.axvline(0, color=INK, lw=0.8, zorder=1)
        for place, name in enumerate(names):
            if name not in rows:
                ax.axhspan(place - 0.4, place + 0.4, facecolor="#F4F4F4", edgecolor=FAINT, hatch="////", lw=0)
                continue
            values = rows[name]
            found = interval(values)
            ax.plot(values, [place] * len(values), ls="", marker="o", ms=2.2, mew=0, color=FAINT)
            ax.plot([found.low, found.high], [place] * 2, color="#0072B2", lw=1.6, solid_capstyle="butt")
            ax.plot(found.mean, place, marker="D", ms=3.6, color="#0072B2")
        ax.set_title(title)
        ax.set_xlabel(label)
        ax.grid(True, axis="x")
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return made


def _numbers(verdict: Verdict) -> str:
    """``+0.62 [+0.31, +0.93]; paired t, Holm p = 0.004``, or only the effect where there is no spread to judge by."""
    if verdict.needed is None:
        return f"{verdict.effect:+.2f} (n = {verdict.n})".replace("-", MINUS)
    bounds = f" [{verdict.low:+.2f}, {verdict.high:+.2f}]" if verdict.bounded else ""
    return f"{verdict.effect:+.2f}{bounds}".replace("-", MINUS) + f"; {verdict.p_text}"


def heatmap(
    ax: Axes, matrix: pd.DataFrame, marks: pd.DataFrame | None = None, *, label: str = "Gain (points)",
    limit: float | None = None, compact: bool = False,
) -> Axes:  # fmt: skip
    """Coloured cells around zero with their values; marked cells are bold with a star, impossible ones hatched.

    Args:
        matrix: values by row and column name; NaN is an impossible combination.
        marks: booleans of the same shape: True where the corrected interval excludes zero.
        label: of the colour bar, with the unit.
        limit: the colour scale runs from ``-limit`` to ``limit``; default, the largest value.
        compact: for many columns: one decimal, small type, upright column names.
    """
    import seaborn  # here, since it takes a second that the other panels need not wait

    known = np.isfinite(matrix.to_numpy())
    marked = known & (marks.to_numpy(dtype=bool) if marks is not None else False)
    digits = 1 if compact else 2
    words = matrix.map(lambda gain: f"{gain:+.{digits}f}".replace("-", MINUS)) + np.where(marked, "*", "")
    limit = limit or float(np.nanmax(np.abs(matrix.to_numpy()), initial=1e-9))
    seaborn.heatmap(
        matrix, ax=ax, mask=~known, vmin=-limit, vmax=limit, cmap="RdBu", linewidths=1, linecolor="white",
        annot=words, fmt="", annot_kws={"fontsize": 5 if compact else 7},
        cbar_kws={"label": label} | ({"fraction": 0.04, "pad": 0.02} if compact else {}),
    )  # fmt: skip
    colours = ax.collections[0].get_facecolors().reshape(*matrix.shape, 4)[known]
    for text, bold, colour in zip(ax.texts, marked[known], colours, strict=True):
        text.set_fontweight("bold" if bold else "normal")
        # of black and white, the one with the higher contrast ratio
        text.set_color("black" if seaborn.utils.relative_luminance(colour) > 0.18 else "white")
    for row, column in np.argwhere(~known):
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor="#F4F4F4", edgecolor=FAINT, hatch="////", lw=0))
    ax.set_xticklabels([style(str(name))["label"] for name in matrix.columns], rotation=90 if compact else 0)
    ax.set_yticklabels([style(str(name))["label"] for name in matrix.index], rotation=0)
    ax.tick_params(length=0)
    ax.set(xlabel="", ylabel="")
    return ax
