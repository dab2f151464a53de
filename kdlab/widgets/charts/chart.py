"""A chart as data: panels with axes of a fixed range, and marks in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdlab.plotting.look import INK
from kdlab.widgets.charts.colours import on_dark, readable

DIGITS = 5  # of numbers on their way to the browser


@dataclass(frozen=True)
class Axis:
    """One direction of a panel.

    Args:
        low, high: what lies at the left or below, and at the right or above; low may be the larger.
        label: with the unit.
        log: logarithmic; both ends are > 0.
        ticks: values to what stands there; None chooses round numbers.
        bold: the value whose word is printed bold.
        held: cannot be zoomed, as an axis of names.
    """

    low: float
    high: float
    label: str = ""
    log: bool = False
    ticks: Mapping[float, str] | None = None
    bold: float | None = None
    held: bool = False


@dataclass(frozen=True)
class Mark:
    """Items of one kind and colour in a panel.

    Args:
        kind: ``"line"`` (NaN interrupts it), ``"points"``, ``"segments"`` and ``"rects"`` (from (x, y) to (x2, y2)) or
            ``"words"``.
        x, y: of each item, in the axes' own units.
        color: of all items.
        x2, y2: ends of segments and rectangles.
        name: in the legend; empty for none.
        told: what the mouse and the keyboard are told of each item; empty for nothing.
        words: written at an item, or in a rectangle.
        anchor: ``"start"``, ``"middle"`` or ``"end"``: which part of the words lies at the item.
        marker: matplotlib's name of the shape of points.
        size: diameter of points, in CSS pixels.
        width: of lines, in CSS pixels.
        dash: ``"-"``, ``"--"`` or ``":"``.
        strength: opacity of all items, or of each rectangle.
        hollow: points that are only an outline.
        menu: the menu of the explorer in which a click, or Enter, on an item chooses; empty for none.
        opens: the text of the option that it chooses there, of each item.
    """

    kind: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = INK
    x2: Sequence[float] = ()
    y2: Sequence[float] = ()
    name: str = ""
    told: Sequence[str] = ()
    words: Sequence[str] = ()
    anchor: str = "middle"
    marker: str = "o"
    size: float = 8
    width: float = 2
    dash: str = "-"
    strength: float | Sequence[float] = 1.0
    hollow: bool = False
    menu: str = ""
    opens: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        title: above it.
        x, y: its axes.
        marks: from behind to the front.
        height: in CSS pixels, with axes and without title and legend.
        least: CSS pixels below which it takes a row of its own; panels of a row share its width by this.
        left: CSS pixels left of the area at the least, so that panels below each other can share an axis.
    """

    title: str
    x: Axis
    y: Axis
    marks: Sequence[Mark]
    height: int = 240
    least: int = 260
    left: int = 0

    def data(self) -> dict[str, Any]:
        """What the browser draws from, JSON-like; what has its usual value is left out."""
        return {
            "title": self.title, "height": self.height, "left": self.left, "x": _axis(self.x), "y": _axis(self.y),
            "marks": [_mark(mark) for mark in self.marks],
        }  # fmt: skip


def names(words: Sequence[str], label: str = "", bold: int | None = None) -> Axis:
    """A vertical axis of names from above to below, the first at 0.

    Args:
        words: the names.
        label: of the axis.
        bold: number of the name that is printed bold.
    """
    return Axis(len(words) - 0.5, -0.5, label, ticks=dict(enumerate(words)), bold=bold, held=True)


def bars(rows: Iterable[tuple[str, Sequence[float], str]], words: Sequence[str]) -> list[Mark]:
    """Horizontal bars from 0, some for each name of a ``names`` axis.

    Args:
        rows: (name, a value for each word, colour), from above to below.
        words: what the bars belong to.
    """
    rows = list(rows)
    thick = 0.8 / len(rows)
    return [
        Mark("rects", [0.0] * len(values), [k - 0.4 + thick * number for k in range(len(values))], color, list(values),
             [k - 0.4 + thick * (number + 0.94) for k in range(len(values))], name,
             [f"{word}, {name}: {value:.3g}" for word, value in zip(words, values, strict=True)])
        for number, (name, values, color) in enumerate(rows)
    ]  # fmt: skip


def rule(axis: Axis, *, x: float | None = None, y: float | None = None, **look: Any) -> Mark:
    """A straight line across a panel.

    Args:
        axis: the one along which it runs.
        x, y: where it stands on the other: one of them.
        **look: of ``Mark``.
    """
    ends = [axis.low], [axis.high]
    if x is None:
        return Mark("segments", ends[0], [y], x2=ends[1], y2=[y], **look)
    return Mark("segments", [x], ends[0], x2=[x], y2=ends[1], **look)


def about(values: Iterable[float], share: float = 0.06, least: float = 1.0) -> tuple[float, float]:
    """A range that shows all finite values with some room around them.

    Args:
        values: any numbers; none gives 0 to 1.
        share: of the range, left free at each end.
        least: how wide the range is at the least.
    """
    known = [float(v) for v in values if np.isfinite(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = max(share * (high - low), (least - (high - low)) / 2)
    return low - room, high + room


def _axis(axis: Axis) -> dict[str, Any]:
    ticks = None if axis.ticks is None else [[_short(at), word] for at, word in axis.ticks.items()]
    made = {"range": [_short(axis.low), _short(axis.high)], "label": axis.label, "log": axis.log, "ticks": ticks,
            "bold": axis.bold, "held": axis.held}  # fmt: skip
    return {name: value for name, value in made.items() if value is not None and value is not False and value != ""}


def _mark(mark: Mark) -> dict[str, Any]:
    light = readable(mark.color) if mark.kind == "words" else mark.color
    made = {"kind": mark.kind, "c": light, "d": on_dark(mark.color), "x": _numbers(mark.x), "y": _numbers(mark.y)}
    made |= {name: _numbers(getattr(mark, name)) for name in ("x2", "y2") if len(getattr(mark, name))}
    usual = Mark("", (), ())
    for name in ("name", "anchor", "marker", "size", "width", "dash", "hollow", "menu"):
        if (value := getattr(mark, name)) != getattr(usual, name):
            made[name] = value
    for name in ("told", "words", "opens"):
        if len(value := getattr(mark, name)):
            made[name] = list(value)
    if np.ndim(mark.strength) or mark.strength != 1:
        made["strength"] = _numbers(mark.strength) if np.ndim(mark.strength) else mark.strength
    return made


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_short(value) for value in values]


def _short(value: float) -> float | None:
    value = float(value)
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
