"""Cohorts as tasks of Dask: an executor for ``lab.run``.

A cohort goes to any worker that is free; Dask counts retries, and sends the cohort of a lost worker to another. One
that Dask gives up, or whose worker hangs, is lost as with processes of this machine (``kdlab.lab.retries``). Runs go
into the store where workers see it, and travel back where they do not (``kdlab.lab.remote``).
"""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdlab import paths
from kdlab.errors import SpecError
from kdlab.lab import remote
from kdlab.lab.environment import environment
from kdlab.lab.planned import PlannedRun
from kdlab.lab.processes import in_main
from kdlab.lab.remote import Answer, Session
from kdlab.lab.scheduler import LOOK_EVERY, Gone, Scheduler
from kdlab.lab.store import Store
from kdlab.lab.travel import Parcel, pack, unpack

VARIABLES = ("KDLAB_DEVICE", "KDLAB_DETERMINISTIC", "KDLAB_TEACHER_GB")
FOLDERS = ("KDLAB_DATA", "KDLAB_MODULES")
VISIBLE_WITHIN = 120.0  # a network's file system may show a new file to others later than this process hears of it
MOST = 4096  # cohorts in flight, each with a thread that mostly waits


class Cluster(futures.Executor):
    """Trains cohorts on the workers of a Dask scheduler.

    ::

        from dask.distributed import Client
        from kdlab.lab.cluster import Cluster

        with Client("tcp://head:8786") as client, Cluster(client) as cluster:
            table = kdlab.run(specs, executor=cluster)

    Args:
        client: of the scheduler; it stays open.
        expected: workers to cut cohorts for while none is there, >= 1.
    """

    def __init__(self, client, expected: int = 1):
        self.scheduler, self.expected = Scheduler(client), expected
        self.apart = False  # whether a worker has said that it does not see the store
        self._threads = futures.ThreadPoolExecutor(MOST, thread_name_prefix="cohort")
        self._lock, self._closed = threading.Lock(), False
        self._sessions: dict[tuple[Path, Path], Session] = {}

    @property
    def workers(self) -> int:
        """Workers that can take a cohort now, or as many as are expected while there is none."""
        return self.scheduler.able() or self.expected

    def submit(self, train: Callable[..., None], /, *cohort: Any, **_: Any) -> futures.Future:  # type: ignore[override]
        """Train a cohort; the future ends when its runs are in the client's store, or ``stop`` was heeded.

        It raises ``retries.Lost`` where its workers died so often that Dask gave it up, ran out of memory, or hung.

        Args:
            train: ``worker.train_cohort``.
            *cohort: its arguments: the runs, the folder of the client's store, and a file whose appearance asks for a
                clean stop.

        Raises:
            SpecError: for what stands in a script or notebook itself.
        """
        runs, root, stop = cohort
        if in_main(runs):
            raise SpecError(
                "what stands in the script or notebook itself (__main__:...) no worker of a cluster can import; put it "
                "into a module beside it, and name that."
            )
        return self._threads.submit(self._see_to, train, runs, Store(root), stop)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more cohorts; those in flight are given up."""
        self._closed = True
        for session in self._sessions.values():
            session.sign.unlink(missing_ok=True)
        self._threads.shutdown(wait=wait, cancel_futures=True)

    # ---- one cohort, in a thread of its own ----------------------------------------------------------------------

    def _see_to(self, train, runs: Sequence[PlannedRun], store: Store, stop: Path) -> None:
        while not (stop.exists() or self._closed):
            session = self._session(store, stop)
            asked = (train, list(runs), session, self._parcel(runs, store))
            try:
                answer = self.scheduler.ask(task_name(runs), self._given_up(session), remote.carry_out, *asked)
            except Gone:
                self.scheduler.wait_until_back(lambda: stop.exists() or self._closed)
                continue
            if answer is None:
                return
            if not answer.unsent:
                return self._take(answer, runs, store)
            self.apart = True

    def _given_up(self, session: Session) -> Callable[..., bool]:
        """Asks about a task whether to wait no longer for it; the first to see the client stop tells all workers."""
        told = False

        def given_up(task) -> bool:
            nonlocal told
            if not told and session.stop.exists():
                told = True
                with self._lock:
                    place = session.root, session.stop
                    if self._sessions.get(place) is session:  # the next call of lab.run is another session
                        del self._sessions[place]
                        self.scheduler.tell(remote.ask_to_stop, session.token)
                        session.sign.unlink(missing_ok=True)
                return task is None or not self.scheduler.begun(task)
            return self._closed

        return given_up

    def _take(self, answer: Answer, runs: Sequence[PlannedRun], store: Store) -> None:
        """Put into the store what came back, or wait until what a worker wrote there is to be seen."""
        self._compare(answer)
        if not answer.shared:
            unpack(answer.parcel.only(run.key for run in runs), store)
        until = time.monotonic() + VISIBLE_WITHIN
        while missing := [key for key in answer.finished if not store.has(key)]:
            if time.monotonic() > until:
                raise SpecError(
                    f"the worker {answer.worker} has finished run {missing[0]} in {store.root}, but it is not to be "
                    "seen here: is that one disk?"
                )
            with contextlib.suppress(OSError):
                os.listdir(store.root)  # asks a network's file system anew
            time.sleep(LOOK_EVERY)
        if answer.error is not None:
            raise answer.error

    def _compare(self, answer: Answer) -> None:
        """Say, once for each, that workers compute with something else than this machine does."""
        here, there = environment(), answer.environment
        if here["digest"] != there["digest"]:
            names = [n for n in here if n not in ("digest", "git", "kdlab") and here[n] != there.get(n)]
            parts = "; ".join(f"{name} {there.get(name)} there, {here[name]} here" for name in names)
            self.scheduler.say(
                f"workers compute in another environment ({there['digest']}) than this machine ({here['digest']}): "
                f"{parts}. Runs of the two are not alike to the last bit, and comparisons that mix them say so."
            )

    # ---- what goes along -----------------------------------------------------------------------------------------

    def _session(self, store: Store, stop: Path) -> Session:
        with self._lock:
            if (place := (store.root, stop)) not in self._sessions:
                variables = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
                folders = {name: os.environ[name] for name in FOLDERS if os.environ.get(name)}
                folders |= {"KDLAB_OUT": str(paths.home())}
                token = f"{paths.owner()}-{uuid.uuid4().hex}"  # so that others can tell when we are gone
                session = Session(token, store.root, stop, variables, folders)
                with store.disk():
                    session.sign.write_text(session.token)
                self._sessions[place] = session
            with contextlib.suppress(OSError):
                os.utime(self._sessions[place].sign)  # machines that cannot look for us go by this
            return self._sessions[place]

    def _parcel(self, runs: Sequence[PlannedRun], store: Store) -> Parcel | None:
        """What the cohort stands on; None where that is only to be sent if a worker does not see the store."""
        keys = dict.fromkeys(key for run in runs for key in (run.teacher and run.teacher.key, run.key) if key)
        if not self.apart and any(store.has(k) or store.checkpoint_path(k).exists() for k in keys):
            return None
        return pack(store, keys)


def task_name(runs: Sequence[PlannedRun]) -> str:
    """What trains, as Dask's dashboard shows it: methods, students and data, by which it groups; then the seed."""
    specs = [run.spec for run in runs]
    what = "teacher" if specs[0].role == "teacher" else ", ".join(dict.fromkeys(spec.method for spec in specs))
    models = ", ".join(dict.fromkeys(spec.model for spec in specs))
    name = f"{what}: {models} on {specs[0].data}".replace("-", "_")  # at a hyphen, Dask's groups end
    return f"{name}-{specs[0].seed}-{uuid.uuid4().hex[:8]}"
