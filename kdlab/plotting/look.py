"""The one palette, marker set and theme. An arm looks the same in every figure."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # explorers take colours from here before anything is drawn with matplotlib, which takes long to load
    from matplotlib.figure import Figure

FEW = 6  # seeds below which no sign-flip test can reach 5 %
COLUMN, PAGE = 3.4, 7.0  # inches: one column and the full width of a two-column page
ACCURACY = "Test accuracy (%)"

INK, FAINT, BAND = "#333333", "#9A9A9A", "#E9E3D3"

# Okabe and Ito's colours, widened by dark ones of Paul Tol; every arm also has a marker of its own, so that
# colour alone never distinguishes two. Yellow is left out: it vanishes on white. A lighter grey for CE would be CCD's
# green to a deuteranope.
LOOKS = {
    "ce": ("CE", "#444444", "o"),
    "kd": ("KD", "#000000", "s"),
    "weak": ("weak", "#0072B2", "D"),
    "weak2": ("weak2", "#0072B2", "D"),
    "rotation": ("rotation", "#56B4E9", "^"),
    "translateY": ("translateY", "#CC79A7", "v"),
    "invert": ("invert", "#E69F00", "P"),
    "jda": ("JDA", "#D55E00", "X"),
    "ccd": ("CCD", "#009E73", "<"),
    "fitnet": ("FitNet", "#882255", ">"),
    "at": ("AT", "#44AA99", "h"),
    "sp": ("SP", "#999933", "p"),
}
SPARE_COLOURS = ("#332288", "#AA4499", "#117733", "#CC6677", "#6699CC", "#661100")
SPARE_MARKERS = ("d", "*", "8", "H")

THEME = {
    "font.family": "DejaVu Sans",  # travels with matplotlib, so every machine draws the same glyphs
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 7.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "hatch.linewidth": 0.6,
    "figure.dpi": 200,
    "savefig.dpi": 200,
    "svg.hashsalt": "kdlab",
    "svg.fonttype": "path",
}


def style(arm: str, position: int = 0) -> dict[str, str]:
    """How an arm is drawn: ``color``, ``marker``, ``linestyle`` and ``label``.

    Args:
        arm: the arm's name.
        position: the arm's place in its figure; only an arm without a look of its own is drawn by it.
    """
    if arm in LOOKS:
        label, color, marker = LOOKS[arm]
        return {"color": color, "marker": marker, "linestyle": "-", "label": label}
    return {
        "color": SPARE_COLOURS[position % len(SPARE_COLOURS)],
        "marker": SPARE_MARKERS[position % len(SPARE_MARKERS)],
        "linestyle": "--",
        "label": arm,
    }


@contextmanager
def theme():
    """Draw with the project's settings, whatever the user's own matplotlib settings are; also a decorator."""
    import matplotlib.style

    with matplotlib.style.context(["default", THEME]):
        yield


def figure(height: float = 2.4, width: float = COLUMN) -> Figure:
    """An empty figure in inches that makes room for its own labels; it belongs to no pyplot session."""
    from matplotlib.figure import Figure

    with theme():
        return Figure(figsize=(width, height), layout="constrained")


def watermark(figure: Figure, text: str) -> None:
    """Write a word across the figure, so that a smoke run is never taken for a result."""
    figure.text(
        0.5, 0.5, text, rotation=25, ha="center", va="center", fontsize=54, color=INK, alpha=0.13,
        weight="bold", zorder=100,
    )  # fmt: skip


def few_seeds(seeds: int) -> str:
    """``"4 seeds: a first look"``; empty for six or more."""
    return f"{seeds} seed{'s' * (seeds != 1)}: a first look" if seeds < FEW else ""


def first_look(figure: Figure, seeds: int) -> None:
    """Write ``few_seeds`` in the upper right corner of a figure, where there is something to say.

    Args:
        figure: made by ``figure``; it makes room for the words.
        seeds: behind it.
    """
    if words := few_seeds(seeds):
        figure.suptitle(words, x=0.995, ha="right", fontsize=7, fontstyle="italic", color=INK)


def accuracy_line(figure: Figure, value: float, name: str = "linear model", label: str = ACCURACY) -> None:
    """Draw a dotted line on every axis of a figure that has a label.

    Args:
        figure: with its panels drawn.
        value: in percent.
        name: written along the line.
        label: of the axes.
    """
    look, words = {"color": INK, "lw": 0.8, "ls": ":", "zorder": 1.5}, {"fontsize": 6, "color": INK, "zorder": 5}
    for ax in figure.axes:
        if ax.get_xlabel() == label:
            ax.axvline(value, **look)
            place = {"transform": ax.get_xaxis_transform(), "rotation": 90, "ha": "right", "va": "bottom"}
            ax.text(value, 0.02, name, **place, **words)
        if ax.get_ylabel() == label:
            ax.axhline(value, **look)
            ax.text(0.995, value, name, transform=ax.get_yaxis_transform(), ha="right", va="bottom", **words)
