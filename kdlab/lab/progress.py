"""A progress bar that knows what is left: cohorts of unequal length on several workers, at the speed seen so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from kdlab.lab.cohort import Cohort, makespan
from kdlab.lab.store import Store

TRUSTED = 60.0  # seconds of work as predicted, which outweigh what was seen in the first moments


class Bar:
    """How much of the predicted work is done, and when the last worker will end; fed by the store.

    Finished runs count whole, claimed ones by their step. The time left is that of the remaining work spread over the
    workers as ``lab.run`` spreads it, times how much slower than predicted the work done so far went.

    Args:
        cohorts: what is trained, in the order in which it starts.
        store: where the runs will appear.
        workers: processes, >= 1.
        shown: False draws nothing.
    """

    def __init__(self, cohorts: list[Cohort], store: Store, workers: int, shown: bool = True):
        from tqdm import tqdm

        self.cohorts, self.store, self.workers = cohorts, store, workers
        runs = {key: run for cohort in cohorts for key, run in cohort.runs.items()}
        self.total = {key: run.steps for key, run in runs.items()}
        self.images = {key: run.rows for key, run in runs.items()}
        begun = store.begun()
        self.at = {k: min(store.steps_done(k), n) if k in begun else 0 for k, n in self.total.items()}
        self.open = set(runs)
        self.before, self.busy, self.clock, self.next = self.done(), 0.0, time.monotonic(), 0.0
        self.bar = tqdm(
            total=sum(cohort.seconds for cohort in cohorts), disable=not shown, file=sys.stdout,
            mininterval=1.0 if sys.stdout.isatty() else 20.0,  # a log is not a screen
            bar_format="{percentage:3.0f}% |{bar:24}| {elapsed}<{postfix}",
        )  # fmt: skip

    def _left(self, cohort: Cohort) -> float:
        return cohort.seconds_left({k: 1 - self.at[k] / self.total[k] for k in cohort.runs})

    def done(self) -> float:
        """Predicted seconds of the work that is done."""
        return sum(cohort.seconds - self._left(cohort) for cohort in self.cohorts)

    def remaining(self) -> float:
        """Seconds until the last worker ends."""
        slower = (self.busy + TRUSTED) / (self.done() - self.before + TRUSTED)
        begun = sorted(self.cohorts, key=lambda cohort: all(self.at[k] == 0 for k in cohort.runs))
        return slower * makespan(begun, self.workers, self._left)[0]

    def drop(self, keys: Iterable[str]) -> None:
        """Count runs that will not be trained as done."""
        for key in keys:
            self.at[key] = self.total[key]
            self.open.discard(key)

    def update(self) -> None:
        """Read where the open runs stand, unless that would take more than a tenth of the time."""
        now = time.monotonic()
        if now < self.next:
            return
        unfinished = sum(not self.open.isdisjoint(cohort.runs) for cohort in self.cohorts)
        for key in list(self.open):
            if self.store.has(key):
                self.at[key] = self.total[key]
                self.open.discard(key)
            elif lease := self.store.lease(key):
                self.at[key] = max(self.at[key], lease.get("step", 0))
        if any(self.at.values()):  # before that, processes start
            self.busy += (now - self.clock) * min(self.workers, unfinished)
        self.clock = now
        self.bar.set_postfix_str(self._words(), refresh=False)
        self.bar.update(self.done() - self.bar.n)
        self.next = now + 10 * (time.monotonic() - now)

    def _words(self) -> str:
        minutes, seconds = divmod(round(self.remaining()), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
        seen, all_images = (sum(at[k] * self.images[k] for k in self.total) for at in (self.at, self.total))
        runs = f"{len(self.total) - len(self.open)}/{len(self.total)} runs"
        return f"{left}  {runs}, {seen / 1e6:.2f} of {all_images / 1e6:.2f} M images"

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.next = 0.0
        self.update()
        self.bar.close()
