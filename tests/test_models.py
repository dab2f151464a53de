"""Models: published parameter counts, shapes, seeds, and foreign models by their layers."""

import copy
import math

import pytest
import torch
from torch import nn

from kdlab import models
from kdlab.models import Outputs, Tapped, build
from kdlab.registry import SpecError, catalogue

COUNTS_100 = {
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_1": 180_916,
    "wrn_40_1": 569_780,
    "wrn_16_2": 703_284,
    "wrn_40_2": 2_255_156,
}
COUNTS_10 = {"resnet20": 272_474, "resnet56": 855_770, "wrn_16_2": 691_674, "wrn_40_2": 2_243_546}
SMALL = [f"resnet8_s2_w{width}" for width in (4, 8, 16, 32)]


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", COUNTS_100)
def test_parameter_counts_100_classes(name):
    assert count(build(name, 100, 3, seed=0)) == COUNTS_100[name]


@pytest.mark.parametrize("name", COUNTS_10)
def test_parameter_counts_10_classes(name):
    assert count(build(name, 10, 3, seed=0)) == COUNTS_10[name]


def test_every_family_is_counted():
    assert set(catalogue("models")) == set(COUNTS_100) | set(SMALL)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet8", "resnet8x4", "wrn_16_1", "wrn_16_2", *SMALL])
def test_shapes_for_any_size_and_channels(name, channels):
    model = build(name, 7, channels, seed=0).eval()
    for size in (28, 45):
        x = torch.zeros(2, channels, size, size)
        with torch.no_grad():
            out, logits = models.outputs(model, x), model(x)
        assert torch.equal(out.logits, logits) and logits.shape == (2, 7)
        assert out.embedding.shape == (2, model.fc.in_features)
        widths = [f.shape[1] for f in out.features]
        assert widths == [widths[0], 2 * widths[0], 4 * widths[0]] and widths[2] == model.fc.in_features
        sizes = [f.shape[2] for f in out.features]
        first = math.ceil(size / 2) if "_s2_" in name else size
        assert sizes == [first, math.ceil(first / 2), math.ceil(first / 4)]


@pytest.mark.parametrize("name, stem", [("resnet8_s2_w4", 4), ("resnet8_s2_w32", 32)])
def test_small_resnet_widths(name, stem):
    model = build(name, 10, 1, seed=0)
    assert model.conv1.weight.shape == (stem, 1, 3, 3) and model.conv1.stride == (2, 2)
    assert model.fc.in_features == 4 * stem


def test_parameter_names_fit_repdistiller_files():
    resnet, wrn = build("resnet20", 100, seed=0).state_dict(), build("wrn_16_2", 100, seed=0).state_dict()
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight"} <= set(resnet)
    assert {"layer2.0.downsample.1.bias", "layer3.2.bn2.weight", "fc.bias"} <= set(resnet)
    assert {"block1.layer.0.bn1.weight", "block1.layer.0.convShortcut.weight", "bn1.weight", "fc.weight"} <= set(wrn)
    assert "block1.layer.1.convShortcut.weight" not in wrn


def test_projection_equals_a_strided_convolution():
    block = build("resnet8", 10, seed=0).layer2[0].double()
    x = torch.randn(2, 16, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    strided = nn.functional.conv2d(x, block.downsample[0].weight, stride=2)
    torch.testing.assert_close(block.downsample[0](x[:, :, ::2, ::2]), strided)


@pytest.mark.parametrize("name", ["resnet8_s2_w4", "wrn_16_1"])
def test_weights_come_from_the_seed_alone(name):
    before = torch.random.get_rng_state()
    first = build(name, 10, 1, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)  # another state of the global generator
    again, other = build(name, 10, 1, seed=3).state_dict(), build(name, 10, 1, seed=4).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize("name", ["resnet8_s2_w4", "resnet8x4", "wrn_16_2"])
def test_he_initialisation_by_fan_out(name):
    model = build(name, 10, 3, seed=0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 4000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


def test_unknown_model_names_the_nearest():
    with pytest.raises(SpecError, match="resnet20"):
        build("resnet2", 10, seed=0)
    with pytest.raises(SpecError, match="cannot be imported"):
        build("no.such.module:Model", 10, seed=0)


class Linear(nn.Module):
    """A foreign model: logits only."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.first = nn.Conv2d(in_channels, 4, 3)
        self.last = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.last(self.first(x).mean((2, 3)))


def test_foreign_model_by_name():
    model = build(f"{__name__}:Linear", 5, 1, seed=0)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    with pytest.raises(SpecError, match="Tapped"):
        models.outputs(model, torch.zeros(2, 1, 8, 8))


def test_torchvision_resnet18_by_taps():
    torchvision = pytest.importorskip("torchvision")
    foreign = torchvision.models.resnet18(weights=None, num_classes=10).eval()
    model = Tapped(foreign, ["layer1", "layer2", "layer3"], "avgpool")
    x = torch.zeros(2, 3, 32, 32)
    with torch.no_grad():
        out = models.outputs(model, x)
        assert torch.equal(out.logits, foreign(x)) and torch.equal(model(x), foreign(x))
    assert [f.shape[1] for f in out.features] == [64, 128, 256] and out.embedding.shape == (2, 512)
    assert not foreign.layer1._forward_hooks  # nothing is left behind


def test_tapped_default_embedding_and_copies():
    model = copy.deepcopy(Tapped(Linear(5, 1), ["first"]))
    out = model.outputs(torch.ones(2, 1, 8, 8))
    torch.testing.assert_close(out.embedding, out.features[0].mean((2, 3)))
    out.logits.sum().backward()
    assert model.model.first.weight.grad is not None


def test_tapped_refuses_unknown_layers():
    with pytest.raises(SpecError, match="Did you mean 'first'"):
        Tapped(Linear(5, 1), ["frist"])
    with pytest.raises(SpecError, match="embedding must be one of"):
        Tapped(Linear(5, 1), ["first"], "pool")
    with pytest.raises(SpecError, match="at least one layer"):
        Tapped(Linear(5, 1), [])


def some(seed, rows=4):
    draw = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(rows, c, 3, 3, generator=draw) for c in (2, 4))
    return Outputs(torch.randn(rows, 5, generator=draw), maps, torch.randn(rows, 6, generator=draw))


def parts(out):
    return [out.logits, *out.features, out.embedding]


def test_rows_where_and_cat_act_on_everything():
    a, b = some(0), some(1)
    mask = torch.tensor([True, False, False, True])
    mixed = a.where(mask, b)
    for x, y, z in zip(parts(mixed), parts(a), parts(b), strict=True):
        assert torch.equal(x[mask], z[mask]) and torch.equal(x[~mask], y[~mask])
    for x, y in zip(parts(a.rows(torch.tensor([2, 0]))), parts(a), strict=True):
        assert torch.equal(x, y[[2, 0]])
    for x, y in zip(parts(Outputs.cat([a.rows(slice(1)), a.rows(slice(1, 4))])), parts(a), strict=True):
        assert torch.equal(x, y)


def test_half_precision_is_raised_and_double_kept():
    half = some(0)._map(torch.Tensor.bfloat16).full()
    assert {p.dtype for p in parts(half)} == {torch.float32}
    assert {p.dtype for p in parts(some(0)._map(torch.Tensor.double).full())} == {torch.float64}
