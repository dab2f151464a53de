"""Cohorts on a device, their steps timed without evaluation, and numbers printed beside their bars."""

from __future__ import annotations

import functools
import time
from typing import Any

from arms import TEACHER, arm, frozen
from images import colour
from plain import ORIGINALS

from kdlab import data
from kdlab.data.sets import Splits
from kdlab.lab.arithmetic import MULTIPLY_ADDS
from kdlab.lab.memory import NETWORKS
from kdlab.training import Views
from kdlab.training.ceilings import Ceilings, ceilings, wait
from kdlab.training.gpu.stack import network
from kdlab.training.gpu.stepper import WARM, DeviceStepper

ROWS = 2 * ORIGINALS


@functools.cache
def splits_of(kind: str) -> Splits:
    """Fashion-MNIST as it is, or made 32 x 32 and colour."""
    grey = data.load("fashion", sizes=(6000, 100, 100))
    return Splits(*(colour(part) for part in grey)) if kind == "colour" else grey


class Bench:
    """What is measured, printed as it comes and kept for the file.

    Args:
        given: the command line.
    """

    def __init__(self, given):
        self.given, self.device, self.found = given, given.device, {}
        self.ends = time.monotonic() + 60 * given.minutes
        self.ceilings: Ceilings | None = None

    def note(self, name: str, value: Any, bar: float | None = None, at_least: bool = True, unit: str = "") -> None:
        """Print a number beside its bar and keep it."""
        met = None if bar is None or value is None else (value >= bar if at_least else value <= bar)
        self.found[name] = {"value": value, "bar": bar, "met": met, "unit": unit}
        words = (
            "" if bar is None else f"   bar: at {'least' if at_least else 'most'} {bar:g}, {'met' if met else 'MISSED'}"
        )
        text = f"{value:,.4g}" if isinstance(value, float) else str(value)
        print(f"{name:58s} {text} {unit}{words}", flush=True)

    def left(self, name: str, needed: float = 0.0) -> bool:
        """Whether there is time left for some seconds of measuring; if not, that is said."""
        if self.ends - time.monotonic() > needed:
            return True
        self.note(name, "not measured: out of time")
        return False

    def arms(self, splits: Splits, pair: tuple[str, str], students: int, precision: str = "bfloat16"):
        """Views and built students of a cohort, none of which ever ends."""
        on = Splits(*(part.to(self.device) for part in splits))
        teachers = {TEACHER: frozen(pair[0], splits, self.device)}
        views = Views(on.train, 0, 0, ORIGINALS, teachers, self.device, precision=precision)
        shape = len(splits.train.classes), splits.train.images.shape[1]
        made = [arm(str(k), pair[1], 10**6, ORIGINALS, precision=precision) for k in range(students)]
        return views, [one.build(views, *shape) for one in made]

    def step_seconds(self, splits: Splits, pair: tuple[str, str], students: int, way=network) -> float:
        """Seconds of a step of a cohort, graph and warm-up left out."""
        views, arms = self.arms(splits, pair, students)
        taken, steps = DeviceStepper(views.device, way=way), self.given.steps
        for step in range(WARM + 2 + steps):
            if step == WARM + 2:
                taken.read(due=True)
                wait(self.device)
                started = time.perf_counter()
            views.at(step)
            taken.step(arms)
            taken.read(due=False)
        taken.read(due=True)
        wait(self.device)
        return (time.perf_counter() - started) / steps

    def share(self, name: str, pair: tuple[str, str], students: int, pixels: int, seconds: float) -> None:
        """Note the share of the card's matrix and copy ceilings that a step reaches."""
        if self.ceilings is None:
            self.ceilings = ceilings(self.device, "bfloat16")
        forward = [1000 * MULTIPLY_ADDS[model] * pixels * ROWS for model in pair]
        rate = (forward[0] + 3 * students * forward[1]) / seconds
        self.note(f"{name}: share of the matrix ceiling", rate / self.ceilings.multiply_adds)
        kept = NETWORKS[pair[1]][1] * pixels * ROWS * students
        self.note(f"{name}: share of the copy ceiling, kept maps once", kept / seconds / self.ceilings.numbers)
