"""Cohorts elsewhere: on any executor, and as tasks of Dask; the bits are those of this machine's own processes."""

import concurrent.futures as futures
import contextlib
import functools
import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from dask.utils import key_split
from distributed import Client, KilledWorker, LocalCluster, Worker

from kdlab import lab, perspectives, settings
from kdlab.cli import cluster as named
from kdlab.cli.figures import NotebookRuns, figures
from kdlab.errors import SpecError
from kdlab.lab import remote, running, scheduler, worker
from kdlab.lab.cluster import Cluster, task_name
from kdlab.lab.damage import Damaged
from kdlab.lab.planned import planned
from kdlab.lab.retries import FailedRuns, Lost
from kdlab.lab.scheduler import Gone, Scheduler, workers_of
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


def seen(workers, **more):
    """A client, as far as one asks it who works: a function that gives what its scheduler says of each, by address."""
    of = SimpleNamespace(address="tcp://x:1", identity=lambda n_workers: {"workers": workers()})
    return SimpleNamespace(scheduler=of, status="running", sync=lambda ask, **words: ask(**words), **more)


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


FOUR = [STUDENT.replace(method_options={"temperature": 2.0 + number}) for number in range(4)]
KEYS = [lab.run_key(spec) for spec in FOUR]
TRIED = []


def lose(runs, root, stop):
    """Train, but be lost with one run: as Dask says it of dead workers, or for want of memory."""
    TRIED.append(len(runs))
    if any(run.key == KEYS[0] for run in runs):
        raise LOSS[0]
    TRAIN(runs, root, stop)


LOSS, GONE = [None], SimpleNamespace(address="tcp://one")


@pytest.mark.parametrize(
    ("loss", "asked", "words"),
    [
        (KilledWorker("task", GONE, 3), 2, "it died, and so did 3 that took its cohort over"),
        (KilledWorker("task", GONE, 0), 2, "it died"),
        (Lost("it ran out of memory"), 1, "it ran out of memory"),  # which Dask does not try again
    ],
)
def test_a_cohort_that_dask_gives_up_is_split_then_recorded_and_the_rest_finishes(
    loss, asked, words, cluster, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(worker, "train_cohort", lose)
    store, LOSS[0] = Store(tmp_path), loss
    TRIED.clear()
    with pytest.raises(FailedRuns) as caught:
        run(FOUR, store, executor=cluster, workers=1)
    assert caught.value.reasons == dict.fromkeys(KEYS[:2], words)
    assert store.keys() == sorted([lab.run_key(TEACHER), *KEYS[2:]])
    assert sorted(TRIED) == sorted([1, *[4] * asked, *[2] * asked, 2])
    assert f"a worker was lost: {words}; its 4 runs are tried once more, in halves" in capsys.readouterr().err


ANSWERED = threading.Event()


def hang(runs, root, stop):
    ANSWERED.wait(60)


def answer(runs, root, stop):
    pass


def test_a_worker_that_hangs_is_left_out_and_its_cohort_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "silence", lambda: 0.3)
    asked = [planned(TEACHER)], tmp_path, tmp_path / "stop"
    with LocalCluster(n_workers=2, **INSIDE) as started, Client(started, set_as_default=False) as client:
        with Cluster(client) as cluster:
            try:
                with pytest.raises(Lost, match=r"it gave no sign of life for 0.3 seconds .KDLAB_SILENCE."):
                    cluster.submit(hang, *asked).result()
                while cluster.scheduler.able() != 1:
                    time.sleep(0.05)
                assert cluster.submit(answer, *asked).result() is None
            finally:
                ANSWERED.set()


def test_workers_stay_in_sight_while_dask_refreshes_what_it_keeps_of_them(client):
    """Every two seconds it did, and now and then it looked as if no worker were left."""
    done = threading.Event()

    def refresh():
        while not done.is_set():
            client.sync(client._update_scheduler_info)

    beside = threading.Thread(target=refresh)
    beside.start()
    try:
        assert {len(workers_of(client)) for _ in range(100)} == {2}
    finally:
        done.set()
        beside.join()


def test_who_asks_while_another_looks_goes_by_what_was_seen_last():
    asked, answer = threading.Event(), threading.Event()

    def workers():
        if asked.is_set():
            looking.set()
            answer.wait(60)
        return {"a": {"resources": {}}}

    looking = threading.Event()
    one = Scheduler(seen(workers))
    assert one.able() == 1
    asked.set()
    one._look_again = 0.0
    slow = threading.Thread(target=one.able)
    slow.start()
    assert looking.wait(60) and one.able() == 1, "it would wait for the slow answer"
    answer.set()
    slow.join()


def test_no_cohort_waits_at_a_worker_behind_another(monkeypatch):
    """Dask would suspect it, too, when that one kills the worker."""
    workers = ["a"]
    free = Scheduler(seen(lambda: dict.fromkeys(workers, {"resources": {}})))
    monkeypatch.setattr(scheduler, "LOOK_EVERY", 0.0)
    assert [free._room(), free._room()] == [True, False]
    workers.append("b")
    assert [free._room(), free._room()] == [True, False]


class Failing(futures.Executor):
    """An executor of somebody else's that trains one cohort, then fails."""

    def __init__(self, fail):
        self.fail, self.trained = fail, 0

    def submit(self, train, runs, root, stop):
        future = futures.Future()
        if self.trained:
            self.fail(runs, root, future)
        else:
            future.set_result(train(runs, root, stop))
        self.trained += 1
        return future


def broken(runs, root, future):
    future.set_exception(futures.process.BrokenProcessPool("A process was\nterminated"))


def closed(runs, root, future):
    raise futures.BrokenExecutor


def silent(runs, root, future):
    Store(root).claim(runs[0].key)


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (broken, "the executor that trains is broken .A process was terminated.. Finished runs are kept"),
        (closed, "the executor that trains is broken .BrokenExecutor.. Finished runs are kept"),
        (silent, f"trains run {KEYS[0]} hangs: it gave no sign of life for 0.1 seconds .* end that process"),
    ],
)
def test_an_executor_that_breaks_or_hangs_ends_the_sweep_in_words(fail, words, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "silence", lambda: 0.1)
    monkeypatch.setattr(running, "_ask_to_stop", lambda stop, running: None)  # it would wait for what hangs
    store = Store(tmp_path)
    with pytest.raises(SpecError, match=words):
        run(FOUR, store, executor=Failing(fail), workers=1)
    assert store.keys() == [lab.run_key(TEACHER)]


def test_a_cohort_whose_scheduler_was_lost_is_given_to_it_again(cluster, tmp_path, here, monkeypatch, capsys):
    tried, ask = [], Scheduler.ask

    def lost_once(self, name, *rest):
        tried.append(name)
        if len(tried) == 1:
            raise Gone
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
    client = seen(lambda: {"a": {"resources": {}}, "b": {"resources": {"GPU": 1}}})
    for device, on_gpu, able in (("", True, 1), ("cuda", True, 1), ("cpu", False, 2)):
        monkeypatch.setenv("KDLAB_DEVICE", device)
        assert (Scheduler(client).on_gpu(), Scheduler(client).able()) == (on_gpu, able)


WHERE = []


def note_where(runs, root, stop):
    WHERE.append(stop.worker.name)
    TRAIN(runs, root, stop)


def test_cohorts_go_to_the_worker_that_holds_the_gpu(tmp_path, here, monkeypatch):
    monkeypatch.setattr(Scheduler, "on_gpu", lambda self: True)  # but what trains is the CPU
    monkeypatch.setattr(worker, "train_cohort", note_where)
    with LocalCluster(n_workers=1, **INSIDE) as started, Client(started, set_as_default=False) as client:
        started.worker_spec["card"] = {"cls": Worker, "options": {"nthreads": 1, "resources": {"GPU": 1}}}
        started.sync(started._correct_state)
        client.wait_for_workers(2)
        with Cluster(client) as cluster:
            run(SPECS, Store(tmp_path), executor=cluster)
            assert cluster.workers == 1
    assert len(WHERE) >= 2 and set(WHERE) == {"card"} and bits(Store(tmp_path)) == bits(here)


@pytest.mark.parametrize(("device", "holds"), [("cuda", {"GPU": 1}), ("cuda:1", {"GPU": 1}), ("cpu", {}), ("", {})])
def test_workers_of_this_machine_hold_its_gpu_where_one_is_asked_for(device, holds, monkeypatch):
    monkeypatch.setenv("KDLAB_DEVICE", device)
    with named._local(1, processes=False) as started, Client(started, set_as_default=False) as client:
        assert Scheduler(client).able() == 1
        assert [one["resources"] for one in Scheduler(client).look()] == [holds]


def test_a_dashboard_is_promised_where_there_is_one():
    def no(function, name):
        raise importlib.metadata.PackageNotFoundError(name)

    client = seen(dict, dashboard_link="http://x:8787/status", run_on_scheduler=lambda function, name: "3.7")
    assert named.describe(client) == "cluster: 0 workers at tcp://x:1, dashboard http://x:8787/status"
    client.run_on_scheduler = no
    assert "no dashboard, which `pip install bokeh`" in named.describe(client) and "8787" not in named.describe(client)


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
    script = said[said.index("#!/usr/bin/env bash") :]
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    lines = script.splitlines()
    assert {"#SBATCH -n 1", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=4G", "#SBATCH --gres=gpu:1"} <= set(lines)
    assert {
        f"export KDLAB_OUT='{tmp_path / 'two words'}'",
        "export KDLAB_DEVICE=cuda",
        "export OMP_NUM_THREADS=1",
    } <= set(lines)
    command = next(line for line in lines if "dask_worker" in line)
    assert "-m distributed.cli.dask_worker tcp://HERE:PORT" in command and "--nthreads 1" in command
    assert "--resources GPU=1" in command


def test_figures_train_on_a_cluster_what_they_train_here(tmp_path, monkeypatch):
    """Two workers, as of ``local:2``, but threads of this process, which start at once; no notebook is run."""
    monkeypatch.setattr(named, "_local", functools.partial(named._local, processes=False, preload=[]))
    drawn = []
    monkeypatch.setattr(NotebookRuns, "start", lambda self, names: drawn.extend(names))
    monkeypatch.setattr(NotebookRuns, "look", lambda self, name, seeds: None)
    monkeypatch.setattr(NotebookRuns, "gallery", lambda self: True)
    short = {"steps": 1, "teacher_epochs": 1}
    assert figures(["ratio_sweep"], "smoke", short, [], cluster_name="local:2") and drawn == ["ratio_sweep"]
    specs = perspectives.study("ratio_sweep", "smoke", **short).specs
    local = run(specs, Store(tmp_path / "here"), workers=0)
    there = lab.table(specs)
    told = [name for name in local if "seconds" not in name and name != "finished"]
    pd.testing.assert_frame_equal(there[told], local[told])
    assert bits(Store()) == bits(Store(tmp_path / "here")) and len(Store().keys()) == 12


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
        options = ("--host", "127.0.0.1", "--port", str(self.port), "--dashboard-address", ":0")
        started, heard = self.start("scheduler", *options), False
        while not heard:
            with socket.socket() as asking:
                heard = asking.connect_ex(("127.0.0.1", self.port)) == 0
            time.sleep(0.1)
        return started

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


@pytest.mark.faults
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


@pytest.mark.faults
def test_a_worker_whose_disk_is_another_and_is_killed(processes, tmp_path, long_here):
    hidden = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    hidden += [f'mount -t tmpfs none {tmp_path}/runs && exec "$@"', "-"]
    (tmp_path / "runs").mkdir()
    if subprocess.run([*hidden, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    store, key = Store(tmp_path / "runs"), lab.run_key(LONG)
    processes.scheduler()
    with named.connected(processes.address) as cluster, futures.ThreadPoolExecutor(1) as thread:
        processes.worker(before=hidden)
        sweep = thread.submit(run, [LONG], store, executor=cluster)
        while not (own := list(processes.folder.rglob(f".leases/{key}"))):
            assert not sweep.done()
            time.sleep(0.02)
        os.kill(pid_in_training(Store(own[0].parents[1]), key), signal.SIGKILL)
        sweep.result()
        assert cluster.apart
    assert bits(store) == bits(long_here) and left(store) == set()


def kill_or_hang(runs, root, stop):
    """Train, but end this process with one run, and hang with another."""
    named = {(run.spec.seed, run.spec.method_options.get("temperature")) for run in runs}
    if (0, 2.0) in named:
        os.kill(os.getpid(), signal.SIGKILL)
    if (1, 2.0) in named:
        time.sleep(600)
    TRAIN(runs, root, stop)


@pytest.mark.faults
def test_what_kills_or_hangs_its_only_worker_is_recorded_and_the_rest_finishes(processes, tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("KDLAB_SILENCE", "20")
    monkeypatch.setattr(worker, "train_cohort", kill_or_hang)
    store, specs = Store(tmp_path / "runs"), [*FOUR, FOUR[0].at_seed(1), FOUR[0].at_seed(2)]
    processes.scheduler()
    processes.worker()
    with named.connected(processes.address) as cluster, pytest.raises(FailedRuns) as caught:
        run(specs, store, executor=cluster)
    died, hung = "it died, and so did 1 that took its cohort over", worker.no_sign(20)
    assert caught.value.reasons == dict.fromkeys(KEYS[:2], died) | {lab.run_key(specs[4]): hung}
    assert all(store.has(lab.run_key(spec)) for spec in [*FOUR[2:], specs[5]]) and left(store) == {".failed"}
