"""The store: nothing half written is ever read, claims hold, and a disk that refuses is named."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from kdlab import paths
from kdlab.errors import SpecError
from kdlab.lab import leases
from kdlab.lab.leases import LATE_SECONDS, LEASE_SECONDS
from kdlab.lab.store import Store

KEY = "0123456789abcdef"
DOCUMENTS = {"spec": {"seed": 0}, "result": {"test_accuracy": float("nan")}, "environment": {}}
ARRAYS = {"logits": {"test": np.ones((4, 3), np.float32)}}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def left_over(store):
    """Every file below the store's folder."""
    return sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file())


def in_a_process(script: str, root: Path) -> list:
    """Run a script that has ``store``, ``KEY``, ``DOCUMENTS`` and ``ARRAYS``, and read the JSON it prints.

    Without torch, so that it may fork.
    """
    head = (
        "import json, os, signal, sys, time\nimport numpy as np\nfrom pathlib import Path\n"
        "from kdlab import paths\nfrom kdlab.lab.store import Store\n"
        f"store, KEY = Store({str(root)!r}), {KEY!r}\n"
        "DOCUMENTS = {'spec': {}, 'result': {}, 'environment': {}}\n"
        "ARRAYS = {'logits': {'test': np.ones((4, 3), np.float32)}}\n"
    )
    done = subprocess.run([sys.executable, "-c", head + script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- writing ------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read(store):
    weights = {"conv1.weight": torch.randn(3, 1, 2, 2), "bn1.num_batches_tracked": torch.tensor(7)}
    store.save_checkpoint(KEY, weights, {"step": 3})
    assert not store.has(KEY) and store.keys() == []
    store.write(KEY, DOCUMENTS, ARRAYS | {"student": weights, "method": {}})
    assert store.has(KEY) and store.keys() == [KEY] and store.damaged(KEY) == []
    assert store.read(KEY, "spec") == {"seed": 0} and np.isnan(store.read(KEY, "result")["test_accuracy"])
    assert (store.logits(KEY)["test"] == 1).all() and store.weights(KEY, "method") == {}
    assert all(torch.equal(v, weights[k]) for k, v in store.weights(KEY).items())
    assert store.load_checkpoint(KEY) is None  # a finished run needs none
    assert {Path(name).suffix for name in left_over(store)} == {".json", ".safetensors"}  # nothing is pickled


def test_the_done_marker_is_written_last_and_with_all_checksums(store, monkeypatch):
    order, write = [], paths.write_synced
    monkeypatch.setattr(paths, "write_synced", lambda path, content: (order.append(path.name), write(path, content)))
    store.write(KEY, DOCUMENTS, ARRAYS)
    assert order[-1] == "done.json"
    listed = json.loads((store.root / KEY / "done.json").read_text())["sha256"]
    assert sorted(listed) == sorted(order[:-1])


def test_a_kill_between_any_two_files_leaves_no_run(store):
    # The child is killed before its nth file, or (n = 5) before the folder gets its name.
    script = """
for n in range(6):
    if not os.fork():
        def write(path, content, write=paths.write_synced, count=[0]):
            if count[0] == n:
                os.kill(os.getpid(), signal.SIGKILL)
            count[0] += 1
            write(path, content)
        paths.write_synced = write
        Path.rename = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
        store.write(f"{n}" + KEY, DOCUMENTS, ARRAYS)
    assert os.wait()[1] == signal.SIGKILL
print(json.dumps([store.has(f"{n}" + KEY) for n in range(6)]))
"""
    assert in_a_process(script, store.root) == [False] * 6
    assert store.keys() == [] and left_over(store)
    store.write("5" + KEY, DOCUMENTS, ARRAYS)
    assert store.keys() == ["5" + KEY] and store.damaged("5" + KEY) == []


def test_a_kill_while_a_checkpoint_is_written_leaves_the_last_one(store, monkeypatch):
    class Killed(BaseException):
        pass

    def replace(*given):
        raise Killed

    store.save_checkpoint(KEY, {"a": torch.ones(2)}, {"step": 1})
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(os, "replace", replace)
        store.save_checkpoint(KEY, {"a": torch.zeros(2)}, {"step": 2})
    tensors, plain = store.load_checkpoint(KEY)
    assert plain == {"step": 1} and tensors["a"].tolist() == [1, 1]


def test_a_run_that_another_process_finished_stays(store):
    store.write(KEY, DOCUMENTS, ARRAYS)
    store.write(KEY, DOCUMENTS | {"spec": {"seed": 1}}, ARRAYS)
    assert store.read(KEY, "spec") == {"seed": 0}
    assert not any(name.startswith(".building") for name in left_over(store))


def test_damage_is_found(store):
    store.write(KEY, DOCUMENTS, ARRAYS)
    path = store.root / KEY / "logits.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (store.root / KEY / "spec.json").unlink()
    assert sorted(store.damaged(KEY)) == ["logits.safetensors", "spec.json"]


# --- disks that refuse --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("nth", [0, 2, 4])
def test_a_refusing_disk_is_one_clear_sentence_and_leaves_nothing(store, monkeypatch, number, nth):
    count, write = [], paths.write_synced

    def refuse(path, content):
        count.append(path)
        write(path, content[: len(content) // 2] if len(count) > nth else content)
        if len(count) > nth:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(paths, "write_synced", refuse)
    said = f"cannot write to .*{os.strerror(number)}.*Finished runs are safe.*run the same command again"
    with pytest.raises(SpecError, match=said) as caught:
        store.write(KEY, DOCUMENTS, ARRAYS)
    assert "\n" not in str(caught.value)
    with pytest.raises(SpecError, match="cannot write"):
        store.save_checkpoint(KEY, {"a": torch.ones(2)}, {})
    assert left_over(store) == []


def test_a_root_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "runs")
    assert not store.has(KEY) and store.keys() == []
    for attempt in (lambda: store.write(KEY, DOCUMENTS, ARRAYS), lambda: store.claim(KEY)):
        with pytest.raises(SpecError, match="cannot write to .*file/runs: Not a directory"):
            attempt()


# --- claims -------------------------------------------------------------------------------------------------------


def plant(store, age=0.0, **held):
    """A lease as another process left it."""
    path = store._lease_path(KEY)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held))
    os.utime(path, (time.time() - age,) * 2)


def test_of_many_processes_one_gets_the_run(store):
    script = """
store.root.mkdir(parents=True)
start = time.time() + 0.2
for n in range(6):
    if not os.fork():
        time.sleep(max(0, start - time.time()))
        (store.root / f"answer{n}").write_text(str(int(store.claim(KEY))))
        time.sleep(0.3)  # alive while the others ask
        os._exit(0)
for n in range(6):
    os.wait()
print(json.dumps([int((store.root / f"answer{n}").read_text()) for n in range(6)]))
"""
    assert sum(in_a_process(script, store.root)) == 1


def test_a_claim_is_kept_told_and_given_back(store):
    assert store.claim(KEY) and store.claim(KEY)  # again by the same process
    store.heartbeat(KEY, step=5)
    assert store.lease(KEY)["step"] == 5 and store.lease(KEY)["pid"] == os.getpid()
    store.release([KEY])
    assert store.lease(KEY) is None and store.claim(KEY)


def test_the_lease_of_a_dead_process_is_taken_over(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    plant(store, pid=dead.pid, host=socket.gethostname())
    assert store.lease(KEY) is None and store.claim(KEY)
    assert store.lease(KEY)["pid"] == os.getpid()


def test_a_living_lease_holds_and_a_silent_one_does_not(store, monkeypatch):
    plant(store, pid=os.getppid(), host=socket.gethostname(), step=3)
    assert store.lease(KEY)["step"] == 3 and not store.claim(KEY)
    plant(store, pid=os.getppid(), host=socket.gethostname(), age=LATE_SECONDS + 1)
    assert store.lease(KEY) is None  # the number may have gone to another program
    plant(store, pid=1, host="elsewhere", age=LEASE_SECONDS / 2)
    assert store.lease(KEY) and not store.claim(KEY)
    plant(store, pid=1, host="elsewhere", age=LEASE_SECONDS + 1)
    assert store.lease(KEY) is None and not store.claim(KEY), "a clock may be wrong: it must be seen to be silent"
    monkeypatch.setattr(leases, "LEASE_SECONDS", -1.0)
    assert store.claim(KEY)


def test_a_lease_that_is_being_written_holds(store):
    plant(store)
    store._lease_path(KEY).write_text("")
    assert store.lease(KEY) == {} and not store.claim(KEY)
