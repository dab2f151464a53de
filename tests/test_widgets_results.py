"""The results browser, without a browser: what it selects, says, draws and writes, on a store of made-up runs."""

import base64
import functools
import hashlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
import threading
from html import unescape

import numpy as np
import pandas as pd
import pytest

from kdlab import data as datasets
from kdlab import lab, metrics, stats
from kdlab.errors import SpecError
from kdlab.lab.keys import normal, steps
from kdlab.lab.store import Store
from kdlab.spec import Budget, Checkpoint, RunSpec
from kdlab.widgets import ResultsBrowser
from kdlab.widgets.drawing import Drawing
from kdlab.widgets.page import STYLE
from kdlab.widgets.results import run
from kdlab.widgets.results import table as tables
from kdlab.widgets.runs import arms as arms
from kdlab.widgets.runs import read as reading

PNG = b"\x89PNG\r\n\x1a\n"
SIZES = (320, 200, 500)
TEACHER = RunSpec(sizes=SIZES, model="resnet8_s2_w8", budget=Budget(4, originals_per_step=32), role="teacher")
KD = TEACHER.replace(role="student", model="resnet8_s2_w4", teacher=TEACHER, method="kd")
CE = TEACHER.replace(role="student", model="resnet8_s2_w4")
WEAK2, JDA = KD.replace(views=2), KD.replace(views=2, augmentation="jda", ratio=0.5)
SEEDS = range(4)
EFFECTS = {"teacher": 14, "ce": 0, "kd": 1, "weak2": 2, "jda": 6, "quarter": 4, "few": -20, "few weak2": -15}
ARMS = {
    "teacher": TEACHER, "ce": CE, "kd": KD, "weak2": WEAK2, "jda": JDA, "quarter": JDA.replace(ratio=0.25),
    "few": JDA.replace(fraction=0.25), "few weak2": WEAK2.replace(fraction=0.25),
}  # fmt: skip


@functools.cache
def labels(name="fashion"):
    return datasets.describe(name).labels


def write_run(spec, mean, *, store=None, diverged=False, **foreign):
    """Put a run with made-up answers into a store; ``foreign`` changes its spec as it stands there."""
    plain, decided = spec.to_dict() | foreign, normal(spec)
    key = hashlib.sha256(json.dumps([decided, foreign], sort_keys=True).encode()).hexdigest()[:16]
    key = key if foreign else lab.run_key(spec)
    random = np.random.default_rng([spec.seed, int(key[:6], 16)])
    pairing = np.random.default_rng(spec.seed).normal()  # what the arms of a seed share
    logits, numbers = {}, {}
    for split, n in zip(("val", "test"), spec.sizes[1:], strict=True):
        truth = labels()[split][:n]
        pull = 1.0 + 0.02 * (mean + pairing + random.normal())
        scores = random.normal(size=(n, 10)) + 1.6 * pull * np.eye(10)[truth]
        logits[split] = np.where(diverged, np.nan, scores).astype(np.float32)
        good = not diverged
        numbers[f"{split}_accuracy"] = 100 * metrics.accuracy(logits[split], truth) if good else math.nan
        numbers[f"{split}_nll"] = metrics.nll(logits[split], truth) if good else math.nan
        numbers[f"{split}_ece"] = metrics.calibration_error(logits[split], truth) if good else math.nan
    total = steps(spec)
    images = total * spec.budget.originals_per_step * spec.views
    curve = [{"step": s, "train_loss": 2 / s, "val_accuracy": 5.0 * s} for s in (total // 2 or 1, total)]
    numbers |= {
        "agreement": math.nan, "curve": curve, "diverged": diverged, "diverged_at": 3 if diverged else None,
        "method_parameters": 0, "parameters": 5142, "seconds": 1.5, "steps": total, "student_images": images,
        "teacher_forwards": images if spec.teacher else 0,
    }  # fmt: skip
    documents = {"spec": {"spec": plain, "normal": decided}, "result": numbers,
                 "environment": {"digest": "aaaaaaaa", "git": "unknown"}}  # fmt: skip
    (store or Store()).write(key, documents, {"logits": logits})
    return key


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with every arm at every seed, and oddities that a store may hold."""
    out = tmp_path_factory.mktemp("filled")
    store = Store(out / "runs")
    for name, spec in ARMS.items():
        for seed in SEEDS:
            write_run(spec.at_seed(seed), EFFECTS[name], store=store)
    write_run(JDA.at_seed(9), 0, store=store, diverged=True)
    checkpoint = Checkpoint("/gone/teacher.pth", "ab" * 32, "resnet8_s2_w8")
    write_run(JDA.replace(teacher=checkpoint), 3, store=store)
    write_run(JDA.at_seed(1), 3, store=store, model="mymodels:TinyNet")
    write_run(JDA.at_seed(2), 3, store=store, data="folder:/gone/photos")
    return out


@pytest.fixture
def out(filled, monkeypatch):
    """The filled store as the default one; read only."""
    monkeypatch.setenv("KDLAB_OUT", str(filled))
    return filled


@pytest.fixture
def own(filled, monkeypatch, tmp_path):
    """A copy of the filled store as the default one, to be changed."""
    shutil.copytree(filled, tmp_path / "own")
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "own"))
    return tmp_path / "own"


def canvas(html):
    """The charts of a picture, without its caption."""
    return re.search(r'<div class="kd-canvas".*?(?=<div class="kd-caption"|<details|</figure>)', html, re.S)[0]


def shown(explorer):
    return canvas(explorer.picture.value)


def widget(**settings):
    explorer = ResultsBrowser(**settings)
    explorer.widget()
    assert explorer.failure is None, explorer.failure
    return explorer


def keys_of(spec, seeds=SEEDS):
    return [lab.run_key(spec.at_seed(seed)) for seed in seeds]


# --- what there is -----------------------------------------------------------------------------------------------


def test_the_table_is_the_labs_table_with_a_name_for_each_arm(out):
    runs = reading.read(Store())
    pd.testing.assert_frame_equal(runs.table.drop(columns="arm"), lab.table(), check_dtype=False)
    seedless = {}
    for key in runs.table.index:
        spec = json.dumps(RunSpec.from_dict(Store().read(key, "spec")["spec"]).at_seed(0).to_dict(), sort_keys=True)
        seedless.setdefault(spec, set()).add(key)
    by_name = {frozenset(keys) for _, keys in runs.table.groupby("arm").groups.items()}
    assert by_name == {frozenset(keys) for keys in seedless.values()}


def test_names_say_what_is_unusual(out):
    names = reading.read(Store()).table["arm"]
    expected = {"jda": "kd jda", "weak2": "kd weak2", "ce": "ce weak", "quarter": "kd jda 25 % of 2 views",
                "teacher": "ce weak, resnet8_s2_w8", "few": "kd jda, 25 % of images"}  # fmt: skip
    for arm, name in expected.items():
        assert set(names[keys_of(ARMS[arm])]) == {name}
    assert {"kd jda, mymodels:TinyNet", "kd jda, folder:/gone/photos"} < set(names)
    assert names.str.contains("teacher file abababab").sum() == 1


def test_an_arm_is_one_whatever_unit_its_budget_was_given_in(tmp_path):
    store, total = Store(tmp_path / "runs"), steps(JDA)
    write_run(JDA, 0, store=store)
    write_run(JDA.at_seed(1).replace(budget=Budget(total, "steps", 32)), 0, store=store)
    write_run(JDA.at_seed(2).replace(budget=Budget(total * 64, "student_images", 32)), 0, store=store)
    assert set(reading.read(store).table["arm"]) == {"kd jda"}
    write_run(JDA.replace(teacher=TEACHER.replace(augmentation="jda", ratio=0.5, views=2)), 0, store=store)
    write_run(JDA.replace(method_options={"temperature": 2.0}), 0, store=store)
    write_run(JDA.replace(replicate=1), 0, store=store)
    names = set(reading.read(store).table["arm"])
    assert names == {"kd jda", "kd jda, teacher jda", "kd jda, temperature=2", "kd jda, replicate 1"}


def test_a_finished_run_is_read_once(own, monkeypatch):
    reading.read(Store())
    read, asked = Store.read, []
    monkeypatch.setattr(Store, "read", lambda store, key, name: (asked.append(key), read(store, key, name))[1])
    key = write_run(WEAK2.at_seed(8), 0)
    assert key in reading.read(Store()).table.index and set(asked) == {key}
    shutil.rmtree(own / "runs" / key)
    assert key not in reading.read(Store()).table.index


def test_numbers_of_arms_by_pandas(out):
    table = reading.read(Store()).table
    made = arms.arms_table(table)
    values = table.loc[keys_of(JDA), "test_accuracy"]
    half = 3.182446305284263 * values.std() / 2  # t for 3 degrees of freedom, and the root of 4
    row = made.loc["kd jda"]
    assert row["seeds"] == 4 and row["diverged"] == 1
    assert (row["low"], row["high"]) == pytest.approx((values.mean() - half, values.mean() + half))
    assert row["val_accuracy"] == pytest.approx(table.loc[keys_of(JDA), "val_accuracy"].mean())
    assert row["student_images"] == 40 * 64 and row["teacher_forwards"] == 40 * 64 and row["steps"] == 40


# --- filters and order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "query"),
    [
        ({"method": "kd", "seed": 1}, "method == 'kd' and seed == 1"),
        ({"teacher": "none"}, "teacher.isna()"),
        ({"student": "mymodels:TinyNet"}, "student == 'mymodels:TinyNet'"),
        ({"data": "fashion", "augmentation": "jda"}, "data == 'fashion' and augmentation == 'jda'"),
        ({"where": "ratio=0.5 views=2"}, "ratio == 0.5 and views == 2"),
        ({"where": "diverged=true", "method": "kd"}, "diverged"),
        ({"where": "'arm=kd jda'"}, "arm == 'kd jda'"),
    ],
)
def test_filters_narrow_exactly(out, settings, query):
    explorer = widget(**settings, single=True, sort="steps")
    expected = reading.read(Store()).table.query(query)
    rows = explorer.selection().rows
    assert set(rows.index) == set(expected.index) and len(expected)
    assert rows["steps"].is_monotonic_decreasing
    assert f"{len(expected)} run" in explorer.table.value
    assert all(key[:8] in explorer.table.value for key in expected.index)


def test_controls_filter_and_sort(out):
    explorer = widget()
    explorer.control["method"].value = "kd"
    assert set(explorer.selection().table["method"]) == {"kd"}
    explorer.control["sort"].value = "arm"
    explorer.control["descending"].value = False
    assert list(explorer.selection().rows.index) == sorted(explorer.selection().rows.index)
    assert explorer.table.value.count("<tr>") == len(explorer.selection().rows) + 1
    explorer.control["single"].value = True
    assert explorer.table.value.count("<tr>") == len(explorer.selection().table) + 1
    explorer.control["seed"].value = 2
    assert set(explorer.selection().table["seed"]) == {2}
    assert {v for _, v in explorer.control["run"].options} == set(explorer.selection().table.index)


def test_a_long_table_says_how_many_more():
    rows = pd.DataFrame({"arm": "a", "seed": range(300), "test_accuracy": 1.0, "val_accuracy": 1.0,
                         "student_images": 1, "teacher_forwards": 1, "steps": 1},
                        index=pd.Index([f"{n:016x}" for n in range(300)], name="key"))  # fmt: skip
    html = tables.as_html(rows, {})
    assert html.count("<tr>") == 201 and "100 more rows" in html


def test_a_filter_that_nothing_passes_is_told_in_a_friendly_way(out):
    explorer = widget()
    explorer.control["where"].value = "seed=77"
    assert explorer.failure is None and "passes these filters" in explorer.picture.value
    assert "No run to list" in explorer.table.value
    explorer.control["where"].value = ""
    assert "kd jda" in explorer.table.value


# --- two arms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["test_accuracy", "val_accuracy"])
def test_the_comparison_is_that_of_the_statistics(out, metric):
    explorer = widget(arm_a="kd jda", arm_b="kd weak2", metric=metric)
    table = lab.table([s.at_seed(seed) for s in (JDA, WEAK2) for seed in SEEDS])
    verdict = stats.paired(table.assign(arm=["kd jda"] * 4 + ["kd weak2"] * 4), "kd jda", "kd weak2", metric)
    assert verdict.reason in explorer.picture.value
    assert f'<span class="kd-badge kd-{verdict.outcome}">{verdict.outcome}</span>' in explorer.picture.value
    assert "diverged: kd jda, seed 9" in explorer.picture.value
    differing = re.search("What differs.*?</table>", explorer.picture.value, re.S)[0]
    assert re.findall(r'row">([^<]+)</th><td>([^<]+)</td><td>([^<]+)', differing)[:2] == [
        ("augmentation", "jda", "weak"), ("ratio", "0.5", "0.0")]  # fmt: skip


def test_the_dots_of_two_arms_speak(out):
    drawing = ResultsBrowser(arm_a="kd jda", arm_b="kd weak2").draw()
    values = lab.table([JDA.at_seed(seed) for seed in SEEDS])["test_accuracy"]
    assert any(text.startswith(f"A: {values.mean():.2f} % (95 % interval") for text in drawing.told)
    assert [text for text in drawing.told if text.startswith("A, seed")] == [
        f"A, seed {seed}: {value:.2f} %" for seed, value in zip(SEEDS, values, strict=True)
    ]


def test_one_arm_alone_is_shown_and_not_compared(out):
    explorer = widget(where="'arm=kd jda'")
    assert explorer.selection().first == explorer.selection().second == "kd jda"
    assert "Choose another arm as B" in explorer.picture.value and "kd-badge" not in explorer.picture.value


def test_too_few_common_seeds_are_told(out):
    explorer = widget(seed=1, arm_a="kd jda", arm_b="kd weak2")
    assert "undecided, 1 seed; an interval needs at least 2 seeds" in explorer.picture.value


def test_the_default_partner_is_of_the_same_student(out):
    shown = widget(method="kd").selection()
    first, second = (shown.of(arm).iloc[0] for arm in (shown.first, shown.second))
    assert (first["data"], first["student"]) == (second["data"], second["student"])


# --- one run -----------------------------------------------------------------------------------------------------


def test_reliability_is_the_calibration_error_bin_by_bin():
    random = np.random.default_rng(3)
    logits, truth = random.normal(size=(400, 6)) * 2, random.integers(0, 6, 400)
    bins = pd.DataFrame(metrics.reliability(logits, truth, 10))
    gap = (bins["count"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / 400
    assert gap == pytest.approx(metrics.calibration_error(logits, truth, 10))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for b in range(10):
        inside = [i for i in range(400) if b / 10 < p[i].max() <= (b + 1) / 10]
        assert bins["count"][b] == len(inside)
        if inside:
            assert bins["accuracy"][b] == pytest.approx(np.mean([p[i].argmax() == truth[i] for i in inside]))


def test_a_run_speaks_of_its_worst_confusions_on_val(out):
    key = keys_of(JDA)[1]
    drawing = ResultsBrowser(run=key[:6]).draw()
    truth = labels()["val"][:200]
    counts = metrics.confusion(Store().logits(key)["val"], truth)
    wrong = counts - np.diag(np.diag(counts))
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    names = datasets.load("fashion", sizes=SIZES).val.classes
    told = f"{wrong.max()} of {counts[row].sum()} {names[row]} taken for {names[column]}"
    assert told in drawing.told
    assert sum(int(n) for n in re.findall(r"confidence .*?([0-9]+) images", "\n".join(drawing.told))) == 200
    assert sum(int(text.split()[0]) for text in drawing.told if "taken for" in text or "recognised" in text) == 200
    assert "of the val images" in drawing.caption and key in drawing.caption


@pytest.mark.parametrize("name", ["diverged", "checkpoint", "foreign", "other data"])
def test_odd_runs_open_in_words(out, name):
    query = {
        "diverged": "diverged", "checkpoint": "arm.str.contains('file')",
        "foreign": "student == 'mymodels:TinyNet'", "other data": "data.str.startswith('folder')",
    }[name]  # fmt: skip
    key = reading.read(Store()).table.query(query).index[0]
    explorer = widget(run=key)
    assert shown(explorer).count("kd-chart") >= 3 and explorer.draw().png.startswith(PNG)
    assert ("it diverged" in explorer.picture.value) == (name == "diverged")


def test_many_classes_are_drawn_without_names():
    random = np.random.default_rng(0)
    logits, truth = random.normal(size=(300, 40)), random.integers(0, 40, 300)
    curve = [{"step": 3, "train_loss": math.nan, "val_accuracy": 2.0}]
    row = run.run_row(curve, logits, truth, [f"class {n}" for n in range(40)])
    (cells,) = row[1].marks
    assert not row[1].y.ticks and not cells.words and any("class 39" in text for text in cells.told)
    assert Drawing([row], "many").png.startswith(PNG)


@pytest.mark.parametrize("damage", ["logits.safetensors", "result.json", "spec.json", "missing"])
def test_damaged_runs_are_told_in_words(own, damage):
    key, explorer = keys_of(JDA)[0], widget()
    if damage == "missing":
        shutil.rmtree(own / "runs" / key)
    else:
        (own / "runs" / key / damage).write_bytes(b"{")
    explorer.set(run=key)
    assert explorer.failure is None and "cannot be read" not in explorer.message.value  # told inside the picture
    reading._READ.clear()  # as in a new process
    fresh = widget()
    left_out = damage.endswith("json")
    assert (f"1 cannot be read and is left out: {key[:8]}" in fresh.table.value) == left_out
    assert (key in fresh.selection().table.index) == (damage == "logits.safetensors")


# --- images ------------------------------------------------------------------------------------------------------


def val_answers(key, n=200):
    return Store().logits(key)["val"], labels()["val"][:n]


def test_a_cell_of_the_confusions_holds_its_images(out):
    key = keys_of(JDA)[1]
    logits, truth = val_answers(key)
    explorer = widget(run=key)
    _, look = explorer.look(explorer.selection())
    counts = metrics.confusion(logits, truth)
    wrong = counts - np.diag(np.diag(counts))
    classes = datasets.load("fashion", sizes=SIZES).val.classes
    label, taken = (classes.index(name) for name in look.cell.split(" > "))
    assert label != taken and wrong[label, taken] == wrong.max()  # the most frequent mistake
    options = explorer.control["cell"].options
    for text, cell in (options[1], options[40], options[-1]):
        label, taken = (classes.index(name) for name in cell.split(" > "))
        assert text.startswith(f"{counts[label, taken]} {classes[label]} ")
        explorer.control["cell"].value = cell
        _, look = explorer.look(explorer.selection())
        inside = np.flatnonzero((truth == label) & (logits.argmax(1) == taken))
        assert sorted(look.rows) == list(inside) and explorer.settings["image"] is None
        p = np.exp(logits[look.rows, taken]) / np.exp(logits[look.rows]).sum(1)
        assert (np.diff(p) <= 1e-6).all() and look.image == look.rows[0]
    assert sum(int(text.split()[0]) for text, _ in explorer.control["cell"].options) == 200


def test_what_a_chart_an_image_or_a_row_opens_is_an_option_of_its_menu(out):
    explorer = widget(arm_a="kd jda", arm_b="kd weak2", single=True)
    html = explorer.picture.value + explorer.table.value
    asked = {(m[1], unescape(m[2])) for m in re.finditer('data-menu="([^"]+)" data-option="([^"]+)"', html)}
    for data in re.findall('data-chart="([^"]+)"', html):
        for mark in json.loads(unescape(data))["marks"]:
            asked |= {(mark["menu"], text) for text in mark["opens"]} if "menu" in mark else set()
    asked |= {("arm_a", unescape(text)) for text in re.findall('data-menu="arm_a" data-option="([^"]+)"',
                                                              widget().table.value)}  # fmt: skip
    assert {menu for menu, _ in asked} == {"run", "cell", "image", "arm_a"}
    for menu, text in asked - {("run", "")}:
        assert text in [option for option, _ in explorer.control[menu].options], (menu, text)
    assert "kd-set-run" in explorer.control["run"]._dom_classes


def test_two_students_of_a_seed_stand_side_by_side_on_one_image(out):
    explorer = widget(arm_a="kd jda", arm_b="kd weak2", image=7)
    a, b = keys_of(JDA)[0], keys_of(WEAK2)[0]
    assert explorer.selection().students() == {"A": a, "B": b}
    p = {k: np.exp(val_answers(k)[0][7]) / np.exp(val_answers(k)[0][7]).sum() for k in (a, b)}
    classes = datasets.load("fashion", sizes=SIZES).val.classes
    for letter, key in zip("AB", (a, b), strict=True):
        told = f"{classes[3]}, {letter}: {p[key][3]:.3g}"
        assert told in explorer.draw().told
        assert f"{letter}: {classes[p[key].argmax()]}, {100 * p[key].max():.0f} % sure" in explorer.picture.value
    said, truth = (val_answers(a)[0].argmax(1), val_answers(b)[0].argmax(1)), val_answers(a)[1]
    lone = [int(((s == truth) & (said[0] != said[1])).sum()) for s in said]
    assert f"A alone is right on {lone[0]} and B alone on {lone[1]}" in explorer.picture.value
    explorer.set(run=b)
    assert explorer.selection().students() == {"B": b, "A": a}
    explorer.set(run=keys_of(CE)[2])  # of neither arm
    assert explorer.selection().students() == {"run": keys_of(CE)[2], "B": keys_of(WEAK2)[2]}
    assert "The students B and run of this seed" in explorer.picture.value


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"cell": "Shirt > Caot"}, "Did you mean 'Shirt > Coat'"), ({"image": 200}, "0 to 199, but got 200"),
     ({"image": -1}, "but got -1"), ({"cell": 3}, "must be a word"), ({"image": "x"}, "must be an integer")],
)  # fmt: skip
def test_a_cell_or_image_that_is_not_there_is_refused(out, settings, said):
    with pytest.raises(SpecError, match=said):
        ResultsBrowser(**settings).draw()


def test_the_default_pair_has_one_teacher_and_one_difference(out):
    shown = widget().selection()
    a, b = (shown.runs.facts[shown.of(arm).index[0]] for arm in (shown.first, shown.second))
    assert len(arms.differences(a, b)) == 1 and "teacher" not in arms.differences(a, b)
    assert widget(arm_b="ce weak").selection().second == "ce weak"
    with_method = a | {"method": "dist", "method_options.beta": 2.0, "budget": "3 steps"}
    assert arms.differences(a, with_method) == {"method"} and arms.differences(a, a) == set()
    assert arms.differences(a, a | {"ratio": 0.75, "hard_labels": "none", "views": 3}) == {"augmentation", "views"}
    assert widget().settings["sort"] == "val_accuracy"
    means = widget().selection().rows["val_accuracy"]
    assert means.dropna().is_monotonic_decreasing


def test_curves_are_means_over_seeds(out):
    drawing = ResultsBrowser(arm_a="kd jda", arm_b="kd weak2").draw()
    curves = [Store().read(key, "result")["curve"] for key in keys_of(JDA)]
    mean = np.mean([curve[-1]["train_loss"] for curve in curves])
    assert f"A, step {curves[0][-1]['step']:,}: {mean:.4g} (mean of 4)" in drawing.told


# --- in training -------------------------------------------------------------------------------------------------


def test_runs_in_training_are_shown_with_their_curves_until_they_end(own):
    store, key = Store(), "ab" * 8
    explorer = widget()
    assert explorer.watch.shown.value == "" and explorer.watch.thread is None
    assert store.claim(key)
    told = {"method": "kd", "augmentation": "jda", "views": 2, "ratio": 0.5, "seed": 3, "steps": 90, "data": "fashion",
            "model": "resnet8_s2_w4"}  # fmt: skip
    curve = [{"step": 30, "train_loss": 2.0, "val_accuracy": 41.5}]
    store.heartbeat(key, step=40, train_loss=1.5, curve=curve, run=told)
    explorer.control["refresh"].click()
    text = unescape(explorer.watch.shown.value)
    assert "In training now: 1 run<" in text and "kd jda, resnet8_s2_w4, seed 3, step 30: val accuracy 41.5" in text
    assert "step 40: training loss 1.5" in text and explorer.watch.thread.is_alive()
    store.release([key])
    write_run(JDA.at_seed(5), 0)
    explorer.watch.seen.add(lab.run_key(JDA.at_seed(5)))
    explorer.watch.look()
    assert "1 run finished since: press Refresh" in explorer.watch.shown.value
    explorer.watch.thread.join(20)
    assert not explorer.watch.thread.is_alive()


def test_a_visitor_does_not_see_what_trains_on_other_folders(own, monkeypatch):
    store, explorer = Store(), widget()
    for number, data in enumerate(("folder:/private", None)):
        store.claim(key := f"{number}" * 16)
        store.heartbeat(key, step=1, curve=[], run={"data": data} if data else None)
    monkeypatch.setenv("KDLAB_VISITORS", "[]")
    assert not explorer.watch.look() and explorer.watch.shown.value == ""


# --- csv ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("single", [False, True])
def test_the_csv_is_the_table_and_nothing_is_overwritten(own, single):
    explorer = widget(method="kd", single=single, name="mine")
    for number in range(2):
        explorer.control["export"].click()
        path = own / "exports" / ("mine-2.csv" if number else "mine.csv")
        assert str(path) in explorer.exported.value
        written = path.read_bytes()
        link = re.search(r'<a download="([^"]+)" href="data:text/csv;base64,([^"]+)"', explorer.exported.value)
        assert link[1] == path.name and base64.b64decode(link[2]) == written
        read = pd.read_csv(io.BytesIO(written)).set_index("key" if single else "arm")
        pd.testing.assert_frame_equal(read, explorer.selection().rows, check_dtype=False)
        path.write_bytes(b"precious")
    assert [p.read_bytes() for p in (own / "exports").iterdir()] == [b"precious"] * 2


@pytest.mark.parametrize("name", ["", "../runs", "a/b", ".hidden"])
def test_an_impossible_file_name_is_refused_in_words(own, name):
    explorer = widget()
    explorer.control["name"].value = name
    explorer.control["export"].click()
    assert "name must be a plain file name" in explorer.message.value and "kd-error" in explorer.message.value
    assert not (own / "exports").exists()


def test_a_run_of_odd_names_stays_a_row(own):
    words = '<img src=x onerror=alert(1)>"><script>alert(1)</script>'
    write_run(JDA.at_seed(3), 3, data=f"folder:/gone/{words}")
    explorer = widget()
    shown = "".join(part.value for part in (explorer.table, explorer.picture, explorer.message, explorer.line))
    assert "alert(1)&lt;/script&gt;" in shown + explorer.table.value and "<script" not in shown
    assert "<img src=x" not in shown and "onerror=alert" not in re.sub(r"&lt;.*?&gt;", "", shown)


# --- states ------------------------------------------------------------------------------------------------------


def test_an_empty_store_is_friendly_and_fills_on_refresh():
    explorer = widget()
    assert "no finished run yet" in explorer.picture.value and "kdlab figures" in explorer.picture.value
    assert explorer.draw().png.startswith(PNG)
    explorer.control["export"].click()
    assert "nothing to export" in explorer.message.value
    write_run(JDA, 0)
    explorer.control["refresh"].click()
    assert explorer.failure is None and "1 run of 1 in 1 arm" in explorer.table.value
    assert explorer.control["arm_a"].value == "kd jda"


def test_settings_change_the_picture(out):
    explorer = widget(arm_a="kd jda", arm_b="kd weak2")
    seen = {shown(explorer)}
    for setting, value in (("arm_b", "kd weak"), ("metric", "val_accuracy"), ("run", keys_of(CE)[0])):
        explorer.control[setting].value = value
        picture = shown(explorer)
        assert picture not in seen, setting
        seen.add(picture)
    explorer.control["sort"].value = "steps"  # the table alone
    assert shown(explorer) in seen


def test_what_was_drawn_before_leaves_no_trace(out):
    odd = reading.read(Store()).table.query("diverged").index[0]
    every = [
        {"arm_a": "kd jda", "arm_b": "kd weak2"},
        {"where": "'arm=kd jda'"},
        {"run": odd},
        {"metric": "val_accuracy"},
    ]
    once = [ResultsBrowser(**settings).draw() for settings in every]
    assert len({drawing.png for drawing in once}) == len(every)
    again = [ResultsBrowser(**settings).draw() for settings in reversed(every)]
    assert [d.png for d in reversed(again)] == [d.png for d in once]
    assert [d.html() for d in reversed(again)] == [d.html() for d in once]


def test_an_error_is_told_and_the_last_picture_stays(out):
    explorer = widget(arm_a="kd jda", arm_b="kd weak2")
    picture = explorer.picture.value
    explorer.control["where"].value = "metod=kd"
    assert "Did you mean &#x27;method&#x27;?" in explorer.message.value and 'role="alert"' in explorer.message.value
    assert explorer.picture.value == picture and "kd-stale" in explorer.picture._dom_classes
    assert "Traceback" not in explorer.message.value
    explorer.control["where"].value = ""
    assert explorer.message.value == "" and "kd-stale" not in explorer.picture._dom_classes
    explorer.set(arm_a="kd jdda")
    assert "Did you mean &#x27;kd jda&#x27;?" in explorer.message.value
    explorer.set(arm_a="kd weak")
    assert explorer.failure is None and explorer.control["arm_a"].value == "kd weak"


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"arm_b": "kd wek2"}, "Did you mean 'kd weak2'"), ({"method": "kdd"}, "Did you mean 'kd'"),
     ({"run": "zz"}, "fits 0"),
     ({"metric": "test_acuracy"}, "Did you mean 'test_accuracy'"), ({"sort": "step"}, "Did you mean 'steps'"),
     ({"where": "'a"}, "quotation mark")],
)  # fmt: skip
def test_wrong_values_are_refused_by_the_twin(out, settings, said):
    with pytest.raises(SpecError, match=said):
        ResultsBrowser(**settings).draw()


def test_an_unknown_setting_is_refused_with_the_nearest():
    with pytest.raises(SpecError, match="Did you mean 'method'"):
        ResultsBrowser(metod="kd")


def test_the_static_twin_is_the_widgets_picture(out):
    explorer = widget(arm_a="kd jda", arm_b="kd weak2")
    twin = ResultsBrowser(arm_a="kd jda", arm_b="kd weak2").show(interactive=False)
    assert canvas(twin.html()) == shown(explorer)
    assert twin.png == ResultsBrowser(arm_a="kd jda", arm_b="kd weak2").draw().png
    assert "<table>" in twin.caption and "kd weak2" in twin.caption and "more rows" not in twin.alt
    assert str(round(100 * lab.table()["test_accuracy"].mean())) not in twin.alt


def test_callbacks_of_several_threads_do_not_meet(out):
    explorer = widget(method="kd")
    names = [v for _, v in explorer.control["arm_b"].options]
    threads = [threading.Thread(target=explorer.set, kwargs={"arm_b": name}) for name in names * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert explorer.failure is None and shown(explorer) == canvas(explorer.draw().html())


def test_labels_on_all_controls(out):
    explorer = widget()
    assert all(control.description for control in explorer.control.values())
    assert {name for name in ResultsBrowser.DEFAULTS} <= set(explorer.control)


def test_neither_pyplot_nor_torch_is_imported(out):
    script = """
import sys
from kdlab.widgets import ResultsBrowser
explorer = ResultsBrowser()
explorer.widget()
explorer.control["method"].value = "kd"
assert explorer.failure is None, explorer.failure
print([name for name in ("matplotlib.pyplot", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_file_of_the_browser_is_in_the_package():
    style = STYLE.read_text(encoding="utf-8")
    for name in ("kd-browse", "kd-beside", "kd-range", "kd-mark"):
        assert f".{name}" in style


def test_what_was_measured_afterwards_stands_beside_the_means_of_both_arms(own):
    for place, key in enumerate(keys_of(JDA)):
        numbers = {"fidelity.revision": 1, "fidelity.test.agreement": 90.0 + place, "fidelity.test.kl": None}
        Store().keep_measured(key, numbers)
    explorer = ResultsBrowser(run=keys_of(JDA)[0])
    chosen, text = explorer.selection(), explorer.draw().caption
    assert "Measured afterwards: fidelity (1 number)" in text, "what has no value is left out"
    means = [chosen.of(arm)["fidelity.test.agreement"].mean() for arm in (chosen.first, chosen.second)]
    cells = "".join(f"<td>{value:.4g}</td>" for value in (90.0, *means))
    assert f'<tr><th scope="row">test, agreement</th>{cells}</tr>' in text
    assert "Measured afterwards" not in ResultsBrowser(run=keys_of(CE)[0]).draw().caption
