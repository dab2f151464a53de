"""``kdlab runs verify`` and ``kdlab runs gc``: what is wrong is named, what nothing refers to goes when asked."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

from kdlab import paths
from kdlab.cli.app import app
from kdlab.data import image_cache
from kdlab.lab import keys, tidying
from kdlab.lab.store import Store
from kdlab.models import Outputs
from kdlab.training import TeacherCache

NORMAL = {"schema": keys.SCHEMA}
KEY = keys.digest(NORMAL)
DOCUMENTS = {"spec": {"spec": {}, "normal": NORMAL}, "result": {"test_accuracy": 1.0, "curve": []},
             "environment": {"digest": "d", "git": "g"}}  # fmt: skip
TENSORS = {"logits": {"test": np.ones((4, 3), np.float32)}}


@pytest.fixture
def store():
    store = Store()
    store.write(KEY, DOCUMENTS, TENSORS)
    return store


def command(capsys, *words):
    try:
        status = app(["runs", *words], standalone_mode=False)
    except SystemExit as left:
        status = left.code
    return status, capsys.readouterr()


def dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def files(store):
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


def test_verify_says_what_is_whole_and_sets_aside_what_is_not(store, capsys):
    status, said = command(capsys, "verify")
    assert status == 0 and "1 finished runs whole, 0 set aside" in said.out
    other = "ab" * 8  # whole, but of another name: nobody would train it again under this one
    store.write(other, DOCUMENTS, TENSORS)
    store.save_checkpoint("cd" * 8, {"a": torch.ones(1)}, {"step": 1})
    store.put(".linear/x", {"a": 1})
    cache = TeacherCache(store.teacher_cache, 3, {}, "m", 10**6)
    for step in (0, 2):
        cache.write(("t",), step, Outputs(torch.ones(4, 3), (), None))
    cache.close()
    [taught] = store.teacher_cache.iterdir()
    paths.write_file(paths.home() / "data" / "0-1.counts", image_cache.sealed({"data": "0", "counts": [[1] * 256]}))
    assert command(capsys, "verify")[1].out.startswith(f"damaged and set aside: run {other}\nstore")
    store.write(other, DOCUMENTS, TENSORS)
    for path in (store.checkpoint_path("cd" * 8), store.root / ".linear" / "x.json", taught,
                 paths.home() / "data" / "0-1.counts"):  # fmt: skip
        path.write_bytes(path.read_bytes()[:-2])
    paths.ledger().mkdir()
    (paths.ledger() / "l.csv.xz").write_bytes(b"no ledger")
    status, said = command(capsys, "verify")
    assert status == 1 and "1 finished runs whole, 1 set aside" in said.out
    for words in (f"set aside: run {other}", f"run {'cd' * 8} is damaged: its checkpoint", "x.json is damaged",
                  f"{taught} is damaged at 1 of its steps", "0-1.counts is damaged, and will be made again",
                  "l.csv.xz is cut short"):  # fmt: skip
        assert words in said.out
    assert f"spec.json hashes to {KEY}" in said.err and not store.has(other) and store.has(KEY)
    path = store.root / KEY / "logits.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    status, said = command(capsys, "verify")
    assert status == 1 and f"set aside: run {KEY}" in said.out and "logits.safetensors no longer match" in said.err


def leave(store):
    """What killed processes leave, by place; and beside each what is still somebody's."""
    host = paths.owner().partition("@")[0]
    gone, here, far = f"{host}@{dead()}-1", paths.owner(), "elsewhere@1-1"
    for owner in (gone, here, far):
        (store.root / ".building" / f"{'ab' * 8}-{owner}").mkdir(parents=True)
        (store.root / f".stop-{owner}").touch()
        (store.root / f".cluster-{owner}-{'0a' * 16}").touch()
        for folder in (".checkpoints", ".leases", ".linear"):
            (store.root / folder).mkdir(exist_ok=True)
            (store.root / folder / f".x.{owner}.part").touch()
    (store.root / ".leases" / "a1").write_text(json.dumps({"pid": dead(), "host": socket.gethostname()}))
    (store.root / ".leases" / "a2").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    (store.root / ".leases" / "a3").write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    for key in (KEY, "ab" * 8):
        store.save_checkpoint(key, {"a": torch.ones(1)}, {"step": 1})
    return gone


def test_what_dead_processes_left_goes_by_itself_and_nothing_else(store):
    gone = leave(store)
    before = files(store)
    tidying.tidy(store)
    after = files(store)
    mine = {f".leases/.x.{gone}.part", f".checkpoints/.x.{gone}.part", f".linear/.x.{gone}.part", f".stop-{gone}"}
    mine |= {f".cluster-{gone}-{'0a' * 16}"}
    assert set(before) - set(after) == mine | {".leases/a1", f".checkpoints/{KEY}.safetensors"}
    assert len(list((store.root / ".building").iterdir())) == 2
    for path in store.root.rglob("*elsewhere*"):
        os.utime(path, (1e9, 1e9))
    os.utime(store.root / ".leases" / "a3", (1e9, 1e9))
    tidying.tidy(store)
    left = files(store)
    assert not any("elsewhere" in name for name in left) and ".leases/a3" not in left and ".leases/a2" in left


def test_gc_lists_first_and_removes_when_asked(store, capsys):
    assert "nothing to remove" in command(capsys, "gc")[1].out
    leave(store)
    (store.root / ".damaged" / "old-1").mkdir(parents=True)
    (store.root / ("ab" * 8)).mkdir()
    (store.root / ("ab" * 8) / "spec.json").touch()
    (store.root / ("cd" * 8)).mkdir()
    (store.root / ("cd" * 8) / "layout.of.tomorrow").touch()  # no file of ours: not ours to remove
    for key in (KEY, "ab" * 8):  # measured of one that is there and of one that is gone; failed, and finished since
        store.put(f".measured/{key}", {})
        store.put(f".failed/{key}", {"reason": "it was killed"})
    before = files(store)
    said = command(capsys, "gc")[1].out
    assert files(store) == before and "would be removed" in said and "kdlab runs gc --yes" in said
    for words in ("1  was damaged and set aside", "1  no finished run", "1  the checkpoint of a finished run", "old-1",
                  f".measured/{'ab' * 8}", f".failed/{KEY}", ".cluster-"):  # fmt: skip
        assert words in said
    said = command(capsys, "gc", "--yes")[1].out
    assert "\nremoved from" in "\n" + said and store.damaged(KEY) == [] and store.has(KEY)
    assert not (store.root / ("ab" * 8)).exists() and (store.root / ("cd" * 8)).exists()
    assert store.checkpoint_path("ab" * 8).exists(), "an unfinished run goes on"
    assert {f".measured/{KEY}.json", f".failed/{'ab' * 8}.json"} <= set(files(store))
    assert "nothing to remove" in command(capsys, "gc")[1].out


@pytest.mark.parametrize("key", ["../outside", "..", "", "/etc", "ab/../../outside", "AB" * 8, "ab\0"])
def test_what_is_no_key_is_no_path(store, key):
    outside = store.root.parent / "outside"
    outside.mkdir()
    (outside / "done.json").write_text("{}")
    assert not store.has(key)
