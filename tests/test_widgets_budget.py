"""The ratio and budget explorer, without a browser: its points, sliders, words and commands."""

import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats as scipy_stats
from test_widgets_results import JDA, KD, PNG, TEACHER, WEAK2, canvas, shown, write_run

from kdlab import lab, perspectives
from kdlab.cli.distil import distil
from kdlab.errors import SpecError
from kdlab.lab.keys import steps
from kdlab.lab.store import Store
from kdlab.perspectives import recipes
from kdlab.plotting import save
from kdlab.plotting.look import LOOKS
from kdlab.spec import Budget, Checkpoint, RunSpec
from kdlab.widgets import BudgetExplorer
from kdlab.widgets.runs.arms import looks
from kdlab.widgets.sweep import lines, selection
from kdlab.widgets.sweep.captions import number
from kdlab.widgets.sweep.commands import command


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """A folder with the two figures as ``standard`` publishes them, of four seeds of made-up runs."""
    out = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLAB_OUT", str(out))
        for file in selection.FILES:
            name, _, figure = file.removesuffix(".json").partition("-")
            study = perspectives.study(name, "standard", seeds=4)
            for run in lab.plan(study.specs).todo:
                mean = 14 if run.spec.role == "teacher" else 8 * run.spec.ratio - 20 * (1 - run.spec.fraction)
                write_run(run.spec, mean)
            meta = {"perspective": name, "figure": figure, "profile": "standard", "overrides": {"seeds": [0, 1, 2, 3]}}
            save(Figure(), out / "figures", f"{name}-{figure}", caption="", alt="", table=study.table(), meta=meta)
    return out / "figures"


@pytest.fixture(autouse=True)
def as_published(figures, monkeypatch):
    """Explorers read that folder: what is really published grows with every seed."""
    monkeypatch.setattr(selection, "PUBLISHED", figures)


@pytest.fixture(scope="module")
def published(figures):
    """The rows of the two published figures, each run once, by pandas alone."""
    records = [json.loads((figures / name).read_text(encoding="utf-8"))["data"] for name in selection.FILES]
    return pd.DataFrame([row for rows in records for row in rows]).drop_duplicates("key")


@pytest.fixture(scope="module")
def usual(published):
    """Epochs, steps and images of a published run on two views, its steps on a tenth of the images, and the seeds."""
    runs = published.query("method == 'kd' and views == 2 and budget_unit == 'epochs'")
    one, few = runs.query("fraction == 1").iloc[0], runs.query("fraction == 0.1").iloc[0]
    found = {"epochs": one["budget_amount"], "steps": one["steps"], "images": one["student_images"]}
    return SimpleNamespace(**found, few=few["steps"], seeds=published["seed"].nunique())


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a ratio sweep of four seeds, two fractions of it, and a longer budget."""
    out = tmp_path_factory.mktemp("swept")
    store = Store(out / "runs")
    long, few = JDA.replace(budget=Budget(8, originals_per_step=32)), {"fraction": 0.25}
    for seed in range(4):
        for spec in (TEACHER, *(JDA.replace(ratio=r) for r in (0.25, 0.5, 1.0)), WEAK2, KD, long, JDA.replace(**few),
                     WEAK2.replace(**few)):  # fmt: skip
            write_run(spec.at_seed(seed), 14 if spec is TEACHER else 8 * spec.ratio, store=store)
    return out


@pytest.fixture
def sweep(swept, tmp_path, monkeypatch):
    """A copy of it as the default store."""
    shutil.copytree(swept, tmp_path / "sweep")
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "sweep"))
    return Store()


def widget(source=None, **settings):
    explorer = BudgetExplorer(source, **settings)
    explorer.widget()
    assert explorer.failure is None, explorer.failure
    return explorer


def spots_of(explorer):
    """Texts of the points by (line, place)."""
    texts = [text for text in explorer.draw().told if "\n" in text]
    return {tuple(text.split("\n")[0].split(" at ")): text for text in texts}


def interval(values):
    values = np.asarray(values, float)
    low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return f"{values.mean():.2f} % (95 % interval {low:.2f} to {high:.2f}), {len(values)} seeds"


# --- points ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["test_accuracy", "val_accuracy"])
def test_points_over_the_ratio_by_pandas(published, usual, metric):
    spots = spots_of(BudgetExplorer(runs="published", metric=metric))
    runs = published.query("fraction == 1 and method == 'kd' and views == 2 and steps == @usual.steps")
    assert sorted(runs["ratio"].unique()) == [0, 0.25, 0.5, 0.75, 1]
    for ratio, rows in runs.groupby("ratio"):
        text = spots["kd jda", f"{100 * ratio:.3g} % augmented rows"]
        assert interval(rows[metric]) in text and f"seed 0 to {usual.seeds - 1}" in text
        assert f"{usual.images:,} student images, {usual.images:,} teacher forwards, {usual.steps:,} steps" in text
        assert ", ".join(rows.sort_values("seed")["key"].str[:8]) in text


def test_points_over_the_images_at_equal_epochs_and_at_equal_steps(published, usual):
    at_epochs = spots_of(BudgetExplorer(runs="published", x="shots", unit="epochs", budget=usual.epochs))
    at_steps = spots_of(BudgetExplorer(runs="published", x="shots", unit="steps", budget=usual.steps))
    kd = published.query("method == 'kd' and views == 2")
    for fraction in (0.1, 0.25, 1.0):
        for name, query in (("kd jda", "ratio == 0.5"), ("kd weak2", "ratio == 0")):
            rows, where = kd.query(f"{query} and fraction == {fraction}"), f"{100 * fraction:.3g} % of the images"
            equal = rows[(rows["budget_unit"] == "epochs") & (rows["budget_amount"] == usual.epochs)]
            assert interval(equal["test_accuracy"]) in at_epochs[name, where]
            assert interval(rows[rows["steps"] == usual.steps]["test_accuracy"]) in at_steps[name, where]
    assert ("ccd jda", "50 % of the images") in at_epochs and ("ccd jda", "50 % of the images") not in at_steps


def test_equal_student_images_bring_copies_beside_shares(published, usual):
    explorer = BudgetExplorer(runs="published", unit="student_images", budget=usual.images)
    spots, copies = spots_of(explorer), published.query("views == 4 and steps == @usual.steps // 2")
    assert interval(copies["test_accuracy"]) in spots["kd jda, 4 views", "75 % augmented rows"]
    long = published.query("method == 'kd' and views == 1 and steps == 2 * @usual.steps")
    assert interval(long["test_accuracy"]) in spots["kd weak", "0 % augmented rows"]


def test_budgets_in_other_units_are_told_in_epochs(usual):
    table = selection.published()
    few = table[(table["shots"] == 10) & (table["steps"] == usual.steps)]
    assert few["epochs"].unique() == pytest.approx(usual.steps * usual.epochs / usual.few)
    assert table[table["steps"] == 2 * usual.steps]["epochs"].unique() == pytest.approx(2 * usual.epochs)
    spots = spots_of(BudgetExplorer(runs="published", x="budget", ratio=75))
    half = usual.steps // 2 * usual.epochs / usual.steps
    told = {f"{number(half)} epochs", f"{number(usual.epochs)} epochs"}
    assert {place for line, place in spots if line == "kd jda, 4 views"} == told


def test_numbers_within_a_percent_are_one_budget():
    values = pd.Series([100, 100.4, 100.8, 100.8, 103, 200, np.nan])
    assert lines.alike(values).tolist()[:6] == [100.8] * 4 + [103, 200] and math.isnan(lines.alike(values)[6])


def test_two_runs_of_a_seed_at_one_point_are_not_both_counted(sweep):
    write_run(JDA.replace(budget=Budget(40.2 * 64, "student_images", 32)), 0)
    write_run(JDA.replace(budget=Budget(8.01, originals_per_step=32)), 0)  # 80 steps, as 8 epochs
    write_run(JDA.replace(budget=Budget(8.05, originals_per_step=32)), 0)  # 80 steps as well
    explorer = widget(runs="store", x="budget")
    assert "8 epochs" in [text for text, _ in explorer.control["budget"].options]


def test_a_diverged_run_is_left_out_and_named(sweep):
    before = spots_of(BudgetExplorer(runs="store"))["kd jda", "50 % augmented rows"]
    write_run(JDA.at_seed(7), 0, diverged=True)
    after = spots_of(BudgetExplorer(runs="store"))["kd jda", "50 % augmented rows"]
    assert "4 seeds, diverged: seed 7" in after
    assert re.search(r"[\d.]+ % \(.*?\)", after)[0] == re.search(r"[\d.]+ % \(.*?\)", before)[0]
    for seed in range(4):
        write_run(JDA.at_seed(seed).replace(ratio=0.75), 0, diverged=True)
    assert "no finished seed, diverged: seed 0 to 3" in spots_of(widget(runs="store"))["kd jda", "75 % augmented rows"]


def test_lines_that_differ_in_more_than_they_show_are_kept_apart(sweep):
    joint = TEACHER.replace(augmentation="jda", views=2, ratio=0.5)
    for changes in ({"teacher": joint}, {"method_options": {"temperature": 2.0}}, {"replicate": 1},
                    {"teacher": Checkpoint("/gone.pth", "cd" * 32, "resnet8_s2_w8")}):  # fmt: skip
        for seed in range(2):
            write_run(JDA.replace(**changes).at_seed(seed), 0)
    named = {line for line, _ in spots_of(BudgetExplorer(runs="store"))}
    assert {"kd jda", "kd jda, teacher jda", "kd jda, temperature=2", "kd jda, replicate 1", "kd weak"} < named
    assert any(line.startswith("kd jda, teacher file cdcdcdcd") for line in named)


def test_where_lines_would_be_many_kd_is_shown_first(sweep):
    for method in ("dkd", "dist", "lskd", "mlld", "at"):
        write_run(JDA.replace(method=method), 0)
        write_run(WEAK2.replace(method=method), 0)
    explorer = widget(runs="store")
    assert explorer.control["method"].value == "kd" and explorer.settings["method"] is None
    assert {line.split()[0] for line, _ in spots_of(explorer)} == {"kd"}
    explorer.control["method"].value = "all"
    assert {line.split()[0] for line, _ in spots_of(explorer)} > {"kd", "dkd"}


def test_markers_tell_all_lines_apart():
    kinds = [("kd", "jda"), ("kd", "jda, teacher jda"), ("ce", "weak"), *(("dkd", f"view {n}") for n in range(9))]
    assert len({look["marker"] for look in looks(kinds)}) == len(kinds)
    assert looks(kinds)[0]["marker"] == LOOKS["jda"][2] and looks(kinds)[2]["color"] == LOOKS["ce"][1]


def test_too_many_lines_are_counted(sweep):
    for warmer in range(12):
        write_run(JDA.replace(method_options={"temperature": 2.0 + warmer}), 0)
    drawing = widget(runs="store", method="all").draw()
    assert "more lines: choose a method or an augmentation" in drawing.caption
    points = [text for text in drawing.told if "\n" in text]
    assert len({text.split(" at ")[0] for text in points}) == selection.MOST_LINES
    assert any(text.startswith("kd jda at 25 %") for text in points)  # the longest line is kept


# --- controls ----------------------------------------------------------------------------------------------------


def test_sliders_offer_what_exists_and_the_axis_has_none(usual):
    explorer = widget(runs="published")
    c = explorer.control
    assert [v for _, v in c["shots"].options] == [10, 25, 50, 100] and c["shots"].value == 100
    assert c["ratio"].disabled and not c["shots"].disabled and not c["budget"].disabled
    assert c["budget"].value == usual.epochs
    there = [usual.steps // 2 * usual.epochs / usual.steps, usual.epochs, 2 * usual.epochs]
    assert [text for text, _ in c["budget"].options] == [f"{number(epochs)} epochs" for epochs in there]
    c["x"].value = "shots"
    assert c["shots"].disabled and not c["ratio"].disabled and c["ratio"].value == 50
    c["unit"].value = "student_images"
    assert c["budget"].options[-1][0] == f"{2 * usual.images:,} student images"


def test_the_store_is_read_once_until_it_is_asked_to_be_read_again(monkeypatch):
    asked, stored = [], selection.stored
    monkeypatch.setattr(selection, "stored", lambda *given, **named: asked.append(given) or stored(*given, **named))
    explorer = widget()
    explorer.set(metric="val_accuracy").set(x="shots")
    assert len(asked) == 1
    explorer.refresh()
    assert len(asked) == 2 and explorer.failure is None


def test_settings_change_the_picture(usual):
    explorer, seen = widget(runs="published"), set()
    for name, value in (
        ("x", "shots"), ("ratio", 25.0), ("unit", "steps"), ("budget", float(usual.few)), ("x", "budget"),
        ("shots", 25.0), ("x", "ratio"), ("unit", "epochs"), ("method", "ccd"), ("metric", "val_accuracy"),
        ("still", False),
    ):  # fmt: skip
        explorer.control[name].value = value
        assert explorer.failure is None, (name, explorer.failure)
        picture = shown(explorer)
        assert picture not in seen, name
        seen.add(picture)


def test_what_was_drawn_before_leaves_no_trace(usual):
    every = [
        {},
        {"x": "shots"},
        {"x": "budget", "unit": "student_images"},
        {"x": "shots", "unit": "steps", "budget": usual.steps},
    ]
    once = [BudgetExplorer(runs="published", **settings).draw() for settings in every]
    assert len({drawing.png for drawing in once}) == len(every)
    again = [BudgetExplorer(runs="published", **settings).draw() for settings in reversed(every)]
    assert [d.png for d in reversed(again)] == [d.png for d in once]
    assert [d.html() for d in reversed(again)] == [d.html() for d in once]


def test_a_budget_that_is_not_there_any_more_falls_back(usual):
    long = usual.steps * usual.epochs / usual.few
    explorer = widget(runs="published", shots=10.0, budget=long)
    assert f"{number(long)} epochs" in explorer.picture.value
    explorer.control["shots"].value = 50.0
    assert explorer.failure is None and explorer.settings["budget"] is None
    assert explorer.control["budget"].value == usual.epochs


def test_a_method_without_such_runs_is_told_in_a_friendly_way():
    explorer = widget(runs="published", method="ccd")
    explorer.control["augmentation"].value = "weak"
    assert explorer.failure is None and "No run fits these settings" in explorer.picture.value
    explorer.control["method"].value = "kd"
    assert explorer.failure is None and "kd weak2" in explorer.picture.value


def test_one_scale_for_all_sliders():
    few, all_of_it = (BudgetExplorer(runs="published", shots=shots).draw().rows[0][0] for shots in (10, 100))
    for one, other in zip(few, all_of_it, strict=True):
        assert (one.x.low, one.x.high, one.y.low, one.y.high) == (other.x.low, other.x.high, other.y.low, other.y.high)
    kd = [next(m for m in panel.marks if m.kind == "points" and m.name == "kd jda") for panel in (few[0], all_of_it[0])]
    at = [next(y for y, text in zip(m.y, m.told, strict=True) if text.startswith("kd jda at 50 %")) for m in kd]
    assert few[0].y.low < at[0] < at[1] - 0.3 * (few[0].y.high - few[0].y.low)  # a tenth of the images lies far below
    loose = [BudgetExplorer(runs="published", shots=shots, still=False).draw().rows[0][0][0].y for shots in (10, 100)]
    assert loose[0] != loose[1], "axes that fit what is shown"


def test_filters_keep_the_lines_without_augmentation(published):
    spots = spots_of(BudgetExplorer(runs="published", x="shots", method="kd", augmentation="jda"))
    assert {line for line, _ in spots} == {"kd jda", "kd weak2", "kd weak"}


# --- words and commands ------------------------------------------------------------------------------------------


def test_words_tell_what_is_held_and_what_it_costs(published, usual):
    words = BudgetExplorer(runs="published").draw().caption
    assert f"<b>Held fixed:</b> 100 % of the training images; {number(usual.epochs)} epochs" in words
    size, one = selection.published_profile(), published.query("method == 'kd'").iloc[0]
    assert f"profile {size.name}: {size.sizes[0]:,} train, " in words
    assert f"fashion, {one['student']}; teacher: {one['teacher']}" in words
    assert f"Seeds 0 to {usual.seeds - 1}" in words and "t-intervals" in words
    cells = '</td><td class="kd-number">'.join(f"{n:,}" for n in (2 * usual.images, 2 * usual.images, usual.steps))
    assert re.search(f"kd jda, 4 views</th>.*?{cells}", words)


def trained_by(code, monkeypatch):
    """Keys of the students that a command line would train."""
    asked = []
    monkeypatch.setattr(lab, "run", lambda specs, **_: asked.extend(specs))
    if code.startswith("kdlab run"):
        words = shlex.split(code)[2:]
        given = dict.fromkeys(
            ("data", "teacher", "arch", "student", "augmentation", "views", "ratio", "epochs", "teacher_epochs",
             "steps", "originals", "fraction")
        )  # fmt: skip
        given |= {"augmentation": "weak", "fraction": 1.0, "profile": None, "seed": 0, "seeds": 1}
        kinds = {"views": int, "ratio": float, "epochs": float, "fraction": float, "seed": int, "seeds": int}
        for option, value in zip(words[1::2], words[2::2], strict=True):
            name = option.removeprefix("--")
            assert name in given
            given[name] = kinds.get(name, str)(value)
        distil(words[0], given.pop("profile"), workers=0, **given)
    else:
        exec(code, {"RunSpec": RunSpec, "Store": Store, "lab": lab, "Budget": Budget})
    return [lab.run_key(spec) for spec in asked if spec.teacher is not None or spec.method != "ce"]


def commands_of(explorer):
    said = re.search("No run yet.*", explorer.draw().caption, re.S)[0]
    found = re.findall(r"(?:<br>|^)([^<]*?): <code>(.*?)</code>", said)
    return {name: code.replace("&quot;", '"').replace("&#x27;", "'") for name, code in found}


def test_the_command_for_a_published_gap_trains_just_that(usual, monkeypatch):
    codes = commands_of(BudgetExplorer(runs="published", shots=10))
    size = selection.published_profile()
    wanted = recipes.augmented(recipes.kd(size), size, ratio=0.25).replace(fraction=0.1)
    wanted = wanted.replace(budget=replace(size.budget, amount=float(usual.epochs)))
    keys = [lab.run_key(wanted.at_seed(seed)) for seed in range(usual.seeds)]
    assert trained_by(codes["kd jda at 25 %"], monkeypatch) == keys
    codes = commands_of(BudgetExplorer(runs="published", unit="steps", budget=usual.steps, shots=10))
    wanted = wanted.replace(budget=Budget(int(usual.steps), "steps", size.budget.originals_per_step))
    assert "--epochs" in codes["kd jda at 25 %"]
    keys = [lab.run_key(wanted.at_seed(seed)) for seed in range(usual.seeds)]
    assert trained_by(codes["kd jda at 25 %"], monkeypatch) == keys


def test_the_command_for_a_gap_in_the_store(sweep, monkeypatch):
    explorer = widget(runs="store", shots=25.0)
    code = commands_of(explorer)["kd jda at 100 %"]
    assert code.startswith("spec = RunSpec")  # sizes that no profile has
    wanted = JDA.replace(fraction=0.25, ratio=1.0)
    assert trained_by(code, monkeypatch) == [lab.run_key(wanted.at_seed(seed)) for seed in range(4)]


@pytest.mark.parametrize(
    "changes",
    [{}, {"method": "dkd"}, {"fraction": 0.5, "ratio": 0.75}, {"model": "resnet8_s2_w8"}, {"views": 4, "ratio": 0.75},
     {"augmentation": "cutout", "augmentation_options": {}}, {"budget": Budget(3)}, {"views": 2, "ratio": 0.0}],
)  # fmt: skip
def test_commands_of_a_profile(changes, monkeypatch):
    size = perspectives.profile("quick")
    spec = recipes.augmented(recipes.kd(size), size).replace(**changes)
    code = command(spec, [0, 1])
    assert code.startswith("kdlab run")
    assert trained_by(code, monkeypatch) == [lab.run_key(spec.at_seed(seed)) for seed in (0, 1)]


def test_what_no_command_can_say_is_left_to_python():
    size = perspectives.profile("quick")
    spec = recipes.kd(size).replace(method_options={"temperature": 2.0})
    assert command(spec, [0]) == "" and command(spec, [3, 4], "abcd").startswith("spec = RunSpec.from_dict(Store()")
    assert command(spec.replace(data="folder:/gone"), [0]) == ""


# --- sources and states ------------------------------------------------------------------------------------------


def test_the_store_is_taken_where_it_holds_a_sweep(sweep):
    assert BudgetExplorer().source() == "store"
    explorer = widget()
    assert "Runs of your store" in explorer.picture.value and explorer.control["runs"].value == "store"
    assert {v for _, v in explorer.control["where"].options} == {"fashion, resnet8_s2_w4", "fashion, resnet8_s2_w8"}
    assert explorer.control["where"].value == "fashion, resnet8_s2_w4"  # the teacher's own runs come second
    explorer.control["runs"].value = "published"
    assert "Published figures" in explorer.picture.value and explorer.failure is None


def test_a_store_of_single_runs_is_no_sweep():
    for seed in range(2):
        write_run(JDA.at_seed(seed), 0)
    assert BudgetExplorer().source() == "published"
    write_run(JDA.replace(ratio=0.25), 0)
    assert BudgetExplorer().source() == "published"
    write_run(JDA.at_seed(1).replace(ratio=0.25), 0)
    assert BudgetExplorer().source() == "store"


def test_an_empty_store_is_friendly_and_fills_on_refresh():
    explorer = widget()
    assert explorer.control["runs"].value == "published"
    explorer.control["runs"].value = "store"
    assert "no finished run yet" in explorer.picture.value and "kdlab figures ratio_sweep" in explorer.picture.value
    assert explorer.failure is None and explorer.draw().png.startswith(PNG)
    write_run(JDA, 0)
    explorer.control["refresh"].click()
    assert explorer.failure is None and "kd jda at 50 %" in explorer.picture.value


def test_without_published_figures_the_store_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setattr(selection, "PUBLISHED", tmp_path)
    explorer = widget()
    assert "no finished run yet" in explorer.picture.value
    explorer.control["runs"].value = "published"
    assert "not beside this installation" in explorer.picture.value and explorer.failure is None


def test_a_table_of_ones_own(sweep):
    table = lab.table()
    explorer = widget(table[table["method"] == "kd"])
    assert [v for _, v in explorer.control["runs"].options] == ["given", "published", "store"]
    assert spots_of(explorer) == {place: text for place, text in spots_of(BudgetExplorer(runs="store")).items()
                                  if place[0].startswith("kd")}  # fmt: skip
    elsewhere = table.reset_index().assign(key=[f"{n:016x}" for n in range(len(table))])
    assert ("kd jda", "25 % augmented rows") in spots_of(widget(elsewhere))
    assert "no finished run yet" in widget(table.head(0)).picture.value
    with pytest.raises(SpecError, match="no 'ratio'"):
        BudgetExplorer(table.drop(columns="ratio"))


def test_foreign_students_other_data_and_checkpoints(sweep):
    checkpoint = Checkpoint("/gone.pth", "ef" * 32, "resnet8_s2_w8")
    for seed in range(2):
        write_run(JDA.at_seed(seed), 0, model="mymodels:TinyNet")
        write_run(JDA.at_seed(seed), 0, data="folder:/gone/photos")
        write_run(JDA.replace(teacher=checkpoint).at_seed(seed), 0)
    explorer = widget(runs="store")
    for where in ("fashion, mymodels:TinyNet", "folder:/gone/photos, resnet8_s2_w4"):
        explorer.control["where"].value = where
        assert explorer.failure is None and where in explorer.picture.value


def test_an_error_is_told_and_the_last_picture_stays():
    explorer = widget(runs="published")
    picture = explorer.picture.value
    explorer.set(shots=33)
    assert "shots must be one of [10.0, 25.0, 50.0, 100.0], but got 33" in explorer.message.value
    assert explorer.picture.value == picture and "kd-stale" in explorer.picture._dom_classes
    explorer.set(shots=25)
    assert explorer.failure is None and explorer.message.value == "" and explorer.control["shots"].value == 25


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"x": "ratios"}, "Did you mean 'ratio'"), ({"unit": "epoch"}, "Did you mean 'epochs'"),
     ({"method": "kdd"}, "'kd'"), ({"runs": "stor"}, "Did you mean 'store'"), ({"metric": "acc"}, "metric must be"),
     ({"ratio": "half"}, "ratio must"), ({"where": "fashion"}, "Did you mean 'fashion, resnet8_s2_w")],
)  # fmt: skip
def test_wrong_values_are_refused_by_the_twin(settings, said):
    with pytest.raises(SpecError, match=said):
        BudgetExplorer(**{"runs": "published"} | settings).draw()


def test_an_unknown_setting_is_refused_with_the_nearest():
    with pytest.raises(SpecError, match="Did you mean 'shots'"):
        BudgetExplorer(shot=10)


def test_the_static_twin_is_the_widgets_picture(usual):
    settings = {"runs": "published", "x": "shots", "unit": "steps", "budget": usual.steps}
    explorer = widget(**settings)
    twin = BudgetExplorer(**settings).show(interactive=False)
    assert canvas(twin.html()) == shown(explorer) and twin.caption in explorer.picture.value
    assert twin.png.startswith(PNG) and not re.search(r"\d\.\d", twin.alt)


def test_labels_on_all_controls():
    explorer = widget(runs="published")
    assert all(control.description for control in explorer.control.values())
    assert set(BudgetExplorer.DEFAULTS) <= set(explorer.control)


def test_steps_agree_with_the_budget_that_was_asked_for(sweep):
    table = selection.stored(sweep)
    assert set(table[table["epochs"] == 8]["steps"]) == {steps(JDA.replace(budget=Budget(8, originals_per_step=32)))}


def test_neither_pyplot_nor_torch_is_imported():
    script = """
import sys
from kdlab.widgets import BudgetExplorer
explorer = BudgetExplorer()
explorer.widget()
explorer.control["x"].value = "shots"
assert explorer.failure is None, explorer.failure
print([name for name in ("matplotlib.pyplot", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
