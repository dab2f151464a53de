"""Charts of one run: its training curve, its confusions and its calibration on val."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kdlab import metrics
from kdlab.plotting.look import FAINT, INK
from kdlab.widgets.charts.chart import Axis, Mark, Panel, about, names
from kdlab.widgets.charts.colours import PLAIN, STUDENT, TEACHER
from kdlab.widgets.charts.tiles import Tiles, Words
from kdlab.widgets.charts.twin import Cell
from kdlab.widgets.drawing import table
from kdlab.widgets.results.images import cell_text

WRITTEN = 12  # classes up to which counts and names of classes can be read


def run_row(curve: Sequence[dict], logits, labels, classes: Sequence[str], why: str = "") -> list[Cell]:
    """A run's training curve, and confusions and reliability on val, side by side.

    Args:
        curve: of ``result.json``: step, train_loss, val_accuracy.
        logits: (N, K) on val, or None.
        labels: (N,) of val, or None.
        classes: K names.
        why: a text in place of what cannot be drawn without logits or labels.
    """
    if logits is None or labels is None:
        return [
            course(curve),
            Tiles([[Words("Confusion and reliability, val", bold=True, size=14), Words(why)]], 200, 300),
        ]
    bins = pd.DataFrame(metrics.reliability(logits, labels))
    counts = metrics.confusion(logits, labels)
    return [course(curve), confusions(counts, classes), reliability(bins, metrics.calibration_error(logits, labels))]


def numbers(arms: Mapping[str, Sequence[Sequence[dict]]], curve: Sequence[dict], logits, labels, classes) -> str:
    """What the charts below the comparison show, as HTML tables: ends of curves, confusions, and reliability.

    Args:
        arms: as in ``courses``.
        curve, logits, labels, classes: of the opened run, as in ``run_row``.
    """
    every = {f"arm {letter}": curves for letter, curves in arms.items()} | {"opened run": [curve] if curve else []}
    ends = [
        (
            name,
            len(curves),
            max(c[-1]["step"] for c in curves),
            _mean(curves, "val_accuracy"),
            _mean(curves, "train_loss"),
        )
        for name, curves in every.items()
        if curves
    ]
    made = [table(("curves", "runs", "last step", "val accuracy (%)", "training loss"), ends)]
    if logits is not None and labels is not None:
        counts, bins = metrics.confusion(logits, labels), pd.DataFrame(metrics.reliability(logits, labels))
        k, wrong = len(counts), counts - np.diag(np.diag(counts))
        if k <= WRITTEN:
            rows = [(classes[r], *(int(n) for n in counts[r])) for r in range(k)]
            made.append(table(("label, by what it is taken for", *classes), rows))
        else:
            most = wrong.argmax(1)
            rows = [(classes[r], int(counts[r].sum()), int(counts[r, r]), classes[most[r]], int(wrong[r, most[r]]))
                    for r in range(k)]  # fmt: skip
            made.append(table(("label", "images", "recognised", "most often taken for", "images"), rows))
        filled = bins[bins["count"] > 0]
        rows = [(f"{r / len(bins):.2f} to {(r + 1) / len(bins):.2f}", int(b["count"]), b["confidence"], b["accuracy"])
                for r, b in filled.iterrows()]  # fmt: skip
        made.append(table(("bin of confidence", "images", "mean confidence", "accuracy"), rows))
    return "".join(made)


def _mean(curves: Sequence[Sequence[dict]], name: str) -> float:
    """Of the last points of curves."""
    return float(np.mean([np.nan if c[-1].get(name) is None else c[-1][name] for c in curves]))


def courses(arms: Mapping[str, Sequence[Sequence[dict]]], looks: Mapping[str, dict]) -> list[Panel]:
    """Accuracy on val and training loss of arms over steps: each seed a pale line, their mean a strong one.

    Args:
        arms: by letter, the points of each of its runs.
        looks: with a colour, by letter.
    """
    last = max((point["step"] for curves in arms.values() for curve in curves for point in curve), default=1)
    across, made = Axis(0, 1.02 * last, "step"), []
    for name, label in (("val_accuracy", "Accuracy on val (%), mean over seeds"),
                        ("train_loss", "Training loss, mean over seeds")):  # fmt: skip
        marks, shown = [], []
        for letter, curves in arms.items():
            color = looks[letter]["color"]
            seeds = [{p["step"]: p.get(name) for p in curve if p.get(name) is not None} for curve in curves]
            for points in seeds if len(seeds) > 1 else ():
                marks.append(Mark("line", list(points), list(points.values()), color, width=0.8, strength=0.35))
            steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
            means = [float(np.mean([points[step] for points in seeds])) for step in steps]
            told = [f"{letter}, step {step:,}: {value:.4g} (mean of {len(seeds)})"
                    for step, value in zip(steps, means, strict=True)]  # fmt: skip
            marks += [Mark("line", steps, means, color, name=letter, width=2.4),
                      Mark("points", steps, means, color, told=told, size=6)]  # fmt: skip
            shown += [value for points in seeds for value in points.values() if np.isfinite(value)]
        up = Axis(*about(shown)) if name == "val_accuracy" else Axis(0, 1.05 * max([1.0, *shown]))
        made.append(Panel(label, across, up, marks, 210, 380))
    return made


def course(curve: Sequence[dict]) -> tuple[Panel, Panel]:
    """Accuracy on val and training loss over steps."""
    steps = [point["step"] for point in curve]
    across = Axis(0, 1.05 * max(steps, default=1))
    made = []
    for name, label, color in (("val_accuracy", "val accuracy (%)", STUDENT), ("train_loss", "training loss", INK)):
        values = np.array([np.nan if point.get(name) is None else point[name] for point in curve], float)
        values = np.where(np.isfinite(values), values, np.nan)
        told = [f"step {step:,}: {label} {value:.4g}" for step, value in zip(steps, values, strict=True)]
        marks = [Mark("line", steps, values, color), Mark("points", steps, values, color, told=told, size=7)]
        top = 100.0 if name == "val_accuracy" else 1.1 * max(values[np.isfinite(values)], default=1.0)
        last = name == "train_loss"
        made.append(
            Panel(label.capitalize(), Axis(0, across.high, "step" if last else ""), Axis(0, top), marks, 150, 240, 42)
        )
    return made[0], made[1]


def confusions(counts: np.ndarray, classes: Sequence[str]) -> Panel:
    """Labels by predictions, stronger where a larger share of the row is.

    Args:
        counts: (K, K) of ``metrics.confusion``: row k holds the images labelled k.
        classes: K names, written like the counts where there are few enough to be read.
    """
    k = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows, columns = np.nonzero(counts)
    told = [f"{counts[r, c]} of {counts[r].sum()} {classes[r]} taken for {classes[c]}" if r != c
            else f"{counts[r, c]} of {counts[r].sum()} {classes[r]} recognised"
            for r, c in zip(rows, columns, strict=True)]  # fmt: skip
    words = [str(counts[r, c]) for r, c in zip(rows, columns, strict=True)] if k <= WRITTEN else ()
    cells = Mark("rects", columns - 0.48, rows - 0.48, TEACHER, columns + 0.48, rows + 0.48, told=told, words=words,
                 strength=np.maximum(shares[rows, columns], 0.04), menu="cell",
                 opens=[cell_text(counts[r, c], classes[r], classes[c], r == c)
                        for r, c in zip(rows, columns, strict=True)])  # fmt: skip
    if k > WRITTEN:
        down = Axis(k - 0.5, -0.5, f"label, {k} classes", ticks={}, held=True)
        return Panel("Confusion, val", Axis(-0.5, k - 0.5, "predicted", ticks={}, held=True), down, [cells], 330, 330)
    short = [textwrap.shorten(str(name), 14, placeholder="…") for name in classes]
    across = Axis(-0.5, k - 0.5, "predicted, in the same order", ticks={n: str(n + 1) for n in range(k)}, held=True)
    return Panel(
        "Confusion, val", across, names([f"{word} {n + 1}" for n, word in enumerate(short)]), [cells], 330, 330
    )


def reliability(bins: pd.DataFrame, ece: float) -> tuple[Panel, Panel]:
    """Accuracy against confidence with the diagonal and the gaps, and the number of images in each bin below.

    Args:
        bins: of ``metrics.reliability``.
        ece: the calibration error.
    """
    filled = bins[bins["count"] > 0]
    confidence, accuracy, n = (filled[name].to_numpy(float) for name in ("confidence", "accuracy", "count"))
    told = [
        f"confidence {x:.2f}, accuracy {y:.2f}, {m:,.0f} images"
        for x, y, m in zip(confidence, accuracy, n, strict=True)
    ]
    marks = [
        Mark("segments", [0.0], [0.0], FAINT, [1.0], [1.0], width=1.2, dash="--"),
        Mark("segments", confidence, confidence, STUDENT, confidence, accuracy, width=3, strength=0.45),
        Mark("line", confidence, accuracy, STUDENT, width=1.4),
        Mark("points", confidence, accuracy, STUDENT, told=told),
    ]
    edges, counts = np.arange(len(bins)) / len(bins), bins["count"].to_numpy(float)
    images = Mark("rects", edges + 0.07 / len(bins), np.zeros(len(bins)), PLAIN, edges + 0.93 / len(bins), counts,
                  told=[f"{m:,.0f} images" for m in counts])  # fmt: skip
    title = f"Reliability, val: ECE {ece:.3f}"
    upper = Panel(title, Axis(0, 1), Axis(0, 1.02, "accuracy"), marks, 200, 240, 56)
    return upper, Panel(
        "Images", Axis(0, 1, "confidence"), Axis(0, 1.2 * max(1.0, counts.max())), [images], 110, 240, 56
    )
