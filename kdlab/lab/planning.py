"""What a list of specs asks for: its runs and their teachers, what is in the store, and cohorts for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from kdlab.foreign import weightfile
from kdlab.lab import datasheet, memory
from kdlab.lab.costs import Costs, Job, balanced, cohorts, makespan
from kdlab.lab.keys import key as run_key
from kdlab.lab.store import Store
from kdlab.lab.validation import check, notes
from kdlab.memo import asking_once
from kdlab.spec import Checkpoint, RunSpec


@dataclass
class Plan:
    """What a list of specs asks for and what is left to do.

    Attributes:
        specs: every run by key, teachers included.
        cached: keys that are in the store.
        missing: key to the reason why it is not.
        jobs: cohorts to train, in the order they should start.
        guessed: models of which no run has been measured yet.
        workers: processes for which the cohorts were cut, >= 1.
        notes: what a reader of the results must know, each once.
        store: where the runs will be.
    """

    specs: dict[str, RunSpec]
    cached: list[str]
    missing: dict[str, str]
    jobs: list[Job] = field(default_factory=list)
    guessed: set[str] = field(default_factory=set)
    workers: int = 1
    notes: list[str] = field(default_factory=list)
    store: Store | None = None

    @property
    def seconds(self) -> float:
        """Predicted seconds of training on one core."""
        return sum(job.seconds for job in self.jobs)

    @property
    def memory(self) -> float:
        """Bytes that a worker will take at most, see ``kdlab.lab.memory.needed``; 0 when nothing is left to train."""
        return max((memory.needed(job.specs.values()) for job in self.jobs), default=0.0)

    def describe(self, fit: bool = False) -> str:
        """What was read, and the plan, in a few lines, for a terminal.

        Args:
            fit: fit the linear model of each data set that has none yet, which takes seconds and writes to the store;
                without, nothing is written, and the lines say that it is not there.
        """
        with asking_once():
            read = datasheet.told_of(self.specs.values(), self.store, fit)
            return "\n".join(part for part in (read, *self._todo()) if part)

    def _todo(self) -> list[str]:
        if not self.missing:
            lines = [f"nothing to train: all {len(self.cached)} runs are in the store."]
            return lines + self._noted()
        reasons = pd.Series(list(self.missing.values())).value_counts()
        lines = [f"{len(self.specs)} runs: {len(self.cached)} in the store, {len(self.missing)} to train"]
        lines += [f"  {count:4d}  {reason}" for reason, count in reasons.items()]
        length = duration(makespan(self.jobs, self.workers)[0])
        lines.append(f"  about {length} on {self.workers} core(s), {len(self.jobs)} cohorts")
        if self.guessed:
            lines.append(f"  a guess: no run of {', '.join(sorted(self.guessed))} has been measured here yet")
        if any(isinstance(self.specs[k].teacher, Checkpoint) for k in self.missing):
            lines.append("  the teacher's checkpoint is scored on val before anything trains")
        if saved := sum(job.saved for job in self.jobs):
            lines.append(f"  kept teacher outputs save {duration(saved)} of one core")
        return lines + self._room() + self._noted()

    def _noted(self) -> list[str]:
        return [f"  note: {note}" for note in self.notes]

    def _room(self) -> list[str]:
        """Memory for each worker, and a warning where the machine has less than all of them need."""
        each, there, workers = self.memory, memory.machine(), min(self.workers, len(self.jobs))
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


def lineage(spec: RunSpec) -> list[RunSpec]:
    """The run and the runs it learns from, teachers first."""
    return [*lineage(spec.teacher), spec] if isinstance(spec.teacher, RunSpec) else [spec]


def plan(*groups: Sequence[RunSpec], workers: int = 1, store: Store | None = None) -> Plan:
    """Resolve specs and their teachers, find what is cached and cut the rest into cohorts. Imports no torch.

    Args:
        *groups: lists of specs; earlier groups are trained first, and no cohort straddles two groups.
        workers: processes that will train, 0 counting as one; cohorts are cut until these end nearly together.
        store: where runs live; None takes the default store.
    """
    store, workers = store or Store(), max(1, workers)
    specs: dict[str, RunSpec] = {}
    ranks: dict[str, int] = {}
    with asking_once():
        for rank, group in enumerate(groups):
            for spec in group:
                for one in lineage(spec):
                    check(one)
                    specs.setdefault(name := run_key(one), one)
                    ranks.setdefault(name, rank)
        cached = [k for k in specs if store.has(k) and store.sound(k)]
        done, begun = set(cached), store.begun()
        missing = {k: _reason(k, store, begun) for k in specs if k not in done}
        said = list(dict.fromkeys(note for spec in specs.values() for note in notes(spec)))
        if not missing:
            return Plan(specs, cached, missing, workers=workers, notes=said, store=store)
        todo, costs = {k: specs[k] for k in missing}, Costs(store)
        for file in {id(s.teacher): s.teacher for s in todo.values() if isinstance(s.teacher, Checkpoint)}.values():
            weightfile.check(file)
        lengths = {k: len(lineage(spec)) for k, spec in todo.items()}
        jobs = cohorts(todo, ranks, lengths, costs)
        jobs = balanced(jobs, workers, todo, costs)
        guessed = {s.model for s in todo.values() if costs.guessed(s)}
        return Plan(specs, cached, missing, jobs, guessed, workers, said, store)


def _reason(key: str, store: Store, begun: set[str]) -> str:
    if key not in begun:
        return "not trained yet"
    if lease := store.lease(key):
        return f"being trained by another process (pid {lease.get('pid')})"
    if store.checkpoint_path(key).exists():
        return "unfinished: goes on from its checkpoint"
    return "not trained yet"
