"""Tuning: the same chance for every method, chosen on val at seeds of its own; and how a profile runs any method."""

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from kdlab import lab
from kdlab.errors import SpecError
from kdlab.lab import worker
from kdlab.lab.validation import refusal
from kdlab.paths import home
from kdlab.perspectives import PROFILES, profile, recipes, tuning
from kdlab.perspectives import profile as find_profile
from kdlab.perspectives.published import PATH, published
from kdlab.registry import catalogue, find, preparations
from kdlab.spec import Budget

SMOKE = PROFILES["smoke"]


@pytest.fixture
def tuned_file(monkeypatch, tmp_path):
    """A choice file of the test's own, empty at first."""
    monkeypatch.setattr(recipes, "TUNED", tmp_path / "tuned.csv")
    recipes.tuned.cache_clear()
    yield recipes.TUNED
    recipes.tuned.cache_clear()


@pytest.fixture
def tiny(monkeypatch, tuned_file):
    """The smoke profile in a dozen steps."""
    budget = Budget(0.3, originals_per_step=30)
    small = dataclasses.replace(SMOKE, methods=("kd", "ce", "at"), budget=budget, teacher_budget=budget)
    monkeypatch.setitem(PROFILES, "smoke", small)
    return small


# --- tuning -------------------------------------------------------------------------------------------------------


def test_tuning_end_to_end(tiny, tuned_file, capsys, monkeypatch):
    table = tuning.tune(None, "smoke", {}, "100,101", workers=0)
    said = capsys.readouterr().out
    assert "nothing to tune, since there is no weight: ce" in said
    assert "14 runs: 0 in the store, 14 to train" in said  # 2 methods, 3 factors and a teacher at 2 seeds
    assert tuning.RULE in said and "test accuracy was looked at" in said
    assert table["method"].tolist() == ["kd"] * 3 + ["at"] * 3
    assert table["factor"].tolist() == [0.25, 1.0, 4.0] * 2
    defaults = {"kd": ("kd_weight", 1.0), "at": ("weight", find("losses", "at").options["weight"])}
    for row in table.itertuples():
        option, default = defaults[row.method]
        assert (row.option, row.weight) == (option, row.factor * default)
        for seed in (100, 101):
            spec = recipes.weak2(recipes.kd(tiny, row.method, method_options={option: row.weight})).at_seed(seed)
            assert getattr(row, f"seed_{seed}") == lab.table([spec])["val_accuracy"].item()
        assert row.val_accuracy == pytest.approx((row.seed_100 + row.seed_101) / 2)
    assert table.groupby("method")["chosen"].sum().tolist() == [1, 1]
    saved = pd.read_csv(home() / "smoke" / "tuning.csv")
    pd.testing.assert_frame_equal(saved, table.reset_index(drop=True))
    assert not any("test" in column for column in saved)

    # again: nothing trains; and what is kept is what later runs take
    monkeypatch.setattr(worker, "train_cohort", None)
    assert not tuned_file.exists()
    tuning.tune(["kd", "at", "kd"], "smoke", {}, "100,101", workers=0, keep=True)
    assert "nothing to train" in capsys.readouterr().out
    kept = pd.read_csv(tuned_file)
    best = table[table["chosen"]]
    assert list(kept.columns) == ["profile", "method", "option", "factor", "weight"]
    assert dict(zip(kept["method"], kept["weight"], strict=True)) == dict(
        zip(best["method"], best["weight"], strict=True)
    )


def test_a_plan_trains_and_writes_nothing(kept_default, capsys):
    assert tuning.tune(["sskd", "ft", "kd"], "smoke", {}, only_plan=True) is None
    # three factors of three methods, the plain teacher and two prepared ones, at three seeds
    assert f"{3 * (9 + 3)} runs: 0 in the store" in capsys.readouterr().out
    assert not home().exists()


@pytest.fixture
def kept_default(tuned_file):
    recipes.keep_tuned("smoke", [{"method": "kd", "option": "kd_weight", "factor": 4.0, "weight": 4.0}])


def test_candidates_start_from_the_defaults_whatever_was_kept(kept_default):
    assert [c.weight for c in tuning.candidates("kd")] == [0.25, 1.0, 4.0]
    default = tuning.candidates("kd")[1].spec(SMOKE)
    assert lab.run_key(default) == lab.run_key(recipes.weak2(recipes.kd(SMOKE)))


def test_all_get_the_same_budget(tuned_file):
    names = [name for name, entry in catalogue("losses").items() if entry.tune and name not in preparations()]
    specs = [candidate.spec(SMOKE) for name in names for candidate in tuning.candidates(name)]
    assert {spec.budget for spec in specs} == {SMOKE.budget} and {spec.augmentation for spec in specs} == {"weak"}
    for spec in specs:
        assert spec.views == (4 if "turns" in find("losses", spec.method).needs else 2)
        assert refusal(spec) is None


@pytest.mark.parametrize(
    ("accuracy", "factor"),
    [
        ({0.25: [50, 60], 1.0: [52, 62], 4.0: [51, 61]}, 1.0),  # the default is best
        ({0.25: [52, 62], 1.0: [52, 62], 4.0: [52, 62]}, 1.0),  # ties
        ({0.25: [53, 63], 1.0: [52, 62], 4.0: [51, 61]}, 0.25),  # one point at each seed: no error at all
        ({0.25: [58, 62], 1.0: [52, 66], 4.0: [51, 61]}, 1.0),  # one point on average, with an error of five
        ({0.25: [53, 63], 1.0: [52, 62], 4.0: [60, 60]}, 0.25),  # the best mean is within its error of 5
        ({0.25: [53, 63], 1.0: [52, 62], 4.0: [54, 64]}, 4.0),
        ({0.25: [53, 63], 1.0: [52, 62], 4.0: [53, 63]}, 0.25),  # equally good: the smaller
        ({0.25: [99, np.nan], 1.0: [52, 62], 4.0: [51, 61]}, 1.0),  # diverged at a seed
        ({0.25: [53, 63], 1.0: [np.nan, 62], 4.0: [51, 61]}, 0.25),  # the default itself diverged
        ({0.25: [np.nan] * 2, 1.0: [np.nan] * 2, 4.0: [np.nan] * 2}, 1.0),
    ],
)
def test_the_rule(accuracy, factor):
    assert tuning.chosen(pd.DataFrame.from_dict(accuracy, orient="index")) == factor


def test_the_table_shows_what_the_rule_saw():
    tried = [*tuning.candidates("kd"), *tuning.candidates("at")]
    found = pd.DataFrame(
        {"val_accuracy": [50.0, 52, 53, 60, 61, 64, 60, 62, 65, 70, 70, 9], "diverged": [False] * 11 + [True]}
    )
    table = tuning.scored(tried, (7, 8), found).set_index(["method", "factor"])
    assert table.loc[("kd", 4.0), ["val_accuracy", "seed_7", "seed_8", "gain"]].tolist() == [59.0, 53.0, 65.0, 2.0]
    assert table.loc[("kd", 4.0), "error"] == pytest.approx(np.std([1, 3], ddof=1) / np.sqrt(2))
    assert table.loc[("at", 4.0), ["val_accuracy", "gain"]].isna().all()
    assert table["chosen"].tolist() == [False, False, True, False, True, False]
    assert all(len(line) <= 100 for line in tuning.show(table.reset_index()).splitlines())


def test_kept_choices_replace_only_their_own(tuned_file):
    recipes.keep_tuned("quick", [{"method": "at", "option": "weight", "factor": 0.25, "weight": 250.0}])
    rows = [{"method": m, "option": "weight", "factor": f, "weight": f * 2} for m, f in (("at", 4.0), ("sp", 1.0))]
    recipes.keep_tuned("smoke", rows)
    recipes.keep_tuned("smoke", [{"method": "rkd", "option": "weight", "factor": 4.0, "weight": 0.1}])
    assert tuned_file.read_text() == (
        "profile,method,option,factor,weight\nquick,at,weight,0.25,250.0\n"
        "smoke,at,weight,4.0,8.0\nsmoke,rkd,weight,4.0,0.1\nsmoke,sp,weight,1.0,2.0\n"
    )
    assert recipes.tuned("smoke") == {"at": {"weight": 8.0}, "rkd": {"weight": 0.1}}  # a kept default changes nothing
    assert recipes.tuned("quick") == {"at": {"weight": 250.0}} and recipes.tuned("paper") == {}


def test_the_committed_choices_can_run():
    for name in PROFILES:
        for method, options in recipes.tuned(name).items():
            assert options.keys() == {find("losses", method).tune}


# --- any method from a profile ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalogue("losses"))
def test_every_method_can_run_from_a_profile(name):
    spec = recipes.method(SMOKE, name)
    assert spec.method == name
    needs = find("losses", name).needs
    assert (spec.views == 4) == ("turns" in needs) and (spec.teacher is not None) == ("teacher" in needs)
    preparing = name in preparations()
    assert spec.model == (SMOKE.teacher if preparing else SMOKE.student)
    if spec.views == 1 and "pairs" in needs:
        assert "views=2" in refusal(spec)
        spec = recipes.weak2(spec)
    assert refusal(spec) is None
    jda = refusal(recipes.augmented(spec, SMOKE))
    assert ("makes its own views" in jda) if "turns" in needs else jda is None


def test_prepared_teachers_have_the_teacher_s_network_and_budget():
    paper = find_profile("paper", data="fashion")
    teacher = recipes.method(paper, "sskd").teacher
    assert (teacher.method, teacher.views, teacher.model) == ("sskd_head", 4, "wrn_40_2")
    assert (teacher.budget, teacher.optimiser) == (paper.teacher_budget, paper.teacher_optimiser)
    assert teacher.teacher == recipes.teacher(paper)
    assert recipes.method(paper, "ft").teacher == recipes.method(paper, "ft_paraphraser")
    assert recipes.method(paper, "ft").teacher.views == 1
    assert recipes.method(paper, "hsakd_joint").teacher is None
    with pytest.raises(SpecError, match="Did you mean 'kd'"):
        recipes.method(paper, "kdd")


def test_tuned_weights_reach_methods_but_not_the_other_perspectives(tuned_file, kept_default):
    assert recipes.method(SMOKE, "kd").method_options == {"kd_weight": 4.0}
    assert recipes.method(SMOKE, "kd", {}) == recipes.kd(SMOKE) and recipes.kd(SMOKE).method_options == {}
    assert recipes.method(SMOKE, "at").method_options == {}
    assert recipes.method(profile("quick"), "kd") == recipes.kd(profile("quick"))
    assert recipes.method(SMOKE, "ce") == recipes.ce(SMOKE)


def test_choices_are_read_without_torch():
    script = "import sys; from kdlab.perspectives import profile, recipes; recipes.method(profile('smoke'), 'kd')\n"
    script += "from kdlab.perspectives import tuning; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


# --- published numbers --------------------------------------------------------------------------------------------


def test_published_numbers():
    table = pd.read_csv(PATH, keep_default_na=False)
    assert len(table) == 283 and set(table["selection"]) == {"last epoch", "best epoch on test", "unknown"}
    assert (table["source"] != "").all() and table["accuracy"].between(55, 85).all()
    assert {*table["teacher"], *table["student"]} - {"ShuffleV2x1.5"} <= set(catalogue("models"))
    keys = set(table["key"]) - {""}
    assert keys <= set(catalogue("losses")) and len(keys) >= 20
    ours = published("resnet32x4", "resnet8x4").set_index(["method", "source"])
    assert len(ours) == 42
    assert ours.loc[("KD", "TTM and NORM READMEs"), ["accuracy", "student_accuracy"]].tolist() == [73.33, 72.50]
    assert ours.loc[("DIST", "DIST README"), ["key", "accuracy", "std"]].tolist() == ["dist", 76.31, 0.19]
    assert ours.loc[("ITRD", "TTM README"), ["accuracy", "note"]].tolist() == [76.19, "run again by TTM"]
    assert "second view" in ours.loc[("MLLD", "LSKD README"), "note"]
    assert sorted(ours.loc[("SD-KD", "SDD run scripts"), "accuracy"]) == [75.31, 75.59]
    assert ours.loc[("CRD", "TTM README"), "selection"] == "last epoch"
    assert ours.loc[("LSKD+DKD", "LSKD README"), "selection"] == "best epoch on test"
    assert published("wrn_40_2", "wrn_16_2").set_index("method").loc["SuperMix+KD", "accuracy"] == 77.45
    assert published("vgg13", "resnet8_s2_w4").empty


def test_published_numbers_never_mix_teachers():
    table = pd.read_csv(PATH, keep_default_na=False)
    for teacher, student in sorted(set(zip(table["teacher"], table["student"], strict=True))):
        rows = published(teacher, student)
        assert rows["teacher_accuracy"].nunique() == 1
        assert rows["student_accuracy"].nunique() <= 1
        assert student.endswith("_s1") or not rows["method"].str.startswith("HSAKD").any()
    theirs = published("wrn_40_2", "wrn_16_2", 80.70)
    assert theirs["method"].tolist() == ["HSAKD*"] and theirs["accuracy"].tolist() == [78.67]
    assert published("vgg13", "MobileNetV2_s1")["student_accuracy"].tolist() == [73.51]
    with pytest.raises(SpecError, match="teacher_accuracy must be one of .*75.61.* but got 75.6"):
        published("wrn_40_2", "wrn_16_2", 75.6)
