"""Fusion: several students stepped as one network keep the bits of separate steps, also beside one that diverges."""

import copy

import pytest
import torch
import torch.nn.functional as F

from kdlab import training
from kdlab.data import load
from kdlab.models import build, outputs
from kdlab.registry import catalogue
from kdlab.spec import Budget, Optimiser, RunSpec
from kdlab.training import Arm, Views
from kdlab.training.fusion import convolution, stepper
from kdlab.training.fusion.convolution import GroupSizes, Shape
from kdlab.training.fusion.network import FusedNetwork, bit_identical
from kdlab.training.layout import fusion_key
from kdlab.training.runtime import one_thread

ORIGINALS, STEPS = 16, 4
KD = RunSpec(
    sizes=(160, 50, 50), model="resnet8_s2_w4", method="kd", views=2, augmentation="jda", ratio=0.5,
    budget=Budget(STEPS, "steps", ORIGINALS),
)  # fmt: skip


@pytest.fixture(autouse=True)
def single():
    with one_thread():
        yield


def students(count, model="resnet8_s2_w4"):
    return [build(model, 10, 1, seed=seed).train() for seed in range(count)]


def images(count, rows=24, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 1, 28, 28, generator=draw) for _ in range(count)]


# --- convolutions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [0, 1, 2, 3, 6])
def test_kernels_are_laid_out_block_diagonally_and_read_back(group):
    kernels = torch.arange(1.0, 6 * 5 * 2 * 9 + 1).view(6, 5, 2, 3, 3)
    whole, group = convolution.block_diagonal(kernels.unbind(0), group), group or 1
    expected = torch.zeros(30, 2 * group, 3, 3)
    for student in range(6):
        place = 2 * (student % group)
        expected[5 * student : 5 * student + 5, place : place + 2] = kernels[student]
    assert torch.equal(whole, expected)
    assert torch.equal(convolution.diagonal_blocks(whole, 6, group), kernels)


@pytest.mark.parametrize("group", [0, 1, 2, 4])
@pytest.mark.parametrize(("stride", "size"), [(1, 3), (2, 3), (1, 1)])
def test_each_way_of_convolving_is_that_of_each_student(group, stride, size):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(6, 12, 9, 9, dtype=torch.float64, generator=draw)
    kernels = torch.randn(4, 5, 3, size, size, dtype=torch.float64, generator=draw)
    shape = Shape(4, (6, 3, 9, 9), (5, 3, size, size), (stride,) * 2, (size // 2,) * 2, False)
    own = [part.clone().requires_grad_() for part in convolution.per_student(x, 4)]
    weights = [kernel.clone().requires_grad_() for kernel in kernels]
    made = [F.conv2d(a, w, stride=stride, padding=size // 2) for a, w in zip(own, weights, strict=True)]
    g = torch.randn(6, 20, *made[0].shape[2:], dtype=torch.float64, generator=draw)
    torch.autograd.backward(made, convolution.per_student(g, 4))
    kernel = convolution.block_diagonal(kernels, group)
    assert torch.allclose(convolution.convolve(x, kernel, shape, group), torch.cat(made, 1), rtol=1e-12)
    pulled = convolution.input_gradient(g, x, kernel, shape, group)
    assert torch.allclose(pulled, torch.cat([part.grad for part in own], 1), rtol=1e-12)
    pulled = convolution.diagonal_blocks(convolution.kernel_gradient(g, x, kernel, shape, group), 4, group)
    assert torch.allclose(pulled, torch.stack([w.grad for w in weights]), rtol=1e-12)


def test_only_a_way_with_the_right_bits_is_taken(monkeypatch):
    shape = Shape(4, (8, 4, 14, 14), (4, 4, 3, 3), (1, 1), (1, 1), False)
    slightly_off = lambda x, kernel, shape, group: true(x, kernel, shape, group) * (1 + 1e-7 * (group > 0))  # noqa: E731
    true = convolution.convolve
    monkeypatch.setattr(convolution, "convolve", slightly_off)
    assert convolution.group_sizes.__wrapped__(shape).forward == 0


# --- fused networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["resnet8_s2_w4", "resnet8_s2_w8"])
@pytest.mark.parametrize("count", [2, 3, 4, 6, 8])
def test_students_get_their_own_bits(model, count):
    assert bit_identical(students(count, model), images(count))


def test_another_number_is_seen_as_such(monkeypatch):
    monkeypatch.setattr(
        FusedNetwork, "_scatter_gradients", lambda self: [setattr(p, "grad", p * 0) for p in self.parameters]
    )
    assert not bit_identical(students(2), images(2))


def step(network, x, label, spoilt=None):
    for student in network.students:
        student.zero_grad(set_to_none=True)
    for number, said in enumerate(network.forward(x)):
        F.cross_entropy(said.logits, label).backward()
        if number == spoilt:
            said.logits.grad.fill_(float("inf"))
    network.backward()


@pytest.fixture
def widest(monkeypatch):
    """The widest group with the right bits, whatever is faster: what is not finite then has neighbours."""
    monkeypatch.setattr(convolution, "_fastest", lambda groups, work: max(groups))
    convolution.group_sizes.cache_clear()
    yield
    convolution.group_sizes.cache_clear()


@pytest.mark.parametrize("diverged", ["weights", "gradient"])
def test_a_diverged_student_leaves_the_others_as_they_are(diverged, widest):
    label, x, fused = torch.arange(24) % 10, images(4), students(4)
    alone = copy.deepcopy(fused)
    network = FusedNetwork(fused, x[0])
    assert any(layer.group_sizes.forward > 1 for layer in network.convolutions)
    if diverged == "weights":
        with torch.no_grad():
            fused[1].conv1.weight.fill_(float("nan"))
    step(network, x, label, spoilt=1 if diverged == "gradient" else None)
    for number in (0, 2, 3):
        F.cross_entropy(outputs(alone[number], x[number]).logits, label).backward()
        for one, other in zip(alone[number].parameters(), fused[number].parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)
        assert all(map(torch.equal, alone[number].buffers(), fused[number].buffers()))
    assert not all(p.grad.isfinite().all() for p in fused[1].parameters())


def test_zeros_between_students_would_carry_what_is_not_finite():
    """What the last test guards against does happen: without care a NaN reaches the neighbour in a group."""
    shape = Shape(2, (4, 4, 6, 6), (4, 4, 3, 3), (1, 1), (1, 1), False)
    x, kernels = torch.randn(4, 8, 6, 6), torch.randn(2, 4, 4, 3, 3)
    x[:, :4] = float("nan")
    assert convolution.convolve(x, convolution.block_diagonal(kernels, 2), shape, 2)[:, 4:].isnan().any()
    assert convolution.convolve(x, convolution.block_diagonal(kernels, 0), shape, 0)[:, 4:].isfinite().all()


def test_a_fused_network_leaves_the_students_as_they_are_otherwise():
    fused = students(3)
    names, before = list(fused[0].state_dict()), [copy.deepcopy(s.state_dict()) for s in fused]
    network = FusedNetwork(fused, images(1)[0])
    assert all(list(s.state_dict()) == names for s in fused)
    assert all(torch.equal(v, old[k]) for s, old in zip(fused, before, strict=True) for k, v in s.state_dict().items())
    step(network, images(3), torch.arange(24) % 10)
    assert [int(s.bn1.num_batches_tracked) for s in fused] == [1, 1, 1]
    assert not torch.equal(fused[0].bn1.running_mean, fused[1].bn1.running_mean)


# --- arms fused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 40))
def test_sizes_add_up_and_no_student_is_left_alone(count):
    found = stepper.fused_sizes(count)
    assert sum(found) == count and set(found) <= set(stepper.FUSED_SIZES) | ({1} if count == 1 else set())


def train(specs, splits, teacher):
    nothing, done = lambda *given: None, {}
    arms = [Arm(name, s, None if s.method == "ce" else "t", STEPS) for name, s in specs.items()]
    views = Views(splits.train, 0, 0, ORIGINALS, {"t": teacher})
    training.train(
        arms, splits, views, restore=nothing, save=nothing, beat=nothing,
        finish=lambda arm, result: done.update({arm.key: (result, arm.state()[0], arm.fused_with)}),
    )  # fmt: skip
    return done


def networks():
    teacher = build("resnet8_s2_w8", 10, 1, seed=9).eval().requires_grad_(False)
    return load("fashion", sizes=KD.sizes), teacher


FUSIBLE = [
    name for name, entry in catalogue("losses").items()
    if fusion_key(KD.replace(method=name)) is not None and not entry.prepared
]  # fmt: skip


@pytest.mark.parametrize("method", FUSIBLE)
def test_every_method_keeps_its_bits_when_fused(method):
    splits, teacher = networks()
    turns = bool(catalogue("losses")[method].turns)
    base = KD.replace(method=method, **({"augmentation": "weak", "ratio": 0.0} if turns else {}))
    specs = {f"{lr}": base.replace(optimiser=Optimiser(lr=lr)) for lr in (0.1, 0.05, 0.02)}
    fused = train(specs, splits, teacher)
    for name, spec in specs.items():
        alone = train({name: spec}, splits, teacher)[name]
        assert alone[2] == 0 and fused[name][2] == 2 * STEPS
        assert all(torch.equal(value, alone[1][k]) for k, value in fused[name][1].items())
        assert fused[name][0].numbers | {"seconds": 0} == alone[0].numbers | {"seconds": 0}


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_a_diverging_arm_ends_as_alone_and_the_others_go_on():
    splits, teacher = networks()
    specs = {"a": KD, "diverged": KD.replace(optimiser=Optimiser(lr=1e30, warmup=0.0)), "b": KD.replace(method="ccd")}
    fused = train(specs, splits, teacher)
    assert fused["diverged"][0].numbers["diverged"] and not fused["a"][0].numbers["diverged"]
    for name, spec in specs.items():
        alone = train({name: spec}, splits, teacher)[name]
        assert fused[name][0].numbers["diverged_at"] == alone[0].numbers["diverged_at"]
        if name != "diverged":
            assert all(torch.equal(value, alone[1][k]) for k, value in fused[name][1].items())


def test_students_that_lose_bits_or_gain_nothing_step_alone(monkeypatch):
    splits, teacher = networks()
    specs = {"kd": KD, "ccd": KD.replace(method="ccd")}
    fused = train(specs, splits, teacher)
    assert [fused[name][2] for name in specs] == [STEPS] * 2
    for where, what, answer in ((stepper, "bit_identical", False), (convolution, "group_sizes", GroupSizes())):
        with monkeypatch.context() as patch:
            patch.setattr(stepper, "_identical", {})
            patch.setattr(where, what, lambda *asked, answer=answer: answer)
            apart = train(specs, splits, teacher)
        assert [apart[name][2] for name in specs] == [0, 0]
        assert all(torch.equal(v, apart[n][1][k]) for n in specs for k, v in fused[n][1].items())


def test_wide_networks_foreign_methods_and_other_rows_are_not_fused():
    assert fusion_key(KD) == fusion_key(KD.replace(method="ccd", augmentation="weak", ratio=0.0, seed=3))
    assert fusion_key(KD) != fusion_key(KD.replace(views=1, augmentation="weak", ratio=0.0))
    assert fusion_key(KD) != fusion_key(KD.replace(method="fitnet"))  # reads stage maps
    assert fusion_key(KD) != fusion_key(KD.replace(model="resnet8_s2_w8"))
    for alone in (
        KD.replace(model="resnet20"),
        KD.replace(precision="bfloat16"),
        KD.replace(method="test_training:Interrupted"),
    ):
        assert fusion_key(alone) is None
