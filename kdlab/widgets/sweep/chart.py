"""The chart of the budget explorer: lines with intervals and their seeds, and the cost of each point below."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from kdlab.plotting.look import INK
from kdlab.widgets.charts.chart import Axis, Mark, Panel, about, rule
from kdlab.widgets.sweep.lines import Point


def line_chart(
    points: Sequence[Point], looks: Mapping[str, dict], caption: Callable[[Point], str], *, across: Axis, up: Axis,
    cost: Axis, linear: float | None = None,
) -> tuple[Panel, Panel]:  # fmt: skip
    """Accuracy over the axis, and student images below it.

    Args:
        points: of all lines.
        looks: color, marker and linestyle by line, in order.
        caption: what is told of a point.
        across: the axis.
        up: of the accuracy that the points are means of.
        cost: of the student images.
        linear: what a linear model reaches on the same data, in percent, where known.
    """
    upper, lower = [], []
    if linear is not None:
        upper.append(rule(across, y=linear, color=INK, width=1.2, dash=":", name="linear model"))
    for place, (line, look) in enumerate(looks.items()):
        own = [p for p in points if p.line == line]
        at = _shifted(np.array([p.x for p in own]), place - (len(looks) - 1) / 2, across)
        upper += _line(own, at, look, [caption(p) for p in own], up.low + 0.03 * (up.high - up.low))
        costs, color = [p.cost("student_images") for p in own], look["color"]
        told = [f"{line}: {value:,.0f} student images" for value in costs]
        lower += [Mark("line", at, costs, color, width=1.2, dash=look["linestyle"]),
                  Mark("points", at, costs, color, marker=look["marker"], told=told)]  # fmt: skip
    accuracy = replace(up, label="")
    return Panel(up.label, across, accuracy, upper, 380, 600, 74), Panel(
        "Student images", across, cost, lower, 140, 600, 74
    )


def across_axis(values: Iterable[float], ticks: Mapping[float, str], label: str, log: bool) -> Axis:
    """The axis over ratio, shots or budget, with some room at its ends.

    Args:
        values: that it shows.
        ticks: x to what stands there.
        label: with the unit.
        log: logarithmic.
    """
    low, high = min(values := list(values)), max(values)
    if log:
        margin = np.exp(max(0.09 * np.log(high / low), 0.12))
        return Axis(low / margin, high * margin, label, True, ticks)
    margin = max(0.09 * (high - low), 5.0)
    return Axis(low - margin, high + margin, label, False, ticks)


def accuracy_axis(values: Iterable[float], metric: str, linear: float | None) -> Axis:
    """The axis of an accuracy, in percent, which also shows the linear model's."""
    return Axis(
        *about([*values, *([] if linear is None else [linear])], 0.04), f"{metric.replace('_', ' ').capitalize()} (%)"
    )


def cost_axis(costs: Iterable[float]) -> Axis:
    """The axis of student images: from zero, or by powers of ten where they differ much."""
    low, high = min(costs := list(costs)), max(costs)
    if low > 0 and high > 8 * low:
        return Axis(10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high) + 0.05), log=True)
    return Axis(0, 1.3 * high, ticks={0: "0", high: f"{high:,.0f}"})


def _shifted(x: np.ndarray, place: float, across: Axis) -> np.ndarray:
    """Lines stand slightly apart, so that no interval hides another."""
    gap = 0.01 * place
    return x * (across.high / across.low) ** gap if across.log else x + gap * (across.high - across.low)


def _line(own: list[Point], at: np.ndarray, look: Mapping[str, str], told: list[str], foot: float) -> list[Mark]:
    """One line: seeds thin, means thick, intervals as bars; a point of which no run finished stands at the foot."""
    color, style = look["color"], {"marker": look["marker"], "name": own[0].line, "size": 11}
    seeds, of = sorted({seed for p in own for seed in p.seeds}), [p.accuracies for p in own]
    by_seed = [value for seed in seeds for value in (*(values.get(seed, np.nan) for values in of), np.nan)]
    along, means = [*at, np.nan] * len(seeds), [p.mean.mean if p.mean.n else np.nan for p in own]
    ends = [p.mean.low for p in own], [p.mean.high for p in own]
    gone = [k for k, p in enumerate(own) if not p.mean.n]
    made = [
        Mark("line", along, by_seed, color, width=0.8, strength=0.3),
        Mark("points", along, by_seed, color, size=3.5, strength=0.35),
        Mark("segments", at, ends[0], color, at, ends[1], width=3),
        Mark("line", at, means, color, name=own[0].line, dash=look["linestyle"]),
        Mark("points", at, means, color, told=told, **style),
    ]  # fmt: skip
    if gone:
        lost = [told[k] for k in gone]
        made.append(Mark("points", at[gone], [foot] * len(gone), color, told=lost, hollow=True, **style))
    return made
