"""What is measured of finished runs afterwards: once, of these weights, in tables and in the ledger; and fidelity."""

import importlib
import sys

import numpy as np
import pytest
import torch
from test_ledger import JDA, KD, TEACHER, edited, made, this_machine  # noqa: F401

from kdlab import lab, perspectives
from kdlab.augment.joint import POLICIES
from kdlab.errors import SpecError
from kdlab.lab import external, fidelity, ledger, measured, merging, networks, run_key, running, sharpness, views
from kdlab.lab.store import Store
from kdlab.metrics import calibration_error
from kdlab.metrics.corruptions import CORRUPTIONS, RENDERINGS, corrupt
from kdlab.metrics.external import external_scores, freeze
from kdlab.metrics.sharpness import largest_eigenvalue
from kdlab.metrics.views import label_flip_rate
from kdlab.perspectives import fidelity as perspective
from kdlab.perspectives import good_augmentation
from kdlab.perspectives import sharpness as flatness
from kdlab.registry import catalogue
from kdlab.spec import Budget, RunSpec

SMALL = RunSpec(sizes=(60, 30, 300), model="resnet8_s2_w4", budget=Budget(6, "steps", 20), role="teacher")
STUDENT = SMALL.replace(role="student", method="kd", teacher=SMALL, seed=1)


@pytest.fixture
def numbers(monkeypatch):
    """A measure that says 1, 2, 3 and so on, and which runs it was asked for."""
    asked = []

    def count(spec, store):
        asked.append(run_key(spec))
        return {"test.agreement": float(len(asked)), "test.kl": float("nan")}

    monkeypatch.setattr(importlib.import_module("kdlab.lab.fidelity"), "measured", count)
    return asked


def test_a_run_is_measured_once_and_its_table_has_the_numbers(numbers):
    keys = made(TEACHER, KD, JDA)[1:]
    for _ in range(2):
        lab.measure([KD, JDA], names=["fidelity"])
    assert numbers == keys
    table = lab.table([KD, JDA])
    assert table["fidelity.test.agreement"].tolist() == [1, 2] and table["fidelity.test.kl"].isna().all()
    assert table["fidelity.revision"].eq(1).all() and table["val_accuracy"].notna().all()
    assert not [name for name in measured.own_columns(table, ()) if "." in name]
    assert list(measured.own_columns(table, ["fidelity"])) == list(table)


def test_numbers_of_an_earlier_revision_or_of_other_weights_count_as_not_there(numbers, monkeypatch):
    _, key = made(TEACHER, KD)
    lab.measure([KD], names=["fidelity"])
    monkeypatch.setitem(measured.REVISIONS, "fidelity", 2)
    lab.measure([KD], names=["fidelity"])
    assert Store().measured(key) == {"fidelity.revision": 2, "fidelity.test.agreement": 2, "fidelity.test.kl": None}
    Store().put(f".measured/{key}", {"weights": "of another run", "numbers": Store().measured(key)})
    assert Store().measured(key) == {} and "fidelity.revision" not in lab.table([KD])


def test_what_is_lacking_is_told_before(numbers):
    made(TEACHER, KD, JDA)
    words = measured.lacking([KD, JDA], ["fidelity"])
    assert words.startswith("2 of 2 runs are measured afterwards (fidelity), from their weights")
    lab.measure([KD], names=["fidelity"])
    assert measured.lacking([KD, JDA], ["fidelity"]).startswith("1 of 2 runs are measured")
    assert measured.lacking([KD], ["fidelity"]) == "" == measured.lacking([KD, JDA], [])
    assert measured.lacking([KD.at_seed(7)], ["fidelity"]).startswith("1 of 1")


def test_a_diverged_run_has_no_numbers_and_is_not_asked_again(numbers):
    made(TEACHER)
    made(KD, diverged=True)
    lab.measure([KD], names=["fidelity"])
    assert numbers == [] and measured.whole(lab.table([KD]), ["fidelity"])


def test_rows_of_the_ledger_bring_their_numbers_and_train_nothing(numbers, tmp_path, monkeypatch):
    made(TEACHER, KD, JDA)
    plain = tmp_path / "plain.csv.xz"
    merging.export(plain)
    lab.measure([KD, JDA], names=["fidelity"])
    rich = tmp_path / "rich.csv.xz"
    merging.export(rich)
    before = plain.read_bytes()
    assert ledger.add(plain, ledger.read(rich).values()) == 0 and plain.read_bytes() == rich.read_bytes() != before
    assert ledger.add(plain, ledger.read(rich).values()) == 0, "and again nothing"
    monkeypatch.setenv("KDLAB_LEDGER", str(tmp_path))
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(running, "_train", None)
    lab.measure([KD, JDA], names=["fidelity"])
    assert lab.table([KD, JDA])["fidelity.test.agreement"].tolist() == [1, 2] and len(numbers) == 2


def test_of_two_rows_the_later_revision_counts_and_other_last_digits_are_no_quarrel(numbers, tmp_path, monkeypatch):
    made(TEACHER, KD)
    lab.measure([KD], names=["fidelity"])
    path = tmp_path / "one.csv.xz"
    merging.export(path, [run_key(KD)])
    (row,) = ledger.read(path).values()
    other = edited(path, lambda t: t.assign(**{"fidelity.test.agreement": "1.0000001"}), "other")
    (kept,) = ledger.merged([row], ledger.read(other).values()).values()
    assert kept == row
    later = edited(path, lambda t: t.assign(**{"fidelity.test.agreement": "7", "fidelity.revision": "2"}), "later")
    (kept,) = ledger.merged([row], ledger.read(later).values()).values()
    assert kept.result["fidelity.test.agreement"] == 7 and kept.result["fidelity.revision"] == 2
    assert ledger.merged(ledger.read(later).values(), [row])[row.identity] == kept


# ---- fidelity --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A student and its teacher, in a store of their own."""
    store = Store(tmp_path_factory.mktemp("measured") / "runs")
    lab.run([STUDENT], workers=0, progress=False, store=store, require_teacher=False)
    return store


def test_fidelity_is_that_of_plain_forward_passes(trained):
    found = fidelity.measured(STUDENT, trained)
    splits = networks.splits_of(STUDENT)
    student = networks.stored_network(run_key(STUDENT), STUDENT, splits, trained)
    teacher = networks.stored_network(run_key(STUDENT.teacher), SMALL, splits, trained)
    sets = {"train": splits.train, "test": splits.test}
    for name, images in sets.items():
        x = images.normalise(images.images)
        s, t = student(x).numpy(), teacher(x).numpy()
        labels, same = images.labels.numpy(), s.argmax(1) == t.argmax(1)
        wrong = t.argmax(1) != labels
        assert found[f"{name}.agreement"] == pytest.approx(100 * same.mean())
        assert found[f"{name}.agreement_wrong"] == pytest.approx(100 * same[wrong].mean())
        assert found[f"{name}.agreement_right"] == pytest.approx(100 * same[~wrong].mean(), nan_ok=True)
        assert found[f"{name}.accuracy"] == pytest.approx(100 * (s.argmax(1) == labels).mean())
        p, q = (torch.tensor(z).double().softmax(1) for z in (t, s))
        assert found[f"{name}.kl"] == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-4)
    result = trained.read(run_key(STUDENT), "result")
    assert found["test.agreement"] == pytest.approx(result["agreement"]), "what the run wrote down"
    assert found["test.accuracy"] == pytest.approx(result["test_accuracy"])
    assert set(found) == {f"{name}.{what}" for name in fidelity.SETS for what in (
        "agreement", "agreement_right", "agreement_wrong", "accuracy", "accuracy_wrong", "teacher_accuracy", "kl", "cka"
    )}  # fmt: skip


def test_the_sets_are_one_jda_view_of_each_image_and_every_corruption_of_the_first(trained):
    splits = networks.splits_of(STUDENT)
    sets = fidelity._sets(STUDENT.data, STUDENT.sizes, "", 1.0, 1)
    again = fidelity._sets.__wrapped__(STUDENT.data, STUDENT.sizes, "", 1.0, 1)
    other = fidelity._sets.__wrapped__(STUDENT.data, STUDENT.sizes, "", 1.0, 2)
    assert torch.equal(sets["augmented"].x, again["augmented"].x)
    assert not torch.equal(sets["augmented"].x, other["augmented"].x), "each seed has its own"
    assert sorted(sets["augmented"].labels) == sorted(splits.train.labels.tolist())
    assert len(sets["augmented"].x) == 60
    assert len(sets["shifted"].x) == 15 * 300
    assert np.array_equal(sets["shifted"].labels[:300], splits.test.labels.numpy())


def test_a_run_without_a_teacher_or_with_other_answers_is_refused(trained):
    with pytest.raises(SpecError, match="fidelity is a student's to its teacher, but run .* has none"):
        fidelity.measured(SMALL, trained)
    with pytest.raises(SpecError, match="fidelity compares logits of the student, but 'simkd' predicts by others"):
        fidelity.measured(STUDENT.replace(method="simkd"), trained)


def test_methods_that_answer_for_their_students_are_left_out():
    others = {name for name in catalogue("losses") if not networks.predicts_alone(name)}
    assert others == {*perspective.NOT_ALONE}


@pytest.mark.parametrize("name", ["fidelity", "external"])
def test_arms_are_runs_of_other_notebooks(name):
    for profile in ("quick", "standard"):
        study = perspectives.study(name, profile)
        others = {run_key(spec) for other in ("joint_augmentation", "teacher_augmentation", "compatibility", "ccd")
                  for spec in perspectives.study(other, profile).arms.values()}  # fmt: skip
        assert {run_key(spec) for spec in study.arms.values()} <= others
        assert name == "external" or all(spec.teacher is not None for spec in study.arms.values())


def test_kendalls_tau_of_a_table():
    import pandas as pd

    table = pd.DataFrame({"seed": [0] * 4 + [1] * 4, "arm": list("abcd") * 2,
                          "fidelity.test.agreement": [1.0, 2, 3, 4, 1, 2, 3, 4],
                          "fidelity.test.accuracy": [1.0, 2, 3, 4, 2, 1, 4, 3]})  # fmt: skip
    assert perspective.ranks(table).to_dict() == pytest.approx({0: 1.0, 1: (4 - 2) / 6})


def test_planning_it_needs_no_torch(monkeypatch):
    for name in [name for name in sys.modules if name == "kdlab.lab.fidelity"]:
        monkeypatch.delitem(sys.modules, name)
    perspectives.study("fidelity", "quick")
    assert "kdlab.lab.fidelity" not in sys.modules


# ---- external --------------------------------------------------------------------------------------------------------


def test_external_is_that_of_plain_forward_passes(trained, monkeypatch):
    few = {"gaussian_noise": CORRUPTIONS["gaussian_noise"], "contrast": CORRUPTIONS["contrast"]}
    monkeypatch.setattr(external, "CORRUPTIONS", few)
    monkeypatch.setattr(external, "RENDERINGS", ("inverted",))
    monkeypatch.setattr(external, "GROUPS", {"noise": ("gaussian_noise",), "kin": ("contrast", "inverted")})
    monkeypatch.setattr(external, "STRANGE", ("gaussian_noise",))
    found = external.measured(STUDENT, trained)
    key, splits = run_key(STUDENT), networks.splits_of(STUDENT)
    network, stored = networks.stored_network(key, STUDENT, splits, trained), trained.logits(key)
    kept = freeze(stored["val"], splits.val.labels.numpy())
    pixels, labels = splits.test.images.numpy(), splits.test.labels.numpy()

    def scores(changed):
        return external_scores(network(splits.test.normalise(torch.from_numpy(changed))).numpy(), labels, kept)

    noise = [scores(corrupt(pixels, "gaussian_noise", strength)) for strength in range(1, 6)]
    contrast = [scores(corrupt(pixels, "contrast", strength)) for strength in range(1, 6)]
    inverted = scores(255 - pixels)
    for what in ("balanced_accuracy", "ece", "nll", "auc", "selective_risk"):
        factor = 1 if what in ("nll", "auc") else 100
        assert found[f"noise.{what}"] == pytest.approx(factor * np.mean([s[what] for s in noise]), rel=1e-4)
        kin = (np.mean([s[what] for s in contrast]) + inverted[what]) / 2
        assert found[f"kin.{what}"] == pytest.approx(factor * kin, rel=1e-4), "the mean over changes, not over sets"
    assert found["corrupted.ece"] == found["noise.ece"]
    result = trained.read(key, "result")
    assert found["internal.accuracy"] == pytest.approx(result["test_accuracy"])
    assert found["internal.ece"] == pytest.approx(
        100 * calibration_error(stored["test"] / kept.temperature, labels, 15)
    )


def test_every_change_is_of_one_kind_and_what_jda_knows_is_apart():
    named = [name for group in external.GROUPS.values() for name in group]
    assert sorted(named) == sorted([*CORRUPTIONS, *RENDERINGS])
    assert len(external.STRANGE) == 13 and not {*external.STRANGE} & {*external.KIN, *RENDERINGS}
    operations = {name for _, steps in POLICIES.values() for name, _ in steps}
    assert {"brightness", "contrast", "invert"} <= operations


def test_external_refuses_who_does_not_answer_alone(trained):
    with pytest.raises(SpecError, match="external asks the student's network, but 'simkd' predicts by more"):
        external.measured(STUDENT.replace(method="simkd"), trained)


# ---- sharpness -------------------------------------------------------------------------------------------------------

AT_REST = SMALL.replace(role="student", seed=1)


@pytest.fixture(scope="module")
def sharp(trained):
    """What is measured of a student of KD on two views, of which one is augmented."""
    spec = STUDENT.replace(augmentation="jda", views=2, ratio=0.5)
    lab.run([spec, AT_REST], workers=0, progress=False, store=trained, require_teacher=False)
    return spec, sharpness.measured(spec, trained)


def test_losses_are_those_of_plain_forward_passes(trained, sharp):
    spec, found = sharp
    splits = networks.splits_of(spec)
    student = networks.stored_network(run_key(spec), spec, splits, trained)
    teacher = networks.stored_network(run_key(spec.teacher), SMALL, splits, trained)
    clean, views, labels = sharpness._images(spec.data, spec.sizes, networks.data.fingerprint(spec.data), 1.0, 1)
    assert len(clean) == len(views) == len(labels) == 60 and not torch.equal(clean, views)
    own = 0.0
    for name, x in (("clean", clean), ("views", views)):
        z, t = student(x).double(), teacher(x).double()
        hard = -z.log_softmax(1)[torch.arange(60), labels].mean().item()
        p, q = (t / 4).softmax(1), (z / 4).softmax(1)
        soft = 16 * (p * (p / q).log()).sum(1).mean().item()
        assert found[f"{name}.loss"] == pytest.approx(hard, rel=1e-4)
        assert found[f"kd_{name}.loss"] == pytest.approx(soft, rel=1e-3)
        own += (hard + soft) / 2
    assert found["own.loss"] == pytest.approx(own, rel=0.2), "on weak views in place of images as they are"


def test_its_curvature_is_the_largest_one(trained, sharp):
    spec, found = sharp
    splits = networks.splits_of(spec)
    student = networks.stored_network(run_key(spec), spec, splits, trained).double().requires_grad_(True)
    clean, _, labels = sharpness._images(spec.data, spec.sizes, networks.data.fingerprint(spec.data), 1.0, 1)
    loss = sharpness.Objective.of(student, clean.double(), sharpness.sharpness.cross_entropy(labels), size=60)
    for adaptive, name in ((False, "eigenvalue"), (True, "adaptive_eigenvalue")):
        exact = largest_eigenvalue(loss, adaptive=adaptive, tolerance=1e-6, seed=3).value
        assert found[f"clean.{name}"] == pytest.approx(exact, rel=0.02)
        assert 2 ** found[f"clean.{name.replace('eigen', 'log2_eigen')}"] == pytest.approx(found[f"clean.{name}"])
    assert found["slice.5"] == pytest.approx(found["clean.loss"]), "the middle of the slice is the student itself"
    assert min(found["slice.0"], found["slice.10"]) > found["slice.5"]


def test_without_a_teacher_two_losses_are_left_out_and_methods_with_weights_are_refused(trained, sharp):
    alone = sharpness.measured(AT_REST, trained)
    assert {name.partition(".")[0] for name in alone} == {"clean", "views", "own", "slice"}
    assert {*alone} < {*sharp[1]}
    with pytest.raises(SpecError, match="of a student's weights alone, but 'ctkd' has weights of its own"):
        sharpness._own(STUDENT.replace(method="ctkd"), "", None, networks.splits_of(STUDENT), trained)
    with pytest.raises(SpecError, match="'simkd' predicts by others"):
        sharpness.measured(STUDENT.replace(method="simkd"), trained)


def test_processes_measure_what_this_one_does(trained):
    specs = [AT_REST, AT_REST.at_seed(2), AT_REST.at_seed(3)]
    lab.run(specs, workers=0, progress=False, store=trained, require_teacher=False)
    found = []
    for workers in (2, 0):
        for spec in specs:
            trained.keep_measured(run_key(spec), {})
        lab.measure(specs, names=["sharpness"], store=trained, workers=workers, progress=False)
        found.append([trained.measured(run_key(spec)) for spec in specs])
    assert found[0] == found[1] and len({numbers["sharpness.clean.loss"] for numbers in found[0]}) == 3


def test_larger_sets_are_looked_at_by_a_quarter_and_no_more_than_four_shards():
    assert [sharpness._shards(images) for images in (40, 60, 320, 1000, 5000)] == [
        (1, 40), (1, 60), (1, 64), (4, 64), (4, 64)
    ]  # fmt: skip


def test_flatness_and_accuracy_over_arms_and_over_seeds():
    import pandas as pd

    column = flatness.CURVATURE
    table = pd.DataFrame(
        [
            {"seed": seed, "arm": arm, column: level + seed, "test_accuracy": 50 - level + by * seed}
            for arm, level, by in (("ce", 1, 1), ("kd", 2, 1), ("jda", 3, -1)) for seed in range(5)
        ]
    )  # fmt: skip
    assert flatness.across(table)[0] == 1, "the flatter arm is the better one"
    mean, low, high = flatness.within(table)
    assert mean == pytest.approx((-1 - 1 + 1) / 3) and low == pytest.approx(mean) == high, "no seed matters here"
    few = flatness.within(table[table["seed"] < 2])
    assert few[0] == pytest.approx(mean) and np.isnan(few[1:]).all()


def test_sam_is_the_same_student_at_twice_the_price():
    study = perspectives.study("sharpness", "quick")
    for name, plain in (("sam", "weak2"), ("jda sam", "jda")):
        spec = study.arms[name]
        assert spec.optimiser.rho == flatness.RHO and study.arms[plain].optimiser.rho == 0
        assert spec.replace(optimiser=study.arms[plain].optimiser) == study.arms[plain]


# ---- views -----------------------------------------------------------------------------------------------------------


def test_views_are_asked_of_the_teacher(trained):
    spec = STUDENT.replace(augmentation="invert", views=2, ratio=0.5)
    found, weak = views.measured(spec, trained), views.measured(STUDENT, trained)
    train = networks.splits_of(spec).train
    teacher = networks.stored_network(run_key(spec.teacher), SMALL, networks.splits_of(spec), trained)
    plain = teacher(train.normalise(train.images)).numpy()
    turned = teacher(train.normalise(255 - train.images)).numpy()
    by_hand = label_flip_rate(turned, train.labels.numpy(), plain)
    assert found["flips"] == pytest.approx(by_hand, abs=0.25), "there the view is shifted and mirrored as well"
    assert 0 <= weak["flips"] <= 1 and 0 < found["entropy"] < np.log(10) and 0 <= found["agreement"] <= 1
    assert found["plain_t_stddev"] == weak["plain_t_stddev"] > 0, "the originals are the same"
    assert found == views.measured(spec, trained) and views.measured(SMALL, trained) == {}


def test_the_halves_are_those_of_the_committed_table():
    import pandas as pd

    from kdlab.paths import CHECKOUT

    table = pd.read_csv(CHECKOUT / "figures" / "good.csv", index_col="augmentation")
    assert table["t_stddev"].is_monotonic_increasing and list(table.index) == [
        *good_augmentation.GOOD, *good_augmentation.OTHERS
    ]  # fmt: skip
    assert set(good_augmentation.augmented(perspectives.profile("quick"))) == set(table.index)


def test_ranks_and_what_all_predictors_say_together():
    import pandas as pd

    arms = (*good_augmentation.GOOD, *good_augmentation.OTHERS)
    draw = np.random.default_rng(0)
    rows = [
        {"arm": arm, "seed": seed, "views.t_stddev": place, "views.flips": other, "views.agreement": draw.random(),
         "views.entropy": draw.random()}
        for seed in range(3) for place, (arm, other) in enumerate(zip(arms, draw.permutation(14), strict=True))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["views.flips"] = table.groupby("arm")["views.flips"].transform("first")
    table["test_accuracy"] = 80 - table["views.t_stddev"] + 3 * table["views.flips"]
    table["test_nll"] = 1.0
    assert good_augmentation.ranks(table)["spearman"].nunique() == 1
    alone = good_augmentation.ranks(table, "views.flips")["spearman"].mean()
    assert good_augmentation.together(table).mean() > max(0.97, alone)
    line = good_augmentation.summary(table)
    assert list(line.index) == list(arms) and line["residual"].abs().sum() > 0
    assert line["residual"].sum() == pytest.approx(0, abs=1e-9)
