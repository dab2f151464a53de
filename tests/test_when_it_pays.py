"""The map of when augmentation pays: its cells, its contrasts, what it draws, and the advice that is read from it."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from kdlab import lab, perspectives, plotting, stats
from kdlab.cli import app, figures
from kdlab.errors import SpecError
from kdlab.lab.keys import steps
from kdlab.perspectives import advice, recipes, when_it_pays
from kdlab.perspectives.profiles import Map
from kdlab.perspectives.when_it_pays import OWN, STRONG, arm, cells, cost, left_out
from kdlab.widgets.custom_study import example

STANDARD = perspectives.profile("standard")


def made_up(study, effect, noise: float = 0.0) -> pd.DataFrame:
    """A table in which JDA's gain is a function of images, passes and teacher."""
    draw, rows = np.random.default_rng(3), []
    for name in study.arms:
        base, _, rest = name.partition(", ")
        for seed in study.profile.seeds:
            accuracy = 80 + seed / 10 + noise * draw.normal()
            if base == "jda":
                images, passes = map(int, rest.split(", ")[0].split(" x "))
                accuracy += effect(images, passes, STRONG if "strong" in rest else OWN)
            rows.append({"arm": name, "seed": seed, "diverged": False, "test_accuracy": accuracy, "key": name})
    return pd.DataFrame(rows)


# --- cells and arms -----------------------------------------------------------------------------------------------


def test_standard_has_the_cells_of_400_to_1900_steps_and_one_beyond():
    there = cells(STANDARD)
    assert there == [
        (500, 60), (500, 120), (500, 240), (1000, 30), (1000, 60), (1000, 120), (1000, 240), (2000, 15), (2000, 30),
        (2000, 60), (4000, 15), (4000, 30),
    ]  # fmt: skip
    arms = when_it_pays.arms(STANDARD)
    assert all(steps(arms[arm("ce", cell)]) == cost(STANDARD, cell) for cell in there)
    assert [cell for cell in there if not 400 <= cost(STANDARD, cell) <= 1900] == [(1000, 240)]
    assert left_out(STANDARD, (500, 15)) == "too few steps" and left_out(STANDARD, (4000, 240)) == "too long"
    assert set(cells(perspectives.profile("quick"))) < set(there)


def test_students_of_a_cell_differ_in_views_and_teacher_alone():
    arms = when_it_pays.arms(STANDARD)
    for cell in cells(STANDARD):
        for teacher in (OWN, STRONG):
            kd = arms[arm("kd", cell, teacher)]
            assert arms[arm("weak2", cell, teacher)] == recipes.weak2(kd)
            assert arms[arm("jda", cell, teacher)] == recipes.augmented(kd, STANDARD)
            assert kd.replace(method="ce", teacher=None) == arms[arm("ce", cell)]
        own, strong = (arms[arm("kd", cell, teacher)].teacher for teacher in (OWN, STRONG))
        assert own.fraction == arms[arm("ce", cell)].fraction == cell[0] / 12000 and strong.fraction == 1.0
        assert own.sizes == strong.sizes == arms[arm("ce", cell)].sizes == (12000, 2000, 10000)
        assert own.model == strong.model == STANDARD.teacher


def test_a_seed_has_one_strong_teacher_and_one_own_teacher_for_each_number_of_images():
    taught = [spec.teacher for spec in when_it_pays.arms(STANDARD).values() if spec.teacher is not None]
    by_fraction = {spec.fraction: {lab.run_key(t) for t in taught if t.fraction == spec.fraction} for spec in taught}
    assert len(by_fraction) == 5 and all(len(keys) == 1 for keys in by_fraction.values())
    assert {steps(t) for t in taught if t.fraction < 1} == {STANDARD.map.teacher_steps}


def test_own_teacher_sees_exactly_its_students_images():
    from kdlab import data

    spec = when_it_pays.arms(STANDARD)[arm("kd", (500, 60), OWN)].at_seed(3)
    train = data.load(spec.data, sizes=spec.sizes).train
    student, teacher = (train.subset(s.fraction, s.seed).images for s in (spec, spec.teacher))
    assert len(student) == 500 and bool((student == teacher).all())


def test_other_widths_stand_at_the_middle_alone():
    arms = when_it_pays.arms(STANDARD)
    wide = {name: spec for name, spec in arms.items() if spec.model in STANDARD.map.students}
    assert len(wide) == 8 and all(steps(spec) == cost(STANDARD, (1000, 60)) for spec in wide.values())
    assert all(spec.method == "kd" and spec.views == 2 for spec in wide.values())


def test_six_seeds_unless_others_are_asked_for():
    def seeds(*given, **more):
        return perspectives.study("when_it_pays", *given, **more).profile.seeds

    assert seeds("standard") == tuple(range(6)) and seeds("quick") == tuple(range(4))
    assert seeds("standard", seeds=8) == tuple(range(8)) and seeds("standard", seeds=[3, 4]) == (3, 4)


@pytest.mark.parametrize("given", [{"epochs": 3.0}, {"steps": 100}, {"teacher_epochs": 9.0}])
def test_budgets_that_would_change_nothing_are_refused(given):
    (name,) = given
    with pytest.raises(SpecError, match=f"^{name}: when_it_pays has budgets of its own, but got .*; leave it out"):
        perspectives.study("when_it_pays", "smoke", **given)


def test_a_set_that_is_too_small_for_the_map_is_refused_in_words():
    with pytest.raises(SpecError, match=r"when_it_pays needs 4,000 training images.* 'fashion' has 320"):
        cells(STANDARD.replace(map=Map(strong=(320, 4))))


@pytest.mark.parametrize(
    "more, why", [({"data": "folder"}, "needs 120 training images"), ({"epochs": 3.0}, "of its own")]
)
def test_it_is_left_out_with_a_word_unless_it_is_named(more, why, capsys, tmp_path):
    if "data" in more:
        more = {"data": f"folder:{example(20, (0, 1))}"}
    assert figures.figures(None, "smoke", dict(more), [], only_plan=True)
    assert re.search(f"left out: .*when_it_pays.*{why}", capsys.readouterr().out)
    with pytest.raises(SpecError, match=why):
        figures.figures(["when_it_pays"], "smoke", dict(more), [], only_plan=True)


# --- contrasts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", ["standard", "quick", "smoke"])
def test_contrasts_recover_slopes_that_were_put_in(depth):
    study = perspectives.study("when_it_pays", depth)
    strong = study.profile.map.strong[0]

    def effect(images, passes, teacher):
        return 0.4 * math.log2(passes) - 0.3 * math.log2(images / strong) - 0.7 * (teacher == STRONG)

    found = stats.decide(made_up(study, effect), study.contrasts)
    assert [v.effect for v in found] == pytest.approx([0.8, 0.7, 0.6, 0.0, 0.0], abs=1e-9)
    assert [v.contrast.role for v in found] == ["claim"] * 3 + ["positive control", "null control"]


def test_slope_is_least_squares_with_a_level_for_each_number_of_images():
    there = cells(STANDARD)
    gains = np.random.default_rng(0).normal(size=len(there))
    levels = sorted({images for images, _ in there})
    design = [[math.log2(passes), *(float(images == level) for level in levels)] for images, passes in there]
    expected = 2 * np.linalg.lstsq(np.array(design), gains, rcond=None)[0][0]
    weights = when_it_pays.slope(STANDARD, 1)
    assert sum(weights.get(cell, 0) * gain for cell, gain in zip(there, gains, strict=True)) == pytest.approx(expected)


def test_cells_are_corrected_for_all_cells_of_both_teachers():
    study = perspectives.study("when_it_pays", "standard")
    table = made_up(study, lambda images, passes, teacher: 2.0 * (teacher == OWN), noise=0.3)
    found = when_it_pays.gains(table, study.profile)
    assert {len(panel) for panel in found.values()} == {12}
    one = found[OWN][1000, 60]
    alone = stats.paired(table, arm("jda", (1000, 60), OWN), arm("weak2", (1000, 60), OWN))
    assert one.effect == alone.effect and one.p == alone.p
    # Holm over both p of 24 cells: the smallest of 48 is multiplied by 48
    least = min(v.p for panel in found.values() for v in panel.values())
    first = next(v for panel in found.values() for v in panel.values() if v.p == least)
    assert first.p_holm == pytest.approx(48 * least)


# --- what is drawn ------------------------------------------------------------------------------------------------


def test_a_place_is_straight_in_the_logarithm_and_goes_on_beyond_the_ends():
    assert plotting.place([15, 30, 60], np.array([15, 60, 120, 15 * 2**0.5])) == pytest.approx([0, 2, 3, 0.5])
    assert np.isnan(plotting.place([15, 30, 60], 1000.0))


def test_maps_have_every_cell_in_words_and_say_why_others_are_missing():
    study = perspectives.study("when_it_pays", "standard")
    table = made_up(study, lambda images, passes, teacher: 1.0)
    figure = when_it_pays.figures(table, [], study.profile)["gain"]
    for ax in figure.axes[:2]:
        words = [text.get_text() for text in ax.texts]
        assert sum(word.startswith("+1.00") for word in words) == 12
        assert words.count("too few steps") == 3 and words.count("too long") == 5
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["15", "30", "60", "120", "240"]


def test_caption_tells_both_teachers_and_all_images():
    caption = perspectives.study("when_it_pays", "standard").caption("gain")
    assert "12,000 train, 2,000 val" in caption and "6 seeds" in caption
    assert "1,800 steps on its student's images; the strong one 30 epochs of all 12,000" in caption


# --- advice -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a map that was made up: JDA gains a point under the own teacher and loses one under the strong."""
    folder = tmp_path_factory.mktemp("map")
    study = perspectives.study("when_it_pays", "standard")
    table = made_up(study, lambda images, passes, teacher: 1.0 if teacher == OWN else -1.0, noise=0.1)
    for name in ("gain",):
        figure = when_it_pays.figures(table, [], study.profile)[name]
        meta = {"perspective": "when_it_pays", "profile": "standard", "overrides": study._overrides()}
        plotting.save(figure, folder, f"when_it_pays-{name}", table=table, caption="", alt="", meta=meta)
    return folder


@pytest.mark.parametrize(
    "given, cell, teacher, outcome",
    [
        ((1500, 80), (2000, 60), OWN, "gained"),
        ((1500, 80, 1500), (2000, 60), OWN, "gained"),
        ((1500, 80, 50000), (2000, 60), STRONG, "lost"),
        ((500, 240, 12000), (500, 240), STRONG, "lost"),
        ((500, 240, 700), (500, 240), OWN, "gained"),
    ],
)
def test_advice_is_that_of_the_nearest_cell_under_the_nearer_teacher(drawn, given, cell, teacher, outcome):
    text = advice.advise(*given, folder=drawn)
    first = next(line for line in text.splitlines() if line.startswith("  "))
    assert first.startswith(f"  {cell[0]:,} images x {cell[1]} passes: ")
    assert f"JDA {outcome}" in text or f"JDA {outcome} to" in text
    assert ("teacher of 12,000 images" in text.split("\n\n")[0].replace("\n", " ")) == (teacher == STRONG)
    assert "other data and networks may differ" in text.replace("\n", " ") and "Fashion-MNIST" in text


def test_advice_is_that_of_figures_and_goes_by_doublings(drawn):
    table, size = advice.read_map(advice.map_file(drawn))
    near = advice.neighbours(table, size, 1000, 120, OWN)
    assert near[0].cell == (1000, 120) and near[0].away == 0
    assert {one.cell for one in near[1:4]} == {(500, 120), (1000, 60), (1000, 240)}
    assert all(one.away == 1 for one in near[1:4])
    effects = table.pivot(index="seed", columns="arm", values="test_accuracy")
    gain = effects[arm("jda", (1000, 120), OWN)] - effects[arm("weak2", (1000, 120), OWN)]
    assert near[0].verdict.effect == pytest.approx(gain.mean())


def test_advice_far_from_the_map_is_called_none(drawn):
    assert "no advice" in advice.advise(50000, 240, folder=drawn)
    assert "no advice" not in advice.advise(1500, 80, folder=drawn)


@pytest.mark.parametrize(
    "given, said",
    [
        ("--images 0 --epochs 3", "images must be an integer of at least 1, but got 0"),
        ("--images 10 --epochs 0", "epochs must be"),
        ("--images 10 --epochs nan", "epochs must be"),
        ("--images 10 --epochs 3 --teacher-saw 5", "teacher_saw must be at least the student's images (10)"),
        ("--images 10 --epochs 3 --figures nowhere", "there is no map yet: when_it_pays-gain.json is not in"),
    ],
)
def test_bad_questions_are_answered_in_words(monkeypatch, capsys, tmp_path, given, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["kdlab", "advise", *given.split()])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_own_images_explorer_shows_the_same_point(drawn, monkeypatch, tmp_path):
    from kdlab.widgets import own

    monkeypatch.setattr(advice, "CHECKOUT", tmp_path)
    monkeypatch.setattr(advice, "home", lambda: tmp_path)
    assert advice.brief(1500, 80.0) == ""  # nothing drawn here
    monkeypatch.setattr(advice, "map_file", lambda: drawn / advice.FILE)
    explorer = own.OwnImages(folder=own.example(), size=28, epochs=20.0)
    line = explorer.plan().split("<br>")[-1]
    assert line.startswith("On the map of Fashion-MNIST") and "500 images x 60 passes: +" in line
    assert "more than a factor of two away" in line  # 20 passes


def test_a_teacher_from_a_file_may_have_seen_more(drawn, monkeypatch):
    monkeypatch.setattr(advice, "map_file", lambda: drawn / advice.FILE)
    own, both = advice.brief(500, 60.0), advice.brief(500, 60.0, known=False)
    assert both.startswith(own.removesuffix(".")) and " passes: " in own
    said = both.removeprefix(own.removesuffix("."))
    assert re.fullmatch(
        r", under a teacher of the student's own images; .* passes: .*, under a teacher of [\d,]+ images\. "
        r"What the teacher of the file saw is not known here\.", said
    )  # fmt: skip


def test_another_figure_is_no_map(tmp_path):
    (tmp_path / advice.FILE).write_text('{"columns": {}, "data": [], "meta": {"perspective": "few_shot"}}')
    with pytest.raises(SpecError, match="cannot be read as a map"):
        advice.advise(1500, 80, folder=tmp_path)
