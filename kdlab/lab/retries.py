"""Cohorts whose worker was lost: split and tried once more, then recorded as failed, while all others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kdlab.errors import SpecError
from kdlab.lab import damage
from kdlab.lab.cohort import Cohort
from kdlab.lab.planned import PlannedRun
from kdlab.lab.store import Store


class Lost(Exception):
    """A cohort's worker has ended without an answer, or could not get the memory that it needs.

    Args:
        reason: a clause with the worker as its subject.
    """


class FailedRuns(SpecError):
    """Runs whose workers were lost twice; everything else is in the store.

    Attributes:
        reasons: why, by key.
    """

    reasons: dict[str, str]

    def __init__(self, message: str, reasons: dict[str, str]):
        super().__init__(message)
        self.reasons = reasons


class Retries:
    """What is tried again, and what has failed.

    Args:
        store: where failures are recorded.

    Attributes:
        failed: why a run is not there, by key.
    """

    def __init__(self, store: Store):
        self.store, self.failed, self._tried = store, {}, set()

    def able(self, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        """The runs of a cohort whose teachers have not failed; the others fail with them."""
        orphans = {run.key: run.teacher_key for run in runs if run.teacher_key in self.failed}
        self._record({key: f"its teacher, run {teacher}, has failed" for key, teacher in orphans.items()})
        return [run for run in runs if run.key not in orphans]

    def outcome(self, cohort: Cohort, result: Callable[[], object]) -> list[Cohort]:
        """The halves of a cohort to try again, if its worker was lost; none after the second time.

        Args:
            cohort: that has ended.
            result: raises what it raised.
        """
        try:
            result()
        except Lost as error:
            left = [key for key in cohort.runs if not self.store.has(key)]
            again = [key for key in left if key not in self._tried]
            self._record({key: str(error) for key in left if key in self._tried})
            self._tried.update(again)
            if again:
                words = "is tried once more" if len(again) == 1 else f"{len(again)} runs are tried once more, in halves"
                damage.say(f"a worker was lost: {error}; {'its run ' if len(again) == 1 else 'its '}{words}.")
            half = (len(again) + 1) // 2
            return [_part(cohort, keys) for keys in (again[:half], again[half:]) if keys]
        return []

    def _record(self, reasons: dict[str, str]) -> None:
        self.failed |= reasons
        for key, reason in reasons.items():
            damage.say(f"run {key} has failed: {reason}.")
            self.store.put(f".failed/{key}", {"reason": reason})

    def error(self) -> FailedRuns:
        """What to raise at the end, in words."""
        (key, reason), *more = self.failed.items()
        others = f" {len(more)} more runs failed, too." if more else ""
        return FailedRuns(
            f"run {key} has failed twice: {reason}.{others} Everything else is in the store. Take fewer workers, "
            "smaller images or fewer originals a step, and run the same command again to try them anew.",
            dict(self.failed),
        )


def _part(cohort: Cohort, keys: Sequence[str]) -> Cohort:
    own = {key: seconds for key, seconds in cohort.own_seconds.items() if key in keys}
    return replace(cohort, runs={key: cohort.runs[key] for key in keys}, own_seconds=own)
