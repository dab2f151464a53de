"""What a list of specs asks for: its runs and their teachers, what is in the store, and cohorts for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from kdlab.foreign import weightfile
from kdlab.lab import datasheet, memory
from kdlab.lab.cohort import Cohort, balanced, cohorts, makespan
from kdlab.lab.costs import Costs
from kdlab.lab.planned import PlannedRun, lineage, planned
from kdlab.lab.store import Store
from kdlab.lab.validation import check, notes
from kdlab.memo import plan_memo
from kdlab.spec import RunSpec


@dataclass
class Plan:
    """What a list of specs asks for and what is left to do.

    Attributes:
        runs: every run by key, teachers included.
        cached: keys that are in the store.
        missing: key to the reason why it is not.
        cohorts: what to train, in the order in which they should start.
        guessed: models of which no run has been measured yet.
        workers: processes for which the cohorts were cut, >= 1.
        notes: what a reader of the results must know, each once.
        store: where the runs will be.
    """

    runs: dict[str, PlannedRun]
    cached: list[str]
    missing: dict[str, str]
    cohorts: list[Cohort] = field(default_factory=list)
    guessed: set[str] = field(default_factory=set)
    workers: int = 1
    notes: list[str] = field(default_factory=list)
    store: Store | None = None

    @property
    def specs(self) -> dict[str, RunSpec]:
        """The spec of every run by key, teachers included."""
        return {key: run.spec for key, run in self.runs.items()}

    @property
    def todo(self) -> list[PlannedRun]:
        """The runs that are missing."""
        return [self.runs[key] for key in self.missing]

    @property
    def seconds(self) -> float:
        """Predicted seconds of training on one core."""
        return sum(cohort.seconds for cohort in self.cohorts)

    @property
    def memory(self) -> float:
        """Bytes that a worker will take at most, see ``kdlab.lab.memory.needed``; 0 when nothing is left to train."""
        return max((memory.needed(cohort.runs.values()) for cohort in self.cohorts), default=0.0)

    def describe(self, fit: bool = False) -> str:
        """What was read, and the plan, in a few lines, for a terminal.

        Args:
            fit: fit the linear model of each data set that has none yet, which takes seconds and writes to the store;
                without, nothing is written, and the lines say that it is not there.
        """
        with plan_memo():
            read = datasheet.told_of((run.spec for run in self.runs.values()), self.store, fit)
            return "\n".join(part for part in (read, *self._work()) if part)

    def _work(self) -> list[str]:
        if not self.missing:
            lines = [f"nothing to train: all {len(self.cached)} runs are in the store."]
            return lines + self._noted()
        reasons = pd.Series(list(self.missing.values())).value_counts()
        lines = [f"{len(self.runs)} runs: {len(self.cached)} in the store, {len(self.missing)} to train"]
        lines += [f"  {count:4d}  {reason}" for reason, count in reasons.items()]
        length = duration(makespan(self.cohorts, self.workers)[0])
        lines.append(f"  about {length} on {self.workers} core(s), {len(self.cohorts)} cohorts")
        if self.guessed:
            lines.append(f"  a guess: no run of {', '.join(sorted(self.guessed))} has been measured here yet")
        if any(run.checkpoint for run in self.todo):
            lines.append("  the teacher's checkpoint is scored on val before anything trains")
        if saved := sum(cohort.saved_seconds for cohort in self.cohorts):
            lines.append(f"  kept teacher outputs save {duration(saved)} of one core")
        return lines + self._room() + self._noted()

    def _noted(self) -> list[str]:
        return [f"  note: {note}" for note in self.notes]

    def _room(self) -> list[str]:
        """Memory for each worker, and a warning where the machine has less than all of them need."""
        each, there, workers = self.memory, memory.machine(), min(self.workers, len(self.cohorts))
        lines = [f"  about {memory.gigabytes(each)} of memory for each worker"]
        if workers * each > there:
            few = f"{workers} workers need" if workers > 1 else "that is"
            lines.append(
                f"  WARNING: {few} about {memory.gigabytes(workers * each)}, but this machine has "
                f"{memory.gigabytes(there)}: take fewer workers, smaller images or fewer originals a step"
            )
        return lines


def duration(seconds: float) -> str:
    """A length of time in words: seconds, minutes from 90 seconds on, hours from 90 minutes on."""
    if seconds < 90:
        whole = max(1, round(seconds))
        return f"{whole} second{'s' if whole > 1 else ''}"
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def plan(*groups: Sequence[RunSpec], workers: int = 1, store: Store | None = None) -> Plan:
    """Resolve specs and their teachers, find what is cached and cut the rest into cohorts. Imports no torch.

    Args:
        *groups: lists of specs; earlier groups are trained first, and no cohort straddles two groups.
        workers: processes that will train, 0 counting as one; cohorts are cut until these end nearly together.
        store: where runs live; None takes the default store.
    """
    store, workers = store or Store(), max(1, workers)
    with plan_memo():
        runs, ranks = _resolved(groups)
        cached = [k for k in runs if store.has(k) and store.sound(k)]
        done, begun = set(cached), store.begun()
        missing = {k: _reason(k, store, begun) for k in runs if k not in done}
        noted = list(dict.fromkeys(note for run in runs.values() for note in notes(run.spec, run.method)))
        made = Plan(runs, cached, missing, workers=workers, notes=noted, store=store)
        if missing:
            for file in dict.fromkeys(run.checkpoint for run in made.todo if run.checkpoint):
                weightfile.check_checkpoint(file)
            costs, lengths = Costs(store), {run.key: len(lineage(run.spec)) for run in made.todo}
            made.cohorts = balanced(cohorts(made.todo, ranks, lengths, costs), workers, costs)
            made.guessed = {model for model in {run.spec.model for run in made.todo} if costs.guessed(model)}
        return made


def _resolved(groups: Sequence[Sequence[RunSpec]]) -> tuple[dict[str, PlannedRun], dict[str, int]]:
    """Every run and its teachers by key, teachers first, and the number of the first group that asks for each."""
    runs, ranks = {}, {}
    for rank, group in enumerate(groups):
        for spec in group:
            for one in lineage(spec):
                check(one)
                run = planned(one)
                runs.setdefault(run.key, run)
                ranks.setdefault(run.key, rank)
    return runs, ranks


def _reason(key: str, store: Store, begun: set[str]) -> str:
    if key not in begun:
        return "not trained yet"
    if lease := store.lease(key):
        return f"being trained by another process (pid {lease.get('pid')})"
    if store.checkpoint_path(key).exists():
        return "unfinished: goes on from its checkpoint"
    return "not trained yet"
