"""What a Dask cluster costs: seconds a cohort beside its training, and how evenly workers share a sweep.

    python benchmarks/cluster.py [--sleeping]

Cohorts that sleep show what planning, sending and waiting cost, whatever the machine: one after another without sleep,
then on 1, 2 and 4 processes, then 1,024 of them on 64 workers that live in four processes beside the scheduler's. These
64 are spared what a Dask worker measures of its machine and of its own threads all the time (2.5 % of a core each,
idle): it would be 64 machines' work on one. The client and the scheduler do all of theirs. Cohorts that train show what
is left on this machine's cores (left out with ``--sleeping``), also beside as many processes of ``lab.run`` without
Dask. Efficiency is the time that workers slept or would have trained, over the number of workers times the time it
took; beside processes without Dask, their time over Dask's. Everything is written to a temporary folder.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdlab import lab
from kdlab.lab import running, worker
from kdlab.lab.cluster import Cluster
from kdlab.lab.processes import Pool
from kdlab.lab.store import Store
from kdlab.lab.teachers import Gate
from kdlab.spec import Budget, RunSpec

# What simulated workers do not measure all the time of their machine, their event loop and their threads.
QUIET = {
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "1h", "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}  # fmt: skip
SPEC = RunSpec(sizes=(640, 200, 500), model="resnet8_s2_w4", budget=Budget(200, "steps", 32))


def main() -> None:
    """Measure everything, a line at a time."""
    with cluster(1) as one:
        sleep(one, 1, 1, 0.0)  # the worker has imported what it needs
        print(f"a cohort that does nothing: {1000 * sleep(one, 1, 100, 0.0) / 100:.0f} ms", flush=True)
    for workers in (1, 2, 4):
        with cluster(workers) as some:
            sleep(some, workers, 4 * workers, 0.0)
            report(f"{workers} processes, 16 cohorts each of 1 s", 16 / sleep(some, workers, 16 * workers, 1.0))
    with simulated(64, processes=4) as many:
        sleep(many, 64, 64, 0.0)
        report("64 simulated workers, 1,024 cohorts of 5 s", 80 / sleep(many, 64, 1024, 5.0), "bar 95 %")
    if "--sleeping" not in sys.argv:
        without = {workers: train(workers, None) for workers in (1, 2, 4)}
        for workers in without:
            with cluster(workers) as some:
                took = train(workers, some)
            what = f"{workers} processes of Dask that train, {os.cpu_count()} cores"
            report(f"{what}, beside {workers} processes without Dask", without[workers] / took)
            report(f"{what}, beside one without Dask", without[1] / (workers * took))


def report(what: str, efficiency: float, bar: str = "no bar") -> None:
    """Print a line."""
    print(f"{what}: efficiency {100 * efficiency:.1f} % ({bar})", flush=True)


@contextlib.contextmanager
def cluster(workers: int):
    """An executor on so many processes of this machine."""
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": ":0"}
    with LocalCluster(n_workers=workers, **options) as started, Client(started, set_as_default=False) as client:
        with Cluster(client) as executor:
            yield executor


@contextlib.contextmanager
def simulated(workers: int, processes: int):
    """An executor on so many workers, which share a few processes; the scheduler has one of its own."""
    from distributed import Client

    each = {str(n): {"cls": "distributed.Worker", "opts": {"nthreads": 1}} for n in range(workers // processes)}
    with contextlib.ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "scheduler"

        def start(*words: str, **variables: str) -> None:
            words = sys.executable, "-m", "dask", *words
            stack.callback(subprocess.Popen(words, env=os.environ | variables, stderr=subprocess.DEVNULL).terminate)

        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        while not file.exists():
            time.sleep(0.1)
        client = stack.enter_context(Client(scheduler_file=str(file), set_as_default=False))
        for _ in range(processes):
            start("spec", client.scheduler.address, "--spec", json.dumps(each), **QUIET)
        client.wait_for_workers(workers)
        yield stack.enter_context(Cluster(client))


def nap(runs, root, stop, seconds: float) -> None:
    """Stand in for the training of a cohort."""
    time.sleep(seconds)


def sleep(executor: Cluster, workers: int, cohorts: int, seconds: float) -> float:
    """Seconds that ``lab.run`` takes for cohorts that sleep, once they are planned."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        todo = lab.plan([SPEC.at_seed(seed) for seed in range(cohorts)], workers=workers, store=store)
        assert len(todo.cohorts) == cohorts
        trained, worker.train_cohort = worker.train_cohort, functools.partial(nap, seconds=seconds)
        try:
            started = time.perf_counter()
            running._train(todo, store, workers, False, executor, lambda keys: None, None, Gate(lambda run: {}, False))
            return time.perf_counter() - started
        finally:
            worker.train_cohort = trained


def train(workers: int, executor: Cluster | None) -> float:
    """Seconds of a sweep of eight cohorts in an empty store, by processes that have trained before.

    Args:
        workers: number of processes.
        executor: of Dask; None takes processes of ``lab.run``'s own.
    """
    with contextlib.ExitStack() as stack:
        executor = executor or stack.enter_context(Pool(workers))
        for seeds in (range(100, 100 + 2 * workers), range(8)):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            started = time.perf_counter()
            lab.run(
                [SPEC.at_seed(seed) for seed in seeds], executor=executor, workers=workers, progress=False,
                require_teacher=False, store=Store(Path(folder)),
            )  # fmt: skip
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
