"""What a list of specs asks for: its runs and their teachers, what is in the store, and cohorts for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from kdlab import settings
from kdlab.errors import check_integer
from kdlab.foreign import weightfile
from kdlab.lab import datasheet, environment, memory, sources
from kdlab.lab.cohort import Cohort, balanced, cohorts, makespan
from kdlab.lab.costs import Costs
from kdlab.lab.planned import PlannedRun, lineage, planned
from kdlab.lab.rows import keys_of
from kdlab.lab.store import Store
from kdlab.lab.validation import check, notes
from kdlab.memo import plan_memo
from kdlab.spec import RunSpec

MOST_WORKERS = 1024  # processes; more is a slip of the hand


@dataclass
class Plan:
    """What a list of specs asks for and what is left to do.

    Attributes:
        runs: every run by key, teachers included.
        cached: keys that are in the store, or for which a row of the ledger stands.
        ledger: those of ``cached`` for which a row of the ledger stands.
        missing: key to the reason why it is not.
        cohorts: what to train, in the order in which they should start.
        guessed: models of which no run has been measured yet.
        workers: processes for which the cohorts were cut, >= 1.
        notes: what a reader of the results must know, each once.
        store: where the runs will be.
        card: whether a GPU trains.
    """

    runs: dict[str, PlannedRun]
    cached: list[str]
    missing: dict[str, str]
    cohorts: list[Cohort] = field(default_factory=list)
    guessed: set[str] = field(default_factory=set)
    workers: int = 1
    notes: list[str] = field(default_factory=list)
    store: Store | None = None
    ledger: set[str] = field(default_factory=set)
    card: bool = False

    def __repr__(self) -> str:
        return "\n".join(self._work())

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
            read = datasheet.texts((run.spec for run in self.runs.values()), self.store, fit)
            return "\n".join(part for part in (read, *self._work()) if part)

    def _work(self) -> list[str]:
        if not self.missing:
            lines = [f"nothing to train: {self._there()}."]
            return lines + self._noted()
        reasons = pd.Series(list(self.missing.values())).value_counts()
        published = f"{len(self.ledger)} in the ledger, " if self.ledger else ""
        cached = f"{len(self.cached) - len(self.ledger)} in the store, {published}"
        lines = [f"{len(self.runs)} runs: {cached}{len(self.missing)} to train"]
        lines += [f"  {count:4d}  {reason}" for reason, count in reasons.items()]
        length = duration(makespan(self.cohorts, self.workers)[0])
        where = f"a GPU, {self.workers} process(es)" if self.card else f"{self.workers} core(s)"
        lines.append(f"  about {length} on {where}, {len(self.cohorts)} cohorts")
        if self.guessed:
            named = ", ".join(sorted(self.guessed))
            lines.append(f"  a guess: no run of {named} has been measured here yet, so from multiply-adds")
        if any(run.checkpoint for run in self.todo):
            lines.append("  the teacher's checkpoint is scored on val before anything trains")
        if saved := sum(cohort.saved_seconds for cohort in self.cohorts):
            lines.append(f"  kept teacher outputs save {duration(saved)} of one core")
        return lines + self._room() + self._noted()

    def _there(self) -> str:
        """Where the runs are when none is missing."""
        if not self.ledger:
            return f"all {len(self.cached)} runs are in the store"
        if len(self.ledger) == len(self.cached):
            return f"all {len(self.cached)} runs are from the ledger"
        return f"of {len(self.cached)} runs {len(self.ledger)} are from the ledger, the others are in the store"

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
    """A length of time in words: seconds, minutes from 90 seconds on, hours, days from 3 on, years from 2 on."""
    if seconds < 90:
        whole = max(1, round(seconds))
        return f"{whole} second{'s' if whole > 1 else ''}"
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    days = seconds / 86400
    return f"{24 * days:.1f} hours" if days < 3 else f"{days:.1f} days" if days < 730 else f"{days / 365.25:.1f} years"


def plan(*groups: Sequence[RunSpec], workers: int = 1, store: Store | None = None, from_ledger: bool = False) -> Plan:
    """Resolve specs and their teachers, find what is cached and cut the rest into cohorts.

    Imports no torch, unless the ledger has a part of a seed that may have been made in this very environment.

    Args:
        *groups: lists of specs; earlier groups are trained first, and no cohort straddles two groups.
        workers: processes that will train, 0 counting as one; cohorts are cut until these end nearly together.
        store: where runs live; None takes the default store.
        from_ledger: rows of the ledger stand for runs that are asked for (``kdlab.lab.sources``), for tables that read
            no weights; a teacher without which a student cannot be trained is still trained.
    """
    store, workers = store or Store(), max(1, check_integer("workers", workers, 0, MOST_WORKERS))
    with plan_memo():
        runs, ranks = _resolved(groups)
        done, begun = {k for k in runs if store.has(k) and store.sound(k)}, store.begun()
        ledger = _from_ledger(groups, runs, done, store) if from_ledger else set()
        asked = {key for group in groups for key in keys_of(group)} if ledger else runs.keys()
        needed = _with_teachers(asked - ledger, runs)
        runs = {k: run for k, run in runs.items() if k in done or k in ledger or k in needed}
        missing = {k: _reason(k, store, begun) for k in runs if k not in done and k in needed}
        cached, ledger = [k for k in runs if k not in missing], ledger - missing.keys()
        noted = list(dict.fromkeys(note for run in runs.values() for note in notes(run.spec, run.method)))
        made = Plan(runs, cached, missing, workers=workers, notes=noted, store=store, ledger=ledger)
        made.card = settings.on_gpu()
        if missing:
            for file in dict.fromkeys(run.checkpoint for run in made.todo if run.checkpoint):
                weightfile.check_checkpoint(file)
            costs, lengths = Costs(store), {run.key: len(lineage(run.spec)) for run in made.todo}
            made.cohorts = balanced(cohorts(made.todo, ranks, lengths, costs), workers, costs)
            made.guessed = {model for model in {run.spec.model for run in made.todo} if costs.guessed(model)}
        return made


def _from_ledger(
    groups: Sequence[Sequence[RunSpec]], runs: dict[str, PlannedRun], done: set[str], store: Store
) -> set[str]:
    """Keys for which a row of the ledger stands in every group that asks for the run."""
    stands: dict[str, bool] = {}
    for group in groups:
        taken = sources.taken(group, store, lambda: environment.environment()["digest"])
        for key in keys_of(group):
            stands[key] = stands.get(key, True) and key in taken
    return {key for key, stood in stands.items() if stood and key not in done}


def _with_teachers(keys: Iterable[str], runs: dict[str, PlannedRun]) -> set[str]:
    """Some keys and those of the runs that they learn from."""
    found: set[str] = set()
    for run in map(runs.get, keys):
        while run is not None:
            found.add(run.key)
            run = run.teacher
    return found


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
    if failure := store.get(f".failed/{key}"):
        return f"failed last time: {failure['reason']}"
    return "not trained yet"
