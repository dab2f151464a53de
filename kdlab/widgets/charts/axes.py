"""A panel drawn by matplotlib, in the figures' look."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kdlab.plotting import theme
from kdlab.plotting.contact import font
from kdlab.widgets.charts.chart import Axis, Mark, Panel
from kdlab.widgets.charts.colours import readable

_LOCK = threading.RLock()


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw with the figures' settings, which matplotlib shares between threads: one at a time."""
    with _LOCK, theme():
        yield


def draw(figure: Figure, panel: Panel, top: int, columns: int) -> Axes:
    """Draw a panel on a figure of its own.

    Args:
        figure: empty.
        panel: what to draw.
        top: pixels for title and legend.
        columns: of the legend.
    """
    width, height = figure.get_size_inches() * figure.dpi
    words = [font(15).getlength(word) for word in (panel.y.ticks or {}).values()] or [44.0]
    left = max(1.3 * panel.left, min(0.45 * width, max(words) + 16) + (24 if panel.y.label else 0))
    bottom = 30 + (24 if panel.x.label else 0)
    room = width - left - 20, height - top - bottom
    ax = figure.add_axes((left / width, bottom / height, room[0] / width, room[1] / height))
    for mark in panel.marks:
        KINDS[mark.kind](ax, mark)
    _side(ax, "x", panel.x)
    _side(ax, "y", panel.y)
    ax.set_title(panel.title, x=-left / room[0] + 0.01, pad=(top - 26) * 72 / figure.dpi)
    named: dict[str, list[Mark]] = {}
    for mark in panel.marks:
        named.setdefault(mark.name, []).append(mark)
    if handles := [_handle(marks) for name, marks in named.items() if name]:
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-left / room[0], 1), ncols=columns, borderpad=0.2)
    return ax


def _side(ax: Axes, side: str, axis: Axis) -> None:
    ax.set(**{f"{side}scale": "log" if axis.log else "linear"})
    ax.set(**{f"{side}lim": (axis.low, axis.high), f"{side}label": axis.label})
    if axis.ticks is not None:
        ax.set(**{f"{side}ticks": list(axis.ticks), f"{side}ticklabels": list(axis.ticks.values())})
        for at, text in zip(axis.ticks, getattr(ax, f"get_{side}ticklabels")(), strict=True):
            text.set_fontweight("bold" if at == axis.bold else "normal")
    ax.minorticks_off()
    if not axis.held:
        ax.grid(True, axis=side)


def _line(ax: Axes, mark: Mark) -> None:
    ax.plot(mark.x, mark.y, color=mark.color, lw=0.7 * mark.width, ls=mark.dash, alpha=mark.strength)


def _points(ax: Axes, mark: Mark) -> None:
    face = "white" if mark.hollow else mark.color
    edge = mark.color if mark.hollow else "white"
    edges = {"mec": edge, "mew": 0.7 if mark.size > 5 else 0}
    ax.plot(mark.x, mark.y, ls="", marker=mark.marker, ms=0.65 * mark.size, mfc=face, alpha=mark.strength, **edges)


def _segments(ax: Axes, mark: Mark) -> None:
    lines = np.stack([np.column_stack([mark.x, mark.y]), np.column_stack([mark.x2, mark.y2])], axis=1)
    look = {"colors": mark.color, "linewidths": 0.7 * mark.width, "alpha": mark.strength, "linestyles": mark.dash}
    ax.add_collection(LineCollection(list(lines.astype(float)), **look), autolim=False)


def _rects(ax: Axes, mark: Mark) -> None:
    corners = np.stack([np.column_stack(pair) for pair in (
        (mark.x, mark.y), (mark.x2, mark.y), (mark.x2, mark.y2), (mark.x, mark.y2))], axis=1)  # fmt: skip
    each = np.broadcast_to(mark.strength, len(mark.x))
    ax.add_collection(PolyCollection(list(corners.astype(float)), facecolors=mark.color, alpha=each), autolim=False)
    middles = corners.mean(axis=1)
    for (x, y), word, strength in zip(middles, mark.words, each, strict=False):
        ax.text(x, y, word, ha="center", va="center", fontsize=6, color="white" if strength > 0.55 else "black")


def _words(ax: Axes, mark: Mark) -> None:
    side = {"start": "left", "middle": "center", "end": "right"}[mark.anchor]
    for x, y, word in zip(mark.x, mark.y, mark.words, strict=True):
        ax.text(x, y, word, ha=side, va="bottom", color=readable(mark.color), fontsize=7)


KINDS: dict[str, Callable[[Axes, Mark], None]] = {
    "line": _line, "points": _points, "segments": _segments, "rects": _rects, "words": _words,
}  # fmt: skip


def _handle(marks: list[Mark]) -> Artist:
    """What stands for all marks of a name in the legend."""
    first, kinds = marks[0], {mark.kind: mark for mark in marks}
    if "rects" in kinds:
        return Patch(color=first.color, label=first.name)
    line = {"ls": first.dash if kinds.keys() & {"line", "segments"} else ""}
    point = {"marker": kinds["points"].marker, "ms": 5} if "points" in kinds else {}
    return Line2D([], [], color=first.color, label=first.name, **line, **point)
