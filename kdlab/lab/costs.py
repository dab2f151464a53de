"""What training will cost and in which order to do it: measured rates, cohorts, and workers that end together.

Imports no torch.
"""

from __future__ import annotations

import functools
import heapq
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kdlab import data
from kdlab.lab import damage
from kdlab.lab.damage import Damaged
from kdlab.lab.keys import steps, teacher_key
from kdlab.lab.store import Store
from kdlab.lab.worker import TAUGHT, shared
from kdlab.spec import Checkpoint, RunSpec
from kdlab.training.layout import Layout, fusion_key, reads_maps, stream_key
from kdlab.training.teacher_cache import cached_steps, stream_digest

ARMS_IN_A_COHORT = 16
UNEVEN = 1.03  # cohorts are split until the last worker ends at most so much after an even share
# Seconds for an image where nothing like it was measured: those of a small network on one core.
GUESSES = {"student": 1 / 8000, "evaluation": 1 / 60000, "views": 1 / 60000, "teacher": 1 / 20000}
ABREAST = 1.5  # times as fast a narrow student trains in a stack; for plans before either has been measured
CURVE_POINTS = 4  # evaluations on val, the last one included


@dataclass
class Job:
    """Arms that train together in one process.

    Attributes:
        specs: by key.
        needs: keys of the teachers that must be there first.
        rank: number of the group it belongs to; lower ones come first.
        arms: predicted seconds of each arm, evaluation included.
        shared: predicted seconds of making views and asking teachers, once for all arms.
        saved: seconds of teachers that kept outputs make needless.
    """

    specs: dict[str, RunSpec]
    needs: set[str]
    rank: int
    arms: dict[str, float] = field(default_factory=dict)
    shared: float = 0.0
    saved: float = 0.0

    @property
    def seconds(self) -> float:
        """Predicted seconds in all."""
        return self.shared + sum(self.arms.values())

    def left(self, share: Mapping[str, float]) -> float:
        """Predicted seconds left when ``share`` of each arm, in [0, 1], is still to do."""
        return self.shared * max(share.values()) + sum(self.arms[k] * share[k] for k in self.arms)


def work(spec: RunSpec) -> int:
    """Images the student will see."""
    return steps(spec) * spec.budget.originals_per_step * spec.views


class Costs:
    """Seconds for an image, measured on the finished runs of a store; the nearest kin stands in for what is not.

    Args:
        store: whose runs to read.

    Attributes:
        seconds: for an image, by kind and names.
        kept: steps of each stream of teacher outputs that are there already.
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
                for kin in range(len(names) + 1):
                    seen.setdefault((kind, *names[:kin]), []).append(seconds)
        self.seconds = {names: statistics.median(values) for names, values in seen.items()}
        self.kept = cached_steps(store.root / TAUGHT)

    def rate(self, kind: str, *names: str) -> float:
        """Median seconds for an image.

        Args:
            kind: student (by itself), abreast (students in a stack), evaluation, views or teacher.
            *names: what it depends on, the most telling first.
        """
        # What another network costs tells nothing; how fast other data's views are made tells something.
        for kin in range(len(names), -1 if kind == "views" else 0, -1):
            if (kind, *names[:kin]) in self.seconds:
                return self.seconds[kind, *names[:kin]]
        if kind == "abreast":
            return self.rate("student", *names) / ABREAST
        if kind == "student" and ("abreast", names[0]) in self.seconds:
            return self.rate("abreast", *names) * ABREAST
        if kind in ("teacher", "evaluation") and ("student", names[0]) in self.seconds:
            return self.seconds["student", names[0]] / 3  # forward only
        return GUESSES[kind]

    def guessed(self, spec: RunSpec) -> bool:
        """Whether no run of the same network was measured."""
        return not {("student", spec.model), ("abreast", spec.model)} & self.seconds.keys()

    def arm(self, spec: RunSpec, abreast: bool = False) -> float:
        """Predicted seconds of a run: its steps and its evaluation.

        Args:
            spec: the run.
            abreast: whether its student is stepped together with others.
        """
        _, val, test = data.sizes(spec.data, spec.sizes)
        looked_at = CURVE_POINTS * val + test
        student = work(spec) * self.rate("abreast" if abreast else "student", spec.model, spec.data, spec.method)
        return student + looked_at * self.rate("evaluation", spec.model, spec.data)


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
        kind = "abreast" if cost.get("abreast", 0) >= result["steps"] / 2 else "student"
        yield kind, (model, of, spec["method"]), result["seconds"] / result["student_images"]
    if cost.get("looked_at"):
        yield "evaluation", (model, of), cost["evaluation"] / cost["looked_at"]
    if cost.get("made"):
        yield "views", (of,), cost["views"] / (cost["made"] * originals)
    if cost.get("passes") and spec["teacher"]:
        arch = spec["teacher"].get("model") or spec["teacher"]["arch"]
        yield "teacher", (arch, of), cost["teacher"] / (cost["passes"] * originals)


def cohorts(
    missing: dict[str, RunSpec], ranks: Mapping[str, int], lengths: Mapping[str, int], costs: Costs
) -> list[Job]:
    """Cohorts of at most ARMS_IN_A_COHORT arms that share data, subset, seed and originals per step.

    Args:
        missing: runs to train, by key.
        ranks: number of each run's group.
        lengths: how many runs each one stands on.
        costs: what predicts the seconds.
    """
    teaching = {teacher_key(s.teacher) for s in missing.values() if isinstance(s.teacher, RunSpec)}
    groups: dict[tuple, list[str]] = {}
    for key, spec in missing.items():
        shared = (ranks[key], key in teaching and lengths[key], data.fingerprint(spec.data), spec.sizes,
                  spec.fraction, spec.seed, spec.replicate, spec.streams, spec.budget.originals_per_step,
                  spec.precision)  # fmt: skip
        groups.setdefault(shared, []).append(key)
    jobs = []
    for shared, keys in groups.items():
        # Side by side those that read stage maps, since the others may do without the teacher, and those that stack.
        keys.sort(key=lambda k: (reads_maps(missing[k]), repr(fusion_key(missing[k]))))
        size = math.ceil(len(keys) / math.ceil(len(keys) / ARMS_IN_A_COHORT))
        for start in range(0, len(keys), size):
            jobs.append(job({k: missing[k] for k in keys[start : start + size]}, shared[0], missing, costs))
    return sorted(jobs, key=lambda job: (job.rank, len(job.needs) > 0, -job.seconds))


def job(specs: dict[str, RunSpec], rank: int, missing: Mapping[str, RunSpec], costs: Costs) -> Job:
    """A cohort with its predicted seconds."""
    needs = {teacher_key(s.teacher) for s in specs.values() if isinstance(s.teacher, RunSpec)} & missing.keys()
    companies = Counter(map(fusion_key, specs.values()))
    abreast = {c for c, arms in companies.items() if c is not None and arms > 1}
    made = Job(specs, needs, rank, {k: costs.arm(s, fusion_key(s) in abreast) for k, s in specs.items()})
    first, longest = next(iter(specs.values())), max(map(steps, specs.values()))
    rows = longest * first.budget.originals_per_step
    views, asked = set(), {}
    for key, spec in specs.items():
        teacher = spec.teacher and teacher_key(spec.teacher)
        names = Layout.of(spec, key, teacher).view_names()
        views |= names
        for name in names if teacher else ():
            where = "" if spec.teacher_view == "clean" else name
            maps = asked.get((teacher, where, spec.teacher_view), (None, None, False))[2]
            asked[teacher, where, spec.teacher_view] = spec.teacher, name, maps or reads_maps(spec)
    made.shared = rows * len(views) * costs.rate("views", first.data)
    facts = shared(first)
    for (teacher, _, mode), (spec, name, maps) in asked.items():
        arch = spec.arch if isinstance(spec, Checkpoint) else spec.model
        seconds = rows * costs.rate("teacher", arch, first.data)
        asking = None if maps or not costs.kept else stream_key(teacher, name, mode)
        if asking and costs.kept.get(stream_digest(facts, asking), 0) >= longest:
            made.saved += seconds
        else:
            made.shared += seconds
    return made


def makespan(
    jobs: Iterable[Job], workers: int, seconds: Callable[[Job], float] | None = None
) -> tuple[float, Job | None]:
    """When the last of the jobs ends if each goes, in order, to the worker that is free first; and which one that is.

    Args:
        jobs: in the order in which they start.
        workers: processes, >= 1.
        seconds: of a job; None takes its prediction.
    """
    free, done, last = [0.0] * workers, {}, (0.0, None)
    for one in jobs:
        start = max(heapq.heappop(free), *(done.get(k, 0.0) for k in one.needs), 0.0)
        end = start + (seconds(one) if seconds else one.seconds)
        heapq.heappush(free, end)
        done.update(dict.fromkeys(one.specs, end))
        last = max(last, (end, one), key=lambda found: found[0])
    return last


def balanced(jobs: list[Job], workers: int, missing: Mapping[str, RunSpec], costs: Costs) -> list[Job]:
    """Cut the job that ends last in two for as long as that lets the workers end more nearly together."""
    for _ in range(4 * workers if workers > 1 else 0):
        end, last = makespan(jobs, workers)
        even = sum(job.seconds for job in jobs) / workers
        if last is None or end <= UNEVEN * even or len(last.specs) < 2:
            break
        halves = [job(part, last.rank, missing, costs) for part in _halves(last)]
        others = [job for job in jobs if job is not last]
        cut = sorted([*others, *halves], key=lambda job: (job.rank, len(job.needs) > 0, -job.seconds))
        if makespan(cut, workers)[0] >= end:
            break
        jobs = cut
    return jobs


def _halves(whole: Job) -> tuple[dict[str, RunSpec], dict[str, RunSpec]]:
    """Two parts of a job that cost about the same."""
    half, taken, first = sum(whole.arms.values()) / 2, 0.0, {}
    for key, seconds in whole.arms.items():
        if first and taken + seconds / 2 > half:
            break
        first[key], taken = whole.specs[key], taken + seconds
    rest = {k: s for k, s in whole.specs.items() if k not in first}
    if not rest:
        first.pop(key := list(first)[-1])
        rest = {key: whole.specs[key]}
    return first, rest
