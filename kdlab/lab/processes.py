"""Processes that train: started so that they do not run the caller's script once more.

A spawned process imports the main module of its parent, and a script that calls ``lab.run`` without
``if __name__ == "__main__":`` would begin again in each of them. Workers need nothing from it: what they train is named
in specs, as registered or as ``module:Class``. So the main module is out of sight while they start.
"""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

from kdlab import settings
from kdlab.errors import SpecError
from kdlab.lab import worker
from kdlab.lab.planned import PlannedRun
from kdlab.lab.retries import Lost
from kdlab.spec import RunSpec

LOOK_EVERY = 2.0  # seconds between two looks at whether a process gives signs of life
_starting = threading.Lock()


class _Process(SpawnProcess):
    def start(self) -> None:
        with _main_unseen():
            super().start()


class _Context(SpawnContext):
    """Starts processes, and remembers them."""

    def __init__(self):
        super().__init__()
        self.started: list[_Process] = []

    def Process(self, *given, **options) -> _Process:  # type: ignore[override]  # a class there
        self.started.append(_Process(*given, **options))
        return self.started[-1]


class Pool(futures.Executor):
    """Processes that train cohorts, each on its own: where one is lost, another takes its place and all others go on.

    Args:
        number: of processes, >= 1; each starts when there is work for it.
    """

    def __init__(self, number: int):
        self._threads = futures.ThreadPoolExecutor(number, thread_name_prefix="kdlab-worker")
        self._own, self._all, self._silence = threading.local(), [], settings.silence()

    def submit(  # type: ignore[override]  # takes nothing but cohorts
        self, train: Callable[..., None], /, runs: Sequence[PlannedRun], root: Path, stop: Path
    ) -> futures.Future:
        """Train a cohort; the future raises ``Lost`` where its process died, or gave no sign of life for too long.

        Args:
            train: ``worker.train_cohort``.
            runs: of the cohort.
            root: folder of the store.
            stop: a file whose appearance asks for a clean stop.
        """
        return self._threads.submit(self._see_to, train, runs, root, stop)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes when they are done."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        for pool in self._all:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _see_to(self, train: Callable[..., None], runs: Sequence[PlannedRun], root: Path, stop: Path) -> None:
        """Have this thread's process train, and watch it."""
        if getattr(self._own, "pool", None) is None:
            self._own.context = _Context()
            self._own.pool = futures.ProcessPoolExecutor(1, mp_context=self._own.context, initializer=worker.quiet)
            self._all.append(self._own.pool)
        silent = ""
        try:
            future = self._own.pool.submit(train, runs, root, stop)
            watch = worker.Watch(runs, root)
            while not futures.wait([future], timeout=LOOK_EVERY).done:
                if watch.silent() > self._silence and not silent:
                    silent = worker.no_sign(self._silence)
                    for process in self._own.context.started:
                        process.kill()
            future.result()
        except futures.BrokenExecutor as error:
            self._own.pool.shutdown(wait=True, cancel_futures=True)  # which buries it, so that its end is known
            ends = [process.exitcode for process in self._own.context.started if process.exitcode is not None]
            self._own.pool = None
            raise Lost(silent or _ending(ends)) from error


def _ending(codes: Sequence[int]) -> str:
    """How a process ended, as a clause."""
    code = codes[-1] if codes else None
    if code == -signal.SIGKILL:
        return "it was killed, as a system does that runs out of memory"
    return f"it ended with signal {-code}" if code is not None and code < 0 else f"it ended with exit code {code}"


def start(number: int) -> Pool:
    """A pool of so many processes, which start when there is work for them.

    Args:
        number: of processes, >= 1.

    Raises:
        SpecError: in a process that is itself just being started from an unguarded script.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SpecError('a worker began this script anew; put what trains under `if __name__ == "__main__":`.')
    return Pool(number)


@contextlib.contextmanager
def _main_unseen() -> Iterator[None]:
    """Hide where the main module comes from: what multiprocessing does not find it does not import."""
    main, missing = sys.modules["__main__"], object()
    with _starting:
        kept = {name: getattr(main, name, missing) for name in ("__file__", "__spec__")}
        try:
            for name in kept:
                setattr(main, name, None)
            yield
        finally:
            for name, value in kept.items():
                if value is missing:
                    delattr(main, name)
                else:
                    setattr(main, name, value)


@contextlib.contextmanager
def measuring(number: int) -> Iterator[futures.Executor]:
    """So many processes for work that nobody watches; what has not begun is given up when one fails."""
    pool = futures.ProcessPoolExecutor(number, mp_context=_Context(), initializer=worker.quiet)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def foreign_here(specs: Iterable[RunSpec]) -> bool:
    """Whether a spec or its teacher names code that stands in the script or notebook itself (``in_main``)."""
    return any("__main__:" in repr(spec.to_dict()) for spec in specs)


def in_main(runs: Iterable[PlannedRun]) -> bool:
    """Whether a run names code that stands in the script or notebook itself, which no other process has."""
    return any(name.startswith("__main__:") for run in runs for name in _names(run))


def _names(run: PlannedRun) -> Iterator[str]:
    yield from (run.spec.model, run.spec.method, run.spec.augmentation)
    if run.checkpoint:
        yield run.checkpoint.arch
