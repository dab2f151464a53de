"""Run what is missing of a list of specs, cohort by cohort, and hand back the table of all of them."""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from kdlab import paths, settings
from kdlab.errors import SpecError, check_integer
from kdlab.lab import networks, worker
from kdlab.lab.cluster import Cluster
from kdlab.lab.cohort import Cohort
from kdlab.lab.damage import Damaged
from kdlab.lab.keys import run_key
from kdlab.lab.planning import Plan, plan
from kdlab.lab.processes import Pool, in_main, start
from kdlab.lab.progress import Bar
from kdlab.lab.retries import Retries
from kdlab.lab.rows import rows, tables
from kdlab.lab.store import Store
from kdlab.lab.teachers import Gate, PoorTeacher
from kdlab.lab.tidying import tidy
from kdlab.registry import create
from kdlab.spec import RunSpec


class Halted(Exception):
    """A run was asked to stop and did; unfinished runs keep their checkpoints."""


def run(
    *groups: Sequence[RunSpec],
    workers: int | None = None,
    progress: bool = True,
    executor: futures.Executor | None = None,
    after: Callable[[set[str]], None] | None = None,
    halt: threading.Event | None = None,
    store: Store | None = None,
    require_teacher: bool = True,
    note: str = "",
    from_ledger: bool = False,
) -> pd.DataFrame:
    """Train what is missing and return the table of all asked-for runs.

    Args:
        *groups: lists of specs; earlier groups come first.
        workers: processes; 0 trains in this one, None takes one per core, one on a GPU, or as many as a cluster has.
            They do not import the calling script, so it needs no ``if __name__ == "__main__":``; what is named
            ``__main__:Class`` is trained in this process.
        progress: say what was read and planned, and show a progress bar with an ETA.
        executor: any ``concurrent.futures`` executor whose workers see the store, instead of local processes; or a
            ``kdlab.lab.cluster.Cluster`` of Dask, whose workers need not.
        after: called with the set of finished keys whenever a cohort is done.
        halt: set from another thread, asks for a clean stop; nothing looks at it when training in this process.
        store: None takes the default store.
        require_teacher: train the students of a teacher that is trained here only if it is above chance on val
            (``teachers.weakness``); False is for trials too short for that, as in the smoke profile. A checkpoint
            must always be.
        note: a line to print below the plan.
        from_ledger: rows of the ledger stand for runs, where nobody asks for weights (``plan``); each group has its
            seeds from one environment.

    Returns:
        One row per run, indexed by key; see ``table``.

    Raises:
        SpecError: for a spec that cannot run, or a checkpoint that should not teach, before anything trains.
        FailedRuns: at the end, when workers were lost with these runs, twice: killed, out of memory, or hung.
            What becomes of an executor of somebody else's that breaks or hangs is a SpecError at once.
        PoorTeacher: at the end, when students were not trained since their teacher is not above chance.
        KeyboardInterrupt: after a clean stop; the same call goes on from the checkpoints.
        Halted: likewise, when ``halt`` was set.

    A run whose files turn out to be damaged is set aside and trained again.
    """
    settings.check()
    store, met = store or Store(), set()
    if workers is None:
        workers = executor.workers if isinstance(executor, Cluster) else settings.workers()
    check_integer("workers", workers)
    tidy(store)
    while True:
        try:
            todo = plan(*groups, workers=workers, store=store, from_ledger=from_ledger)
            checkpoints = networks.describe_checkpoints(todo.todo)
            if progress:
                print(todo.describe(fit=True), *checkpoints, *filter(None, [note]), sep="\n  ", flush=True)
            if after:
                after(set(todo.cached))
            if todo.cohorts:
                if executor is None and os.environ.get("KDLAB_DEVICE", "cpu") != "cpu":
                    _find_device()
                build_once(todo)
                networks.check_checkpoints(todo.todo, store)
                gate = Gate(lambda run: networks.score(run, store), require_teacher)
                _train(todo, store, workers, progress, executor, after or (lambda keys: None), halt, gate)
                if gate.held:
                    raise _poor(gate, [spec for group in groups for spec in group], store)
            return tables(groups, store, from_ledger)
        except Damaged as error:
            store.set_aside(error)
            if (found := (error.key, error.file)) in met:  # once more would be the same again
                raise
            met.add(found)


def _find_device() -> None:
    """Refuse a device that torch does not find now rather than in every worker."""
    from kdlab.training import device

    device()


def build_once(todo: Plan) -> None:
    """Build every network and method, and augmentations with options of their own, once: what is wrong is said now.

    Raises:
        SpecError: from the part that cannot be built.
    """
    parts = {}
    for run in todo.todo:
        options = run.spec.method_options, run.spec.augmentation_options
        for part, given in zip((run.method, run.augmentation), options, strict=True):
            if own := {name: value for name, value in given.items() if value != part.options.get(name)}:
                parts[part.kind, part.name, repr(own)] = own
    for (kind, name, _), own in parts.items():
        create(kind, name, **own)
    from kdlab.training.dry_run import dry_run

    dry_run(run.spec for run in todo.todo)


def _poor(gate: Gate, asked: list[RunSpec], store: Store) -> PoorTeacher:
    """What to raise when runs were held back, with the rows of those that were not and of the poor teachers."""
    keys = dict.fromkeys([*(teacher for teacher, _ in gate.poor), *map(run_key, asked)])
    error = PoorTeacher(gate.verdict())
    error.table = rows(store, [k for k in keys if store.has(k)])
    return error


def _train(todo: Plan, store: Store, workers: int, progress: bool, executor, after, halt, gate: Gate) -> None:
    # A notebook's threads may each run something, and stop their own.
    stop = store.root / f".stop-{paths.owner()}"
    with store.disk():  # a disk that refuses says so before anything trains
        stop.parent.mkdir(parents=True, exist_ok=True)
        stop.touch()
        stop.unlink()
    here = in_main(todo.todo)
    if here and executor is None and workers and progress:
        print("  in this process: what stands in a script or notebook itself, no worker can import", flush=True)
    own = executor is None and workers > 0 and not here
    if own:
        executor = start(workers)
    bar = Bar(todo.cohorts, store, max(1, workers), shown=progress)
    waiting, running, finished, retries = list(todo.cohorts), {}, set(todo.cached), Retries(store)
    watches = {}  # a Cluster and a Pool watch themselves

    def ready() -> list[Cohort]:
        there = finished | gate.held | retries.failed.keys()
        return [cohort for cohort in waiting if cohort.needs <= there]

    def ended(cohort: Cohort, result: Callable[[], object]) -> None:
        with _whole():
            waiting[:0] = retries.outcome(cohort, result)
        bar.drop(retries.failed)
        finished.update(filter(store.has, cohort.runs))
        after(set(finished))

    try:
        while waiting or running:
            if halt is not None and halt.is_set():
                raise Halted("stopped; unfinished runs go on from their checkpoints")
            for cohort in ready():
                if len(running) > (executor.workers if isinstance(executor, Cluster) else max(workers, 1)):
                    break
                waiting.remove(cohort)
                runs = gate.admit(retries.able(list(cohort.runs.values())))
                bar.drop(cohort.runs.keys() - {run.key for run in runs})
                if runs and executor is None:
                    ended(cohort, functools.partial(worker.train_cohort, runs, store.root, stop, tick=bar.update))
                    break
                if runs:
                    watch = None if isinstance(executor, Cluster | Pool) else worker.Watch(runs, store.root)
                    with _whole():
                        future = executor.submit(worker.train_cohort, runs, store.root, stop)
                    running[future], watches[future] = cohort, watch
            done, _ = futures.wait(running, timeout=0.5, return_when=futures.FIRST_COMPLETED) if running else ((), ())
            for future in done:
                del watches[future]
                ended(running.pop(future), future.result)
            _look_for_silence(filter(None, watches.values()))
            bar.update()
            if not running and waiting and not ready():
                raise SpecError("the remaining runs wait for a teacher that did not finish; see `kdlab runs`.")
        if retries.failed:
            raise retries.error()
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


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Say in words that an executor of somebody else's is broken, which cannot be used again."""
    try:
        yield
    except futures.BrokenExecutor as error:
        raise SpecError(
            f"the executor that trains is broken ({' '.join(str(error).split()) or type(error).__name__}). Finished "
            "runs are kept, the others go on from their checkpoints: give the same command again with a new one."
        ) from error


def _look_for_silence(watches: Iterable[worker.Watch]) -> None:
    """End the sweep when a cohort hangs on an executor of somebody else's, whose processes are not ours to end."""
    for watch in watches:
        if watch.silent() > settings.silence() and watch.begun:
            raise SpecError(
                f"the executor's worker that trains run {watch.runs[0].key} hangs: {worker.no_sign(settings.silence())}"
                ". Finished runs are kept, the others go on from their checkpoints: end that process, then give the "
                "same command again."
            )


def _ask_to_stop(stop: Path, running: dict) -> None:
    with contextlib.suppress(OSError):  # a disk that refuses must not hide why we stop
        stop.parent.mkdir(parents=True, exist_ok=True)
        stop.touch()
    futures.wait(running, timeout=60)
