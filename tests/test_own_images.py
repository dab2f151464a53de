"""``kdlab advise folder:PATH``: what is compared, what is said of it, when nothing may be said, and what is kept."""

import html
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdlab import data, lab
from kdlab.cli import app
from kdlab.errors import SpecError
from kdlab.lab.keys import steps
from kdlab.perspectives import own_images, profile
from kdlab.perspectives.own_images import CONTROL, LABELS, answer
from kdlab.widgets import OwnImages
from kdlab.widgets.custom_study import example


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of thirty images, and a home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLAB_OUT", str(tmp_path_factory.mktemp("home")))
        yield example(30, (0, 5, 8))


@pytest.fixture(autouse=True)
def one_home(own_store, folder, monkeypatch):
    """What is read and the linear model fitted once for this module."""
    monkeypatch.setenv("KDLAB_OUT", str(Path(folder).parent))


def study(folder, **given):
    small = {"teacher": "resnet8_s2_w8", "student": "resnet8_s2_w4", "seeds": 3, "epochs": 4.0}
    return own_images.own_images(f"folder:{folder}", **small | given)


def made_up(study, val: dict[str, list[float]]) -> pd.DataFrame:
    """A table with the val accuracies of each arm by seed; test accuracies are 10 points lower."""
    rows = [
        {"arm": arm, "seed": seed, "diverged": False, "val_accuracy": value, "test_accuracy": value - 10,
         "teacher_val_accuracy": np.nan if arm == LABELS else 95.0, "student_images": 100 * (1 + (arm != LABELS)),
         "teacher_forwards": 0 if arm == LABELS else 200, "steps": 10, "seconds": 30.0, "key": f"{arm}{seed}"}
        for arm, values in val.items() for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


VAL = {LABELS: [70, 71, 72], CONTROL: [80, 81, 82], "jda": [84.0, 85.1, 86.2], "rotation": [75.0, 76.1, 77.2]}


def test_steps_are_those_that_students_of_the_regime_need(folder):
    chosen = study(folder, epochs=None)
    regime = steps(own_images.recipes.ce(profile("quick")))
    per_epoch = steps(chosen.arms[LABELS]) / chosen.profile.budget.amount
    assert steps(chosen.arms[LABELS]) >= regime > steps(chosen.arms[LABELS]) - per_epoch
    assert chosen.profile.budget.originals_per_step * 4 <= data.train_size(chosen.profile.data)
    assert steps(study(folder).arms[LABELS]) == 4 * per_epoch


def test_the_answer_tells_effect_certainty_levels_and_cost(folder):
    s = study(folder)
    found = answer(s, made_up(s, VAL))
    assert found.chosen == "jda"
    first, *rest = found.lines
    assert first == (
        "Distil with jda: +4.1 points on val over two weak views of equal cost. Leave out rotation: worse than two "
        "weak views."
    )
    told = "Test, told once and used for no choice: jda 75.1 %, two weak views 71.0 % (mean of 3 seeds)."
    assert rest[-1] == told and found.text.lower().count("test") == 1, "at the end, and of no other arm"
    said = " ".join(rest)
    assert "JDA gains 4.10 points [+3.85, +4.35] over two weak views" in said
    assert "On val: teacher 95.0 %, ce 71.0 %, weak2 81.0 %, jda 85.1 %, rotation 76.1 %; a linear model" in said
    images = data.describe(s.profile.data).labels["val"]
    assert f"Val has {len(images)} images only: one of them is {100 / len(images):.2g} points" in said
    assert "2 times the student images of one, 200 a run, and as many answers of the teacher (200)" in said
    assert "These 12 students took 6.0 minutes of one core" in said
    assert list(found.ranked.index) == list(s.arms)


def test_nothing_is_ranked_at_chance(folder):
    s = study(folder)
    chance = {arm: [34.0, 33.0, 33.0] for arm in s.arms} | {"jda": [34.0, 34.1, 34.2]}
    found = answer(s, made_up(s, chance))
    assert found.chosen is None and found.lines[0].startswith("Nothing can be said: ce, weak2")
    assert "over two weak views" not in found.text and "kdlab data" in found.text
    assert "Test" not in found.text, "nothing was chosen, and nothing can be compared"


def test_many_val_images_are_not_called_few():
    s = own_images.own_images("fashion", augmentations=("jda",), seeds=2, epochs=1.0)
    found = answer(s, made_up(s, {arm: [80.0, 81.0] for arm in s.arms}))
    assert "images only" not in found.text and "None of these augmentations" in found.text
    assert found.lines[-1].endswith(": two weak views 70.5 % (mean of 2 seeds).")


def test_the_best_on_test_is_not_what_is_chosen(folder):
    s = study(folder)
    table = made_up(s, VAL)
    table.loc[table.arm == "rotation", "test_accuracy"] = 99.0
    found = answer(s, table)
    assert found.chosen == "jda" and "99.0" not in found.text
    assert "rotation: unknown data: see whether" in found.text, "whether it may change a label"


@pytest.mark.parametrize(
    "given, said",
    [
        ({"augmentations": ()}, "must name at least one policy"),
        ({"augmentations": ("jdaa",)}, "Did you mean 'jda'"),
        ({"seeds": 1}, r"seeds must be an integer in \[2, 100\]"),
        ({"student": "resnet9"}, "Did you mean"),
    ],
)
def test_what_cannot_be_asked_is_refused(folder, given, said):
    with pytest.raises(SpecError, match=said):
        lab.plan(study(folder, **given).specs)


@pytest.mark.parametrize(
    "words, said",
    [
        ("", "--images is missing"),
        ("--images 5", "--epochs is missing"),
        ("--images 5 --epochs 3 --student resnet20", "--student is for a question with data"),
        ("--images 5 --epochs 3 --plan", "--plan is for a question with data"),
        ("fashion --images 5", "--images is for a question without data"),
        ("fashion --epochs 0", "--epochs must be a number above 0"),
        ("fashion --teacher-classes a,b", "--teacher-classes 'a,b' is for a teacher from a file"),
        ("folder:nowhere", "does not exist"),
    ],
)
def test_options_that_would_change_nothing_are_refused(monkeypatch, capsys, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["kdlab", "advise", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    assert stopped.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("given", [{}, {"augmentations": ("jda",), "seeds": 3}, {"epochs": 2.0}])
def test_the_explorer_and_the_command_ask_the_same_by_default(folder, given):
    by_command = own_images.own_images(f"folder:{folder}", **given)
    assert OwnImages(folder=folder, **given).study().specs == by_command.specs


def ask(monkeypatch, capsys, *words: str) -> str:
    """What a command prints."""
    monkeypatch.setattr("sys.argv", ["kdlab", *words])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    assert not stopped.value.code
    return capsys.readouterr().out


def words_of(fragment: str) -> str:
    return html.unescape(re.sub("<[^>]*>", "", fragment.replace("<br>", "\n")))


def test_the_command_answers_and_keeps_what_repeats_it(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folder)
    line = "advise folder:. --teacher resnet8_s2_w8 --student resnet8_s2_w4 --augmentations jda --seeds 2 --epochs 6"
    printed = ask(monkeypatch, capsys, *line.split(), "--workers", "0", "--out", str(tmp_path / "kept"))
    assert "Health: " in printed and f"kept in {tmp_path / 'kept'}" in printed
    kept = {str(path.relative_to(tmp_path / "kept")).split("/")[0] for path in (tmp_path / "kept").iterdir()}
    names = {
        "answer.txt",
        "answer.png",
        "answer.svg",
        "answer.csv",
        "answer.json",
        "specs.json",
        "command.txt",
        "student",
    }
    assert kept == names
    again = shlex.split((tmp_path / "kept" / "command.txt").read_text())
    assert again[:3] == ["kdlab", "advise", f"folder:{folder}"] and again[-1] == "6"
    specs = json.loads((tmp_path / "kept" / "specs.json").read_text())
    table = pd.read_csv(tmp_path / "kept" / "answer.csv")
    assert list(specs["arms"]) == ["ce", "weak2", "jda"] and len(table) == 6
    assert (tmp_path / "kept" / "answer.txt").read_text().split("\n\n")[0] in printed
    (weights,) = (tmp_path / "kept" / "student").glob("*/student.safetensors")
    assert weights.parent.name in set(table["key"])
    tested = [name for name in table if name.startswith("test") or name == "agreement"]
    assert tested == [] and "test_accuracy" not in (tmp_path / "kept" / "answer.json").read_text()
    told = (tmp_path / "kept" / "answer.txt").read_text().split("\n\n")[0]
    assert "On the map of Fashion-MNIST" in told, "where this set lies"

    small = {"teacher": "resnet8_s2_w8", "student": "resnet8_s2_w4", "augmentations": ("jda",), "seeds": 2}
    explorer = OwnImages(folder=folder, epochs=6.0, **small)
    assert words_of(explorer.draw().caption) == told, "one folder, one answer"
    monkeypatch.setattr(own_images, "keep", lambda study, table, command: command)
    by_explorer = shlex.split(explorer.keep())
    for command in (again, by_explorer):
        assert "nothing to train" in ask(monkeypatch, capsys, *command[1:], "--plan"), command
