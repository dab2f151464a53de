"""A teacher is scored before it teaches: right numbers, weak ones refused or held back, classes put in order."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import binom
from stores import signed
from torch import nn

from kdlab import data, lab, metrics, perspectives
from kdlab.cli import main
from kdlab.errors import SpecError
from kdlab.lab import networks, query, teachers
from kdlab.lab.keys import run_key
from kdlab.lab.planned import planned
from kdlab.lab.store import Store
from kdlab.lab.teachers import PoorTeacher
from kdlab.lab.validation import check
from kdlab.models import build, heads, load_teacher
from kdlab.spec import Budget, Checkpoint, Optimiser, RunSpec
from kdlab.training import predict

GOOD = RunSpec(sizes=(320, 200, 100), model="resnet8_s2_w4", budget=Budget(40, "steps", 32), role="teacher")
POOR = GOOD.replace(budget=Budget(2, "steps", 32), seed=1)
STUDENT = GOOD.replace(method="kd", teacher=GOOD, budget=Budget(2, "steps", 32), role="student")
COLUMNS = ["teacher_val_accuracy", "teacher_val_nll", "teacher_val_ece"]


def run(*specs, **options):
    return lab.run(specs, **{"workers": 0, "progress": False} | options)


def by_hand(logits, labels):
    """Accuracy in percent, mean negative log-likelihood, and calibration error over ten bins, in plain loops."""
    right, nll, bins = 0, 0.0, [[0, 0.0] for _ in range(10)]
    for z, y in zip(logits.astype(np.float64), labels, strict=True):
        p = np.exp(z - z.max())
        p /= p.sum()
        hit = int(p.argmax() == y)
        right, nll = right + hit, nll - np.log(p[y])
        place = next(b for b in range(10) if p.max() <= (b + 1) / 10 + 1e-15)
        bins[place][0] += hit
        bins[place][1] += p.max()
    return [100 * right / len(labels), nll / len(labels), sum(abs(h - c) for h, c in bins) / len(labels)]


def checkpoint(path, arch="resnet8_s2_w4", **fields):
    return Checkpoint(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), arch, **fields)


@pytest.fixture
def good_file(tmp_path):
    """The weights of a teacher that is above chance, as a file."""
    run(GOOD)
    save_file(Store().weights(run_key(GOOD)), path := tmp_path / "good.safetensors")
    return path


def rewritten(path, change):
    """A copy of a file of weights, after a change of its tensors."""
    state = {name: value.clone() for name, value in Store().weights(run_key(GOOD)).items()}
    change(state)
    save_file(state, path)
    return path


def permuted(state, order):
    for name in ("fc.weight", "fc.bias"):
        state[name] = state[name][order].clone()


def folder(root, names, per_class=60):
    """Bright and dark images, so that a few steps tell the classes apart: ``names[0]`` is the bright class."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for k in range(per_class):
            noise = np.random.default_rng(per_class * number + k).integers(0, 90, (16, 16))
            Image.fromarray((noise + 160 * (number == 0)).astype(np.uint8)).save(root / name / f"{k:03d}.png")
    return f"folder:{root}"


def little(name, **fields):
    """A run on one of the small folders; a teacher, unless it is given one."""
    usual = {"budget": Budget(20, "steps", 32), "role": "student" if "teacher" in fields else "teacher"}
    return GOOD.replace(data=name, sizes=None, **usual | fields)


# --- scores -------------------------------------------------------------------------------------------------------


def test_a_student_s_row_has_its_teacher_s_scores():
    table = run(GOOD, STUDENT)
    teacher, student = table.loc[run_key(GOOD)], table.loc[run_key(STUDENT)]
    assert np.isnan([teacher[c] for c in COLUMNS]).all()
    assert [student[c] for c in COLUMNS] == [teacher[c.removeprefix("teacher_")] for c in COLUMNS]
    labels = data.load("fashion", sizes=GOOD.sizes).val.labels.numpy()
    np.testing.assert_allclose(
        [student[c] for c in COLUMNS], by_hand(Store().logits(run_key(GOOD))["val"], labels), rtol=1e-9
    )
    assert {c: student[c] for c in COLUMNS} == {c: Store().read(run_key(STUDENT), "result")[c] for c in COLUMNS}


@pytest.mark.parametrize("kind", ["file", "other sizes"])
def test_other_teachers_are_scored_on_the_student_s_val_images(good_file, kind):
    teacher, sizes = (checkpoint(good_file), GOOD.sizes) if kind == "file" else (GOOD, (640, 100, 100))
    row = run(STUDENT.replace(teacher=teacher, sizes=sizes)).iloc[0]
    splits = data.load("fashion", sizes=sizes)
    logits = predict(load_teacher("resnet8_s2_w4", good_file, 10, 1), splits.val)
    expected = by_hand(logits, splits.val.labels.numpy())
    np.testing.assert_allclose([row[c] for c in COLUMNS], expected, rtol=1e-6)
    if kind == "other sizes":
        assert row.teacher_val_nll != run(GOOD).iloc[0].val_nll


def test_a_borrowed_classifier_is_not_the_teacher_s_own():
    """SimKD's student answers through its teacher's classifier, but teaches without it: that is what is scored."""
    taught = STUDENT.replace(teacher=STUDENT.replace(method="simkd", budget=Budget(40, "steps", 32)))
    score = networks.score  # above chance by its own row, at chance by what it says when it teaches
    assert metrics.chance_p(round(2 * run(taught.teacher).iloc[0].val_accuracy), 200, 0.1) < 0.01
    assert "is not above chance" in teachers.weakness(score(planned(taught), Store()))
    with pytest.raises(PoorTeacher):
        run(taught)
    said = run(taught, require_teacher=False).teacher_val_accuracy.item()
    assert said == score(planned(taught), Store())["val_accuracy"] != run(taught.teacher).val_accuracy.item()


def test_scores_of_files_are_kept_and_a_damaged_one_is_found_again(good_file, monkeypatch):
    spec, store = STUDENT.replace(teacher=checkpoint(good_file)), Store()
    first = networks.score(planned(spec), store)
    [kept] = (store.root / teachers.FOLDER).iterdir()
    assert json.loads(kept.read_text())["document"] == first and kept.suffix == ".json"
    for damaged in (kept.read_bytes()[:20], b"", b"[]", b"{}", b"\xff\xfe"):
        kept.write_bytes(damaged)
        assert teachers.known(planned(spec), store) is None and networks.score(planned(spec), store) == first
    monkeypatch.setattr(networks, "teacher_network", None)
    assert networks.score(planned(spec), store) == first
    assert networks.score(planned(spec.replace(seed=5, budget=Budget(9))), store) == first
    for other in (spec.replace(sizes=(320, 100, 100)), spec.replace(teacher=checkpoint(good_file, "resnet8_s2_w8"))):
        assert teachers.known(planned(other), store) is None


def test_runs_from_before_read_their_teacher_s_run():
    fresh = run(GOOD, STUDENT, STUDENT.replace(sizes=(320, 100, 100)))
    store = Store()
    for name in fresh.index:
        path = store.root / name / "result.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in COLUMNS}))
        signed(path.parent)
    old = run(GOOD, STUDENT, STUDENT.replace(sizes=(320, 100, 100)))
    assert old.loc[run_key(STUDENT), COLUMNS].equals(fresh.loc[run_key(STUDENT), COLUMNS])
    assert old[COLUMNS].iloc[[0, 2]].isna().all(axis=None), "no teacher, and one scored on other images"


# --- what is above chance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "classes"), [(200, 10), (14, 2), (27, 3)])
def test_the_bound_is_the_binomial_one(images, classes):
    labels = np.arange(images) % classes
    chance = np.bincount(labels).max() / images
    bound = next(k for k in range(images + 1) if binom.sf(k - 1, images, chance) < 0.01)

    def why(right):
        answers = np.where(np.arange(images) < right, labels, (labels + 1) % classes)
        return teachers.weakness(teachers.measure(np.eye(classes)[answers], labels, [*"abcdefghij"[:classes]]))

    assert why(bound) == "" == why(images)
    said = why(bound - 1)
    p = f"{binom.sf(bound - 2, images, chance):.2g}"
    accuracy = f"{100 * (bound - 1) / images:.1f} %"
    assert f"right on {bound - 1} of {images} val images ({accuracy}), which is not above chance" in said
    assert f"({100 * chance:.1f} %, the largest class's share; one-sided binomial p = {p}, needed below 0.01)" in said


def test_the_largest_class_is_what_chance_can_do():
    labels = np.array([0] * 90 + [1] * 10)
    always = np.tile([1.0, 0.0], (100, 1))
    assert "right on 90 of 100 val images (90.0 %), which is not above chance (90.0 %" in teachers.weakness(
        teachers.measure(always, labels, "ab")
    )
    few = np.array([0] * 10 + [1])  # 10/11 guessed right eleven times: 35 %
    assert teachers.weakness(teachers.measure(np.eye(2)[few], few, "ab")) == "", "none could do better"
    assert teachers.weakness(teachers.measure(np.eye(2)[0 * few], few, "ab"))


def test_outputs_that_are_not_finite_have_no_score():
    logits = np.eye(4)[np.arange(40) % 4]
    logits[3, 1] = np.inf
    score = teachers.measure(logits, np.arange(40) % 4, "abcd")
    assert teachers.weakness(score) == "gives outputs that are not finite"
    assert np.isnan([*teachers.columns(score).values()]).all()


# --- checkpoints that are refused ---------------------------------------------------------------------------------


def refused(teacher, said, **options):
    """Refused before anything trains, in one sentence, whatever is asked of teachers that are trained here."""
    before = Store().keys()
    for required in (True, False):
        with pytest.raises(SpecError, match=said) as caught:
            run(POOR, STUDENT.replace(teacher=teacher, **options), require_teacher=required)
        assert "\n" not in str(caught.value) and Store().keys() == before
    return str(caught.value)


def test_a_file_that_has_learnt_nothing_is_refused(tmp_path):
    save_file(build("resnet8_s2_w4", 10, 1, seed=3).state_dict(), path := tmp_path / "new.safetensors")
    said = refused(checkpoint(path), r"new.safetensors is right on \d+ of 200 val images .* not above chance \(10.0 %")
    assert "--teacher-classes" not in said


def test_a_file_with_numbers_that_are_not_finite_is_refused(good_file, tmp_path):
    def spoil(state):
        state["fc.weight"][0, 0] = float("nan")

    path = rewritten(tmp_path / "nan.safetensors", spoil)
    refused(
        checkpoint(path), r"nan.safetensors has numbers that are not finite \(nan or inf\) in fc.weight \(1 of 160\)"
    )


def test_a_permuted_head_is_refused_and_put_in_order(good_file, tmp_path):
    classes = data.describe("fashion").classes
    order = [3, 0, 1, 2, 5, 6, 4, 9, 7, 8]
    path = rewritten(tmp_path / "permuted.safetensors", lambda state: permuted(state, order))
    names = tuple(classes[k] for k in order)
    refused(checkpoint(path), "not above chance")
    splits = data.load("fashion", sizes=GOOD.sizes)
    pair = checkpoint(good_file), checkpoint(path, classes=names)
    own, mended = (networks.teacher_network(teacher, "", splits, Store()) for teacher in pair)
    assert torch.equal(own.fc.weight, mended.fc.weight) and torch.equal(own.fc.bias, mended.fc.bias)
    np.testing.assert_array_equal(predict(own, splits.val), predict(mended, splits.val))
    for method in ("kd", "simkd"):  # one that reads logits and one that reads the classifier
        student = STUDENT.replace(method=method)
        plain, put = (run(student.replace(teacher=teacher)).iloc[0] for teacher in pair)
        assert plain.name != put.name
        assert plain[[*COLUMNS, "val_nll", "agreement"]].equals(put[[*COLUMNS, "val_nll", "agreement"]])


def test_an_order_is_suggested_where_it_is_plain():
    labels, order = np.arange(60) % 5, [2, 0, 1, 4, 3]
    head = np.argsort(order)  # column j answers class order[j]
    assert teachers.measure(np.eye(5)[head[labels]], labels, "abcde")["order"] == list("cabed")
    assert teachers.measure(np.eye(5)[labels], labels, "abcde")["order"] == []
    doubtful = np.where((labels == 2) & (np.arange(60) % 2 == 0), 3, head[labels])  # half of one class go astray
    assert teachers.measure(np.eye(5)[doubtful], labels, "abcde")["order"] == []
    few = np.arange(5)  # the best of 120 orders is right on five images
    assert teachers.measure(np.eye(5)[head[few]], few, "abcde")["order"] == []


class Sum(nn.Module):
    """A model whose last linear layer does not decide the logits alone."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 3)
        self.two = nn.Linear(4, 3)

    def forward(self, x):
        return self.one(x) + self.two(x)


def test_an_order_is_followed_by_the_logits_or_refused():
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    plain = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3, bias=False))
    before = plain(x)
    after = heads.in_order(plain, ("c", "a", "b"), ("a", "b", "c"), x)(x)
    assert torch.equal(after, before[:, [1, 2, 0]])
    image = x.view(5, 4, 1, 1)
    points = nn.Sequential(nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert torch.allclose(points(image)[:, [1, 2, 0]], heads.in_order(points, "cab", "abc", image)(image))
    assert heads.in_order(nn.ReLU(), (), "abc", x) is not None
    for model in (Sum(), nn.ReLU()):
        with pytest.raises(SpecError, match="do not come from a last layer with a row for each of 3 classes"):
            heads.in_order(model, "cab", "abc", x[:, :3] if isinstance(model, nn.ReLU) else x)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Balken,Ague", r"must be one of \[Auge, Balken\], but got 'Ague'. Did you mean 'Auge'\?"),
        ("Auge", r"must name each of the 2 classes of 'folder.*' once \(Auge, Balken\), but got Auge"),
        ("Auge,Auge", "must name each of the 2 classes .* but got Auge, Auge"),
        ("Auge,Balken,Auge", "must name each of the 2 classes"),
    ],
)
def test_an_order_names_each_class_once(tmp_path, good_file, given, said):
    name = folder(tmp_path / "renamed", ("Auge", "Balken"), 12)
    order = heads.order_of(given, good_file, name)
    with pytest.raises(SpecError, match=said):
        check(little(name, method="kd", teacher=checkpoint(good_file, classes=order), budget=Budget(2, "steps", 8)))


# --- names of classes ---------------------------------------------------------------------------------------------


def test_a_run_on_other_names_does_not_teach(tmp_path):
    two, renamed = folder(tmp_path / "two", ("bar", "disc")), folder(tmp_path / "two_renamed", ("Balken", "Auge"))
    spec = little(renamed, method="kd", teacher=little(two))
    with pytest.raises(SpecError, match="class 0 of the teacher's data .*two' is 'bar', of the student's .* is 'Auge'"):
        run(spec)
    assert not Store().keys()
    again = folder(tmp_path / "again", ("bar", "disc"), 40)
    assert run(spec.replace(data=again)).teacher_val_accuracy.item() == 100
    colour = tmp_path / "colour"
    for name in ("bar", "disc"):
        (colour / name).mkdir(parents=True)
        for k in range(12):
            Image.new("RGB", (16, 16), (k, 0, len(name))).save(colour / name / f"{k}.png")
    with pytest.raises(SpecError, match="teacher's data .*two' has 1 channels, the student's .*colour' has 3"):
        check(spec.replace(data=f"folder:{colour}", budget=Budget(1, "steps", 8)))


def test_a_file_that_names_its_classes_is_held_to_them(tmp_path):
    two, renamed = folder(tmp_path / "two", ("disc", "bar")), folder(tmp_path / "two_renamed", ("Auge", "Balken"))
    run(little(two))
    state = Store().weights(run_key(little(two)))
    files = {names: tmp_path / f"of-{'-'.join(names)}.pt" for names in (("bar", "disc"), ("disc", "bar"), ())}
    for names, path in files.items():
        torch.save({"state_dict": state} | ({"classes": list(names)} if names else {}), path)
    path = files["bar", "disc"]
    own, other = (little(name, method="kd", teacher=checkpoint(path)) for name in (two, renamed))
    assert run(own).teacher_val_accuracy.item() == 100
    with pytest.raises(SpecError, match="has the classes bar, disc, but .* has Auge, Balken; say which is which by"):
        run(other)
    order = heads.order_of("disc=Auge, bar = Balken", path, renamed)
    assert order == ("Balken", "Auge")
    assert run(other.replace(teacher=checkpoint(path, classes=order))).teacher_val_accuracy.item() == 100
    with pytest.raises(SpecError, match='the same in another order; give --teacher-classes "disc,bar"'):
        run(own.replace(teacher=checkpoint(files["disc", "bar"])))
    for text, said in (
        ("disk=Auge,bar=Balken", "left of '=' must be one of .* but got 'disk'. Did you mean 'disc'"),
        ("disc=Auge,Balken", "must be all names or all old=new"),
        ("disc=Auge,disc=Balken", "must be all names or all old=new, each old once"),
    ):
        with pytest.raises(SpecError, match=said):
            heads.order_of(text, path, renamed)
    with pytest.raises(SpecError, match="does not name its classes; give the names of .* in the order of the file's"):
        heads.order_of("disc=Auge,bar=Balken", files[()], renamed)


# --- teachers that are trained here -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_students_of_a_poor_teacher_are_not_trained_and_others_are(workers):
    taught = STUDENT.replace(teacher=POOR, seed=1)
    in_turn = taught.replace(teacher=taught, seed=2)
    clean = STUDENT.replace(teacher_view="clean")
    seen = []
    with pytest.raises(PoorTeacher) as caught:
        run(taught, STUDENT, in_turn, taught.replace(views=2), clean, workers=workers, after=seen.append)
    finished = {run_key(spec) for spec in (POOR, GOOD, STUDENT, clean)}
    assert {*Store().keys()} == finished == seen[-1]
    said = str(caught.value)
    assert f"on 'fashion' the teacher resnet8_s2_w4 (run {run_key(POOR)[:8]}, seed 1) is right on " in said
    assert said.endswith(
        "4 runs were not trained. Give the teacher more epochs (--teacher-epochs), take fewer classes, or look at the "
        "data: `kdlab data fashion`."
    )
    assert list(caught.value.table.index) == [run_key(POOR), run_key(STUDENT), run_key(clean)]
    assert len(run(taught, in_turn, require_teacher=False)) == 2 and {*Store().keys()} > finished


def test_a_teacher_that_diverged_does_not_teach():
    wild = GOOD.replace(optimiser=Optimiser(lr=1e6, warmup=0.0))
    with pytest.raises(PoorTeacher, match="diverged at step .*: the run that learns from it was not trained"):
        run(STUDENT.replace(teacher=wild))
    assert Store().keys() == [run_key(wild)] and run(wild).diverged.item()


def test_the_smoke_profile_alone_lets_them_teach():
    asked = {name: perspectives.profile(name).requires_teacher for name in perspectives.PROFILES}
    assert asked == dict.fromkeys(perspectives.PROFILES, True) | {"smoke": False}


def kdlab(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["kdlab", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code or 0


def test_the_command_line_says_which_teacher_and_why(monkeypatch, capsys, tmp_path):
    small = perspectives.PROFILES["smoke"].replace(name="quick", seeds=2)
    small = small.replace(teacher_budget=Budget(2, "steps", 30), budget=Budget(2, "steps", 30))
    monkeypatch.setitem(perspectives.PROFILES, "quick", small)
    assert kdlab(monkeypatch, "run", "kd", "--profile", "quick") == 2
    out, err = capsys.readouterr()
    assert err.startswith("kdlab: on 'fashion' the teacher resnet8_s2_w8 (run ") and err.count("\n") == 1
    assert "resnet8_s2_w8" in out and " ce " in out and " kd " not in out, "the teacher's row is printed"
    assert kdlab(monkeypatch, "run", "kd", "--profile", "smoke", "--epochs", "1") == 0
    out, err = capsys.readouterr()
    assert "teacher_val_accuracy" in out and err == ""


def test_a_file_s_order_on_the_command_line(monkeypatch, capsys, tmp_path):
    two = folder(tmp_path / "two", ("bar", "disc"))
    renamed = folder(tmp_path / "two_renamed", ("Balken", "Auge"))
    run(little(two))
    save_file(Store().weights(run_key(little(two))), path := tmp_path / "two.safetensors")
    words = ["run", "kd", "--profile", "smoke", "--data", renamed, "--teacher", path, "--arch", "resnet8_s2_w4"]
    assert kdlab(monkeypatch, *words) == 2
    assert 'give --teacher-classes "Balken,Auge"' in capsys.readouterr().err
    assert kdlab(monkeypatch, *words, "--teacher-classes", "Balken,Auge") == 0
    out = capsys.readouterr().out
    assert "the teacher's checkpoint is scored on val before anything trains" in out
    [row] = query.select(lab.table(), ["method=kd"]).itertuples()
    assert row.teacher_val_accuracy == 100 and row.teacher_val_ece < 0.5
    assert kdlab(monkeypatch, "run", "kd", "--profile", "smoke", "--teacher-classes", "a,b") == 2
    assert "--teacher-classes 'a,b' is for a teacher from a file" in capsys.readouterr().err


def test_the_summary_has_the_teacher_beside_the_student():
    little_budget = {"budget": Budget(2, "steps", 30), "teacher_budget": Budget(30, "steps", 30)}
    study = perspectives.study("teacher_augmentation", "smoke", **little_budget)
    table = study.run(progress=False)
    summary = study.summary(table)
    for arm, runs in table.groupby("arm", sort=False):
        np.testing.assert_array_equal(summary.loc[arm, "teacher_val_accuracy"], runs["teacher_val_accuracy"].mean())
    assert summary["teacher_val_accuracy"].notna().any()
