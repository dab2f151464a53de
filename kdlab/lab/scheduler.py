"""A Dask scheduler, as a client of it sees it: who works there, what it answers, and whether it is there at all."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from kdlab import settings
from kdlab.errors import SpecError
from kdlab.lab import damage, remote, worker
from kdlab.lab.retries import Lost

LOOK_EVERY = 0.5
ANSWER_WITHIN = 5.0  # seconds a scheduler may take to answer
AWAY = 300.0  # seconds a scheduler that was there may be away
RETRIES = 1  # of what fails otherwise than by a mistake in what was asked for


class Gone(Exception):
    """The scheduler went away, and a task with it."""


def open_client(address: Any):
    """A client of the scheduler at an address, or of a cluster that was started here.

    Raises:
        SpecError: when none answers within a few seconds.
    """
    from distributed import Client

    try:
        return Client(address, timeout=ANSWER_WITHIN, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SpecError(
            f"no Dask scheduler answers at {address}: is `dask scheduler` running there, and does its port let us in?"
        ) from error


def workers_of(client) -> dict[str, dict[str, Any]]:
    """What a scheduler says of each of its workers, by address.

    Not from ``client.scheduler_info``: a client refreshes what that returns on its own, without any worker in it, and a
    refresh between the question and the answer makes it look as if all were gone.
    """
    return client.sync(client.scheduler.identity, n_workers=-1)["workers"]


class Scheduler:
    """Gives tasks to a scheduler, and waits for it when it goes away.

    Args:
        client: of the scheduler; another takes its place when the scheduler comes back after a while.
    """

    def __init__(self, client):
        self.client, self.address = client, client.scheduler.address
        self._lock, self._said = threading.Lock(), set()
        self._there: list[dict[str, Any]] = []
        self._look_again = 0.0
        self._free, self._asked = threading.Condition(), 0
        self._silence, self._silent = settings.silence(), {}
        self._watching, self._watch_again = threading.Lock(), time.monotonic() + self._watch_every

    @property
    def _watch_every(self) -> float:
        return min(60.0, self._silence / 4)

    # ---- workers -------------------------------------------------------------------------------------------------

    def look(self) -> list[dict[str, Any]]:
        """What the scheduler says of each worker, asked twice a second at most; meanwhile others go by what it said."""
        if time.monotonic() > self._look_again and self._lock.acquire(blocking=not self._there):
            try:
                if time.monotonic() > self._look_again and self.client.status == "running":
                    with contextlib.suppress(Exception):  # it may go at any moment
                        self._there = list(workers_of(self.client).values())
                    self._look_again = time.monotonic() + LOOK_EVERY
            finally:
                self._lock.release()
        return self._there

    def on_gpu(self) -> bool:
        """Whether tasks need the resource GPU: where a GPU is asked for, or nothing is and workers have one."""
        device = os.environ.get("KDLAB_DEVICE", "")
        return device.startswith("cuda") or (not device and any("GPU" in one["resources"] for one in self.look()))

    def able(self) -> int:
        """How many workers can take a task."""
        gpu = self.on_gpu()
        return sum(1 for one in self.look() if not gpu or "GPU" in one["resources"])

    def say_if_none(self) -> None:
        """Tell the person once that no worker can take a task."""
        if self.client.status == "running" and not self.able():
            gpu = " --resources GPU=1" if self.on_gpu() else ""
            self.say(f"cohorts wait for a worker; `dask worker {self.address} --nthreads 1{gpu}` starts one.")

    # ---- tasks ---------------------------------------------------------------------------------------------------

    def ask(self, name: str, given_up: Callable[[Any], bool], function: Callable[..., Any], *arguments: Any) -> Any:
        """Have a worker call a function.

        Args:
            name: of the task, unlike any other.
            given_up: asked about the task now and then, or about None before there is one; True cancels it.
            function: which one.
            *arguments: of it.

        Returns:
            What it returns; None where it was given up.

        Raises:
            Gone: when the scheduler went away meanwhile.
            Lost: when its workers died so often that Dask gave it up, or its worker was ended since it hung.
            SpecError: when a worker has another kdlab, or none.
        """
        while not self._room():
            if given_up(None):
                return None
        try:
            return self._ask(name, given_up, function, *arguments)
        finally:
            with self._free:
                self._asked -= 1
                self._free.notify()

    def _room(self) -> bool:
        """Take one of as many places as there are workers, or wait a moment.

        Dask suspects every task that a dead worker had, also one that only waited behind what killed it.
        """
        places = max(1, self.able())
        with self._free:
            if self._asked < places:
                self._asked += 1
                return True
            self._free.wait(LOOK_EVERY)
            return False

    def _ask(self, name: str, given_up: Callable[[Any], bool], function: Callable[..., Any], *arguments: Any) -> Any:
        done, resources = threading.Event(), {"GPU": 1} if self.on_gpu() else None
        try:
            task = self.client.submit(function, *arguments, key=name, retries=RETRIES, resources=resources)
            task.add_done_callback(lambda _: done.set())
        except Exception as error:  # Dask has several for a client that lost its scheduler
            raise Gone from error
        while not (done.wait(LOOK_EVERY) or task.done()):
            self.say_if_none()
            if hung := self._hangs(name) and not task.done():
                self._end_worker_of(task)
            if hung or given_up(task):
                with contextlib.suppress(Exception):
                    task.cancel()
                if hung:
                    raise Lost(worker.no_sign(self._silence))
                return None
        return self._result(task)

    def _hangs(self, name: str) -> bool:
        """Whether a task's worker has seen no sign of life of it for too long; all are asked, now and then."""
        if self._watching.acquire(blocking=False):
            try:
                if time.monotonic() > self._watch_again:
                    with contextlib.suppress(Exception):
                        said = self.client.run(remote.silences, on_error="ignore")
                        self._silent = {task: seconds for one in said.values() for task, seconds in one.items()}
                    self._watch_again = time.monotonic() + self._watch_every
            finally:
                self._watching.release()
        return self._silent.get(name, 0.0) > self._silence

    def _end_worker_of(self, task) -> None:
        """Have the worker of a task that hangs killed and started anew, or left out where nothing watches over it."""
        with contextlib.suppress(Exception):
            workers = [one for one, keys in self.client.processing().items() if task.key in keys]
            task.cancel()  # else it would go to another worker
            try:
                self.client.restart_workers(workers, timeout=ANSWER_WITHIN, raise_for_error=False)
            except ValueError:
                self.client.retire_workers(workers)

    def _result(self, task) -> Any:
        from distributed import KilledWorker

        try:
            return task.result()
        except KilledWorker as error:
            more = error.allowed_failures
            raise Lost("it died" + (f", and so did {more} that took its cohort over" if more else "")) from error
        except BaseException as error:
            if task.status != "error":  # no answer of a worker: cancelled, or closed
                raise Gone from error
            if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "kdlab":
                words = f"a worker of {self.address} has no {error.name}: install this version of kdlab there."
                raise SpecError(words) from error
            raise

    def begun(self, task) -> bool:
        """Whether a worker has a task."""
        with contextlib.suppress(Exception):
            return any(task.key in keys for keys in self.client.processing().values())
        return False

    def tell(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have every worker that can be reached call a function at once, beside its task."""
        with contextlib.suppress(Exception):
            self.client.run(function, *arguments, on_error="ignore")

    # ---- coming and going ----------------------------------------------------------------------------------------

    def wait_until_back(self, given_up: Callable[[], bool]) -> None:
        """Wait for a scheduler that was lost.

        Args:
            given_up: asked twice a second; True ends the waiting.

        Raises:
            SpecError: when it stays away.
        """
        self.say(gone := f"the scheduler at {self.address} is gone; waiting for it to come back.")
        until = time.monotonic() + AWAY
        while time.monotonic() < until and not given_up():
            with self._lock, contextlib.suppress(Exception):
                if self.client.status == "closed":
                    self.client = open_client(self.address)
                if self.client.status == "running":
                    workers_of(self.client)
                    self._said.discard(gone)
                    return
            time.sleep(LOOK_EVERY)
        if not given_up():
            raise SpecError(
                f"the scheduler at {self.address} did not come back within {AWAY / 60:.0f} minutes. Finished runs are "
                "kept, the others go on from their checkpoints: start it, then give the same command again."
            )

    def say(self, words: str) -> None:
        """Tell the person something once."""
        if words not in self._said:
            self._said.add(words)
            damage.say(words)
