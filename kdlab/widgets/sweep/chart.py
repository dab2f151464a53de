"""The chart of the budget explorer: lines with intervals and their seeds, and the cost of each point below."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdlab.plotting import accuracy_line
from kdlab.widgets import canvas
from kdlab.widgets.drawing import Spot
from kdlab.widgets.runs.panels import axes, pixels, stack, wiped
from kdlab.widgets.sweep.lines import Point

HEIGHT, LEFT, WIDE, TALL, LOW = 520, 78, 690, 330, 62  # pixels
LINE = 34  # letters in a line of a label


def line_chart(
    points: Sequence[Point], looks: Mapping[str, dict], caption: Callable[[Point], str], *, metric: str, xlabel: str,
    ticks: Mapping[float, str], log: bool, limits: tuple[float, float] | None, linear: float | None = None,
) -> tuple[bytes, tuple[Spot, ...]]:  # fmt: skip
    """Accuracy over the axis, and student images below it.

    Args:
        points: of all lines.
        looks: color, marker and linestyle by line, in order.
        caption: text of the spot of a point.
        metric: the accuracy that the points are means of.
        xlabel: of the axis, with its unit.
        ticks: x to what stands there.
        log: logarithmic axis.
        limits: of the accuracy axis; None fits it to the points.
        linear: what a linear model reaches on the same data, in percent, where known.

    Returns:
        The picture, and a spot for each point.
    """
    with canvas.drawing():
        figure, upper, lower = _frame(log)
        wiped(upper, lower)
        drawn, ends = [], {}
        for place, (line, look) in enumerate(looks.items()):
            own = [p for p in points if p.line == line]
            at = _shifted(np.array([p.x for p in own]), place - (len(looks) - 1) / 2, list(ticks), log)
            _line(upper, lower, own, at, look)
            drawn += list(zip(at, own, strict=True))
            ends[line] = next((p.mean.mean for p in reversed(own) if p.mean.n), np.nan)
        for ax in (upper, lower):
            ax.set_xticks(list(ticks), _thinned(ticks, log))
            ax.minorticks_off()
            ax.set_xlim(_ends(list(ticks), log))
        label = metric.replace("_", " ").capitalize() + " (%)"
        upper.set(ylabel=label)
        if linear is not None:
            accuracy_line(figure, linear, label=label)
        if limits:
            low, high = limits
            upper.set_ylim(limits if linear is None else (min(low, linear - 0.5), max(high, linear + 0.5)))
        _cost_axis(lower, points)
        lower.set_xlabel(xlabel)
        _names(upper, ends, looks)
        return stack([pixels(figure, _spots(upper, drawn, looks, caption))])


def _shifted(x: np.ndarray, place: float, ticks: list[float], log: bool) -> np.ndarray:
    """Lines stand slightly apart, so that no interval hides another."""
    gap = 0.012 * (np.ptp(np.log(ticks)) if log else np.ptp(ticks)) or (0.02 if log else 1.0)
    return x * np.exp(place * gap) if log else x + place * gap


@functools.cache
def _frame(log: bool) -> tuple[Figure, Axes, Axes]:
    figure = canvas.chart(HEIGHT)
    upper, lower = axes(figure, LEFT, HEIGHT - TALL - 26, WIDE, TALL), axes(figure, LEFT, LOW, WIDE, 78)
    for ax in (upper, lower):
        ax.set_xscale("log" if log else "linear")
        ax.grid(True, axis="y")
    upper.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    upper.tick_params(labelbottom=False)
    lower.set_title("student images", loc="left", fontsize=7, fontweight="normal", pad=3, y=1.0)
    return figure, upper, lower


def _thinned(ticks: Mapping[float, str], log: bool) -> list[str]:
    """Words at the ticks, without those that would run into their left neighbour's."""
    at = np.log(list(ticks)) if log else np.array(list(ticks))
    scale = WIDE / (1.18 * (np.ptp(at) or 1.0))  # pixels for one unit
    kept, end = [], -np.inf
    for x, word in zip(at * scale, ticks.values(), strict=True):
        half = 5 * len(word)
        kept.append(word if x - half > end else "")
        end = x + half if kept[-1] else end
    return kept


def _ends(ticks: list[float], log: bool) -> tuple[float, float]:
    low, high = min(ticks), max(ticks)
    if log:
        margin = max(0.09 * np.log(high / low), 0.12)
        return low * np.exp(-margin), high * np.exp(margin)
    margin = max(0.09 * (high - low), 5.0)
    return low - margin, high + margin


def _line(upper, lower, own: list[Point], at: np.ndarray, look: dict) -> None:
    color = look["color"]
    seeds, of = sorted({seed for p in own for seed in p.seeds}), [p.accuracies for p in own]
    # all seeds as one path with gaps: sixty lines would take as long as all the rest
    by_seed = [value for seed in seeds for value in (*(values.get(seed, np.nan) for values in of), np.nan)]
    upper.plot([*at, np.nan] * len(seeds), by_seed, color=color, lw=0.6, alpha=0.3, marker="o", ms=2.2, mew=0, zorder=2)
    bars = [y for p in own for y in (p.mean.low, p.mean.high, np.nan)]
    upper.plot(np.repeat(at, 3), bars, color=color, lw=2.2, solid_capstyle="butt", zorder=3)
    drawn = {"color": color, "marker": look["marker"], "linestyle": look["linestyle"]}
    upper.plot(at, [p.mean.mean for p in own], **drawn, lw=1.5, ms=7, mec="white", mew=0.7, zorder=4)
    lower.plot(at, [p.cost("student_images") for p in own], **drawn, lw=0.8, ms=5, mec="white", mew=0.6)


def _spots(
    ax, drawn: Sequence[tuple[float, Point]], looks: Mapping[str, dict], caption: Callable[[Point], str]
) -> list:
    """A spot for each point; one of which no run finished lies at the foot of the axes, hollow."""
    (low, high), spots = ax.get_ylim(), []
    for x, point in drawn:
        y = point.mean.mean
        if not point.mean.n:
            y = low + 0.03 * (high - low)
            look = looks[point.line]
            ax.plot(x, y, marker=look["marker"], mec=look["color"], mfc="white", ms=7, zorder=4)
        spots.append((ax, x, y, caption(point)))
    ax.set_ylim(low, high)
    return spots


def _cost_axis(ax, points: Sequence[Point]) -> None:
    costs = [p.cost("student_images") for p in points]
    wide = min(costs) > 0 and max(costs) > 8 * min(costs)
    ax.set_yscale("log" if wide else "linear")
    if wide:
        ax.minorticks_off()
        ticks = [10**power for power in range(int(np.log10(min(costs))), int(np.log10(max(costs))) + 2)]
    else:
        ax.set_ylim(0, 1.3 * max(costs))
        ticks = [0, max(costs)]
    ax.set_yticks(ticks, [f"{t:,.0f}" for t in ticks])


def _names(ax, ends: Mapping[str, float], looks: Mapping[str, dict]) -> None:
    """Names at the right of the axes, as near to the end of their lines as they fit."""
    named = [line for line in sorted(ends, key=lambda n: -np.inf if np.isnan(ends[n]) else ends[n])]
    texts = {line: textwrap.fill(line, LINE, max_lines=2, placeholder=" …") for line in named}
    low, high = ax.get_ylim()
    heights = [(0.062 if "\n" in texts[line] else 0.038) * (1.25 if len(named) > 12 else 1.45) for line in named]
    wanted = [np.clip((ends[line] - low) / (high - low), 0, 1) if np.isfinite(ends[line]) else 0.0 for line in named]
    for line, y in zip(named, _apart(wanted, heights), strict=True):
        look = looks[line]
        ax.plot(1.02, y, transform=ax.transAxes, clip_on=False, marker=look["marker"], color=look["color"], ms=7, mew=0)
        ink = canvas.readable(look["color"])
        ax.text(1.04, y, texts[line], transform=ax.transAxes, va="center", color=ink, fontsize=7.5)


def _apart(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Places from below to above that do not overlap, near the wanted ones and inside [0, 1] where they fit."""
    places: list[float] = []
    for want, height in zip(wanted, heights, strict=True):
        floor = places[-1] + (height + heights[len(places) - 1]) / 2 if places else -1.0
        places.append(max(float(want), floor))
    top = 1.0
    for number in reversed(range(len(places))):
        places[number] = min(places[number], top)
        top = places[number] - (heights[number] + (heights[number - 1] if number else 0)) / 2
    return places
