"""What ``--cluster`` names: a scheduler that runs, processes of this machine, or jobs of SLURM; all by Dask."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from kdlab.errors import SpecError, check_integer, choose
from kdlab.lab.cluster import Cluster
from kdlab.lab.scheduler import open_client, workers_of

FORMS = ("tcp://HOST:8786", "local:4", "slurm")
JOBS = 4  # of SLURM, where --workers says nothing
MEMORY = "4GiB"  # of a job, where Dask's configuration says nothing


def read(name: str, workers: int | None = None) -> int | None:
    """Refuse what names no cluster.

    Args:
        name: as typed.
        workers: as typed by ``--workers``.

    Returns:
        The workers to cut cohorts for; None where only a scheduler knows them.

    Raises:
        SpecError: naming the choices, or what to install.
    """
    if local := re.fullmatch(r"local:(\d+)", name):
        if workers is not None:
            raise SpecError(f"--cluster {name} says how many workers there are; leave out --workers.")
        found = check_integer("the number of --cluster local:", int(local[1]), 1)
    elif name == "slurm":
        found = check_integer("--workers", JOBS if workers is None else workers, 1)
    elif re.fullmatch(r"(tcp|tls)://[^\s:/]+:\d+", name):
        found = workers
    else:
        choose("--cluster", name, FORMS)
    try:
        import distributed  # noqa: F401

        if name == "slurm":
            _jobqueue()
    except ImportError as error:
        raise SpecError(f"--cluster needs Dask ({error.name}); install it by: pip install 'kdlab[cluster]'") from error
    return found


@contextlib.contextmanager
def connected(name: str, workers: int | None = None) -> Iterator[Cluster]:
    """Start or find a cluster, and close what was started when the block ends.

    Args:
        name: one of ``FORMS``.
        workers: jobs of SLURM, or workers that are expected at a scheduler.

    Yields:
        The executor for ``lab.run``.

    Raises:
        SpecError: for what names no cluster, or a scheduler that does not answer.
    """
    number = read(name, workers)
    with contextlib.ExitStack() as stack:
        if name.startswith("local:"):
            started = stack.enter_context(_local(number))
            if number > 1 and _cuda():
                print(f"{number} workers share one GPU; local:1 has it alone. Several GPUs take a `dask worker` each.")
        elif name == "slurm":
            started = stack.enter_context(_slurm(number))
        client = stack.enter_context(open_client(started if "://" not in name else name))
        cluster = stack.enter_context(Cluster(client, number or 1))
        print(describe(client), flush=True)
        yield cluster


def describe(client) -> str:
    """Where the scheduler and its dashboard are, who works, and what about them is not as it should be."""
    there = workers_of(client)
    lines = [f"cluster: {len(there)} workers at {client.scheduler.address}, {_dashboard(client)}"]
    if many := [address for address, one in there.items() if one["nthreads"] > 1]:
        lines.append(
            f"note: a cohort trains on one thread, but the worker {many[0]} has {there[many[0]]['nthreads']}: start "
            "`dask worker ... --nworkers N --nthreads 1`"
        )
    return "\n  ".join(lines)


def _dashboard(client) -> str:
    """Where the dashboard is; Dask has one only where bokeh is installed, which its scheduler is asked."""
    try:
        client.run_on_scheduler(importlib.metadata.version, "bokeh")
    except Exception:
        return "no dashboard, which `pip install bokeh` beside the scheduler would give"
    return f"dashboard {client.dashboard_link}"


def _cuda() -> bool:
    return os.environ.get("KDLAB_DEVICE", "").startswith("cuda")


def _local(number: int, **options: Any):
    """Workers of this machine; on a GPU they share it, as processes do that ``--workers`` starts."""
    from distributed import LocalCluster

    asked = {
        "n_workers": number, "threads_per_worker": 1, "processes": True, "memory_limit": 0,
        "dashboard_address": "127.0.0.1:0", "preload": ["kdlab.lab.remote"], "resources": {"GPU": 1} if _cuda() else {},
    }  # fmt: skip
    return LocalCluster(**asked | options)


def job(**named: Any) -> dict[str, Any]:
    """What a job of SLURM is asked to be, beside what Dask's configuration (``jobqueue.slurm``) says."""
    import dask

    def configured(name: str) -> Any:
        return dask.config.get(f"jobqueue.slurm.{name}", None)

    cores = configured("cores") or 1
    known = ("KDLAB_", "OMP_NUM_THREADS")
    exports = [
        f"export {name}={shlex.quote(value)}" for name, value in sorted(os.environ.items()) if name.startswith(known)
    ]
    asked = {
        "cores": cores, "processes": cores, "memory": configured("memory") or MEMORY,
        "job_script_prologue": [*(configured("job-script-prologue") or []), *exports],
    }  # fmt: skip
    if _cuda():
        asked["job_extra_directives"] = [*(configured("job-extra-directives") or []), "--gres=gpu:1"]
        asked["worker_extra_args"] = [*(configured("worker-extra-args") or []), "--resources", "GPU=1"]
    return asked | named


def _jobqueue() -> ModuleType:
    """The module dask_jobqueue, whose import would make Ctrl-C end this process at once, without a clean stop."""
    heard = signal.getsignal(signal.SIGINT)
    import dask_jobqueue

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, heard)
    return dask_jobqueue


def job_script() -> str:
    """The script of a job, as ``sbatch`` gets it; nothing is started."""
    return _jobqueue().slurm.SLURMJob(scheduler="tcp://HERE:PORT", name="NAME", **job()).job_script()


@contextlib.contextmanager
def _slurm(number: int) -> Iterator[Any]:
    if not shutil.which("sbatch"):
        raise SpecError("--cluster slurm submits jobs by sbatch, which is not here; run it on a login node.")
    with _jobqueue().SLURMCluster(**job()) as cluster:
        cluster.adapt(minimum=number, maximum=number)  # a job that reaches its time limit is followed by another
        yield cluster
