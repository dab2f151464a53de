"""Training beside a notebook: in another process, watched from a thread, stopped at the end of a step."""

from __future__ import annotations

import concurrent.futures as futures
import threading
from collections.abc import Callable, Sequence
from typing import Any

from kdlab import lab
from kdlab.lab.keys import steps
from kdlab.lab.processes import start
from kdlab.lab.store import Store
from kdlab.spec import RunSpec

WATCH_EVERY = 0.5  # seconds
_pool: futures.Executor | None = None
_pool_lock = threading.Lock()


def pool() -> futures.Executor:
    """The one process that trains for all widgets of a kernel; it stays warm, since starting it takes seconds."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = start(1)
        return _pool


class BackgroundRun:
    """Runs to train, and where they stand. The store holds all there is to know; nothing is lost with this object.

    Args:
        specs: what to train; teachers that they need are trained as well.
        on_progress: called about twice a second while it trains and once at the end, in a thread.
        require_teacher: as in ``lab.run``.

    Attributes:
        state: ``"new"``, ``"running"``, ``"paused"``, ``"done"`` or ``"failed"``.
        error: what stopped a failed one.
        runs: all runs by key, teachers first.
    """

    def __init__(
        self, specs: Sequence[RunSpec], on_progress: Callable[[], None] = lambda: None, require_teacher: bool = True
    ):
        self.specs, self.on_progress, self.state, self.error = list(specs), on_progress, "new", None
        self.require_teacher = require_teacher
        self.store = Store()
        self.runs = dict(lab.plan(self.specs, store=self.store).specs)
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> BackgroundRun:
        """Train, or go on where a pause left off; does nothing while it runs."""
        if self.state not in ("running", "done"):
            self._halt.clear()
            self.state, self.error = "running", None
            self._thread = threading.Thread(target=self._work, name="kdlab-run", daemon=True)
            self._thread.start()
            threading.Thread(target=self._watch, name="kdlab-watch", daemon=True).start()
        return self

    def pause(self) -> None:
        """Ask for a stop at the end of the step; checkpoints stay."""
        self._halt.set()

    def forget(self) -> None:
        """Throw the checkpoints of unfinished runs away; finished ones stay in the store."""
        for key in self.runs:
            self.store.checkpoint_path(key).unlink(missing_ok=True)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it neither trains nor is about to; False when that takes longer."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _work(self) -> None:
        try:
            lab.run(
                self.specs, workers=1, progress=False, executor=pool(), halt=self._halt, store=self.store,
                require_teacher=self.require_teacher,
            )  # fmt: skip
            self.state = "done"
        except lab.Halted:
            self.state = "paused"
        except Exception as error:  # whatever it is, the widget shows it
            self.state, self.error = "failed", error

    def _watch(self) -> None:
        while not self.wait(WATCH_EVERY):
            self.on_progress()
        self.on_progress()

    def progress(self) -> dict[str, dict[str, Any]]:
        """Where each run stands, teachers first.

        Returns:
            Key to ``step``, ``total``, ``done``, ``curve`` (points on val so far) and, in training, ``train_loss``.
        """
        now = {}
        for key, spec in self.runs.items():
            total = steps(spec)
            if self.store.has(key):
                curve = self.store.read(key, "result")["curve"]
                now[key] = {"step": total, "total": total, "done": True, "curve": curve}
            else:
                now[key] = {"step": 0, "curve": [], "train_loss": None} | (self.store.lease(key) or {})
                now[key] |= {"total": total, "done": False}
        return now
