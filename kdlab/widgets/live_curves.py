"""Charts of the live trainer: loss and accuracy on val over the steps of some runs, and levels to compare them with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kdlab import lab
from kdlab.data import facts
from kdlab.lab.keys import steps
from kdlab.lab.store import Store
from kdlab.spec import RunSpec
from kdlab.widgets.charts.chart import Axis, Mark, Panel, rule
from kdlab.widgets.charts.colours import PLAIN, STUDENT, TEACHER
from kdlab.widgets.live_captions import run_name

PALE = ("#56B4E9", "#CC79A7", "#009E73", "#E69F00")
MANY = 30  # points from which on they are drawn small
Point = tuple[int, float]


def curves(
    shown: Mapping[str, RunSpec], key: str, latest: Mapping[str, Point], store: Store
) -> tuple[list[Panel], list[tuple]]:
    """Training loss, and accuracy on val, as far as they are known; the axes hold all steps that there will be.

    Args:
        shown: runs by key.
        key: of the one that matters.
        latest: the last step and loss of a run that is in training, by key.
        store: where runs and their progress stand.

    Returns:
        Both panels, and the points: name, step, loss and accuracy.
    """
    across = Axis(0, 1.02 * max(map(steps, shown.values())), "step")
    losses, accuracies, rows = [], _levels(shown[key], store, across), []
    for place, (name, spec) in enumerate(shown.items()):
        points, known, done = _points(name, spec, latest, store)
        look = {"color": STUDENT if name == key else PALE[place % len(PALE)], "width": 2.5 if name == key else 1.5}
        losses += _line(points, "loss", run_name(spec), **look)
        ending = f": {known[-1][1]:.1f}" if done and known else ""
        accuracies += _line(known, "val accuracy", run_name(spec), ending, **look)
        at = dict(known)
        rows += [(run_name(spec), step, float(value), float(at.get(step, np.nan))) for step, value in points]
    top = 1.1 * max((row[2] for row in rows if np.isfinite(row[2])), default=0.0) or 1.0
    first = Panel("Training loss (mean since the last point)", across, Axis(0, top), losses, 270, 300)
    return [first, Panel("Accuracy on val (%)", across, Axis(0, 100), accuracies, 270, 300)], rows


def _points(
    key: str, spec: RunSpec, latest: Mapping[str, Point], store: Store
) -> tuple[list[Point], list[Point], bool]:
    """(step, loss) and (step, accuracy on val) of a run, and whether it is finished."""
    result = store.read(key, "result") if store.has(key) else None
    curve = result["curve"] if result else (store.lease(key) or {}).get("curve", [])
    points = [(p["step"], p["train_loss"]) for p in curve]
    if not result and key in latest and latest[key][0] > (points[-1][0] if points else 0):
        points.append(latest[key])  # the mean since the last point, which is still growing
    known = [(p["step"], p["val_accuracy"]) for p in curve if "val_accuracy" in p]
    if result and not result["diverged"]:
        known.append((result["steps"], result["val_accuracy"]))
    return points, known, bool(result)


def _line(points: list[Point], word: str, name: str, ending: str = "", *, color: str, width: float) -> list[Mark]:
    if not points:
        return []
    at, values = zip(*points, strict=True)
    told = [f"{name}, step {step:,}: {word} {value:.4g}" for step, value in points]
    small = {"size": 7 if len(points) < MANY else 3}
    return [Mark("line", at, values, color, name=name + ending, width=width),
            Mark("points", at, values, color, told=told, **small)]  # fmt: skip


def _levels(spec: RunSpec, store: Store, across: Axis) -> list[Mark]:
    """Where the teacher and a guess stand."""
    guess = 100 / facts(spec.data)["classes"]
    made = [rule(across, y=guess, color=PLAIN, width=1.2, dash=":", name="guessing")]
    teacher = spec.teacher and lab.run_key(spec.teacher)
    if teacher and store.has(teacher):
        level = store.read(teacher, "result")["val_accuracy"]
        name = f"teacher {spec.teacher.model}: {level:.1f}"
        made.append(rule(across, y=level, color=TEACHER, width=1.7, dash="--", name=name))
    return made
