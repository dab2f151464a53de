"""One damaged file of a store is named and set aside; everything else goes on, and the run is trained again."""

import json
import os
import pickle
import shutil

import pytest
from stores import signed

from kdlab import lab
from kdlab.cli.compare import compare
from kdlab.cli.doctor import doctor
from kdlab.errors import SpecError
from kdlab.lab import costs, damage, export
from kdlab.lab.damage import Damaged
from kdlab.lab.store import Store
from kdlab.spec import Budget, RunSpec
from kdlab.training.teacher_cache import cached_steps

TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(2, "steps", 32))
STUDENT = TEACHER.replace(method="kd", teacher=TEACHER)
TEACHER, APART = STUDENT.teacher, TEACHER.at_seed(1)
DOCUMENTS = ("spec.json", "result.json", "environment.json")
TENSORS = ("student.safetensors", "logits.safetensors", "method.safetensors")
DAMAGES = ("emptied", "cut", "garbage", "another document", "missing", "folder")


def harm(path, how):
    """Damage a file in one of the ways that disks and people have."""
    content = path.read_bytes()
    if how in ("missing", "folder"):
        path.unlink()
        if how == "folder":
            path.mkdir()
        return
    path.write_bytes({"emptied": b"", "cut": content[: len(content) // 2], "garbage": b"\0\xff" * 40,
                      "another document": b"{}", "one byte": content[:-1] + bytes([content[-1] ^ 1])}[how])  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with a teacher, its student and a run apart."""
    folder = tmp_path_factory.mktemp("trained")
    lab.run([STUDENT, APART], workers=0, progress=False, store=Store(folder / "runs"), require_teacher=False)
    return folder


@pytest.fixture
def store(trained, tmp_path, monkeypatch):
    """A copy of it, which may be damaged."""
    shutil.copytree(trained, tmp_path / "mine")
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "mine"))
    return Store()


def aside(store):
    """What was set aside."""
    folder = store.root / damage.FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", DOCUMENTS)
def test_a_damaged_document_is_named_set_aside_and_gone_on_without(store, capsys, file, how):
    key, other = lab.run_key(APART), lab.run_key(STUDENT)
    harm(store.root / key / file, how)
    table = lab.table(store=store)
    assert set(table.index) == {lab.run_key(TEACHER), other} and table["test_accuracy"].notna().all()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"run {key} is damaged: {file}" in said and f"moved to {store.root}" in said
    assert aside(store) == [f"{key}-1"] and not store.has(key)
    assert key in lab.plan([APART], store=store).missing
    lab.table(store=store)
    assert capsys.readouterr().err == "", "it is said once"


@pytest.mark.parametrize("file", DOCUMENTS)
def test_a_damaged_run_is_trained_again_when_it_is_asked_for(store, capsys, file):
    key = lab.run_key(TEACHER)
    before = json.loads((store.root / key / "result.json").read_text())
    harm(store.root / key / file, "emptied")
    assert list(lab.plan([TEACHER], store=store).missing) == [key], "a plan tells the truth"
    table = lab.run([TEACHER], workers=0, progress=False, store=store, require_teacher=False)
    assert table.loc[key, "test_accuracy"] == before["test_accuracy"] and store.damaged(key) == []


def test_damage_after_the_plan_is_met_as_well(store, capsys):
    key = lab.run_key(TEACHER)
    assert store.sound(key)
    harm(store.root / key / "result.json", "cut")
    assert lab.run([TEACHER], workers=0, progress=False, store=store, require_teacher=False).index.tolist() == [key]
    assert aside(store) == [f"{key}-1"]
    harm(store.root / key / "spec.json", "cut")
    costs.Costs(store)
    assert aside(store) == [f"{key}-1", f"{key}-2"]


@pytest.mark.parametrize("how", [*DAMAGES, "one byte"])
@pytest.mark.parametrize("file", [*TENSORS, "done.json"])
def test_a_damaged_teacher_is_trained_again_before_it_teaches(store, capsys, file, how):
    key, student = lab.run_key(TEACHER), STUDENT.replace(budget=Budget(1, "steps", 32))
    if (file, how) == ("done.json", "one byte"):
        return  # a changed space is no damage
    harm(store.root / key / file, how)
    lab.run([student], workers=0, progress=False, store=store, require_teacher=False)
    said = capsys.readouterr().err
    assert store.damaged(key) == [] and store.has(lab.run_key(student))
    if how != "missing" or file != "done.json":  # a run without its marker never was one
        assert f"run {key} is damaged: {file}" in said
    assert aside(store) == [f"{key}-1"]


def test_workers_meet_damage_too(store):
    key, student = lab.run_key(TEACHER), STUDENT.replace(budget=Budget(1, "steps", 32))
    harm(store.root / key / "student.safetensors", "cut")
    assert len(lab.run([student], workers=1, progress=False, store=store, require_teacher=False)) == 1
    assert aside(store) == [f"{key}-1"] and store.damaged(key) == []
    error = pickle.loads(pickle.dumps(Damaged("ab", "spec.json", "is missing", False)))
    assert (error.key, error.file, error.movable) == ("ab", "spec.json", False) and "spec.json is missing" in str(error)


def test_compare_export_and_doctor_go_on(store, capsys, tmp_path):
    apart, first, second = (lab.run_key(spec) for spec in (APART, TEACHER, STUDENT))
    harm(store.root / apart / "spec.json", "emptied")
    assert "method: ce | kd" in compare(first, second)
    old = store.root / "0123456789abcdef"  # of a version that had other fields
    shutil.copytree(store.root / first, old)
    spec = json.loads((old / "spec.json").read_text())
    spec["spec"]["shoe_size"] = 42
    (old / "spec.json").write_text(json.dumps(spec))
    signed(old)
    assert "method: ce | kd" in compare(first, second)
    shutil.rmtree(old)
    harm(store.root / first / "student.safetensors", "cut")
    with pytest.raises(SpecError, match=f"run {first} was not exported, since student.safetensors"):
        export.export(first, tmp_path)
    harm(store.root / second / "logits.safetensors", "folder")
    said = doctor()
    assert "store: 0 finished runs, 1 damaged" in said and f"damaged {second}: logits.safetensors" in said
    assert aside(store) == sorted(f"{key}-1" for key in (apart, first, second))
    assert "store: 0 finished runs, 0 damaged" in doctor()


@pytest.mark.parametrize("remains", ["empty", "files", "file"])
def test_what_lies_where_a_run_belongs_is_moved(store, capsys, remains):
    key = lab.run_key(TEACHER)
    shutil.rmtree(store.root / key)
    if remains == "file":
        (store.root / key).write_text("notes")
    else:
        (store.root / key).mkdir()
        if remains == "files":
            (store.root / key / "notes").touch()
    assert len(lab.table(store=store)) == 2
    assert lab.run([TEACHER], workers=0, progress=False, store=store, require_teacher=False).index.tolist() == [key]
    assert aside(store) == ([] if remains == "empty" else [f"{key}-1"])


@pytest.mark.parametrize("how", DAMAGES[:3] + ("folder", "other tensors"))
def test_a_damaged_checkpoint_is_set_aside_and_the_run_begins_anew(store, capsys, how):
    import torch

    spec = TEACHER.at_seed(2)
    key = lab.run_key(spec)
    store.save_checkpoint(key, {"a": torch.ones(2)}, {"step": 1})
    if how != "other tensors":
        harm(store.checkpoint_path(key), how)
        assert store.steps_done(key) == 0
    table = lab.run([spec], workers=0, progress=False, store=store, require_teacher=False)
    assert table["steps"].tolist() == [2] and store.damaged(key) == []
    assert f"run {key} is damaged: its checkpoint" in capsys.readouterr().err
    assert aside(store) == [f"{key}.safetensors-1"] and not store.checkpoint_path(key).exists()


@pytest.mark.parametrize("text", ["{", "[]", "\0\xff", '{"pid": "x"}', '{"pid": -1}', '{"step": "x"}', None])
def test_a_damaged_lease_holds_nothing(store, text):
    spec = TEACHER.at_seed(2)
    path = store._lease_path(lab.run_key(spec))
    path.parent.mkdir(exist_ok=True)
    if text is None:
        path.mkdir()
    else:
        held = text.replace("{", '{"host": "' + os.uname().nodename + '", ') if ":" in text else text
        path.write_text(held, encoding="latin1")
    assert store.lease(path.name) is None
    assert len(lab.run([spec], workers=0, progress=False, store=store, require_teacher=False)) == 1


def test_a_store_that_cannot_be_moved_in_is_gone_on_with(store, capsys, monkeypatch):
    key = lab.run_key(APART)
    harm(store.root / key / "spec.json", "emptied")

    def refuse(*given):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(damage.os, "rename", refuse)
        assert len(lab.table(store=store)) == 2
        assert f"run {key} is damaged: spec.json" in (said := capsys.readouterr().err) and "is left out" in said
        assert (store.root / key).exists() and not store.has(key) and key not in store.keys()
        lab.table(store=store)
        assert capsys.readouterr().err == ""
    assert len(lab.run([APART], workers=0, progress=False, store=store, require_teacher=False)) == 1
    assert store.has(key) and store.damaged(key) == []


def test_odd_files_among_kept_teacher_outputs_are_passed_over(tmp_path):
    folder = Store(tmp_path).teacher_cache
    folder.mkdir()
    for name in ("a-b-c", "a-b-0", "a-b-c-d", ".DS_Store"):
        (folder / name).write_text("x")
    (folder / "a-b-8").mkdir()
    assert cached_steps(folder) == {}
