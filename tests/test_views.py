"""Views of a step that turn, mix or pick; prepared teachers; what specs of this kind are refused."""

import pytest
import torch

from kdlab.augment import CropFlip
from kdlab.data import load
from kdlab.lab.keys import run_key
from kdlab.lab.validation import refusal
from kdlab.models import build, outputs
from kdlab.perspectives import profile, recipes
from kdlab.registry import catalogue
from kdlab.rng import generator
from kdlab.spec import Budget, Checkpoint, RunSpec
from kdlab.training import Arm, Layout, Views
from kdlab.training.layout import WEAK, ViewName

N = 32
TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(2, "steps", N), role="teacher")
KD = TEACHER.replace(role="student", teacher=TEACHER, method="kd")
CUTMIX = KD.replace(views=2, ratio=0.5, augmentation="cutmix")
PICK = KD.replace(views=2, ratio=0.5, augmentation="cutmix_pick")


@pytest.fixture(scope="module")
def train():
    return load("fashion", sizes=TEACHER.sizes).train


@pytest.fixture
def views(train):
    made = Views(train, 0, 0, N, {"t": build("resnet8_s2_w8", 10, 1, seed=9).eval().requires_grad_(False)})
    made.at(3)
    return made


def test_four_turns_of_one_crop(views):
    batch = views.batch(Layout("weak", (), 4, 0.0, "shared"), 0.0)
    whole = views.view(ViewName(WEAK, 0)).x
    for turn in range(4):
        rows = batch.variant == turn
        assert torch.equal(batch.x[rows], torch.rot90(whole, turn, (2, 3)))
        assert torch.equal(batch.origin[rows], torch.arange(N)) and torch.equal(batch.label[rows], views.label)
    assert not batch.augmented.any() and batch.x.shape == (4 * N, 1, 28, 28)


def test_each_turn_with_a_crop_of_its_own(views):
    batch = views.batch(Layout("weak", (), 4, 0.0, "own"), 0.0)
    for turn in range(4):
        draw = CropFlip().draw(N, (1, 28, 28), generator(views.seed, f"weak/{turn}", 0, 3))
        crop = views.train.normalise(CropFlip().apply(views.raw, draw))
        assert torch.equal(batch.x[batch.variant == turn], torch.rot90(crop, turn, (2, 3)))


def test_identity_is_the_original_and_nothing_else(views):
    alone = views.batch(Layout("identity", (), 1, 1.0), 0.0)
    assert torch.equal(alone.x, views.clean()) and alone.augmented.all() and alone.partner is None
    half = views.batch(Layout("identity", (), 2, 0.5), 0.0)
    assert torch.equal(half.x[:N], views.view(ViewName(WEAK, 0)).x) and torch.equal(half.x[N:], views.clean())
    same, clean, own = (
        views.teacher_outputs("t", Layout("identity", (), 1, 1.0), mode).logits
        for mode in ("same", "clean", "independent")
    )
    assert torch.equal(same, clean) and torch.equal(same, own), "whatever the teacher sees, it is the original"


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
def test_mixed_rows_carry_partner_and_share(views, ratio):
    batch = views.batch(Layout("cutmix", (), 2, ratio), 0.0)
    mixed = batch.share < 1
    assert not (mixed & ~batch.augmented).any() and (batch.partner == batch.label)[~batch.augmented].all()
    assert mixed.sum() > 0.8 * 2 * N * ratio
    view = views.view(ViewName(("cutmix", ()), 1))
    own, other = views.view(ViewName(WEAK, 1)).x, views.view(ViewName(WEAK, 1)).x[view.partner]
    assert ((view.x == own) | (view.x == other)).all()  # cut from the cropped views, pixel by pixel
    rows = torch.nonzero(batch.augmented[N:]).flatten()
    assert torch.equal(batch.partner[N:][rows], views.label[view.partner[rows]])
    assert torch.equal(batch.share[N:][rows], view.share[rows])


def test_hard_labels_on_plain_rows_only(views):
    batch = views.batch(Layout("jda", (), 2, 0.25, hard_labels="plain"), 0.0)
    assert torch.equal(batch.hard_weight, (~batch.augmented).float()) and batch.augmented.sum() == N / 2
    assert views.batch(Layout("jda", (), 2, 0.25), 0.0).hard_weight is None


def entropies(model, x):
    p = model(x).softmax(1)
    return -(p * p.log()).sum(1)


def test_the_teacher_picks_what_it_is_least_sure_of(views):
    batch = views.batch(Layout("cutmix_pick", (), 2, 0.5, picker="t"), 0.0)
    candidates = [views._make(ViewName(("cutmix_pick", ()), 1), prefix) for prefix in ("", "pick/")]
    x = torch.cat([c.x for c in candidates])
    with torch.no_grad():
        scores = torch.cat([entropies(views.teachers["t"], c.x) for c in candidates])
    kept = scores.argsort(descending=True)[:N].sort().values
    assert torch.equal(batch.x[N:].flatten(1).sum(1).sort().values, x[kept].flatten(1).sum(1).sort().values)
    for row, origin, label in zip(batch.x[N:], batch.origin[N:], batch.label[N:], strict=True):
        found = next(k for k in kept.tolist() if torch.equal(x[k], row))
        assert origin == found % N and label == views.label[origin]
    taught = views.teacher_outputs("t", Layout("cutmix_pick", (), 2, 0.5, picker="t"), "same")
    torch.testing.assert_close(taught.logits[N:], outputs(views.teachers["t"], batch.x[N:]).logits)


def test_each_student_picks_for_itself_and_keeps_its_statistics(views):
    arms = [Arm(key, PICK.replace(augmentation_options={"by": "student"}), "t", 2).build(views, 10, 1) for key in "ab"]
    with torch.no_grad():
        arms[1].student.fc.weight.mul_(3.0).add_(torch.linspace(-1, 1, 10)[:, None])
    before = [{k: v.clone() for k, v in arm.student.state_dict().items()} for arm in arms]
    views.at(0)
    first, second = (views.batch(arm.layout, 0.0) for arm in arms)
    assert not torch.equal(first.origin[N:], second.origin[N:]) and torch.equal(first.x[:N], second.x[:N])
    for arm, state in zip(arms, before, strict=True):
        assert arm.student.training and all(torch.equal(v, state[k]) for k, v in arm.student.state_dict().items())


@pytest.mark.parametrize(
    ("spec", "rows"),
    [(CUTMIX, 2 * N), (PICK, 4 * N), (PICK.replace(ratio=1.0), 6 * N), (KD.replace(views=3, teacher_view="clean"), N),
     (PICK.replace(augmentation_options={"by": "student"}), 2 * N)],
)  # fmt: skip
def test_what_the_teacher_is_asked_is_counted(views, spec, rows):
    asked = []
    arm = Arm("a", spec, "t", 1).build(views, 10, 1)
    stem = views._frozen_teacher("t", views.train.normalise(views.raw)).network.conv1
    stem.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    asked.clear()
    views.at(0)
    arm.train_step()
    assert arm.teacher_forwards == rows == sum(asked)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (CUTMIX, None),
        (CUTMIX.replace(method="dkd"), "needs one class a row"),
        (CUTMIX.replace(method="lskd", method_options={"base": "dkd"}), "needs one class a row"),
        (CUTMIX.replace(method="dkd", ratio=0.0), None),
        (CUTMIX.replace(teacher_view="clean"), "must see the same mixed view"),
        (PICK.replace(ratio=0.25), "picks rows of whole views"),
        (PICK.replace(teacher=None, method="ce"), "picks by the teacher"),
        (PICK.replace(teacher=None, method="ce", augmentation_options={"by": "student"}), None),
        (KD.replace(method="sskd", views=4), "'sskd_head' trains"),
        (KD.replace(method="sskd", views=2), "takes views=4 and ratio=0"),
        (KD.replace(method="hsakd", views=4, teacher_view="clean"), "compares turns with turns"),
        (KD.replace(method="ft"), "'ft_paraphraser' trains"),
        (KD.replace(method="ft", teacher=Checkpoint("t.pt", "0" * 64, "resnet8_s2_w4")), "must be a RunSpec"),
        (KD.replace(method="ft", teacher=KD.replace(method="ft_paraphraser")), None),
        (KD.replace(method="ft_paraphraser", model="resnet8_s2_w8"), "must be the teacher's 'resnet8_s2_w4'"),
        (KD.replace(model_options={"taps": ["layer1"]}), "shows its stages by itself"),
        (KD.replace(model_options={"width": 3}), "option of model"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(spec, said):
    reason = refusal(spec)
    assert (reason is None) if said is None else (said in reason)


METHODS = catalogue("losses")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs_only_where_its_needs_are_met(name):
    """Every registered method can run as ``recipes.method`` has it, and not without what it needs."""
    needs = METHODS[name].needs
    spec = recipes.method(profile("smoke"), name)
    good = recipes.weak2(spec) if "pairs" in needs else spec
    assert refusal(good) is None
    if "teacher" in needs:
        assert "needs a teacher" in refusal(good.replace(teacher=None))
    if "pairs" in needs:
        assert "compares two views" in refusal(spec)
    if "turns" in needs:
        assert "makes its own views" in refusal(good.replace(views=2))
    elif "labels" in needs:
        assert "one class a row" in refusal(good.replace(views=2, augmentation="cutmix", ratio=0.5))
    if "prepared" in needs:
        assert "must be a RunSpec with that method" in refusal(good.replace(teacher=good.teacher.teacher))


def test_a_wrapper_takes_on_the_needs_of_what_it_wraps():
    lskd = KD.replace(method="lskd", method_options={"base": "mlld"})
    assert "compares two views" in refusal(lskd) and refusal(lskd.replace(views=2)) is None
    assert "Did you mean 'dkd'" in refusal(lskd.replace(method_options={"base": "dkdd"}))
    keys = {run_key(KD.replace(method="lskd", method_options={"base": base})) for base in ("kd", "dkd")}
    assert len(keys) == 2 and run_key(KD.replace(method="lskd")) in keys
