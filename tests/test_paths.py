"""What a person names means the same in every process: paths, lengths of training, what a notebook is given."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import papermill
import pytest
from PIL import Image

from kdlab import data, lab, paths, perspectives, settings
from kdlab.cli.distil import distil
from kdlab.cli.figures import figures
from kdlab.errors import SpecError
from kdlab.lab import export, processes
from kdlab.lab.keys import steps
from kdlab.lab.store import Store
from kdlab.perspectives import PROFILES, budgets, recipes
from kdlab.perspectives.notebook_parameters import check_injected, literal
from kdlab.report import notebooks
from kdlab.spec import Budget, Checkpoint, RunSpec

TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(2, "steps", 32))


def photos(folder: Path, classes: int, each: int) -> Path:
    """A folder of noise, with a sub-folder a class."""
    random = np.random.default_rng(classes * each)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{number:03d}.png")
    return folder


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    """A folder to stand in, which is also home."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    return tmp_path / "here"


# --- paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["photos", "./photos", "../here/photos", "~/photos"])
def test_a_path_is_absolute_from_the_moment_it_gets_its_type(cwd, typed):
    meant = photos(cwd / "photos", 2, 12)
    assert paths.absolute(typed) == meant
    name = f"folder:{meant}"
    assert data.absolute(f"folder:{typed}") == name and data.absolute(f"folder:{typed}?size=32") == f"{name}?size=32"
    assert RunSpec(data=f"folder:{typed}").data == RunSpec().replace(data=f"folder:{typed}").data == name
    plain = RunSpec().to_dict() | {"data": f"folder:{typed}"}
    assert RunSpec.from_dict(plain).data == name
    assert perspectives.profile("smoke", data=f"folder:{typed}").data == name
    assert Checkpoint(typed, "0" * 64, "resnet20").path == str(meant)
    assert Store(Path(typed)).root == meant and perspectives.study("few_shot", "smoke").folder(typed) == meant


def test_names_that_are_no_folders_stay():
    assert [data.absolute(name) for name in ("fashion", "cifar10", "folder:")] == ["fashion", "cifar10", "folder:"]
    assert RunSpec().data == "fashion"


def test_the_environment_s_folders_are_settled_for_processes_that_stand_elsewhere(cwd, monkeypatch):
    monkeypatch.setenv("KDLAB_OUT", "mine")
    assert paths.home() == cwd / "mine"
    (cwd / "data").mkdir()
    assert data.data_root(None) == cwd / "data" and data.data_root("~/x") == cwd / "x"
    monkeypatch.setenv("KDLAB_DATA", "")
    paths.settle()
    assert os.environ["KDLAB_OUT"] == str(cwd / "mine") and os.environ["KDLAB_DATA"] == str(cwd / "data")
    monkeypatch.setenv("KDLAB_DATA", "~/sets")
    paths.settle()
    assert os.environ["KDLAB_DATA"] == str(cwd / "sets")


def test_exports_and_tables_go_where_one_stands(cwd, monkeypatch):
    lab.run([TEACHER], workers=0, progress=False)
    said = export.export(lab.run_key(TEACHER), Path("~/mine"))
    assert (cwd / "mine" / lab.run_key(TEACHER) / "student.safetensors").exists() and str(cwd / "mine") in said


def test_figures_of_a_relative_folder_are_drawn(cwd, monkeypatch, capsys):
    """The documented command, whose notebook stands in another folder."""
    photos(cwd / "photos", 2, 30)
    given = {"data": "folder:photos", "epochs": 0.5, "teacher_epochs": 0.5}
    assert figures(["few_shot"], "smoke", given, ["seeds=2"], workers=0), capsys.readouterr().err
    [drawn] = paths.home().glob("smoke-photos-????????/figures")  # of other data than the profile's own
    record = json.loads((drawn / "few_shot-fractions.json").read_text())
    assert record["meta"]["overrides"]["data"] == f"folder:{cwd / 'photos'}"
    # 60 images: 6 of each class are held out in turn for test and val, 48 stay, a tenth of which are 4 and fill a step.
    assert (
        "Data: folder photos, 48 train" in record["caption"] and "(0.5 epochs, 4 originals a step)" in record["caption"]
    )
    assert "4 originals a step (30 in smoke)" in capsys.readouterr().out
    (cwd / "photos").rename(cwd / "gone")
    assert perspectives.redraw(drawn / "few_shot-fractions.json") is not None, "a figure is drawn from its file alone"


# --- lengths ------------------------------------------------------------------------------------------------------


def images_of(classes: int, each: int) -> int:
    """Training images that stay of a folder: a tenth for test, a tenth of the rest for val, of each class."""
    left = each - max(1, round(each / 10))
    return classes * (left - max(1, round(left / 10)))


@pytest.mark.parametrize("named", list(PROFILES))
@pytest.mark.parametrize("classes, each", [(2, 8), (4, 40), (3, 300), (10, 800), (10, 7000)])
def test_a_folder_is_scaled_by_rule(monkeypatch, named, classes, each):
    total, few = images_of(classes, each), {}

    def train_size(name, sizes=None, fraction=1.0):
        few[fraction] = classes * max(1, round(fraction * total / classes))
        return few[fraction]

    monkeypatch.setattr(budgets, "train_size", train_size)
    base = PROFILES[named]
    size = base.replace(data="folder:/photos")
    smallest = min(few.values())
    for now, before in ((size.budget, base.budget), (size.teacher_budget, base.teacher_budget)):
        some, most = now.originals_per_step, before.originals_per_step
        assert some % 2 == 0 and 2 <= some <= most and (some <= total / 4 or some == 2)
        assert some == most or min(total // 4, smallest) - some < 2, "no smaller than it must be"
        assert now.steps(smallest, 1) >= 1, "the smallest subset fills a step"
        own = base.sizes[0] if base.sizes else {"full": 54000, "paper": 45000}[named]
        planned, made = before.amount * (own // most), now.amount * (total // some)
        assert before.amount <= now.amount <= 10 * before.amount
        assert made >= planned or now.amount == 10 * before.amount
        assert now.amount == before.amount or (now.amount - 1) * (total // some) < planned, "and no longer"
    assert size.budget.originals_per_step == size.teacher_budget.originals_per_step


def test_what_is_said_by_hand_is_taken(cwd):
    photos(cwd / "photos", 4, 40)  # 128 train
    size = perspectives.profile("smoke", data="folder:photos", epochs=3, teacher_epochs=7, originals=20)
    assert size.budget == Budget(3, "epochs", 20) and size.teacher_budget == Budget(7, "epochs", 20)
    size = perspectives.profile("smoke", data="folder:photos", steps=33)
    assert size.budget.steps(128, 1) == 33 and size.budget.unit == "epochs" and size.budget.originals_per_step == 12
    assert steps(recipes.ce(size)) == 33
    half = perspectives.profile("smoke", steps=45)
    assert steps(recipes.ce(half)) == 45 and half.teacher_budget == PROFILES["smoke"].teacher_budget
    assert perspectives.profile("quick") is PROFILES["quick"] or perspectives.profile("quick") == PROFILES["quick"]
    for wrong, said in (({"epochs": 1, "steps": 2}, "epochs and steps exclude each other"),
                        ({"originals": 0}, "originals must be an integer of at least 1, but got 0"),
                        ({"originals": "many"}, "originals must be an integer"), ({"epochs": -1}, "must be a positive"),
                        ({"steps": 1.5}, "steps must be an integer"), ({"epoch": 1}, "Did you mean 'epochs'"),
                        ):  # fmt: skip
        with pytest.raises(SpecError, match=said):
            perspectives.profile("smoke", **wrong)


def test_bundled_data_keep_the_profile_s_numbers():
    assert perspectives.profile("smoke", data="cifar10", student="resnet20").budget == PROFILES["smoke"].budget
    assert perspectives.lengths(PROFILES["quick"]) == ""
    assert "chosen for 'fashion', not for 'cifar10'" in perspectives.lengths(
        perspectives.profile("quick", data="cifar10")
    )
    quick, said = PROFILES["quick"], perspectives.lengths(perspectives.profile("quick", epochs=9))
    assert f"for {quick.sizes[0]:,} training images" in said
    assert f"9 epochs of a student ({quick.budget.amount:g} in quick)" in said


def test_figures_and_run_share_a_folder_s_teacher(cwd, capsys):
    photos(cwd / "photos", 4, 40)
    study = perspectives.study("few_shot", "smoke", data="folder:photos")
    assert min(steps(spec) for spec in study.specs) >= 1
    wanted = {lab.run_key(spec.teacher) for spec in study.specs if spec.teacher}
    unsaid = ["teacher", "arch", "student", "views", "ratio", "epochs", "steps", "teacher_epochs", "originals"]
    given = dict.fromkeys(unsaid) | {"data": "folder:photos", "augmentation": "weak", "fraction": 1.0}
    table = distil("kd", "smoke", seed=0, seeds=1, workers=0, **given)
    assert table.index[0] in wanted and table["steps"].tolist() == [40, 20]
    assert distil("kd", "smoke", seed=0, seeds=1, workers=0, only_plan=True, **given | {"steps": 7}) is None
    assert "1 in the store, 1 to train" in capsys.readouterr().out
    # A fraction below the profile's smallest makes the steps smaller still.
    given |= {"fraction": 0.03}
    assert distil("kd", "smoke", seed=0, seeds=1, workers=0, **given)["steps"].iloc[1] == 2


# --- what a notebook is given -------------------------------------------------------------------------------------


def test_texts_are_read_as_what_they_say():
    given = {"[0, 1]": [0, 1], "3": 3, "0, 1": (0, 1), " true ": True, "None": None, ".5": 0.5, "resnet20": "resnet20"}
    assert {text: literal(text) for text in given} == given
    for seeds in ("[4, 5]", "4, 5", [4, 5]):
        assert perspectives.profile("smoke", seeds=seeds).seeds == (4, 5)
    assert perspectives.profile("smoke", seeds="3").seeds == (0, 1, 2)
    with pytest.raises(SpecError, match="seeds must be a count or a list .* but got 'a few'"):
        perspectives.profile("smoke", seeds="a few")


def test_a_parameter_that_a_notebook_does_not_have_is_refused():
    cells = ["", "profile = None\nseeds = None\nout_dir = None"]
    names = {"profile": "smoke", "seeds": "[0, 1]", "epochs": "2", "out_dir": "x", "In": cells, "table": [1]}
    assert perspectives.parameters(names) == {"profile_name": "smoke", "seeds": [0, 1], "epochs": 2}
    for cell, nearest in (("seed = 5", "seeds"), ("seeds = 3\nprofil = 'smoke'", "profile")):
        with pytest.raises(SpecError, match=f"notebook parameter must be one of .*Did you mean '{nearest}'"):
            perspectives.parameters(names | {"In": [*cells, f"# Parameters\n{cell}\n"]})
        with pytest.raises(SpecError, match=nearest):
            check_injected({"In": [*cells, "%matplotlib inline", f"# Parameters\n{cell}\n"]})
    # By hand one may name what one likes, also above the cell that asks.
    perspectives.parameters(names | {"In": [*cells, "# Parameters\nseeds = 3\n", "seed = 5", "columns = ['a']"]})
    perspectives.parameters({"profile": "smoke"})  # outside of a kernel


@pytest.mark.parametrize(
    "notebook", [notebooks.NOTEBOOKS / "ratio_sweep.ipynb", notebooks.NOTEBOOKS.parent / "explore.ipynb"]
)
def test_papermill_stops_at_an_unknown_parameter(notebook, tmp_path):
    with (
        notebooks.event_loop(),
        pytest.raises(
            papermill.PapermillExecutionError, match="SpecError: notebook parameter .*Did you mean 'profile'"
        ),
    ):
        papermill.execute_notebook(
            notebook, tmp_path / "out.ipynb", {"profil": "smoke"}, kernel_name="python3", progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=50"],
        )  # fmt: skip
    assert not paths.home().exists(), "nothing was trained"


# --- the environment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, value, said", [
    ("KDLAB_DEVICE", "gpu", r"KDLAB_DEVICE must be one of \[cpu, cuda.* but got 'gpu'. Did you mean 'cuda'"),
    ("KDLAB_DEVICE", "cuda0", "KDLAB_DEVICE must be .* Did you mean 'cuda"),
    ("KDLAB_PROFILE", "smok", "KDLAB_PROFILE must be .* Did you mean 'smoke'"),
    ("KDLAB_TEACHER_GB", "two", "KDLAB_TEACHER_GB must be a number of gigabytes"),
    ("KDLAB_DETERMINISTIC", "true", r"KDLAB_DETERMINISTIC must be one of \[0, 1\]"),
    ("KDLAB_INTERACTIVE", "no", r"KDLAB_INTERACTIVE must be one of \[0, 1\]"),
    ("KDLAB_OUT", "{file}", "KDLAB_OUT must be a folder, but .*file is none"),
    ("KDLAB_OUT", "{file}/below", "KDLAB_OUT must be a folder, but .*file is none"),
    ("KDLAB_DATA", "{file}", "KDLAB_DATA must be a folder, but .*file is none"),
])  # fmt: skip
def test_a_wrong_variable_is_refused_before_anything_trains(monkeypatch, tmp_path, name, value, said):
    (tmp_path / "file").touch()
    monkeypatch.setenv(name, value.format(file=tmp_path / "file"))
    for attempt in (
        lambda: lab.run([TEACHER], workers=0),
        lambda: figures(None, "smoke", {}, [], only_plan=True),
    ):
        with pytest.raises(SpecError, match=said):
            attempt()
    assert not (tmp_path / "out").exists()
    assert any(name in fault for fault in settings.faults())


def test_a_device_that_is_not_there_is_refused_before_anything_trains(monkeypatch):
    monkeypatch.setenv("KDLAB_DEVICE", "cuda:99")
    with pytest.raises(SpecError, match="KDLAB_DEVICE is 'cuda:99', but torch finds (no cuda device|only)"):
        lab.run([TEACHER], workers=1, progress=False)
    assert not Store().keys() and not (Store().root / ".leases").exists()


def test_every_variable_that_is_read_is_checked_and_in_the_docs(monkeypatch):
    checkout = paths.CHECKOUT
    read = {
        word for path in (checkout / "kdlab").rglob("*.py") for word in re.findall(r"KDLAB_[A-Z_]+", path.read_text())
    }
    assert read == {*settings.VARIABLES, *settings.INNER}
    text = (checkout / "docs" / "commands.md").read_text()
    for name, (what, _) in settings.VARIABLES.items():
        assert f"| `{name}` | {what} |" in text
    for name in PROFILES:
        settings.profile(name)
    monkeypatch.setenv("KDLAB_PROFIL", "smoke")
    monkeypatch.setenv("KDLAB_ZZZ", "1")
    assert settings.misspelt() == ["KDLAB_PROFIL is set, but nothing reads it. Did you mean KDLAB_PROFILE?",
                                   "KDLAB_ZZZ is set, but nothing reads it."]  # fmt: skip
    settings.check()


# --- scripts ------------------------------------------------------------------------------------------------------

SCRIPT = """
from kdlab import lab
from kdlab.spec import Budget, RunSpec

print("once")
spec = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(2, "steps", 32))
print("runs", len(lab.run([spec, spec.at_seed(1)], workers=1, progress=False)))
"""


@pytest.mark.parametrize("how", ["script", "module", "stdin", "-c", "guarded"])
def test_a_script_without_a_guard_trains(cwd, how):
    guarded = SCRIPT.replace("print", "if __name__ == '__main__':\n    print") if how == "guarded" else SCRIPT
    (cwd / "mine.py").write_text(guarded)
    words = {
        "script": ["mine.py"],
        "module": ["-m", "mine"],
        "stdin": ["-"],
        "-c": ["-c", SCRIPT],
        "guarded": ["mine.py"],
    }
    done = subprocess.run([sys.executable, *words[how]], input=SCRIPT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stdout.split("\n")[:2] == ["once", "runs 2"] and done.stderr == ""


NET = """
from torch import nn
from kdlab.models import build


def net(num_classes, in_channels):
    return build("resnet8_s2_w4", num_classes, in_channels, seed=0)
"""


def test_what_stands_in_a_script_is_trained_in_its_process(cwd):
    (cwd / "mine.py").write_text(NET + SCRIPT.replace('"resnet8_s2_w4", budget', '"__main__:net", budget'))
    done = subprocess.run([sys.executable, "mine.py"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["once", "runs", "2"]


def test_the_main_module_is_back_after_a_start():
    main = sys.modules["__main__"]
    before = getattr(main, "__file__", math.nan), getattr(main, "__spec__", math.nan)
    with processes._main_unseen():
        assert main.__file__ is None and main.__spec__ is None
    assert (getattr(main, "__file__", math.nan), getattr(main, "__spec__", math.nan)) == before
