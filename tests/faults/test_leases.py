"""Who trains what: a dead process's lease is taken over by one, a living one's by nobody, whatever clocks say."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from test_store import KEY, in_a_process, plant

from kdlab import lab
from kdlab.lab import leases, worker
from kdlab.lab.planned import planned
from kdlab.lab.store import Store
from kdlab.losses.kd import KD
from kdlab.spec import Budget, RunSpec

HERE = {"host": socket.gethostname()}
SPEC = RunSpec(sizes=(320, 100, 100), model="resnet8_s2_w4", budget=Budget(5, "steps", 32), role="teacher")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def other(store):
    """A process that holds the lease and lives."""
    script = f"from kdlab.lab.store import Store; print(Store({str(store.root)!r}).claim({KEY!r}), flush=True); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_of_many_that_find_a_dead_lease_one_takes_it(store):
    script = """
answers = []
for round in range(8):
    path = store.root / ".leases" / KEY
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (dead := os.fork()):
        os._exit(0)
    os.waitpid(dead, 0)
    path.write_text(json.dumps({"pid": dead, "host": os.uname().nodename}))
    start = time.time() + 0.05
    for n in range(8):
        if not os.fork():
            time.sleep(max(0, start - time.time()))
            (store.root / f"answer{n}").write_text(str(int(store.claim(KEY))))
            while len(list(store.root.glob("answer*"))) < 8:  # alive while the others ask
                time.sleep(0.01)
            os._exit(0)
    for n in range(8):
        os.wait()
    answers.append(sum(int((store.root / f"answer{n}").read_text()) for n in range(8)))
    for n in range(8):
        (store.root / f"answer{n}").unlink()
    path.unlink()
print(json.dumps(answers))
"""
    assert in_a_process(script, store.root) == [1] * 8


def test_a_paused_process_keeps_its_lease_and_a_killed_one_does_not(store, other):
    os.kill(other.pid, signal.SIGSTOP)
    os.utime(store._lease_path(KEY), (time.time() - 1e6,) * 2)
    assert not store.claim(KEY) and store.lease(KEY)["pid"] == other.pid
    os.kill(other.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while store.lease(KEY) and time.monotonic() < deadline:  # a moment later it is a zombie, which nobody has buried
        time.sleep(0.01)
    assert store.lease(KEY) is None and store.claim(KEY)


@pytest.mark.parametrize("days", [-2, 2])
def test_a_clock_that_jumps_takes_no_lease(store, other, monkeypatch, days):
    now = time.time()
    monkeypatch.setattr(leases.time, "time", lambda: now + days * 86400)
    assert not store.claim(KEY) and store.lease(KEY)
    plant(store, pid=1, host="elsewhere")
    assert not store.claim(KEY)


def test_a_process_s_number_may_be_another_s(store):
    plant(store, pid=os.getppid(), born="1", **HERE)
    assert store.lease(KEY) is None and store.claim(KEY)


def test_another_machine_s_lease_is_taken_after_a_minute_without_a_heartbeat(store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    plant(store, pid=1, host="elsewhere", age=1e6)
    assert not store.claim(KEY)
    now[0] += leases.LEASE_SECONDS - 1
    assert not store.claim(KEY)
    plant(store, pid=1, host="elsewhere", age=1e6 - 1)  # a heartbeat, by a clock of their own
    now[0] += 2
    assert not store.claim(KEY)
    now[0] += leases.LEASE_SECONDS + 1
    assert store.claim(KEY) and store.owns(KEY)


def test_a_paused_holder_of_the_lock_stops_nobody_for_ever(store, monkeypatch):
    store.claim("ab")
    monkeypatch.setattr(leases, "LOCK_SECONDS", 0.05)
    with store._alone() as alone:
        assert alone and not store.claim(KEY) and store.heartbeat("ab")
    assert store.claim(KEY)


class Robbed(KD):
    """CE during which another machine takes the run over."""

    def after_step(self, batch):
        if batch.step == 1 and ROB:
            ROB.pop()()


ROB = []


def test_a_run_that_was_taken_over_is_given_up_and_keeps_the_other_s_lease(store, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "BEAT_EVERY", 0.0)
    spec = SPEC.replace(method="test_leases:Robbed", teacher=SPEC, role="student")
    lab.run([SPEC], workers=0, progress=False, store=store, require_teacher=False)
    key, stop = lab.run_key(spec), tmp_path / "stop"
    path = store._lease_path(key)

    def rob():
        path.write_text('{"pid": 1, "host": "elsewhere", "step": 3}')
        stop.touch()

    ROB.append(rob)
    worker.train_cohort([planned(spec)], store.root, stop)
    assert not ROB and not store.has(key) and not store.checkpoint_path(key).exists()
    assert store.lease(key)["host"] == "elsewhere"
    path.unlink()
    assert len(lab.run([spec], workers=0, progress=False, store=store, require_teacher=False)) == 1
    assert store.lease(key) is None
