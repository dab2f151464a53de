"""What training costs: seconds for an image, measured on the finished runs of a store. Imports no torch."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable
from pathlib import Path

from kdlab import data
from kdlab.lab import damage
from kdlab.lab.damage import Damaged
from kdlab.lab.planned import PlannedRun
from kdlab.lab.store import Store
from kdlab.spec import CURVE_POINTS
from kdlab.training.teacher_cache import cached_steps

# Seconds for an image where nothing like it was measured: those of a small network on one core.
GUESSES = {"student": 1 / 8000, "evaluation": 1 / 60000, "views": 1 / 60000, "teacher": 1 / 20000}
# Images of 28 x 28 a second on one core with AVX-512: training, forward alone. A first plan is made with these.
SPEEDS = {
    "resnet8_s2_w4": (7000, 50000), "resnet8_s2_w8": (7500, 35000), "resnet8_s2_w16": (4200, 17000),
    "resnet8_s2_w32": (1400, 5200), "resnet8_s2_w64": (400, 1500),
}  # fmt: skip
FUSED = 1.5  # times as fast a narrow student trains in a fused network; for plans before either has been measured


class Costs:
    """Seconds for an image, measured on the finished runs of a store; what was not measured takes the nearest like it.

    Args:
        store: whose runs to read.

    Attributes:
        seconds: for an image, by kind and names.
        cached: steps of each stream of teacher outputs that the teacher cache holds.
    """

    def __init__(self, store: Store):
        seen: dict[tuple, list[float]] = {}
        for key in store.keys():
            try:
                measured = _rates(store.root, key)
            except Damaged as error:
                store.set_aside(error)
                continue
            for kind, names, seconds in measured:
                for depth in range(len(names) + 1):
                    seen.setdefault((kind, *names[:depth]), []).append(seconds)
        self.seconds = {names: statistics.median(values) for names, values in seen.items()}
        self.cached = cached_steps(store.teacher_cache)

    def rate(self, kind: str, *names: str) -> float:
        """Median seconds for an image.

        Args:
            kind: student (by itself), fused (students as one network), evaluation, views or teacher.
            *names: what it depends on, the most telling first.
        """
        # What another network costs tells nothing; how fast other data's views are made tells something.
        for depth in range(len(names), -1 if kind == "views" else 0, -1):
            if (kind, *names[:depth]) in self.seconds:
                return self.seconds[kind, *names[:depth]]
        if kind == "fused":
            return self.rate("student", *names) / FUSED
        if kind == "student" and ("fused", names[0]) in self.seconds:
            return self.rate("fused", *names) * FUSED
        if kind in ("teacher", "evaluation") and ("student", names[0]) in self.seconds:
            return self.seconds["student", names[0]] / 3  # forward only
        if kind != "views" and names[0] in SPEEDS:
            return 1 / SPEEDS[names[0]][kind != "student"]
        return GUESSES[kind]

    def guessed(self, model: str) -> bool:
        """Whether no run of a network was measured."""
        return not {("student", model), ("fused", model)} & self.seconds.keys()

    def run(self, run: PlannedRun, fused: bool = False) -> float:
        """Predicted seconds of a run: its steps and its evaluation.

        Args:
            run: which one.
            fused: whether its student is stepped as one network with others.
        """
        spec = run.spec
        _, val, test = data.sizes(spec.data, spec.sizes)
        student = run.steps * run.rows * self.rate("fused" if fused else "student", spec.model, spec.data, spec.method)
        return student + (CURVE_POINTS * val + test) * self.rate("evaluation", spec.model, spec.data)


@functools.cache
def _rates(root: Path, key: str) -> tuple[tuple[str, tuple[str, ...], float], ...]:
    """What a finished run has measured; it does not change any more, so a kernel reads it once."""
    store = Store(root)
    try:
        cost = store.read(key, "cost")
    except Damaged:  # a run of an earlier version has none, and no result depends on it
        cost = {}
    spec, result, _ = store.documents(key)
    with damage.reading(key, "result.json"):
        return tuple(_measured(spec["spec"], result, cost))


def _measured(spec: dict, result: dict, cost: dict) -> Iterable[tuple[str, tuple[str, ...], float]]:
    """Kind, names and seconds for an image of what one finished run has measured."""
    model, of, originals = spec["model"], spec["data"], spec["budget"]["originals_per_step"]
    if result["seconds"] > 0 and result["student_images"]:
        kind = "fused" if cost.get("abreast", 0) >= result["steps"] / 2 else "student"
        yield kind, (model, of, spec["method"]), result["seconds"] / result["student_images"]
    if cost.get("looked_at"):
        yield "evaluation", (model, of), cost["evaluation"] / cost["looked_at"]
    if cost.get("made"):
        yield "views", (of,), cost["views"] / (cost["made"] * originals)
    if cost.get("passes") and spec["teacher"]:
        arch = spec["teacher"].get("model") or spec["teacher"]["arch"]
        yield "teacher", (arch, of), cost["teacher"] / (cost["passes"] * originals)
