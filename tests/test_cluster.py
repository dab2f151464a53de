"""Cohorts elsewhere: on any executor, and as tasks of Dask; the bits are those of this machine's own processes."""

import concurrent.futures as futures
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from dask.utils import key_split
from distributed import Client, LocalCluster

from kdlab import lab
from kdlab.cli import cluster as named
from kdlab.cli.figures import figures
from kdlab.errors import SpecError
from kdlab.lab import remote, scheduler, worker
from kdlab.lab.cluster import Cluster, task_name
from kdlab.lab.damage import Damaged
from kdlab.lab.planned import planned
from kdlab.lab.scheduler import Lost, Scheduler
from kdlab.lab.store import Store
from kdlab.lab.travel import Parcel, pack, unpack
from kdlab.spec import Budget, RunSpec

TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(4, "steps", 32), role="teacher")
STUDENT = TEACHER.replace(role="student", method="kd", teacher=TEACHER, views=2, augmentation="jda", ratio=0.5)
SPECS = [STUDENT, STUDENT.replace(augmentation="weak", ratio=0.0)]
INSIDE = {"processes": False, "threads_per_worker": 1, "dashboard_address": ":0"}


@pytest.fixture(scope="module")
def client():
    """Of a scheduler with two workers, all in this process."""
    with LocalCluster(n_workers=2, **INSIDE) as started, Client(started, set_as_default=False) as client:
        yield client


@pytest.fixture
def cluster(client):
    with Cluster(client) as cluster:
        yield cluster


@pytest.fixture
def apart(monkeypatch):
    """Workers that do not see the client's store."""
    monkeypatch.setattr(remote.Session, "seen", lambda session: False)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The store of what this process trains."""
    store = Store(tmp_path_factory.mktemp("here") / "runs")
    run(SPECS, store, workers=0)
    return store


def run(specs, store, **options):
    return lab.run(specs, **{"progress": False, "require_teacher": False, "store": store} | options)


def bits(store):
    """Everything that training decides: weights and logits, and the curve, by key."""
    files = [f"{name}.safetensors" for name in ("student", "logits", "method")]
    return {
        key: [*((store.root / key / file).read_bytes() for file in files), store.read(key, "result")["curve"]]
        for key in store.keys()
    }


def left(store):
    """What stands beside the runs and is of a sweep that is over."""
    names = {path.name for path in store.root.iterdir()} - {*store.keys(), ".taught", ".lock"}
    return {name for name in names if (store.root / name).is_file() or any((store.root / name).iterdir())}


# ---- the same bits -------------------------------------------------------------------------------------------------


def test_any_executor_gives_the_same_bits(tmp_path, here):
    with futures.ThreadPoolExecutor(2) as pool:
        table = run(SPECS, Store(tmp_path), executor=pool, workers=2)
    assert len(table) == 2 and bits(Store(tmp_path)) == bits(here)


def test_dask_gives_the_same_bits_in_the_store_that_all_see(cluster, tmp_path, here):
    store = Store(tmp_path)
    run(SPECS, store, executor=cluster)
    assert bits(store) == bits(here) and cluster.workers == 2 and not cluster.apart
    cluster.shutdown()
    assert left(store) == set()


def test_runs_travel_where_only_the_client_sees_the_store(cluster, client, tmp_path, here, apart):
    store = Store(tmp_path)
    table = run(SPECS, store, executor=cluster)
    assert bits(store) == bits(here) and cluster.apart and len(table) == 2
    assert [store.damaged(key) for key in store.keys()] == [[], [], []]
    cluster.shutdown()
    assert left(store) == set()
    there = [path for one in client.cluster.workers.values() for path in Path(one.local_directory).glob("kdlab/*/*")]
    assert there and {path.name for path in there} <= {
        ".taught",
        ".leases",
        ".checkpoints",
        ".building",
        ".lock",
        lab.run_key(TEACHER),
    }


BEGAN = threading.Event()


def train_a_step(runs, root, stop):
    """Train until asked to stop, which is looked at after the first step."""
    BEGAN.set()
    while not stop.exists():
        pass
    TRAIN(runs, root, stop)


TRAIN = worker.train_cohort


@pytest.mark.parametrize("where", ["apart", "together"])
def test_a_stop_keeps_checkpoints_and_the_next_call_goes_on(where, cluster, tmp_path, here, monkeypatch, request):
    if where == "apart":
        request.getfixturevalue("apart")
    store, key, halt = Store(tmp_path), lab.run_key(TEACHER), threading.Event()
    monkeypatch.setattr(worker, "train_cohort", train_a_step)
    BEGAN.clear()
    watch = threading.Thread(target=lambda: BEGAN.wait() and halt.set())
    watch.start()
    with pytest.raises(lab.Halted):
        run(SPECS, store, executor=cluster, halt=halt)
    watch.join()
    assert store.steps_done(key) == 1 and store.keys() == []
    monkeypatch.setattr(worker, "train_cohort", TRAIN)
    begun = []
    monkeypatch.setattr(
        worker.Keeper,
        "restore",
        lambda self, arm, load=worker.Keeper.restore: load(self, arm) or begun.append(arm.step),
    )
    run(SPECS, store, executor=cluster)
    assert bits(store) == bits(here) and begun == [1, 0, 0]


# ---- parcels -------------------------------------------------------------------------------------------------------


def test_a_parcel_that_is_not_what_was_written_is_refused(tmp_path, here):
    key, store = lab.run_key(TEACHER), Store(tmp_path)
    sent = pack(here, [key, "0" * 16])
    assert set(sent.runs) == {key} and sent.checkpoints == {}
    whole, other = sent.runs[key], next(k for k in here.keys() if k != key)
    student = bytearray(whole["student.safetensors"])
    student[-1] ^= 1
    wrong = [
        whole | {"student.safetensors": bytes(student)},
        {name: content for name, content in whole.items() if name != "logits.safetensors"},
        whole | {"../../outside": b""},
        pack(here, [other]).runs[other],
        whole | {"done.json": b"{"},
        {},
    ]
    for files in wrong:
        with pytest.raises(Damaged, match=key):
            unpack(Parcel({key: files}), store)
        assert not any(path.is_file() for path in tmp_path.rglob("*"))
    unpack(sent, store)
    unpack(sent, store)
    assert {path.name: path.read_bytes() for path in (tmp_path / key).iterdir()} == whole


def test_a_run_that_is_damaged_is_not_sent(tmp_path, here):
    unpack(pack(here, here.keys()), Store(tmp_path))
    key = lab.run_key(TEACHER)
    (tmp_path / key / "result.json").write_text("{}")
    with pytest.raises(Damaged, match="result.json cannot be read .it no longer matches its checksum"):
        pack(Store(tmp_path), [key])


# ---- what goes wrong -----------------------------------------------------------------------------------------------


def refuse(runs, root, stop):
    raise SpecError("there is no folder /photos.")


def stumble(runs, root, stop):
    raise ModuleNotFoundError("No module named 'kdlab.lab.new'", name="kdlab.lab.new")


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (refuse, "on the worker inproc://.*: there is no folder /photos.*same paths"),
        (stumble, "has no kdlab.lab.new: install"),
    ],
)
def test_what_a_worker_lacks_is_said(train, words, cluster, tmp_path):
    with pytest.raises(SpecError, match=words):
        cluster.submit(train, [planned(TEACHER)], tmp_path, tmp_path / "stop").result()


def test_what_stands_in_a_script_cannot_go_to_a_worker(cluster, tmp_path):
    run_of_script = SimpleNamespace(spec=SimpleNamespace(model="__main__:Net", method="ce", augmentation="weak"))
    with pytest.raises(SpecError, match="__main__"):
        cluster.submit(refuse, [run_of_script], tmp_path, tmp_path / "stop")


def test_a_cohort_whose_scheduler_was_lost_is_given_to_it_again(cluster, tmp_path, here, monkeypatch, capsys):
    tried, ask = [], Scheduler.ask

    def lost_once(self, name, *rest):
        tried.append(name)
        if len(tried) == 1:
            raise Lost
        return ask(self, name, *rest)

    monkeypatch.setattr(Scheduler, "ask", lost_once)
    run(SPECS, Store(tmp_path), executor=cluster)
    assert bits(Store(tmp_path)) == bits(here) and len(tried) > 2
    assert "is gone; waiting for it" in capsys.readouterr().err


def test_a_scheduler_that_stays_away_is_given_up(client, monkeypatch):
    monkeypatch.setattr(scheduler, "AWAY", 0.0)
    with pytest.raises(SpecError, match="did not come back within 0 minutes. Finished runs are kept"):
        Scheduler(client).wait_until_back(lambda: False)


def test_a_worker_that_joins_late_is_waited_for(tmp_path, here, monkeypatch):
    with LocalCluster(n_workers=0, **INSIDE) as started, Client(started, set_as_default=False) as client:
        said = []
        monkeypatch.setattr(Scheduler, "say", lambda self, words: said.append(words) or started.scale(1))
        with Cluster(client, expected=3) as late:
            assert late.workers == 3
            run([TEACHER], Store(tmp_path), executor=late)
            time.sleep(scheduler.LOOK_EVERY)  # the scheduler is not asked more often
            assert late.workers == 1
    assert "cohorts wait for a worker; `dask worker inproc://" in said[0]
    assert bits(Store(tmp_path)).items() <= bits(here).items()


def test_workers_that_compute_otherwise_are_named(cluster, capsys):
    other = remote.environment() | {"digest": "other", "torch": "1.0"}
    for _ in range(2):
        cluster._compare(remote.Answer("tcp://one", other, True))
    said = capsys.readouterr().err
    assert said.count("workers compute in another environment (other)") == 1 and "torch 1.0 there" in said


def test_cohorts_ask_for_a_gpu_where_one_is_meant(monkeypatch):
    seen = SimpleNamespace(scheduler=SimpleNamespace(address="tcp://x:1"), status="running")
    seen.scheduler_info = lambda n_workers: {"workers": {"a": {"resources": {}}, "b": {"resources": {"GPU": 1}}}}
    for device, on_gpu, able in (("", True, 1), ("cuda", True, 1), ("cpu", False, 2)):
        monkeypatch.setenv("KDLAB_DEVICE", device)
        assert (Scheduler(seen).on_gpu(), Scheduler(seen).able()) == (on_gpu, able)


def test_the_dashboard_says_what_trains():
    name = task_name([planned(spec) for spec in (STUDENT, STUDENT.replace(method="dkd"))])
    assert key_split(name) == "kd, dkd: resnet8_s2_w4 on fashion" and "-0-" in name
    assert key_split(task_name([planned(TEACHER)])) == "teacher: resnet8_s2_w4 on fashion"


# ---- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "workers", "words"),
    [
        ("nonsense", None, r"--cluster must be one of \[tcp://HOST:8786, local:4, slurm\], but got 'nonsense'"),
        ("slrum", None, "Did you mean 'slurm'"),
        ("head:8786", None, "Did you mean 'tcp://HOST:8786'"),
        ("local", None, "Did you mean 'local:4'"),
        ("local:0", None, "at least 1, but got 0"),
        ("local:2", 3, "leave out --workers"),
        ("slurm", 0, "--workers must be an integer of at least 1"),
    ],
)
def test_what_names_no_cluster_is_refused(name, workers, words):
    with pytest.raises(SpecError, match=words):
        figures(None, "smoke", {}, [], workers=workers, cluster_name=name, only_plan=True)


@pytest.mark.parametrize(("module", "name"), [("distributed", "local:2"), ("dask_jobqueue", "slurm")])
def test_dask_that_is_not_installed_is_named(module, name, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SpecError, match=r"pip install 'kdlab\[cluster\]'"):
        named.read(name)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(scheduler, "ANSWER_WITHIN", 0.3)
    with pytest.raises(SpecError, match="no Dask scheduler answers at tcp://127.0.0.1:1:"):
        with named.connected("tcp://127.0.0.1:1"):
            pass


def test_slurm_is_missing_here(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpecError, match="sbatch"), named.connected("slurm"):
        pass


def test_the_script_of_a_job(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "two words"))
    monkeypatch.setenv("KDLAB_DEVICE", "cuda")
    heard = signal.getsignal(signal.SIGINT)
    assert figures(["ccd"], "smoke", {}, [], cluster_name="slurm", only_plan=True)
    assert signal.getsignal(signal.SIGINT) is heard, "dask_jobqueue has its own idea of Ctrl-C"
    said = capsys.readouterr().out
    assert f"on a GPU, {named.JOBS} process(es)" in said
    lines = said[said.index("#!/usr/bin/env bash") :].splitlines()
    assert {"#SBATCH -n 1", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=4G", "#SBATCH --gres=gpu:1"} <= set(lines)
    assert {
        f"export KDLAB_OUT='{tmp_path / 'two words'}'",
        "export KDLAB_DEVICE=cuda",
        "export OMP_NUM_THREADS=1",
    } <= set(lines)
    command = next(line for line in lines if "dask_worker" in line)
    assert "-m distributed.cli.dask_worker tcp://HERE:PORT" in command and "--nthreads 1" in command
    assert "--resources GPU=1" in command


# ---- real processes ------------------------------------------------------------------------------------------------

LONGER = Budget(1000, "steps", 32)  # seconds, so that there is time to kill what trains
LONG_TEACHER = TEACHER.replace(budget=LONGER)
LONG = STUDENT.replace(teacher=LONG_TEACHER, budget=LONGER)


class Processes:
    """A scheduler and its workers, each a process of its own; their output goes to files."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.address, self.all = folder, f"tcp://127.0.0.1:{self.port}", []

    def start(self, kind, *options, before=()):
        command = [*before, sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        with open(self.folder / f"{kind}-{len(self.all)}.log", "wb") as log:
            self.all.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True))
        return self.all[-1]

    def scheduler(self):
        return self.start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--dashboard-address", ":0")

    def worker(self, **options):
        return self.start("worker", self.address, "--nthreads", "1", "--local-directory", str(self.folder), **options)

    def end(self):
        for process in self.all:
            process.terminate()
        for process in self.all:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def processes(tmp_path):
    (tmp_path / "dask").mkdir()
    started = Processes(tmp_path / "dask")
    yield started
    started.end()


@pytest.fixture(scope="module")
def long_here(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("long") / "runs")
    run([LONG], store, workers=0)
    return store


def pid_in_training(store, key, but=None):
    """The process that trains a run, when it has made some steps, and is another one."""
    while not (lease := store.lease(key)) or lease.get("step", 0) < 5 or lease["pid"] == but:
        assert not store.has(key)
        time.sleep(0.02)
    return lease["pid"]


@pytest.mark.slow
def test_a_late_worker_a_killed_worker_and_a_scheduler_that_starts_again(processes, tmp_path, long_here, capfd):
    store, first = Store(tmp_path / "runs"), processes.scheduler()
    with named.connected(processes.address) as cluster, futures.ThreadPoolExecutor(1) as thread:
        sweep = thread.submit(run, [LONG], store, executor=cluster)
        while "cohorts wait for a worker" not in capfd.readouterr().err:
            time.sleep(0.1)
        processes.worker()
        killed = pid_in_training(store, lab.run_key(LONG_TEACHER))
        os.kill(killed, signal.SIGKILL)
        pid_in_training(store, lab.run_key(LONG_TEACHER), but=killed)
        pid_in_training(store, lab.run_key(LONG))
        first.kill()
        first.wait()
        processes.scheduler()
        processes.worker()  # one of Dask's ends with its scheduler
        sweep.result()
    assert "is gone; waiting for it" in capfd.readouterr().err
    assert bits(store) == bits(long_here) and left(store) == set()


@pytest.mark.slow
def test_a_worker_whose_disk_is_another(processes, tmp_path, long_here):
    hidden = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs none {tmp_path}/runs && exec "$@"',
        "-",
    ]
    (tmp_path / "runs").mkdir()
    if subprocess.run([*hidden, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    store = Store(tmp_path / "runs")
    processes.scheduler()
    with named.connected(processes.address) as cluster, futures.ThreadPoolExecutor(1) as thread:
        processes.worker(before=hidden)
        sweep = thread.submit(run, [LONG], store, executor=cluster)
        sweep.result()
        assert cluster.apart
    assert bits(store) == bits(long_here) and left(store) == set()
