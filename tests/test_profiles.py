"""The profiles: two depths of one regime, how many runs they are, in which order these are trained, what they draw."""

import itertools

import numpy as np
import pandas as pd
import pytest

from kdlab import lab, perspectives
from kdlab.cli import figures, looking
from kdlab.perspectives import NAMES, PROFILES, external, profiles, recipes
from kdlab.spec import Budget, RunSpec

DEPTHS = ("quick", "standard")
# Runs of one seed, teachers included, that each perspective adds to those of the perspectives before it.
NEW = {
    "quick": {"joint_augmentation": 9, "teacher_augmentation": 3, "ratio_sweep": 3, "few_shot": 7, "compatibility": 9},
    "standard": {
        "joint_augmentation": 11, "teacher_augmentation": 3, "ratio_sweep": 6, "few_shot": 17, "compatibility": 30,
        "ccd": 6, "when_it_pays": 98, "fidelity": 0, "external": 0, "sharpness": 2, "teacher_views": 7,
        "good_augmentation": 9,
    },
}  # fmt: skip


def keys(name: str, depth: str, **given) -> dict[str, RunSpec]:
    """The runs of a perspective by key, teachers included; of one seed where none are given."""
    study = perspectives.study(name, depth, **given)
    return lab.plan(study.specs if given else list(study.arms.values())).specs


MAP = "when_it_pays"  # has cells, budgets and seeds of its own
FIXED = tuple(name for name in NAMES if name != MAP)


@pytest.mark.parametrize("depth", DEPTHS)
def test_runs_of_a_seed_are_counted(depth):
    seen, added = set(), {}
    for name in perspectives.profile(depth).perspectives or NAMES:
        own = set(keys(name, depth))
        added[name], seen = len(own - seen), seen | own
    assert added == NEW[depth]
    assert len(seen) == sum(NEW[depth].values()) <= {"quick": 40, "standard": 93 + 98}[depth]


def test_quick_has_its_five_perspectives_and_the_other_profiles_have_all(monkeypatch):
    """Somebody waits for quick; what it leaves out runs there by its name."""
    asked = []
    monkeypatch.setattr(figures, "_stages", lambda studies, whole: asked.append(list(studies)) or [[]])
    for depth, named in (("quick", None), ("standard", None), ("smoke", None), ("quick", ["ccd"])):
        figures.figures(named, depth, {}, [], only_plan=True)
    assert asked == [list(NEW["quick"]), list(NAMES), list(NAMES), ["ccd"]]
    assert set(NAMES) - set(NEW["quick"]) == {
        "ccd",
        MAP,
        "fidelity",
        "external",
        "sharpness",
        "teacher_views",
        "good_augmentation",
    }


@pytest.mark.parametrize("name", NAMES)
def test_standard_goes_on_where_quick_stopped(name):
    quick, standard = (perspectives.profile(depth) for depth in DEPTHS)
    assert quick.seeds == standard.seeds[: len(quick.seeds)] == (0, 1, 2, 3) and len(standard.seeds) == 12
    assert set(keys(name, "quick")) <= set(keys(name, "standard"))
    given = {"seeds": list(quick.seeds[-2:])}
    assert set(keys(name, "quick", **given)) <= set(keys(name, "standard", **given))
    few, many = (perspectives.study(name, depth).contrasts for depth in DEPTHS)
    same = [c.name for c in few] == [c.name for c in many] if name == MAP else all(c in many for c in few)
    assert same, "the question does not change with the depth"
    assert len(few) == len(many) or name == "compatibility"


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_regime_stands_in_one_place(depth):
    p = profiles
    budget = Budget(p.EPOCHS, originals_per_step=p.ORIGINALS)
    for name in FIXED:
        for key, spec in keys(name, depth).items():
            assert (spec.data, spec.sizes) == (p.DATA, p.SIZES), key
            assert (spec.precision, spec.teacher_precision) == (p.PRECISION, p.TEACHER_PRECISION), key
            assert spec.model == (p.TEACHER if spec.role == "teacher" else p.STUDENT), key
            assert spec.optimiser.lr == p.RATE, key
            assert spec.role == "student" or spec.budget == budget, key
    size = perspectives.profile(depth)
    assert size.budget == size.teacher_budget == budget and recipes.ce(size).budget == budget


def test_standard_has_the_weights_that_quick_was_tuned_to(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "TUNED", tmp_path / "tuned.csv")
    recipes.keep_tuned("quick", [{"method": "sp", "option": "weight", "factor": 0.25, "weight": 750.0}])
    one, other = (recipes.method(perspectives.profile(depth), "sp") for depth in DEPTHS)
    assert one == other and one.method_options == {"weight": 750.0}
    assert [perspectives.profile(name).regime for name in PROFILES] == [
        "smoke",
        "quick",
        "quick",
        "full",
        "paper",
    ]
    recipes.tuned.cache_clear()


# --- the order of training ----------------------------------------------------------------------------------------


def ordered(depth: str, seeds: int, names=FIXED) -> list[list[RunSpec]]:
    """The cohorts that ``kdlab figures`` would train, in order."""
    studies = {name: perspectives.study(name, depth, seeds=seeds) for name in names}
    stages = figures._stages(studies, PROFILES[depth].whole_seeds)
    made = lab.plan(*stages, workers=2)
    assert set(made.runs) == {key for study in studies.values() for key in lab.plan(study.specs).runs}
    return [[run.spec for run in cohort.runs.values()] for cohort in made.cohorts]


def test_standard_trains_one_whole_seed_after_another():
    seeds = [{spec.seed for spec in cohort} for cohort in ordered("standard", 3)]
    assert all(len(own) == 1 for own in seeds)
    flat = [seed for own in seeds for seed in own]
    assert flat == sorted(flat) and set(flat) == {0, 1, 2}


def test_quick_trains_what_the_first_figure_needs_first_and_each_perspective_by_seeds():
    cohorts = ordered("quick", 3)
    first = set(lab.plan(perspectives.study(NAMES[0], "quick", seeds=3).specs).runs)
    wanted = [any(lab.run_key(spec) in first for spec in cohort) for cohort in cohorts]
    assert wanted == sorted(wanted, reverse=True), "no other cohort comes between"
    seeds = [cohort[0].seed for cohort in cohorts[: sum(wanted)]]
    assert seeds == sorted(seeds) and set(seeds) == {0, 1, 2}


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_teacher_comes_before_its_students(depth):
    done = set()
    for cohort in ordered(depth, 2):
        assert all(spec.teacher is None or lab.run_key(spec.teacher) in done for spec in cohort)
        done |= {lab.run_key(spec) for spec in cohort}


def test_a_study_by_itself_trains_by_seeds(monkeypatch):
    asked = []
    monkeypatch.setattr(lab, "run", lambda *groups, **_: asked.extend(groups))
    study = perspectives.study("few_shot", "quick")
    monkeypatch.setattr(type(study), "table", lambda self: None)
    study.run(progress=False)
    assert [{spec.seed for spec in group} for group in asked] == [{0}, {1}, {2}, {3}]
    assert sorted(map(lab.run_key, itertools.chain(*asked))) == sorted(map(lab.run_key, study.specs))


@pytest.mark.parametrize("whole, said", [(0, ""), (1, ""), (2, "2 of 4 seeds are whole"), (3, "--seeds 3 draws them")])
def test_an_interruption_tells_how_many_seeds_are_whole(monkeypatch, capsys, whole, said):
    studies = {name: perspectives.study(name, "quick") for name in NAMES[:2]}
    there = {lab.run_key(s) for study in studies.values() for s in study.specs if s.seed < whole}
    there |= {lab.run_key(studies[NAMES[0]].specs[-1])}  # some of the last seed too
    monkeypatch.setattr(looking, "finished", lambda specs: all(lab.run_key(spec) in there for spec in specs))
    figures._say_seeds(studies)
    printed = capsys.readouterr().out
    assert said in printed if said else printed == ""


# --- what is drawn ------------------------------------------------------------------------------------------------


def table(study) -> pd.DataFrame:
    """A made-up table of a study: an arm's accuracy and a seed's luck."""
    draw = np.random.default_rng(0)
    rows = [
        {"arm": arm, "seed": seed, "diverged": False, "test_accuracy": 80 + 0.3 * place + draw.normal(),
         "test_ece": 0.05, "test_entropy": 0.4, "test_nll": draw.random(),
         "student_images": 200, "teacher_forwards": 100, "steps": 10,
         "seconds": 1.0, "parameters": 3000, "method_parameters": 500}
        for place, arm in enumerate(study.arms) for seed in study.profile.seeds
    ]  # fmt: skip
    made = pd.DataFrame(rows)
    columns = [f"{measure}.{what}" for measure in study.measures for what in MEASURED[measure]]
    return made.assign(**{column: 50 + 10 * draw.random(len(made)) for column in columns})


MEASURED = {
    "fidelity": [f"{where}.{what}" for where in ("train", "augmented", "test", "shifted") for what in (
        "agreement", "agreement_right", "agreement_wrong", "accuracy", "teacher_accuracy")],
    "external": [f"{where}.{what}" for where in ("internal", "corrupted", *external.KINDS) for what in (
        "balanced_accuracy", "ece", "answered_risk", "hidden")],
    "views": ["t_stddev", "flips", "agreement", "entropy"],
    "sharpness": [f"{loss}.log2_eigenvalue" for loss in ("clean", "views", "kd_clean", "kd_views", "own")] + [
        f"clean.{what}" for what in ("adaptive_log2_eigenvalue", "trace", "rise")] + [f"slice.{n}" for n in range(11)],
}  # fmt: skip


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", NAMES)
def test_no_figure_has_an_empty_panel(name, depth):
    study = perspectives.study(name, depth)
    drawn = study.figures(table(study))
    assert set(drawn) == {"contrasts", *study.module.FIGURES}
    for figure in drawn.values():
        for ax in figure.axes:
            finite = [np.isfinite(np.asarray(line.get_ydata(), float)).any() for line in ax.lines]
            finite += [np.isfinite(np.ma.filled(image.get_array().astype(float), np.nan)).any() for image in ax.images]
            assert any(finite) or ax.collections or not ax.axison, (name, ax.get_title())


def test_joint_augmentation_weighs_the_teacher():
    study = perspectives.study("joint_augmentation", "quick")
    rows = table(study)
    wide = rows.pivot(index="seed", columns="arm", values="test_accuracy")
    gains = (wide["jda"] - wide["weak2"]) - (wide["ce jda"] - wide["ce weak2"])
    found = next(v for v in study.verdicts(rows) if v.contrast.name == "JDA's gain with a teacher − without")
    assert found.effect == pytest.approx(gains.mean()) and found.contrast.role == "claim"
    ce, kd = study.arms["ce jda"], study.arms["jda"]
    assert (ce.teacher, ce.method) == (None, "ce")
    assert ce.replace(method="kd", teacher=kd.teacher) == kd, "nothing but the teacher differs"
    assert study.arms["ce weak2"].replace(method="kd", teacher=kd.teacher) == study.arms["weak2"]


@pytest.mark.parametrize("depth", ["quick", "full"])
def test_the_caption_of_joint_augmentation_says_which_arms_see_two_views(depth):
    study = perspectives.study("joint_augmentation", depth)
    augmentations = {"weak2", "jda", *study.profile.operations}
    for arm, spec in study.arms.items():
        assert spec.views == (2 if augmentations & {*arm.split()} else 1), arm
    assert "Arms with an augmentation in their name see two views of each original, the others one." in study.shows(
        "arms"
    )
