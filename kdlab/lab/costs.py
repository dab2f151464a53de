"""What training costs: seconds for an image, measured on the finished runs of a store. Imports no torch."""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections.abc import Iterable
from pathlib import Path

from kdlab import data, settings
from kdlab.errors import SpecError
from kdlab.lab import arithmetic, damage
from kdlab.lab.arithmetic import Machine
from kdlab.lab.damage import Damaged
from kdlab.lab.planned import PlannedRun
from kdlab.lab.store import Store
from kdlab.spec import CURVE_POINTS
from kdlab.training.teacher_cache import cached_steps

# Seconds for an image where nothing like it was measured: those of a small network on one core.
GUESSES = {"student": 1 / 8000, "evaluation": 1 / 60000, "views": 1 / 60000, "teacher": 1 / 20000}
FUSED = 1.5  # times as fast a narrow student trains in a fused network; for plans before either has been measured


def machine_name(card: bool) -> str:
    """Under which name a store keeps what ``kdlab doctor`` measured of this machine's core or GPU."""
    return f".machine/{'gpu' if card else 'core'}"


class Costs:
    """Seconds for an image, measured on the finished runs of a store; what was not measured takes the nearest like it.

    Args:
        store: whose runs to read.

    Attributes:
        seconds: for an image, by kind and names; of runs that a GPU trained where one trains, else of the others.
        machine: its arithmetic as ``kdlab doctor`` measured it, else a usual one.
        cached: steps of each stream of teacher outputs that the teacher cache holds.
    """

    machine, card = arithmetic.CORE, False

    def __init__(self, store: Store):
        seen: dict[tuple, list[float]] = {}
        self.card = settings.on_gpu()
        found = store.get(machine_name(self.card))
        self.machine = Machine(**found) if found else arithmetic.CARD if self.card else arithmetic.CORE
        for key in store.keys():
            try:
                card, measured = _rates(store.root, key)
            except Damaged as error:
                store.set_aside(error)
                continue
            for kind, names, seconds in measured if card == self.card else ():
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
        if kind == "views" or len(names) < 2:
            return GUESSES[kind]
        return self._predicted(kind == "student", *names[:2]) * self._usual(kind == "student")

    def _predicted(self, training: bool, model: str, of: str) -> float:
        """Seconds for an image from the network's multiply-adds and the machine's arithmetic."""
        return arithmetic.seconds(model, data.facts(of)["size"] ** 2, training, self.machine, self.card)

    def _usual(self, training: bool) -> float:
        """How many times as long as predicted the networks took that were measured here; 1 without any."""
        if training not in self._ratios:
            kinds, found = ("student",) if training else ("evaluation", "teacher"), []
            for names in [names for names in self.seconds if names[0] in kinds and len(names) == 3]:
                with contextlib.suppress(SpecError, OSError):  # data that are not here any more tell nothing
                    found.append(self.seconds[names] / self._predicted(training, *names[1:]))
            self._ratios[training] = statistics.median(found) if found else 1.0
        return self._ratios[training]

    @functools.cached_property
    def _ratios(self) -> dict[bool, float]:
        return {}

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
        student *= 2 if spec.optimiser.rho else 1  # passes a step
        return student + (CURVE_POINTS * val + test) * self.rate("evaluation", spec.model, spec.data)


@functools.cache
def _rates(root: Path, key: str) -> tuple[bool, tuple[tuple[str, tuple[str, ...], float], ...]]:
    """Whether a GPU trained a finished run, and what it measured; no run changes, so a kernel reads it once."""
    store = Store(root)
    try:
        cost = store.read(key, "cost")
    except Damaged:  # a run of an earlier version has none, and no result depends on it
        cost = {}
    spec, result, made = store.documents(key)
    with damage.reading(key, "result.json"):
        measured = tuple(_measured(spec["spec"], result, cost))
        if any(not isinstance(name, str) for _, names, _ in measured for name in names):
            raise TypeError("what its spec names are no words")
        return made.get("device", "cpu") not in ("cpu", "mps"), measured


def _measured(spec: dict, result: dict, cost: dict) -> Iterable[tuple[str, tuple[str, ...], float]]:
    """Kind, names and seconds for an image of what one finished run has measured."""
    model, of, originals = spec["model"], spec["data"], spec["budget"]["originals_per_step"]
    if result["seconds"] > 0 and result["student_images"]:
        kind = "fused" if cost.get("abreast", 0) >= result["steps"] / 2 else "student"
        passes = 2 if spec["optimiser"].get("rho") else 1
        yield kind, (model, of, spec["method"]), result["seconds"] / (result["student_images"] * passes)
    if cost.get("looked_at"):
        yield "evaluation", (model, of), cost["evaluation"] / cost["looked_at"]
    if cost.get("made"):
        yield "views", (of,), cost["views"] / (cost["made"] * originals)
    if cost.get("passes") and spec["teacher"]:
        arch = spec["teacher"].get("model") or spec["teacher"]["arch"]
        yield "teacher", (arch, of), cost["teacher"] / (cost["passes"] * originals)
