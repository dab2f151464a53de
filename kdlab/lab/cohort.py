"""Cohorts: runs that train side by side in one process, cut so that all workers end together. Imports no torch."""

from __future__ import annotations

import heapq
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdlab import data
from kdlab.lab.costs import Costs
from kdlab.lab.planned import PlannedRun
from kdlab.spec import RunSpec
from kdlab.training.layout import ViewName, stream_key
from kdlab.training.teacher_cache import stream_digest

LARGEST, LARGEST_ON_GPU = 16, 64  # runs of a cohort
OWN = ("fraction", "seed", "replicate", "streams")  # of what runs share on a CPU, what each has its own of on a GPU
UNEVEN = 1.03  # cohorts are split until the last worker ends at most so much after an even share


def shared(spec: RunSpec) -> dict[str, Any]:
    """What all runs of a cohort have in common, as far as it decides their views and their teachers' outputs."""
    return {
        "data": data.fingerprint(spec.data), "sizes": data.sizes(spec.data, spec.sizes),
        "fraction": float(spec.fraction), "seed": spec.seed, "replicate": spec.replicate, "streams": spec.streams,
        "originals": spec.budget.originals_per_step, "teacher_precision": spec.teacher_precision,
    }  # fmt: skip


def abreast(spec: RunSpec) -> dict[str, Any]:
    """What all runs of a cohort on a GPU have in common: each may have streams and a subset of its own."""
    return {name: value for name, value in shared(spec).items() if name not in OWN}


def own_views(spec: RunSpec) -> tuple:
    """Runs of a cohort for which this is equal see the same views of the same subset."""
    return tuple(getattr(spec, name) for name in OWN)


@dataclass
class Cohort:
    """Runs that train together in one process: they share data, originals per step and precision, on a CPU subset and
    seed as well.

    Attributes:
        runs: by key.
        needs: keys of the teachers that must be finished first.
        rank: number of the group it belongs to; lower ones come first.
        own_seconds: predicted for each run, evaluation included, by key.
        shared_seconds: predicted for making views and for the teachers' forward passes, once for all runs.
        saved_seconds: of forward passes that the teacher cache makes needless.
    """

    runs: dict[str, PlannedRun]
    needs: set[str]
    rank: int
    own_seconds: dict[str, float] = field(default_factory=dict)
    shared_seconds: float = 0.0
    saved_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Predicted seconds in all."""
        return self.shared_seconds + sum(self.own_seconds.values())

    def seconds_left(self, share: Mapping[str, float]) -> float:
        """Predicted seconds left when ``share`` of each run, in [0, 1], is still to do."""
        return self.shared_seconds * max(share.values()) + sum(self.own_seconds[k] * share[k] for k in self.own_seconds)

    @property
    def order(self) -> tuple:
        """Cohorts start in this order: by rank, teachers before students, long ones first."""
        return self.rank, len(self.needs) > 0, -self.seconds


def cohorts(
    missing: Sequence[PlannedRun], ranks: Mapping[str, int], lengths: Mapping[str, int], costs: Costs
) -> list[Cohort]:
    """Cohorts of at most LARGEST runs, on a GPU LARGEST_ON_GPU, in the order in which they should start.

    Args:
        missing: runs to train.
        ranks: number of each run's group, by key.
        lengths: how many runs each one stands on, by key.
        costs: what predicts the seconds.
    """
    teaching = {run.teacher.key for run in missing if run.teacher}
    groups: dict[tuple, list[PlannedRun]] = {}
    for run in missing:
        group = run.key in teaching and lengths[run.key], run.spec.sizes, run.spec.precision
        # What fills a card are students of several seeds and subsets; a processor's cache is full with one.
        alike = (-1, abreast(run.spec)) if costs.card else (ranks[run.key], shared(run.spec))
        groups.setdefault((*group, json.dumps(alike)), []).append(run)
    made, keys, largest = [], {run.key for run in missing}, LARGEST_ON_GPU if costs.card else LARGEST
    for runs in groups.values():
        # Side by side those that read stage maps, since the others may do without the teacher, and those that fuse.
        runs.sort(key=lambda run: (ranks[run.key], run.reads_maps, repr(run.fusion_key)))
        size = math.ceil(len(runs) / math.ceil(len(runs) / largest))
        parts = [runs[start : start + size] for start in range(0, len(runs), size)]
        made += [cohort(part, min(ranks[run.key] for run in part), keys, costs) for part in parts]
    return in_order(made)


def in_order(made: Sequence[Cohort]) -> list[Cohort]:
    """Cohorts by their ``order``, none before one whose runs it needs: a teacher may itself have learned from one."""
    place = {key: number for number, one in enumerate(made) for key in one.runs}
    waits = [{place[key] for key in one.needs & place.keys()} - {number} for number, one in enumerate(made)]
    ready, sorted_ones = [(made[n].order, n) for n, before in enumerate(waits) if not before], []
    heapq.heapify(ready)
    while ready:
        _, first = heapq.heappop(ready)
        sorted_ones.append(made[first])
        for number, before in enumerate(waits):
            if first in before:
                before.remove(first)
                if not before:
                    heapq.heappush(ready, (made[number].order, number))
    return sorted_ones


def cohort(runs: Sequence[PlannedRun], rank: int, missing: set[str], costs: Costs) -> Cohort:
    """A cohort with its predicted seconds.

    Args:
        runs: that share what ``shared`` names.
        rank: number of their group.
        missing: keys of the runs that are still to train.
        costs: what predicts the seconds.
    """
    needs = {run.teacher.key for run in runs if run.teacher} & missing
    fused = {key for key, number in Counter(run.fusion_key for run in runs).items() if key is not None and number > 1}
    own = {run.key: costs.run(run, run.fusion_key in fused) for run in runs}
    views = {(own_views(run.spec), name) for run in runs for name in run.layout.view_names()}
    spec, longest = runs[0].spec, max(run.steps for run in runs)
    images = longest * spec.budget.originals_per_step
    once, saved = images * len(views) * costs.rate("views", spec.data), 0.0
    for (_, teacher_key, mode, name), (model, maps) in _teacher_passes(runs).items():
        seconds = images * costs.rate("teacher", model, spec.data)
        stream = None if maps or not costs.cached else stream_key(teacher_key, name, mode)
        if stream and costs.cached.get(stream_digest(shared(spec), stream), 0) >= longest:
            saved += seconds
        else:
            once += seconds
    return Cohort({run.key: run for run in runs}, needs, rank, own, once, saved)


def _teacher_passes(runs: Sequence[PlannedRun]) -> dict[tuple, tuple[str, bool]]:
    """What teachers are asked in a step: whose views, key, mode and view, to their model and if stage maps are read."""
    passes: dict[tuple, tuple[str, bool]] = {}
    for run in (run for run in runs if run.teacher_key):
        for name in run.layout.view_names():
            view = ViewName((), 0) if run.spec.teacher_view == "clean" else name  # a clean one is one for all views
            asked = own_views(run.spec), run.teacher_key, run.spec.teacher_view, view
            passes[asked] = run.teacher_model, run.reads_maps or passes.get(asked, ("", False))[1]
    return passes


def makespan(
    cohorts: Iterable[Cohort], workers: int, seconds: Callable[[Cohort], float] | None = None
) -> tuple[float, Cohort | None]:
    """When the last cohort ends if each goes, in order, to the worker that is free first; and which one that is.

    Args:
        cohorts: in the order in which they start.
        workers: processes, >= 1.
        seconds: of a cohort; None takes its prediction.
    """
    free, done, last = [0.0] * workers, {}, (0.0, None)
    for one in cohorts:
        start = max(heapq.heappop(free), *(done.get(k, 0.0) for k in one.needs), 0.0)
        end = start + (seconds(one) if seconds else one.seconds)
        heapq.heappush(free, end)
        done.update(dict.fromkeys(one.runs, end))
        last = max(last, (end, one), key=lambda found: found[0])
    return last


def balanced(cohorts: list[Cohort], workers: int, costs: Costs) -> list[Cohort]:
    """Cut the cohort that ends last in two for as long as that lets the workers end more nearly together."""
    for _ in range(4 * workers if workers > 1 else 0):
        end, last = makespan(cohorts, workers)
        even = sum(one.seconds for one in cohorts) / workers
        if last is None or end <= UNEVEN * even or len(last.runs) < 2:
            break
        halves = [cohort(part, last.rank, last.needs, costs) for part in _halves(last)]
        cut = in_order([*(one for one in cohorts if one is not last), *halves])
        if makespan(cut, workers)[0] >= end:
            break
        cohorts = cut
    return cohorts


def _halves(whole: Cohort) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """Two parts of a cohort that cost about the same."""
    half, taken, first = sum(whole.own_seconds.values()) / 2, 0.0, 0
    for seconds in whole.own_seconds.values():
        if first and taken + seconds / 2 > half:
            break
        first, taken = first + 1, taken + seconds
    runs = list(whole.runs.values())
    first = min(first, len(runs) - 1)
    return runs[:first], runs[first:]
