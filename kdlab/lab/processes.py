"""Processes that train: started so that they do not run the caller's script once more.

A spawned process imports the main module of its parent, and a script that calls ``lab.run`` without
``if __name__ == "__main__":`` would begin again in each of them. Workers need nothing from it: what they train is named
in specs, as registered or as ``module:Class``. So the main module is out of sight while they start.
"""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import multiprocessing
import sys
import threading
from collections.abc import Iterable, Iterator
from multiprocessing.context import SpawnContext, SpawnProcess

from kdlab.errors import SpecError
from kdlab.lab import worker
from kdlab.lab.planned import PlannedRun

_starting = threading.Lock()


class _Process(SpawnProcess):
    def start(self) -> None:
        with _main_unseen():
            super().start()


class _Context(SpawnContext):
    Process = _Process


def start(number: int) -> futures.ProcessPoolExecutor:
    """A pool of so many processes, which start when there is work for them.

    Args:
        number: of processes, >= 1.

    Raises:
        SpecError: in a process that is itself just being started from an unguarded script.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SpecError('a worker began this script anew; put what trains under `if __name__ == "__main__":`.')
    return futures.ProcessPoolExecutor(number, mp_context=_Context(), initializer=worker.quiet)


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


def in_main(runs: Iterable[PlannedRun]) -> bool:
    """Whether a run names code that stands in the script or notebook itself, which no other process has."""
    return any(name.startswith("__main__:") for run in runs for name in _names(run))


def _names(run: PlannedRun) -> Iterator[str]:
    yield from (run.spec.model, run.spec.method, run.spec.augmentation)
    if run.checkpoint:
        yield run.checkpoint.arch
