"""What a Dask worker does with a cohort (``kdlab.lab.cluster`` sends it).

It trains in the client's store where it sees it. Elsewhere it trains in a store of its own: what the cohort stands on
(teachers, checkpoints) comes along with it, and what it made goes back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdlab.errors import SpecError, plain
from kdlab.lab.damage import Damaged
from kdlab.lab.environment import environment
from kdlab.lab.planned import PlannedRun
from kdlab.lab.retries import Lost
from kdlab.lab.store import Store
from kdlab.lab.travel import Parcel, pack, unpack
from kdlab.lab.worker import Watch

_stopped: set[str] = set()
_underway: dict[Any, Watch] = {}  # by task


@dataclass(frozen=True)
class Session:
    """What a client tells each worker.

    Attributes:
        token: of the session, unlike any other.
        root: folder of the client's store; a worker sees it where it finds the token in it.
        stop: a file whose appearance asks for a clean stop, for those who see it.
        variables: of the environment, as the client has them.
        folders: likewise, but what a worker has set itself is right for it.
    """

    token: str
    root: Path
    stop: Path
    variables: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)

    @property
    def sign(self) -> Path:
        """The file by which a worker knows the client's store."""
        return self.root / f".cluster-{self.token}"

    def seen(self) -> bool:
        """Whether this process sees the client's store, and no other one at the same place."""
        with contextlib.suppress(OSError):
            return self.sign.read_text() == self.token
        return False


@dataclass
class Answer:
    """What a worker did.

    Attributes:
        worker: its address.
        environment: what it computes with.
        shared: whether it trained in the client's store.
        unsent: it trained nothing, since it needs what the cohort stands on to be sent.
        finished: keys of the cohort that are finished.
        parcel: what it made, where it has a store of its own.
        error: a mistake in what was asked for, or a lack of memory: another try would only repeat it.
    """

    worker: str
    environment: dict[str, Any]
    shared: bool
    unsent: bool = False
    finished: list[str] = field(default_factory=list)
    parcel: Parcel = field(default_factory=Parcel)
    error: SpecError | Lost | None = None


def dask_setup(worker: Any) -> None:
    """Let Ctrl-C reach the client alone; Dask calls this in workers started with ``--preload kdlab.lab.remote``."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def ask_to_stop(token: str) -> None:
    """Ask what this process trains of a session for a clean stop; run on every worker, beside its tasks."""
    _stopped.add(token)


def silences() -> dict[str, float]:
    """Seconds since the last sign of life of each cohort in this process, by task; run on every worker, likewise."""
    return {task: watch.silent() for task, watch in list(_underway.items())}


class Stop:
    """Whether a cohort should stop: the client asks for it or is gone, or the worker is being closed.

    Args:
        session: of the client.
    """

    def __init__(self, session: Session):
        self.session, self.worker, self.task = session, None, None
        with contextlib.suppress(ImportError, ValueError):
            from distributed import get_worker

            self.worker = get_worker()
            self.task = self.worker.get_current_task()

    def exists(self) -> bool:
        """The question that ``train_cohort`` asks of a stop file."""
        return self.session.token in _stopped or self.session.stop.exists() or self._left()

    def _left(self) -> bool:
        if self.worker is None:
            return False
        task = self.worker.state.tasks.get(self.task)
        return task is None or task.state == "cancelled" or self.worker.status.name not in ("running", "paused")


def carry_out(train: Callable[..., None], runs: Sequence[PlannedRun], session: Session, sent: Parcel | None) -> Answer:
    """Train a cohort on this worker, on one torch thread, as local workers do.

    Args:
        train: ``worker.train_cohort``.
        runs: of the cohort.
        session: of the client.
        sent: what the cohort stands on; None where the client takes its store to be seen here.
    """
    from kdlab.training.runtime import one_thread

    shared, stop = session.seen(), Stop(session)
    own = _scratch(stop.worker) / "kdlab" / session.token
    with _told(session, shared, own), one_thread():
        answer = Answer(getattr(stop.worker, "address", "here"), environment(), shared)
        if stop.exists():
            return answer
        if not shared and sent is None:
            answer.unsent = True
            return answer
        store = Store(session.root if shared else own)
        _underway[stop.task] = Watch(runs, store.root)
        try:
            if not shared:
                unpack(sent, store)
            train(runs, store.root, stop)
        except (Damaged, Lost) as error:
            answer.error = error
        except SpecError as error:
            answer.error = SpecError(_words(answer.worker, error))
        finally:
            del _underway[stop.task]
        answer.finished = [run.key for run in runs if store.has(run.key)]
        if not shared:
            answer.parcel = pack(store, [run.key for run in runs])
            _forget(store, runs)
        return answer


def _words(worker: str, error: SpecError) -> str:
    return (
        f"on the worker {worker}: {error} Every worker needs the same kdlab and, at the same paths as here, the "
        "images, files of weights and modules that specs name; what was trained is sent to it."
    )


def _scratch(worker) -> Path:
    return Path(worker.local_directory) if worker else Path(tempfile.gettempdir())


def _forget(store: Store, runs: Sequence[PlannedRun]) -> None:
    """Remove what was sent back, so that a worker's disk does not fill; teachers stay for the next cohort."""
    for run in runs:
        shutil.rmtree(store.root / plain(run.key), ignore_errors=True)
        store.checkpoint_path(run.key).unlink(missing_ok=True)


@contextlib.contextmanager
def _told(session: Session, shared: bool, own: Path) -> Iterator[None]:
    """Set the environment as the client has it, until the block ends."""
    folders = session.folders if shared else session.folders | {"KDLAB_OUT": str(own)}
    said = session.variables | {name: path for name, path in folders.items() if not os.environ.get(name)}
    said = {name: value for name, value in said.items() if os.environ.get(name) != value}
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    try:
        if said:
            environment.cache_clear()  # the device stands in it
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        if said:
            environment.cache_clear()
