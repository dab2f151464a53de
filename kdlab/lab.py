"""The lab: plan a list of specs, run what is missing, hand back a table with one row per run."""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kdlab import damage, datasheet, engine, memory, schedule, settings, teachers, weightfile
from kdlab.baseline import linear as linear
from kdlab.damage import Damaged
from kdlab.errors import SpecError
from kdlab.feasible import check, notes
from kdlab.identity import key as run_key
from kdlab.memo import asking_once
from kdlab.progress import Bar
from kdlab.registry import create, find
from kdlab.schedule import Job
from kdlab.spec import Checkpoint, RunSpec
from kdlab.store import MissingRuns, Store
from kdlab.teachers import Gate, PoorTeacher
from kdlab.workers import in_main, start


class Halted(Exception):
    """A run was asked to stop and did; unfinished runs keep their checkpoints."""


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
        """Bytes that a worker will take at most, see ``kdlab.memory.needed``; 0 when nothing is left to train."""
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
        length = duration(schedule.makespan(self.jobs, self.workers)[0])
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
        todo, costs = {k: specs[k] for k in missing}, schedule.Costs(store)
        for file in {id(s.teacher): s.teacher for s in todo.values() if isinstance(s.teacher, Checkpoint)}.values():
            weightfile.check(file)
        lengths = {k: len(lineage(spec)) for k, spec in todo.items()}
        jobs = schedule.cohorts(todo, ranks, lengths, costs)
        jobs = schedule.balanced(jobs, workers, todo, costs)
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


def run(
    *groups: Sequence[RunSpec],
    workers: int | None = None,
    progress: bool = True,
    executor: futures.Executor | None = None,
    after: Callable[[set[str]], None] | None = None,
    halt: threading.Event | None = None,
    store: Store | None = None,
    require_teacher: bool = True,
    said: str = "",
) -> pd.DataFrame:
    """Train what is missing and return the table of all asked-for runs.

    Args:
        *groups: lists of specs; earlier groups come first.
        workers: processes; 0 trains in this one, None takes one per core. They do not import the calling script, so it
            needs no ``if __name__ == "__main__":``; what is named ``__main__:Class`` is trained in this process.
        progress: say what was read and planned, and show a progress bar with an ETA.
        executor: any ``concurrent.futures`` executor, instead of local processes.
        after: called with the set of finished keys whenever a cohort is done.
        halt: set from another thread, asks for a clean stop; nothing looks at it when training in this process.
        store: None takes the default store.
        require_teacher: train the students of a teacher that is trained here only if it is above chance on val
            (``teachers.weakness``); False is for trials too short for that, as in the smoke profile. A checkpoint
            must always be.
        said: a line to print below the plan.

    Returns:
        One row per run, indexed by key; see ``table``.

    Raises:
        SpecError: for a spec that cannot run, or a checkpoint that should not teach, before anything trains.
        PoorTeacher: at the end, when students were not trained since their teacher is not above chance.
        KeyboardInterrupt: after a clean stop; the same call goes on from the checkpoints.
        Halted: likewise, when ``halt`` was set.

    A run whose files turn out to be damaged is set aside and trained again.
    """
    settings.check()
    store, met = store or Store(), set()
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 0:
        raise SpecError(f"workers must be a non-negative integer, but got {workers!r}.")
    while True:
        try:
            todo = plan(*groups, workers=workers, store=store)
            told = engine.read(todo.specs[k] for k in todo.missing)
            if progress:
                print(todo.describe(fit=True), *told, *filter(None, [said]), sep="\n  ", flush=True)
            if after:
                after(set(todo.cached))
            if todo.jobs:
                if executor is None and os.environ.get("KDLAB_DEVICE", "cpu") != "cpu":
                    _find_device()
                rehearse(todo)
                engine.examine((todo.specs[k] for k in todo.missing), store)
                gate = Gate(lambda spec: engine.score(spec, store), require_teacher)
                _train(todo, store, workers, progress, executor, after or (lambda keys: None), halt, gate)
                if gate.held:
                    raise _poor(gate, [spec for group in groups for spec in group], store)
            return _rows(store, _keys([spec for group in groups for spec in group]))
        except Damaged as error:
            store.set_aside(error)
            if (found := (error.key, error.file)) in met:  # once more would be the same again
                raise
            met.add(found)


def _find_device() -> None:
    """Refuse a device that torch does not find now rather than in every worker."""
    from kdlab.training import device

    device()


def rehearse(todo: Plan) -> None:
    """Build every network and method, and augmentations with options of their own, once: what is wrong is said now.

    Raises:
        SpecError: from the part that cannot be built.
    """
    parts = {}
    for spec in (todo.specs[k] for k in todo.missing):
        for kind, name, options in (
            ("losses", spec.method, spec.method_options),
            ("augment", spec.augmentation, spec.augmentation_options),
        ):
            if options:
                parts[kind, name, repr(options)] = options
    for (kind, name, _), options in parts.items():
        defaults = find(kind, name).options
        if own := {k: v for k, v in options.items() if v != defaults.get(k)}:
            create(kind, name, **own)
    from kdlab.training.rehearsal import rehearse

    rehearse(todo.specs[k] for k in todo.missing)


def _poor(gate: Gate, asked: list[RunSpec], store: Store) -> PoorTeacher:
    """What to raise when runs were held back, with the rows of those that were not and of the poor teachers."""
    keys = dict.fromkeys([*(teacher for teacher, _ in gate.poor), *map(run_key, asked)])
    error = PoorTeacher(gate.verdict())
    error.table = _rows(store, [k for k in keys if store.has(k)])
    return error


def _train(todo: Plan, store: Store, workers: int, progress: bool, executor, after, halt, gate: Gate) -> None:
    # A notebook's threads may each run something, and stop their own.
    stop = store.root / f".stop-{os.getpid()}-{threading.get_ident()}"
    with store.disk():  # a disk that refuses says so before anything trains
        stop.parent.mkdir(parents=True, exist_ok=True)
        stop.touch()
        stop.unlink()
    here = in_main(todo.specs[key] for key in todo.missing)
    if here and executor is None and workers and progress:
        print("  in this process: what stands in a script or notebook itself, no worker can import", flush=True)
    own = executor is None and workers > 0 and not here
    if own:
        executor = start(workers)
    bar = Bar(todo.jobs, store, max(1, workers), shown=progress)
    waiting, running, finished = list(todo.jobs), {}, set(todo.cached)

    def ended(job: Job) -> None:
        finished.update(filter(store.has, job.specs))
        after(set(finished))

    try:
        while waiting or running:
            if halt is not None and halt.is_set():
                raise Halted("stopped; unfinished runs go on from their checkpoints")
            for job in [j for j in waiting if j.needs <= finished | gate.held]:
                if len(running) > max(workers, 1):
                    break
                waiting.remove(job)
                specs = gate.admit(job.specs)
                bar.drop(job.specs.keys() - specs.keys())
                if specs and executor is None:
                    engine.train_cohort(specs, store.root, stop, tick=bar.update)
                    ended(job)
                    break
                if specs:
                    running[executor.submit(engine.train_cohort, specs, store.root, stop)] = job
            done, _ = futures.wait(running, timeout=0.5, return_when=futures.FIRST_COMPLETED) if running else ((), ())
            for future in done:
                job = running.pop(future)
                future.result()
                ended(job)
            bar.update()
            if not running and waiting and not any(j.needs <= finished | gate.held for j in waiting):
                raise SpecError("the remaining runs wait for a teacher that did not finish; see `kdlab runs`.")
    except BaseException as error:
        _ask_to_stop(stop, running)
        if isinstance(error, KeyboardInterrupt) and progress:
            print("\nstopped cleanly: finished runs are kept, the others go on from their checkpoints.\n"
                  "Run the same command again to continue.", flush=True)  # fmt: skip
        raise
    finally:
        bar.close()
        if own:
            executor.shutdown(wait=True, cancel_futures=True)
        with contextlib.suppress(OSError):
            stop.unlink(missing_ok=True)


def _ask_to_stop(stop: Path, running: dict) -> None:
    with contextlib.suppress(OSError):  # a disk that refuses must not hide why we stop
        stop.parent.mkdir(parents=True, exist_ok=True)
        stop.touch()
    futures.wait(running, timeout=60)


def table(specs: Sequence[RunSpec] | None = None, store: Store | None = None) -> pd.DataFrame:
    """Finished runs as a table, one row each, indexed by key; never trains and imports no torch.

    A run whose files are damaged is set aside and counts as not trained.

    Args:
        specs: the runs wanted, in this order; None takes everything in the store.
        store: None takes the default store.

    Raises:
        MissingRuns: when a wanted run is not in the store.
    """
    store = store or Store()
    keys = store.keys() if specs is None else _keys(specs)
    while specs is None:
        try:
            return _rows(store, keys)
        except Damaged as error:
            store.set_aside(error)
            keys = [key for key in keys if key != error.key]
    for key in keys:
        if store.has(key):
            store.sound(key)
    return _rows(store, keys)


def _keys(specs: Sequence[RunSpec]) -> list[str]:
    with asking_once():
        return list(dict.fromkeys(map(run_key, specs)))


def _rows(store: Store, keys: list[str]) -> pd.DataFrame:
    absent = [k for k in keys if not store.has(k)]
    if absent:
        raise MissingRuns(
            f"{len(absent)} of {len(keys)} runs are not in the store {store.root} (first: {absent[0]}). "
            "`kdlab figures` or `kdlab.lab.run(specs)` trains them."
        )
    return pd.DataFrame([row(store, k) for k in keys], index=pd.Index(keys, name="key"))


def row(store: Store, key: str) -> dict:
    """A finished run's row of the table.

    Raises:
        Damaged: when its files cannot be read.
    """
    saved, result, made = store.documents(key)
    with damage.reading(key, "spec.json"):
        return _fields(store, saved, result, made)


def _fields(store: Store, saved: dict, result: dict, made: dict) -> dict:
    spec, teacher = saved["spec"], saved["spec"]["teacher"] or {}
    return {
        "data": spec["data"], "fraction": spec["fraction"], "seed": spec["seed"], "replicate": spec["replicate"],
        "student": spec["model"], "teacher": teacher.get("model", teacher.get("arch")),
        "teacher_key": saved["normal"].get("teacher"), "method": spec["method"], "augmentation": spec["augmentation"],
        "views": spec["views"], "ratio": spec["ratio"], "budget_amount": spec["budget"]["amount"],
        "budget_unit": spec["budget"]["unit"],
        **{k: v for k, v in result.items() if k != "curve"},
        **({} if "teacher_val_accuracy" in result else _taught_by(store, saved["normal"])),
        "environment": made["digest"], "revision": made["git"],
    }  # fmt: skip


def _taught_by(store: Store, normal: dict) -> dict[str, float]:
    """The teacher's score for runs from before it was kept with them: of its own run, if on the same val images."""
    teacher = normal.get("teacher")
    if teacher is None or not store.has(teacher):
        return teachers.columns(None)
    other = store.read(teacher, "spec")["normal"]
    alike = "teacher" not in other and all(other[name] == normal[name] for name in ("data", "sizes"))
    return teachers.columns(store.read(teacher, "result") if alike else None)
