"""Training: the same bits alone, in company and after a stop; streams that do not move; failures that stay alone."""

import dataclasses
import math
import signal

import pytest
import torch

from kdlab import training
from kdlab.augment import CropFlip
from kdlab.data import load
from kdlab.lab.store import Store
from kdlab.losses.kd import KD
from kdlab.models import build, outputs
from kdlab.rng import generator
from kdlab.spec import Budget, Optimiser, RunSpec
from kdlab.training import Arm, Layout, Stopped, Views, slot_shares
from kdlab.training.layout import ViewName
from kdlab.training.runtime import deterministic

ORIGINALS = 32
BASE = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(12, "steps", ORIGINALS))
KD_JDA = BASE.replace(method="kd", views=2, augmentation="jda", ratio=0.5)
ARMS = {
    "ce": BASE,
    "weak2": BASE.replace(method="kd", views=2),
    "jda": KD_JDA,
    "jda 1/4": KD_JDA.replace(ratio=0.25),
    "fitnet": KD_JDA.replace(method="fitnet"),  # its regressor has weights and batch norm of its own
    "ccd, clean": KD_JDA.replace(method="ccd", teacher_view="clean"),
    "ccd, shuffled": KD_JDA.replace(method="ccd", method_options={"weighting": "shuffled"}),  # draws at each step
    "cutmix": KD_JDA.replace(augmentation="cutmix", ratio=0.25, hard_labels="plain"),
    "picked": KD_JDA.replace(augmentation="cutmix_pick", augmentation_options={"by": "student"}),
    "picked by teacher": KD_JDA.replace(augmentation="cutmix_pick"),
    "crd": KD_JDA.replace(method="crd"),  # a memory
    "ctkd": KD_JDA.replace(method="ctkd"),  # a learned temperature
    "short": KD_JDA.replace(budget=Budget(5, "steps", ORIGINALS)),
    "wide": KD_JDA.replace(model="resnet8_s2_w8", method="fitnet"),  # lies in memory channels last
    "wide, bfloat16": KD_JDA.replace(model="resnet8_s2_w8", precision="bfloat16"),
    "sam": KD_JDA.replace(optimiser=Optimiser(rho=0.1)),  # two passes a step
    "plain sgd": BASE.replace(optimiser=Optimiser(momentum=0.0)),
}


@pytest.fixture(scope="module")
def splits():
    return load("fashion", sizes=BASE.sizes)


@pytest.fixture
def teacher():
    return build("resnet8_s2_w8", 10, 1, seed=9).eval().requires_grad_(False)


def make_views(splits, teacher, seed=0, replicate=0):
    return Views(splits.train, seed, replicate, ORIGINALS, {"t": teacher})


def train(splits, teacher, specs, beat=lambda arms: False, store=None):
    """Train specs as one cohort. Returns results, and states at the end, by name; checkpoints go through ``store``."""
    results, states = {}, {}

    def restore(arm):
        if store and (saved := store.load_checkpoint(arm.key)):
            arm.load_state(*saved)

    def save(arm):
        store.save_checkpoint(arm.key, *arm.state())

    def finish(arm, result):
        results[arm.key], states[arm.key] = result, arm.state()[0]

    arms = [Arm(name, s, None if s.method == "ce" else "t", s.budget.steps(320, s.views)) for name, s in specs.items()]
    views = make_views(splits, teacher)
    training.train(arms, splits, views, restore=restore, save=save, finish=finish, beat=beat)
    return results, states


def assert_same_bits(first, second):
    """Two results and final states (weights, buffers, momentum) are the same to the last bit; seconds may differ."""
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
    for name, result in first[0].items():
        again = second[0][name]
        assert result.numbers | {"seconds": 0} == again.numbers | {"seconds": 0}
        assert result.curve == again.curve
        assert all((result.logits[split] == again.logits[split]).all() for split in ("val", "test"))
        state, other = first[1][name], second[1][name]
        assert state.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in state.items())


@pytest.fixture(scope="module")
def together(splits):
    """All arms trained in one cohort without a stop."""
    return train(splits, build("resnet8_s2_w8", 10, 1, seed=9).eval(), ARMS)


# --- the same bits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARMS)
def test_alone_is_as_in_company(splits, teacher, together, name):
    alone = train(splits, teacher, {name: ARMS[name]})
    assert_same_bits(alone, tuple({name: part[name]} for part in together))
    assert any(k.startswith("momentum/") and v.any() for k, v in alone[1][name].items()) == (name != "plain sgd")


@pytest.mark.parametrize("stop_at", [1, 3, 10, 11])  # 10 steps are an epoch
def test_after_a_stop_as_without(splits, teacher, together, tmp_path, stop_at):
    store, specs = (
        Store(tmp_path),
        {n: ARMS[n] for n in ("jda", "fitnet", "picked", "crd", "ctkd", "short", "wide", "sam", "plain sgd")},
    )
    with pytest.raises(Stopped, match=f"stopped at step {stop_at - 1}"):
        train(splits, teacher, specs, beat=lambda arms: max(a.step for a in arms) == stop_at, store=store)
    unfinished = {n: s for n, s in specs.items() if store.checkpoint_path(n).exists()}
    assert len(unfinished) == len(specs) - (stop_at >= 5)
    done = train(splits, teacher, unfinished, store=store)
    assert_same_bits(done, tuple({n: part[n] for n in unfinished} for part in together))


class Interrupted(KD):
    """KD that is struck by Ctrl-C at the worst moment: the weights have moved, the step is not counted yet."""

    strikes = 0

    def after_step(self, batch):
        if batch.step == 3 and Interrupted.strikes:
            Interrupted.strikes -= 1
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_waits_for_the_end_of_the_step(splits, teacher, together, tmp_path):
    store, specs = Store(tmp_path), {"jda": KD_JDA.replace(method="test_training:Interrupted")}
    Interrupted.strikes = 1
    with pytest.raises(KeyboardInterrupt):
        train(splits, teacher, specs, store=store)
    assert store.load_checkpoint("jda")[1]["step"] == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same_bits(train(splits, teacher, specs, store=store), tuple({"jda": part["jda"]} for part in together))


def test_threads_are_given_back_and_the_global_generator_is_left_alone(splits, teacher):
    threads, before = torch.get_num_threads(), torch.random.get_rng_state()
    train(splits, teacher, {"short": ARMS["short"]})
    assert torch.get_num_threads() == threads and torch.equal(torch.random.get_rng_state(), before)


# --- streams that do not move -------------------------------------------------------------------------------------


def test_augmentation_and_method_move_neither_weights_nor_order(splits, teacher):
    views = make_views(splits, teacher)
    specs = [
        KD_JDA,
        KD_JDA.replace(augmentation="invert", augmentation_options={}),
        BASE.replace(views=2),
        ARMS["fitnet"],
    ]
    arms = [Arm("", s, "t", 12).build(views, 10, 1) for s in specs]
    for step in (0, 7, 10):
        views.at(step)
        batches = [views.batch(arm.layout, 0.0) for arm in arms]
        for arm, batch in zip(arms, batches, strict=True):
            assert torch.equal(batch.index, batches[0].index) and torch.equal(batch.label, batches[0].label)
            assert torch.equal(batch.x[:ORIGINALS], batches[0].x[:ORIGINALS])  # the first, weak view
            weights, same = arm.student.state_dict(), arms[0].student.state_dict()
            assert all(torch.equal(v, same[k]) for k, v in weights.items())


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own(splits, teacher):
    views, orders = make_views(splits, teacher), []
    for epoch in range(2):
        seen = []
        for step in range(10):
            views.at(10 * epoch + step)
            assert (views.epoch, views.step) == (epoch, step)
            seen += views.index.tolist()
        assert sorted(seen) == list(range(320))
        orders.append(seen)
    other = make_views(splits, teacher, seed=1), make_views(splits, teacher, replicate=1)
    for one in other:
        one.at(0)
    firsts = [orders[0][:ORIGINALS], orders[1][:ORIGINALS], *(v.index.tolist() for v in other)]
    assert len(set(map(tuple, firsts))) == 4


def test_the_rows_of_a_batch_say_where_they_come_from(splits, teacher):
    views = make_views(splits, teacher)
    views.at(3)
    batch = views.batch(Layout.of(KD_JDA.replace(views=3, ratio=0.5)), 0.25)
    assert batch.x.shape == (3 * ORIGINALS, 1, 28, 28) and batch.progress == 0.25
    assert batch.origin.tolist() == list(range(ORIGINALS)) * 3
    assert batch.view.tolist() == [0] * ORIGINALS + [1] * ORIGINALS + [2] * ORIGINALS
    assert torch.equal(batch.label, splits.train.labels[batch.index])
    assert torch.equal(batch.index[batch.origin == 5], views.index[5].repeat(3))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_larger_share_keeps_every_augmented_row_of_a_smaller_one(splits, teacher, number):
    views, smaller = make_views(splits, teacher), None
    views.at(2)
    for ratio in (0.125, 0.25, 0.5, 0.75, 0.875, 1.0):
        batch = views.batch(Layout.of(KD_JDA.replace(views=number, ratio=ratio)), 0.0)
        assert batch.augmented.sum() == pytest.approx(ratio * len(batch.augmented), abs=1)
        if smaller is not None:
            assert not (smaller.augmented & ~batch.augmented).any()
            same = smaller.augmented == batch.augmented
            assert torch.equal(smaller.x[same], batch.x[same])
        smaller = batch


@pytest.mark.parametrize(
    ("number", "ratio", "shares"),
    [
        (1, 0.5, [0.5]), (2, 0.0, [0, 0]), (2, 0.25, [0, 0.5]), (2, 0.5, [0, 1]), (2, 0.75, [0.5, 1]),
        (2, 1.0, [1, 1]), (4, 0.75, [0, 1, 1, 1]), (3, 0.5, [0, 1, 0.5]),
    ],
)  # fmt: skip
def test_shares_of_the_row_slots(number, ratio, shares):
    assert slot_shares(number, ratio) == pytest.approx(shares)


class Untouched:
    """A policy that draws and does nothing."""

    def draw(self, n, image_shape, generator, guide=None):
        return {"value": torch.rand(n, generator=generator)}

    def apply(self, images, params):
        return images


def test_the_crop_and_flip_of_a_copy_are_the_same_whatever_the_policy(splits, teacher):
    views = make_views(splits, teacher)
    views.at(4)
    for copy in (0, 1, 2):
        weak = views.view(ViewName(("weak", ()), copy)).x
        assert torch.equal(weak, views.view(ViewName(("test_training:Untouched", ()), copy)).x)
        draw = CropFlip().draw(ORIGINALS, (1, 28, 28), generator(views.seed, f"weak/{copy}", 0, 4))
        assert torch.equal(weak, splits.train.normalise(CropFlip().apply(views.raw, draw)))
    assert not torch.equal(weak, views.view(ViewName(("weak", ()), 0)).x)


# --- teachers -----------------------------------------------------------------------------------------------------


class Counted(torch.nn.Module):
    """A teacher that notes how many rows each call has."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, []

    def outputs(self, x):
        self.calls.append(len(x))
        return self.model.outputs(x)


def test_a_view_passes_the_teacher_once_and_leaves_it_as_it_was(splits, teacher):
    counted = Counted(teacher)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    names = ("ce", "weak2", "jda", "jda 1/4", "fitnet", "ccd, clean", "crd", "ctkd", "plain sgd")
    train(splits, counted, {n: ARMS[n].replace(budget=Budget(3, "steps", ORIGINALS)) for n in names})
    # Per step: weak/0, weak/1 and jda/1, whoever asks for them, and the clean originals.
    assert sum(rows == ORIGINALS for rows in counted.calls) == 3 * 4
    assert all(rows in (2, ORIGINALS) for rows in counted.calls)  # 2: the example rows of a method's setup
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items()) and not teacher.training


def test_what_the_teacher_sees(splits, teacher):
    views, layout = make_views(splits, teacher), Layout.of(ARMS["jda 1/4"])
    views.at(1)
    x, raw = views.batch(layout, 0.0).x, splits.train.normalise(views.raw)
    seen = {mode: views.teacher_outputs("t", layout, mode).logits for mode in ("same", "clean", "independent")}
    with torch.no_grad():
        torch.testing.assert_close(seen["same"], outputs(teacher, x).logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(seen["clean"], outputs(teacher, raw).logits.repeat(2, 1), rtol=1e-4, atol=1e-4)
    # One crop in 81 is the same by chance, and so is one flip in two.
    assert torch.isclose(seen["independent"], seen["same"]).all(1).float().mean() < 0.25


def test_evaluation_leaves_the_student_in_training(splits, teacher):
    modes = []
    results, states = train(splits, teacher, {"jda": KD_JDA}, beat=lambda arms: modes.append(arms[0].student.training))
    assert all(modes) and len(results["jda"].curve) > 1
    assert states["jda"]["student/bn1.num_batches_tracked"] == 12  # evaluation fed no batch norm


# --- failures stay alone ------------------------------------------------------------------------------------------


class Exploding(KD):
    """KD whose loss is NaN at the fourth step."""

    def forward(self, student, teacher, batch):
        scale = math.nan if batch.step == 3 else 1.0
        return {name: scale * term for name, term in super().forward(student, teacher, batch).items()}


@pytest.mark.parametrize(
    "bad",
    [
        BASE.replace(optimiser=Optimiser(lr=1e9)),
        KD_JDA.replace(method="test_training:Exploding"),
        # The only step breaks the weights after its loss was found finite.
        BASE.replace(optimiser=Optimiser(lr=1e38, warmup=0.0), budget=Budget(1, "steps", ORIGINALS)),
    ],
)
def test_a_diverged_arm_is_recorded_and_the_others_go_on(splits, teacher, together, bad):
    good = ("ce", "jda")
    results, states = train(splits, teacher, {"bad": bad} | {name: ARMS[name] for name in good})
    numbers = results.pop("bad").numbers
    states.pop("bad")
    assert numbers["diverged"] and numbers["diverged_at"] == numbers["steps"]
    assert math.isnan(numbers["test_accuracy"]) and math.isnan(numbers["val_nll"])
    assert_same_bits((results, states), tuple({n: part[n] for n in good} for part in together))


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "rates"),
    [
        (
            Optimiser(0.2, warmup=0.1),
            {0: 0.0, 0.05: 0.1, 0.1: 0.2, 0.55: 0.1, 0.325: 0.1 * (1 + math.cos(math.pi / 4))},
        ),
        (Optimiser(0.2, warmup=0.0), {0: 0.2, 0.5: 0.1, 1: 0.0}),
        (
            Optimiser(0.1, schedule="step", milestones=(0.5, 0.75), warmup=0.0),
            {0: 0.1, 0.49: 0.1, 0.5: 0.01, 0.74: 0.01, 0.75: 0.001, 1: 0.001},
        ),
        (Optimiser(0.1, schedule="constant", warmup=0.5), {0: 0.0, 0.25: 0.05, 0.5: 0.1, 0.9: 0.1}),
    ],
)
def test_schedules(rule, rates):
    assert [rule.rate(progress) for progress in rates] == pytest.approx(list(rates.values()), abs=1e-12)


def test_a_step_uses_the_rate_of_its_middle(splits, teacher):
    views = make_views(splits, teacher)
    arm = Arm("", BASE, None, 12).build(views, 10, 1)
    used, sgd_step = [], arm._sgd_step
    arm._sgd_step = lambda rate: (used.append(rate), sgd_step(rate))
    for step in range(12):
        views.at(step)
        arm.train_step()
    assert used == [BASE.optimiser.rate((step + 0.5) / 12) for step in range(12)] and min(used) > 0


def test_every_step_of_a_schedule_learns():
    """The rates of ten steps: a warm-up of two, and then half a cosine, milestones or a constant."""
    middles = [(step + 0.5) / 10 for step in range(10)]
    for rule, later in (
        (Optimiser(1.0, warmup=0.2), [0.5 * (1 + math.cos(math.pi * (k + 0.5) / 8)) for k in range(8)]),
        (Optimiser(1.0, warmup=0.2, schedule="step", milestones=(0.5, 0.8)), [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]),
        (Optimiser(1.0, warmup=0.2, schedule="constant"), [1] * 8),
    ):
        assert [rule.rate(p) for p in middles] == pytest.approx([0.25, 0.75, *later])
    assert Optimiser(1.0).rate(0.5) > 0  # a single step


@pytest.mark.parametrize("rule", [Optimiser(0.1), Optimiser(0.1, nesterov=False), Optimiser(0.1, momentum=0)], ids=str)
def test_steps_are_those_of_torch_sgd(rule, splits, teacher):
    arm = Arm("", dataclasses.replace(BASE, optimiser=rule), None, 12).build(make_views(splits, teacher), 10, 1)
    theirs = [p.detach().clone().requires_grad_() for p in arm.parameters]
    nesterov = rule.nesterov and rule.momentum > 0
    sgd = torch.optim.SGD(theirs, 1, rule.momentum, weight_decay=rule.weight_decay, nesterov=nesterov, fused=True)
    draw = torch.Generator().manual_seed(0)
    for rate in (0.1, 0.05, 0.2):
        for mine, other in zip(arm.parameters[1:], theirs[1:], strict=True):  # the first never has a gradient
            mine.grad = other.grad = torch.randn(mine.shape, generator=draw)
        sgd.param_groups[0]["lr"] = rate
        arm._sgd_step(rate), sgd.step()
    assert all(map(torch.equal, arm.parameters, theirs))


def test_costs_are_counted(together):
    numbers = {name: result.numbers for name, result in together[0].items()}
    assert numbers["jda"]["student_images"] == numbers["jda"]["teacher_forwards"] == 12 * ORIGINALS * 2
    assert (numbers["ce"]["student_images"], numbers["ce"]["teacher_forwards"]) == (12 * ORIGINALS, 0)
    assert numbers["short"]["steps"] == 5 and numbers["fitnet"]["method_parameters"] > 0


def test_deterministic_kernels_are_asked_for_on_a_gpu_only_and_given_back(monkeypatch):
    for where, said, expected in (("cuda:0", "1", True), ("cuda:0", "0", False), ("cpu", "1", False)):
        monkeypatch.setenv("KDLAB_DETERMINISTIC", said)
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # so that it is taken back
        with deterministic(where):
            assert torch.are_deterministic_algorithms_enabled() == expected
        assert not torch.are_deterministic_algorithms_enabled()
