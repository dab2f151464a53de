"""The speed-up of a second worker: one perspective trained with one and with two, each from an empty store.

    python benchmarks/sweep.py [joint_augmentation] [--profile quick] [--repeats 1]

Prints seconds with one worker over seconds with two (start of the processes, teachers and all included), and how good
``lab.plan`` was: what it predicts for both from the rates that the first of these runs has measured, over what it took.
A quarter of an hour for joint augmentation in quick.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from paired import report, spread

from kdlab import lab, perspectives
from kdlab.lab.cohort import balanced, cohorts, makespan
from kdlab.lab.costs import Costs
from kdlab.lab.store import Store

BAR, PLAN_BAR = 1.8, 1.5


def train(specs: list, workers: int, folder: str) -> float:
    """Seconds of training a perspective from nothing; its runs are left in ``folder``."""
    started = time.perf_counter()
    lab.run(specs, workers=workers, progress=False, require_teacher=False, store=Store(Path(folder)))
    return time.perf_counter() - started


def predicted(specs: list, workers: int, measured: Path) -> float:
    """Seconds that ``lab.plan`` would predict for these specs, knowing the runs of a store but having none of them."""
    with tempfile.TemporaryDirectory() as empty:
        todo = lab.plan(specs, store=Store(Path(empty)))
        costs = Costs(Store(measured))
        costs.cached = {}
        lengths = {run.key: len(lab.lineage(run.spec)) for run in todo.todo}
        cut = balanced(cohorts(todo.todo, dict.fromkeys(lengths, 0), lengths, costs), workers, costs)
        return makespan(cut, workers)[0]


def main() -> None:
    """Train with one worker and with two, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("perspective", nargs="?", default="joint_augmentation")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    specs = perspectives.study(given.perspective, given.profile).specs
    print(f"{given.perspective} in {given.profile}: {len(lab.plan(specs).specs)} runs, {os.cpu_count()} cores")
    measured = []
    for repeat in range(given.repeats):
        seconds = {}
        with tempfile.TemporaryDirectory() as out:
            for workers in (1, 2) if repeat % 2 else (2, 1):
                seconds[workers] = train(specs, workers, f"{out}/{workers}")
                print(f"  {workers} worker(s): {seconds[workers]:.0f} s", flush=True)
            for workers in (1, 2):
                plan = predicted(specs, workers, Path(out) / "1")
                factor = plan / seconds[workers]
                print(f"  plan for {workers}: {plan:.0f} s, {factor:.2f} of what it took (bar {1 / PLAN_BAR:.2f} to "
                      f"{PLAN_BAR})", flush=True)  # fmt: skip
        measured.append((seconds[1], seconds[2]))
    report("one worker over two", spread(measured), BAR)


if __name__ == "__main__":
    main()
