"""The lab: plans without torch, refuses before it trains, trains once, and stops so that it can go on."""

import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from kdlab import data, lab, perspectives
from kdlab.errors import SpecError
from kdlab.lab import worker
from kdlab.lab.keys import run_key
from kdlab.lab.planned import planned
from kdlab.lab.store import MissingRuns, Store
from kdlab.losses.kd import KD
from kdlab.models import build
from kdlab.paths import home
from kdlab.perspectives import recipes
from kdlab.spec import Budget, Checkpoint, RunSpec, sweep

TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(4, "steps", 32), role="teacher")
STUDENT = TEACHER.replace(role="student", method="kd", teacher=TEACHER, views=2, augmentation="jda", ratio=0.5)
WEAK2 = STUDENT.replace(augmentation="weak", ratio=0.0)


def run(*specs, **options):
    """Train specs whose budgets are too small for a teacher that deserves the name."""
    return lab.run(specs, **{"workers": 0, "progress": False, "require_teacher": False} | options)


def bits(keys, root=None):
    """What the runs left that must not depend on how they were trained."""
    runs = Store(root)
    return {k: runs.logits(k)["test"].tobytes() + runs.weights(k)["conv1.weight"].numpy().tobytes() for k in keys}


def nothing_was_written():
    """Except decoded images, which a plan may keep."""
    return not any(path.is_file() and path.suffix != ".pixels" for path in home().rglob("*"))


def python(script: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, **options)


# --- plans --------------------------------------------------------------------------------------------------------


def test_a_plan_counts_teachers_shares_runs_and_says_why():
    todo = lab.plan([STUDENT, WEAK2], [STUDENT, TEACHER])
    assert len(todo.specs) == 3 and todo.cached == [] and todo.seconds > 0
    assert "3 runs: 0 in the store, 3 to train\n     3  not trained yet\n  about 1 second on" in todo.describe()
    assert [len(cohort.runs) for cohort in todo.cohorts] == [1, 2]  # the teacher, then its students in one cohort
    assert todo.cohorts[1].needs == {lab.run_key(TEACHER)}
    Store().save_checkpoint(lab.run_key(WEAK2), {"a": torch.ones(1)}, {})
    Store().claim(lab.run_key(STUDENT))
    assert f"1  being trained by another process (pid {os.getpid()})" in lab.plan([STUDENT, WEAK2]).describe()
    assert "1  unfinished: goes on from its checkpoint" in lab.plan([STUDENT, WEAK2]).describe()


def test_cohorts_share_seed_subset_step_and_precision():
    apart = [WEAK2, WEAK2.at_seed(1), WEAK2.replace(fraction=0.5), WEAK2.replace(replicate=1),
             WEAK2.replace(precision="bfloat16"), WEAK2.replace(budget=Budget(4, "steps", 16))]  # fmt: skip
    together = [STUDENT, WEAK2.replace(budget=Budget(3, "steps", 32))]
    students = [cohort for cohort in lab.plan([*apart, *together]).cohorts if cohort.needs]
    assert sorted(len(cohort.runs) for cohort in students) == [1, 1, 1, 1, 1, 3]


def test_planning_and_tables_need_no_torch():
    run(STUDENT)
    script = f"""
import sys, kdlab
from kdlab import lab, perspectives
from kdlab.spec import RunSpec
spec = RunSpec.from_dict({STUDENT.to_dict()!r})
assert "nothing to train" in lab.plan([spec]).describe()
assert len(lab.table([spec])) == 1
assert lab.plan(perspectives.study("few_shot", "smoke").specs).missing
print([name for name in ("torch", "torchvision", "matplotlib") if name in sys.modules])
"""
    done = python(script)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("command", ["import kdlab, kdlab.cli", "from kdlab.cli import main; main()"])
def test_import_and_help_need_neither_torch_nor_pandas(command):
    check = "print(bool({'torch', 'matplotlib', 'pandas'} & set(sys.modules)))"
    done = python(f"import sys; sys.argv = ['kdlab', '--help']\ntry:\n    {command}\nfinally:\n    {check}")
    assert done.stdout.strip().endswith("False"), done.stderr


def test_keys_of_a_plan_are_those_of_its_specs_one_by_one():
    grid = sweep(STUDENT, ratio=[0.5, 1.0], method_options=[{}, {"temperature": 2}], seed=range(3))
    chain = STUDENT.replace(teacher=STUDENT.replace(model="resnet8_s2_w8"))
    copies = [RunSpec.from_dict(spec.to_dict()) for spec in [*grid, chain]]  # equal, with teachers of their own
    todo = lab.plan(grid, [chain, *copies])
    ones = [one for spec in [*grid, chain] for one in lab.lineage(spec)]
    assert list(todo.specs) == list(dict.fromkeys(map(run_key, ones))) and len(todo.specs) == 12 + 3 + 1 + 1
    for cohort in todo.cohorts:
        taught = {run_key(run.spec.teacher) for run in cohort.runs.values() if run.spec.teacher}
        assert cohort.needs == taught and list(cohort.runs) == [run_key(run.spec) for run in cohort.runs.values()]


def test_a_plan_of_specs_that_nobody_else_holds_mixes_none_up():
    made = (TEACHER.replace(seed=number // 3) for number in range(60))  # copies die young, and their ids live on
    assert list(lab.plan(made).specs) == [run_key(TEACHER.replace(seed=seed)) for seed in range(20)]


def test_a_plan_looks_at_its_data_once_and_the_next_one_again(three_classes, monkeypatch):
    looks, find = [], data.folder.open_folder
    monkeypatch.setattr(data.folder, "open_folder", lambda name: looks.append(name) or find(name))
    base = WEAK2.replace(data=three_classes, sizes=None, budget=Budget(1, "epochs", 8))
    specs = sweep(base.replace(teacher=None, method="ce"), seed=range(20))
    before, looked = lab.plan(specs), len(looks)
    assert looked <= 3 and len(before.specs) == 20  # for the fingerprint, and to read what it says
    with pytest.raises(SpecError, match="views=2"):
        lab.plan(specs, [specs[0].replace(method="ccd", views=1)])
    image = Path(three_classes.removeprefix("folder:")) / "a" / "0.png"
    image.write_bytes((image.parent / "1.png").read_bytes())
    after = lab.plan(specs)
    assert not before.specs.keys() & after.specs.keys()
    assert list(after.specs) == list(map(run_key, specs))


def test_a_plan_notices_what_came_and_went_in_the_store():
    run(STUDENT)
    assert lab.plan([STUDENT, WEAK2]).cached == [lab.run_key(TEACHER), lab.run_key(STUDENT)]
    (Store().root / lab.run_key(STUDENT) / "done.json").unlink()
    todo = lab.plan([STUDENT, WEAK2])
    assert todo.cached == Store().keys() == [lab.run_key(TEACHER)]
    assert set(todo.missing) == {lab.run_key(STUDENT), lab.run_key(WEAK2)}


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.fixture
def three_classes(tmp_path):
    for label in "abc":
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(14):
            pixels = np.full((12, 12), 18 * number + ord(label) - ord("a"), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    return f"folder:{tmp_path / 'images'}"


def check_refused(spec, said):
    with pytest.raises(SpecError, match=said) as caught:
        run(WEAK2, spec)  # the good run must not be trained either
    assert "\n" not in str(caught.value) and nothing_was_written()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"method": "ccd", "views": 1, "ratio": 1.0},
            "'ccd' compares two views of one image, but views=1; use views=2",
        ),
        ({"teacher": None}, "method 'kd' needs a teacher, but the spec has none"),
        ({"fraction": 0.05}, "the training subset has 20 images, fewer than .*originals_per_step=32"),
        ({"sizes": (320, 200, 10001)}, "sizes: test must be between 1 and 10000, but got 10001"),
        ({"model": "resnet8_s2_w5"}, "model must be one of .* Did you mean 'resnet8_s2_w"),
        ({"augmentation": "jdaa"}, "augmentation must be one of .* Did you mean 'jda'?"),
        ({"method_options": {"temp": 3}}, "option of method 'kd' must be one of .* Did you mean 'temperature'?"),
        ({"method_options": {"temperature": -1}}, "temperature must be a positive, finite number, but got -1"),
        ({"augmentation_options": {"policy": "cifar"}}, "policy must be one of .* Did you mean 'cifar10'"),
        ({"data": "fashon"}, "data must be one of .* Did you mean 'fashion'?"),
        ({"teacher": TEACHER.replace(model="resnet9")}, "model must be one of"),
    ],
)
def test_refused_before_anything_trains(fields, said):
    check_refused(STUDENT.replace(**fields), said)


@pytest.fixture
def two_classes(three_classes):
    shutil.rmtree(Path(three_classes.removeprefix("folder:")) / "c")
    return three_classes


def test_methods_that_teach_nothing_here_are_refused_and_those_that_teach_less_are_noted(two_classes):
    teacher = RunSpec(data=two_classes, model="resnet8_s2_w4", budget=Budget(2, "steps", 8))
    spec = teacher.replace(method="dkd", teacher=teacher)
    for method, options in (("lskd", {}), ("lskd", {"base": "dist"})):
        check_refused(
            spec.replace(method=method, method_options=options), "'lskd' needs 3 classes or more, but there are 2"
        )
    plan = lab.plan([spec, spec.replace(seed=1), spec.replace(method="kd")])
    assert plan.notes == ["method 'dkd': its term nckd has no gradient with 2 classes; it takes 3 or more."]
    assert plan.describe().count("note: method 'dkd'") == 1 and not lab.plan([teacher]).notes
    one = Budget(2, "steps", 1)
    check_refused(spec.replace(method="kd", budget=one), "BatchNorm, which compares rows, but a step has one row")
    check_refused(spec.replace(method="rkd", views=2, budget=one), "'rkd' needs 3 rows a step or more, but there are 2")


def test_a_teacher_of_other_classes_is_refused(three_classes):
    other = TEACHER.replace(data=three_classes, sizes=None, budget=Budget(2, "steps", 8))
    check_refused(STUDENT.replace(teacher=other), "teacher's data .* has 3 classes, the student's 'fashion' has 10")
    assert len(run(other)) == 1  # by itself it trains


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(SpecError, match="workers must be a non-negative integer, but got -1"):
        run(WEAK2, workers=-1)


# --- teachers from files ------------------------------------------------------------------------------------------


def checkpoint(path: Path, arch=TEACHER.model, sha256=None) -> RunSpec:
    digest = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    return STUDENT.replace(teacher=Checkpoint(str(path), digest, arch))


def test_a_checkpoint_teaches_as_its_run_does(tmp_path):
    good = TEACHER.replace(budget=Budget(40, "steps", 32))  # a file must be above chance, whatever the lab is told
    keys = run(STUDENT.replace(teacher=good)).index.tolist()
    weights = Store().weights(lab.run_key(good))
    save_file(weights, tmp_path / "t.safetensors")
    torch.save(weights, tmp_path / "t.pt")
    for name in ("t.safetensors", "t.pt"):
        [key] = run(checkpoint(tmp_path / name)).index
        assert key not in keys and list(bits([key]).values()) == list(bits(keys).values())


class Harmful:
    """Would run a command when unpickled."""

    def __reduce__(self):
        return os.system, ("touch unpickled",)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = tmp_path / "t.safetensors"
    save_file(build(TEACHER.model, 10, 1, seed=0).state_dict(), good)
    save_file(build(TEACHER.model, 3, 1, seed=0).state_dict(), tmp_path / "three.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(good.read_bytes()[:100])
    (tmp_path / "harmful.pt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    cases = {
        "is not the file its sha256 abababababab... names": checkpoint(good, sha256="ab" * 32),
        "the teacher's weights do not fit 'resnet8_s2_w8'": checkpoint(good, arch="resnet8_s2_w8"),
        "do not fit the data: .* of 3 classes and 1 channel .grey., but here it needs 10 classes": checkpoint(
            tmp_path / "three.safetensors"
        ),
        "model must be one of": checkpoint(good, arch="resnet8_s2"),
        "nowhere.safetensors does not exist": checkpoint(tmp_path / "nowhere.safetensors", sha256="ab" * 32),
        "broken.safetensors begins like a safetensors file, but its header is cut off": checkpoint(
            tmp_path / "broken.safetensors"
        ),
        "harmful.pt is a plain pickle, which runs code when it is read, so it was not opened": checkpoint(
            tmp_path / "harmful.pt"
        ),
    }
    for said, spec in cases.items():
        with pytest.raises(SpecError, match=said):
            run(spec)
    assert Store().keys() == [] and not (tmp_path / "unpickled").exists()


def test_foreign_networks_teach_and_learn_by_their_layers():
    foreign = {
        "model": "torchvision.models:resnet18",
        "model_options": {"taps": ["layer1", "layer2", "layer3"], "embedding": "avgpool"},
        "budget": Budget(2, "steps", 8),
        "sizes": (320, 20, 20),
    }
    teacher = TEACHER.replace(**foreign)
    student = STUDENT.replace(**foreign, method="at", teacher=teacher)
    table = run(student)
    ours = run(student.replace(model="resnet8_s2_w4", model_options={}))
    assert not table.diverged.any() and (table.parameters == 11_181_642).all() and not ours.diverged.any()
    again = RunSpec.from_dict(Store().read(lab.run_key(student), "spec")["spec"])
    assert lab.run_key(again) == lab.run_key(student) != lab.run_key(student.replace(model_options={}))


def test_a_student_may_teach_in_turn():
    table = run(STUDENT.replace(teacher=STUDENT.replace(model="resnet8_s2_w8")))
    assert len(table) == 1 and len(Store().keys()) == 3


# --- runs ---------------------------------------------------------------------------------------------------------


def no_training(*given, **options):
    raise AssertionError("something trained")


def test_the_second_time_nothing_trains(monkeypatch, capsys):
    first = run(STUDENT, WEAK2)
    assert first.index.tolist() == [lab.run_key(STUDENT), lab.run_key(WEAK2)]
    assert {"student", "teacher_key", "seed", "test_accuracy", "student_images", "environment"} <= set(first)
    monkeypatch.setattr(worker, "train_cohort", no_training)
    assert run(STUDENT, WEAK2, progress=True, workers=2).equals(first)
    assert "nothing to train: all 3 runs are in the store." in capsys.readouterr().out


def test_two_workers_give_the_same_bits_as_none(tmp_path):
    specs = [STUDENT, WEAK2.at_seed(1)]  # one cohort for each worker
    seen = []
    keys = run(*specs, workers=2, after=seen.append).index
    assert seen[0] == set() and set(keys) < seen[-1]
    run(*specs, store=Store(tmp_path / "other"))
    assert bits(keys) == bits(keys, tmp_path / "other")


def small_study(seeds):
    little = {"budget": Budget(2, "steps", 30), "teacher_budget": Budget(2, "steps", 30)}
    return perspectives.study("teacher_augmentation", "smoke", seeds=seeds, **little)


def test_more_seeds_top_up_and_a_deleted_store_leaves_nothing_to_draw():
    table = small_study(2).run()
    marks = {path: path.stat().st_mtime_ns for path in home().rglob("done.json")}
    assert len(table) == 2 * len(small_study(2).arms) and table["arm"].value_counts().eq(2).all()
    todo = lab.plan(small_study(3).specs)
    assert len(todo.cached) == len(marks) and {todo.specs[key].seed for key in todo.missing} == {2}
    more = small_study(3).run()
    assert all(path.stat().st_mtime_ns == mark for path, mark in marks.items())
    assert more[more["seed"] < 2].set_index(["arm", "seed"]).equals(table.set_index(["arm", "seed"]))
    shutil.rmtree(Store().root)
    with pytest.raises(MissingRuns, match=f"{len(todo.specs)} of {len(todo.specs)} runs are not in the store"):
        small_study(3).table()
    assert nothing_was_written()


def test_a_run_held_by_another_process_is_waited_for(tmp_path):
    key, stop = lab.run_key(TEACHER), tmp_path / "stop"
    path = Store()._lease_path(key)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname()}))
    stop.touch()
    worker.train_cohort([planned(TEACHER)], Store().root, stop)
    assert not Store().has(key)
    path.unlink()
    stop.unlink()
    worker.train_cohort([planned(TEACHER)], Store().root, stop)
    assert Store().has(key) and Store().lease(key) is None


def test_a_stop_file_leaves_a_checkpoint_from_which_the_run_goes_on(tmp_path):
    key, stop = lab.run_key(TEACHER), tmp_path / "stop"
    stop.touch()
    worker.train_cohort([planned(TEACHER)], Store().root, stop)
    assert not Store().has(key) and Store().load_checkpoint(key)[1]["step"] == 1
    run(TEACHER)
    lab.run([TEACHER], workers=0, progress=False, store=Store(tmp_path / "other"))
    assert bits([key]) == bits([key], tmp_path / "other") and Store().load_checkpoint(key) is None


def test_a_disk_that_refuses_ends_the_run_with_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "file"))
    with pytest.raises(SpecError, match="KDLAB_OUT must be a folder, but .*file is none"):
        run(TEACHER)


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


class Interrupted(KD):
    """KD during which somebody presses Ctrl-C."""

    def after_step(self, batch):
        if batch.step == 2:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_a_notebook_says_how_to_go_on(capsys, monkeypatch):
    spec = WEAK2.replace(method="test_lab:Interrupted")
    with pytest.raises(KeyboardInterrupt):
        run(spec, progress=True)
    assert "stopped cleanly" in (out := capsys.readouterr().out) and "Run the same command again to continue." in out
    assert Store().load_checkpoint(lab.run_key(spec))[1]["step"] == 3
    assert not list(home().glob("runs/.leases/*")) + list(home().glob("runs/.stop*"))
    assert len(run(spec)) == 1


def test_ctrl_c_stops_a_command_and_its_workers(capsys):
    words = ["run", "kd", "--profile", "smoke", "--epochs", "60", "--workers", "1"]
    command = [sys.executable, "-c", "from kdlab.cli import main; main()", *words]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 90

    def student_at(lease):
        return Store().keys() and not Store().has(lease.name)  # the teacher's may still be there when it is done

    while not any('"step"' in path.read_text() for path in Store().root.glob(".leases/*") if student_at(path)):
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGINT)  # a terminal sends it to every process of the command
    out, err = job.communicate(timeout=60)
    assert job.returncode == 130 and "Traceback" not in out + err
    assert "stopped cleanly" in out and "Run the same command again to continue." in out
    [left] = Store().root.glob(".checkpoints/*")
    assert not list(Store().root.glob(".leases/*")) + list(Store().root.glob(".stop*"))
    spec = recipes.kd(perspectives.profile("smoke")).replace(budget=Budget(60, "epochs", 30))
    assert left.stem == lab.run_key(spec) and "goes on from its checkpoint" in lab.plan([spec]).describe()


def test_a_worker_whose_parent_died_stops_and_keeps_its_place(monkeypatch, tmp_path):
    key = lab.run_key(TEACHER)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(is_alive=lambda: False))
    worker.train_cohort([planned(TEACHER)], Store().root, tmp_path / "stop")
    assert Store().load_checkpoint(key)[1]["step"] == 1 and Store().lease(key) is None
