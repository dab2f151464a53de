"""Models: published counts, shapes, names and files of weights, seeds, and foreign models by their layers."""

import argparse
import copy
import hashlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from kdlab import lab, models
from kdlab.errors import SpecError
from kdlab.lab import networks
from kdlab.models import Outputs, Tapped, build, load_teacher
from kdlab.models.matching import load_weights, skeleton
from kdlab.models.shufflenet import shuffle
from kdlab.registry import catalogue
from kdlab.spec import Budget, Checkpoint, RunSpec

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
    "vgg8": 3_965_028,
    "vgg11": 9_277_284,
    "vgg13": 9_462_180,
    "vgg16": 14_774_436,
    "vgg19": 20_086_692,
    "ResNet50": 23_705_252,
    "MobileNetV2": 812_836,
    "MobileNetV2_s1": 812_836,
    "ShuffleV1": 949_258,
    "ShuffleV2": 1_355_528,
}
# Multiplications of convolutions and classifier on 32 x 32 pixels, in millions.
MILLIONS = {
    "resnet20": 40.82,
    "resnet8x4": 177.07,
    "wrn_40_2": 327.61,
    "vgg8": 96.19,
    "vgg11": 209.44,
    "vgg13": 284.94,
    "vgg16": 398.18,
    "vgg19": 511.43,
    "ResNet50": 1298.01,
    "MobileNetV2": 6.52,
    "MobileNetV2_s1": 25.71,
    "ShuffleV1": 38.69,
    "ShuffleV2": 44.50,
}
VGG_TAPS = [(128, 16), (256, 8), (512, 4), (512, 4)]
TAPS = {
    "resnet110": [(16, 32), (32, 16), (64, 8)],
    "resnet32x4": [(64, 32), (128, 16), (256, 8)],
    "wrn_16_2": [(32, 32), (64, 16), (128, 8)],
    "vgg8": VGG_TAPS,
    "vgg13": VGG_TAPS,
    "vgg19": VGG_TAPS,
    "ResNet50": [(256, 32), (512, 16), (1024, 8), (2048, 4)],
    "MobileNetV2": [(12, 16), (16, 8), (48, 4), (160, 2)],
    "MobileNetV2_s1": [(12, 32), (16, 16), (48, 8), (160, 4)],
    "ShuffleV1": [(240, 16), (480, 8), (960, 4)],
    "ShuffleV2": [(116, 16), (232, 8), (464, 4)],
}
# Of the network with a head of 400 classes on each tap.
COUNTS_WITH_HEADS = {
    "wrn_40_2": 8_024_484,
    "resnet56": 3_067_684,
    "vgg13": 46_511_844,
    "ResNet50": 100_681_956,
    "MobileNetV2_s1": 5_484_332,
    "ShuffleV1": 4_067_998,
    "ShuffleV2": 5_875_516,
}
LATER = ["vgg8", "vgg11", "ResNet50", "MobileNetV2", "MobileNetV2_s1", "ShuffleV1", "ShuffleV2"]
COUNTS_10 = {"resnet20": 272_474, "resnet56": 855_770, "wrn_16_2": 691_674, "wrn_40_2": 2_243_546}
SMALL = [f"resnet8_s2_w{width}" for width in (4, 8, 16, 32, 64)]


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", COUNTS_100)
def test_parameter_counts_100_classes(name):
    assert count(build(name, 100, 3, seed=0)) == COUNTS_100[name]


@pytest.mark.parametrize("name", COUNTS_10)
def test_parameter_counts_10_classes(name):
    assert count(build(name, 10, 3, seed=0)) == COUNTS_10[name]


@pytest.mark.parametrize("name", MILLIONS)
def test_multiplications(name):
    model, found = build(name, 100, seed=0).eval(), []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda m, _, out: found.append(out.numel() * m.weight[0].numel()))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert round(sum(found) / 1e6, 2) == MILLIONS[name]


@pytest.mark.parametrize("name", TAPS)
def test_stage_maps(name):
    with torch.no_grad():
        out = build(name, 100, seed=0).eval().outputs(torch.zeros(2, 3, 32, 32))
    assert [tuple(f.shape) for f in out.features] == [(2, width, side, side) for width, side in TAPS[name]]


@pytest.mark.parametrize("name", COUNTS_WITH_HEADS)
def test_parameter_counts_with_auxiliary_heads(name):
    model = build(name, 100, seed=0, **({"maps": "hsakd"} if "vgg" in name else {})).eval()
    with torch.no_grad():
        out = model.outputs(torch.zeros(1, 3, 32, 32))
    with torch.device("meta"):
        branches = [model.branch(tap) for tap in range(len(out.features))]
    fc = out.embedding.shape[1] * 400 + 400
    assert count(model) + sum(map(count, branches)) + len(branches) * fc == COUNTS_WITH_HEADS[name]


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in LATER), ("vgg13", {"maps": "hsakd"})])
def test_a_branch_with_the_networks_weights_goes_on_as_the_network(name, options):
    model = build(name, 5, 1, seed=0, **options).eval()
    body = [v for k, v in model.state_dict().items() if not k.startswith(("linear", "classifier"))]
    with torch.no_grad():
        out = model.outputs(torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
        for tap, stage in enumerate(out.features):
            branch = model.branch(tap).eval()
            if tap == len(out.features) - 1:  # the last stage once more
                assert branch(stage).shape == out.final.shape
                continue
            own = branch.state_dict()
            branch.load_state_dict(dict(zip(own, body[-len(own) :], strict=True)))
            torch.testing.assert_close(branch(stage), out.final)


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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LATER)
def test_shapes_of_the_other_families(name, channels):
    model = build(name, 7, channels, seed=0).eval()
    for size in (28, 45, 64):
        with torch.no_grad():
            x = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
            out = models.outputs(model, x)
            assert torch.equal(out.logits, model(x)) and out.logits.shape == (2, 7)
        torch.testing.assert_close(out.embedding, out.final.mean((2, 3)))
        linear = models.classifier(model, out)
        torch.testing.assert_close(out.logits, F.linear(out.embedding, linear.weight, linear.bias))
        first = math.ceil(size / 2) if name in ("MobileNetV2", "ShuffleV1", "ShuffleV2") else size
        sides = [first]
        for _ in out.features[1:]:
            sides.append(math.ceil(sides[-1] / 2))
        if "vgg" in name:
            sides = [size // 2, size // 4, size // 8, size // 16 if size == 64 else size // 8]
        assert [f.shape[2] for f in out.features] == sides


@pytest.mark.parametrize("name", LATER)
def test_every_weight_learns(name):
    model = build(name, 5, 3, seed=0)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    out = model.outputs(x)
    (out.logits.square().sum() + sum(f.square().mean() for f in out.features)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_channels_are_shuffled_by_groups():
    x = torch.arange(12.0).view(1, 12, 1, 1)
    assert shuffle(x, 3).flatten().tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert shuffle(x, 2).flatten().tolist() == [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]
    assert torch.equal(shuffle(x, 1), x)


def normalised(w, name, x):
    """BatchNorm of the layer called ``name`` in eval mode."""
    return F.batch_norm(x, *(w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))


def test_shuffle_v1_unit_restated():
    unit = build("ShuffleV1", 5, seed=0).double().eval().layer2[0]
    w, x = unit.state_dict(), torch.rand(2, 240, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inner = F.relu(normalised(w, "bn1", F.conv2d(x, w["conv1.weight"], groups=3)))
    mixed = torch.stack([inner[:, c] for c in (group * 20 + place for place in range(20) for group in range(3))], 1)
    inner = F.relu(normalised(w, "bn2", F.conv2d(mixed, w["conv2.weight"], stride=2, padding=1, groups=60)))
    inner = normalised(w, "bn3", F.conv2d(inner, w["conv3.weight"], groups=3))
    pooled = F.unfold(x.flatten(0, 1)[:, None], 3, padding=1, stride=2).mean(1).view(2, 240, 4, 4)
    torch.testing.assert_close(unit(x), F.relu(torch.cat([inner, pooled], 1)))


def test_mobilenet_adds_where_shapes_agree():
    first, second = build("MobileNetV2_s1", 5, seed=0).double().eval().blocks[1]
    x = torch.rand(2, 12, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(second(x), x + second.conv(x))
    torch.testing.assert_close(first(x[:, :8]), first.conv(x[:, :8]))
    assert (second.conv(x) < 0).any() and count(second.conv[0]) == 12 * 72  # linear at the end; six times as wide


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


NAMES = {
    "vgg13": "block0.0.weight block0.0.bias block0.1.running_mean block0.3.weight block0.4.weight block4.4.bias "
    "classifier.weight",
    "ResNet50": "conv1.weight bn1.bias layer1.0.conv1.weight layer1.0.bn3.weight layer1.0.shortcut.0.weight "
    "layer2.0.shortcut.1.running_var layer3.5.conv3.weight layer4.2.bn2.weight linear.bias",
    "MobileNetV2": "conv1.0.weight conv1.1.weight blocks.0.0.conv.0.weight blocks.0.0.conv.7.bias "
    "blocks.5.2.conv.3.weight blocks.6.0.conv.6.weight conv2.0.weight conv2.1.bias classifier.0.weight",
    "ShuffleV1": "conv1.weight bn1.weight layer1.0.conv1.weight layer1.3.bn3.bias layer2.7.conv2.weight linear.weight",
    "ShuffleV2": "conv1.weight bn1.weight layer1.0.conv5.weight layer1.0.bn5.bias layer2.7.conv3.weight conv2.weight "
    "bn2.weight linear.weight",
}


@pytest.mark.parametrize("name", NAMES)
def test_parameter_names_of_the_other_families(name):
    state = skeleton(name).state_dict()
    assert set(NAMES[name].split()) <= set(state)
    assert not any(wrong in key for key in state for wrong in ("relu", "pool", "shuffle", "split", "downsample"))


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


@pytest.mark.parametrize("name", ["resnet8_s2_w4", "resnet8x4", "wrn_16_2", "vgg8", "ResNet50", "MobileNetV2"])
def test_he_initialisation_by_fan_out(name):
    model = build(name, 10, 3, seed=0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 4000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


@pytest.mark.parametrize("name", ["vgg8", "MobileNetV2"])
def test_classifiers_that_start_near_zero(name):
    model = build(name, 100, 3, seed=0)
    linear = models.classifier(model, model.eval().outputs(torch.zeros(1, 3, 32, 32)))
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.02) and (linear.bias == 0).all()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(
        (c.bias is not None) == (name == "vgg8") and (c.bias is None or (c.bias == 0).all()) for c in convolutions
    )


@pytest.mark.parametrize("name", ["ShuffleV1", "ShuffleV2"])
def test_shufflenets_start_as_pytorch_does(name):
    for layer in build(name, 100, 3, seed=0).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            bound = layer.weight[0].numel() ** -0.5
            assert 0.99 * bound < layer.weight.abs().max().item() <= bound


def test_unknown_model_names_the_nearest():
    with pytest.raises(SpecError, match="resnet20"):
        build("resnet2", 10, seed=0)
    with pytest.raises(SpecError, match="there is no module 'no'"):
        build("no.such.module:Model", 10, seed=0)


class Linear(nn.Module):
    """A foreign model: logits only."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.first = nn.Conv2d(in_channels, 4, 3)
        self.last = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.last(self.first(x).mean((2, 3)))


def own_names(classes, channels=1, *, width=4):
    """A builder with names of its own for what it gets."""
    return Linear(classes, channels)


def required(classes, channels):
    return Linear(classes, channels)


def in_the_manner_of_timm(pretrained=False, num_classes=1000, in_chans=3):
    return Linear(num_classes, in_chans)


def in_the_manner_of_torchvision(*, weights=None, **kwargs):
    return Linear(**{"num_classes": 1000, "in_channels": 3} | kwargs)


def open_timm(**kwargs):
    return in_the_manner_of_timm(**kwargs)


def told_and_colour(num_classes, in_channels):
    """Takes grey images and makes colour of them itself."""
    return Linear(num_classes, 3)


def not_a_model(num_classes):
    return num_classes


def test_foreign_model_by_name():
    model = build(f"{__name__}:Linear", 5, 1, seed=0)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    said = models.outputs(model, x := torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(said.logits, model(x)) and (said.features, said.embedding, said.final) == ((), None, None)


@pytest.mark.parametrize(
    ("builder", "options", "channels", "repeats"),
    [
        ("Linear", {}, 1, False),
        ("required", {}, 1, False),
        ("own_names", {"width": 2}, 1, False),
        ("in_the_manner_of_timm", {}, 1, False),
        ("in_the_manner_of_timm", {"in_chans": 3}, 3, True),
        ("in_the_manner_of_torchvision", {"weights": None}, 3, True),
        ("open_timm", {"in_chans": 1}, 1, False),
        ("told_and_colour", {}, 3, False),
    ],
)
def test_foreign_builders_get_what_they_take(builder, options, channels, repeats):
    model = build(f"{__name__}:{builder}", 5, 1, seed=0, taps=("first",), **options)
    assert isinstance(model, Tapped) and model.repeat_grey == repeats
    assert model.model.first.in_channels == channels and model.model.last.out_features == 5
    if builder != "told_and_colour":
        assert model.outputs(torch.zeros(2, 1, 8, 8)).features[0].shape == (2, 4, 6, 6)
    assert not build(f"{__name__}:{builder}", 5, 3, seed=0, taps=("first",), **options).repeat_grey


@pytest.mark.parametrize(
    ("builder", "options", "said"),
    [
        ("in_the_manner_of_torchvision", {"width": 3}, "cannot be built with width=3, num_classes=5: .*'width'"),
        ("own_names", {"widht": 3}, "option of model .* Did you mean 'width'"),
        ("Linear", {"embedding": "first"}, r"embedding of model .* needs taps=\[...\] beside it"),
        ("Linear", {"taps": ["frist"]}, "Did you mean 'first'"),
        ("Linear", {"taps": "first"}, "taps must name at least one layer, as a list, but got 'first'"),
        ("not_a_model", {}, "must give an nn.Module, but gave int"),
    ],
)
def test_foreign_models_that_cannot_be_built(builder, options, said):
    with pytest.raises(SpecError, match=said):
        build(f"{__name__}:{builder}", 5, 1, seed=0, **options)


def test_our_own_models_refuse_taps():
    with pytest.raises(SpecError, match="'resnet8' shows its stages by itself; leave out taps"):
        build("resnet8", 10, seed=0, taps=["layer1"])


def test_torchvision_teaches_and_learns_on_grey_images():
    pytest.importorskip("torchvision")
    name, options = "torchvision.models:resnet18", {"weights": None, "taps": ["layer1", "layer2", "layer3", "layer4"]}
    teacher = build(name, 10, 1, seed=1, **options).eval().requires_grad_(False)
    student = build(name, 10, 1, seed=0, embedding="avgpool", **options)
    x = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    taught, learned = models.outputs(teacher, x), models.outputs(student, x)
    assert torch.equal(taught.logits, teacher.model(x.repeat(1, 3, 1, 1))) and torch.equal(taught.logits, teacher(x))
    widths = [(64, 8), (128, 4), (256, 2), (512, 1)]
    for out in (taught, learned):
        assert [tuple(f.shape) for f in out.features] == [(4, c, s, s) for c, s in widths]
        assert out.logits.shape == (4, 10) and out.embedding.shape == (4, 512)
        linear = models.classifier(student, out)
        assert linear is student.model.fc
    torch.testing.assert_close(taught.embedding, taught.final.mean((2, 3)))
    soft = F.kl_div(learned.logits.log_softmax(1), taught.logits.softmax(1), reduction="batchmean")
    (soft + sum(F.mse_loss(s, t) for s, t in zip(learned.features, taught.features, strict=True))).backward()
    assert all(p.grad is not None for p in student.parameters())
    again = build(name, 10, 1, seed=0, embedding="avgpool", **options)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), student.parameters(), strict=True))


def test_foreign_teacher_file_and_student_through_a_run(tmp_path, monkeypatch):
    name, tapped = f"{__name__}:in_the_manner_of_torchvision", {"taps": ["first"]}
    torch.save({"state_dict": Linear(10, 3).state_dict()}, path := tmp_path / "t.pt")
    monkeypatch.setattr(networks, "check_checkpoints", lambda runs, store: None)  # it has learnt nothing
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = RunSpec(
        sizes=(320, 200, 500), budget=Budget(2, "steps", 32), method="kd", model=name, model_options=tapped,
        teacher=Checkpoint(str(path), digest, name, tapped),
    )  # fmt: skip
    first = lab.run([spec], workers=0, progress=False, require_teacher=False)
    untaught = spec.replace(method="ce", teacher=None)
    taught = lab.run([spec.replace(teacher=untaught)], workers=0, progress=False, require_teacher=False)
    assert len(first) == len(taught) == 1 and not first.diverged.any() and not taught.diverged.any()


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


class Overwritten(nn.Module):
    """A layer and what follows it in place."""

    def __init__(self, after, inplace):
        super().__init__()
        after = {"relu": nn.ReLU, "silu": nn.SiLU, "dropout": nn.Dropout, "leaky": nn.LeakyReLU}[after](inplace=inplace)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), after, nn.Conv2d(4, 4, 3), after)
        self.last = nn.Linear(4, 5)

    def forward(self, x):
        return self.last(self.net(x).mean((2, 3)))


@pytest.mark.parametrize("after", ["relu", "silu", "dropout", "leaky"])
def test_tapped_gives_a_layers_own_output_whatever_follows_in_place(after):
    x, found = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), []
    for inplace in (True, False):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = Tapped(Overwritten(after, inplace), ["net.0", "net.1", "net.2", "net.3"], "net.1")
            out = model.outputs(x)
        weigh = torch.arange(1.0, 6.0)
        total = (out.logits * weigh).sum() + sum(f.pow(3).sum() for f in out.features) + out.embedding.square().sum()
        total.backward()
        found.append([out.logits, *out.features, out.embedding, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert found[0][2].min() < 0  # BatchNorm's output, not what the activation made of it


def test_torchvisions_bn1_is_the_map_before_its_relu():
    torchvision = pytest.importorskip("torchvision")
    net = torchvision.models.resnet18(weights=None, num_classes=10).train()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = net.bn1(net.conv1(x))
        bn1, relu = Tapped(net, ["bn1", "relu"]).outputs(x).features
    assert torch.equal(bn1, own) and torch.equal(relu, own.relu()) and own.min() < 0


def test_tapped_takes_the_last_of_several_calls_and_refuses_what_is_no_map():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.never, self.pair = nn.ReLU(inplace=True), nn.ReLU(), nn.LSTM(2, 2)

        def forward(self, x):
            self.pair(torch.zeros(1, 1, 2))
            return self.act(self.act(x) - 0.5).mean((2, 3))

    x = torch.linspace(-1, 1, 18).view(1, 2, 3, 3)
    out = Tapped(Twice(), ["act"]).outputs(x.clone())
    torch.testing.assert_close(out.features[0], (x.relu() - 0.5).relu())
    with pytest.raises(SpecError, match="layer 'never' was not called"):
        Tapped(Twice(), ["never"]).outputs(x.clone())
    with pytest.raises(SpecError, match="layer 'pair' gives a tuple, not a tensor"):
        Tapped(Twice(), ["act"], "pair").outputs(x.clone())


EVERY = [*COUNTS_100, *SMALL]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", EVERY)
def test_no_map_of_ours_is_overwritten_in_place(name, training, monkeypatch):
    """Values and the versions of the tensors: what a network shows is what it had there."""
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = build(name, 5, 1, seed=0).train(training).outputs(x)
        twin = build(name, 5, 1, seed=0).train(training)
        for module in twin.modules():
            if hasattr(module, "inplace"):
                module.inplace = False
        relu = F.relu
        monkeypatch.setattr(F, "relu", lambda values, inplace=False: relu(values))
        monkeypatch.setattr(torch.Tensor, "add_", torch.Tensor.add)
        safe = twin.outputs(x)
    a, b = ([out.logits, out.embedding, out.final, out.stem, *out.features, *out.before] for out in (found, safe))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(a, b, strict=True))


@pytest.mark.parametrize("name", EVERY)
def test_before_is_the_map_before_its_activation(name):
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    model = build(name, 5, 1, seed=0).eval()
    with torch.no_grad():
        out = model.outputs(x)
        stem = model.outputs(-x).stem
    assert len(out.before) == len(out.features) and not torch.equal(stem, out.stem)
    for before, after in zip(out.before, out.features, strict=True):
        assert before.shape == after.shape and before.min() < 0
        if "wrn" not in name and "Mobile" not in name:  # which have no activation at the end of a stage
            assert torch.equal(before.relu(), after)
    if "wrn" in name:
        torch.testing.assert_close(out.before[-1].relu(), out.final)
        assert torch.equal(out.before[0], model.block2.layer[0].bn1(out.features[0]))
    elif "Mobile" in name:
        assert all(a is b for a, b in zip(out.before, out.features, strict=True))
    assert model.train().outputs(x).before == ()


def test_vgg_shows_the_maps_of_the_comparison_or_of_hsakd():
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        crd, hsakd = (build("vgg13", 5, 3, seed=0, maps=maps).outputs(x) for maps in ("crd", "hsakd"))
    assert torch.equal(crd.stem, hsakd.features[0]) and hsakd.stem is None
    assert all(torch.equal(crd.features[a], hsakd.features[b]) for a, b in ((0, 1), (1, 2), (3, 3)))
    assert crd.features[2].shape == crd.features[3].shape and torch.equal(crd.logits, hsakd.logits)
    with pytest.raises(SpecError, match="maps must be one of"):
        build("vgg13", 5, 3, seed=0, maps="hskad")


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


# --- files of weights ---------------------------------------------------------------------------------------------


def trained(name, classes=7, channels=1, seed=5):
    """A network whose running statistics have moved as well."""
    model = build(name, classes, channels, seed=seed)
    model(torch.rand(8, channels, 32, 32, generator=torch.Generator().manual_seed(seed)))
    return model.eval()


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


HEAD = {"proj_head.0.weight": torch.ones(3, 3), "proj_head.0.bias": torch.ones(3)}
FORMATS = {
    "RepDistiller": lambda w: {"epoch": 240, "model": w, "accuracy": torch.tensor(74.6), "optimizer": {"state": {}}},
    "RepDistiller_last": lambda w: {"opt": argparse.Namespace(lr=0.05, model="vgg8"), "model": w},
    "mdistiller": lambda w: {"epoch": 240, "model": prefixed("module.", w), "best_acc": np.float64(74.64)},
    "SSKD": lambda w: {"epoch": 60, "state_dict": prefixed("backbone.", w), "acc": np.float32(0.5)},
    "HSAKD": lambda w: {"net": prefixed("module.", w), "acc": np.int64(7), "epoch": 240},
    "flat": lambda w: w,
    "flat_wrapped": lambda w: prefixed("module.backbone.", w),
}


@pytest.mark.parametrize("name", ["resnet8", "vgg8", "ShuffleV2"])
@pytest.mark.parametrize("family", FORMATS)
def test_published_files_are_read(family, name, tmp_path):
    model, x = trained(name), torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.save(FORMATS[family](model.state_dict()), tmp_path / "t.pth")
    teacher = load_teacher(name, tmp_path / "t.pth")
    assert torch.equal(teacher(x), model(x)) and teacher(x).shape == (2, 7)
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())


def test_safetensors_are_read(tmp_path):
    model, x = trained("wrn_16_1", channels=3), torch.rand(2, 3, 32, 32)
    save_file(model.state_dict(), tmp_path / "t.safetensors")
    for numbers in ({}, {"num_classes": 7, "in_channels": 3}):
        assert torch.equal(load_teacher("wrn_16_1", str(tmp_path / "t.safetensors"), **numbers)(x), model(x))


def test_files_of_older_torch_and_numpy_are_read(tmp_path):
    model, path = trained("resnet8"), tmp_path / "t.pth"
    weights = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    content = {"net": weights, "acc": np.float64(76.5)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        other = written.replace(b"numpy._core.multiarray", module).replace(b"numpy.core.multiarray", module)
        assert b"c" + module + b"\nscalar" in other
        path.write_bytes(other)
        assert torch.equal(load_teacher("resnet8", path)(x := torch.rand(2, 1, 32, 32)), model(x))


def test_auxiliary_heads_are_left_out_only_when_told(tmp_path):
    path, model = tmp_path / "t.pth", trained("resnet8")
    for wrapper in ("", "module."):
        torch.save({"state_dict": prefixed(wrapper, prefixed("backbone.", model.state_dict()) | HEAD)}, path)
        with pytest.raises(SpecError, match=r"2 unexpected \(proj_head.0.weight, .*; if .* ignore=\('proj_head.',\)"):
            load_teacher("resnet8", path)
        with pytest.raises(SpecError, match="ignore must be one of .*, but got 'prj_head'. Did you mean 'proj_head'"):
            load_teacher("resnet8", path, ignore=("prj_head",))
        for ignore in (("proj_head",), "proj_head."):
            teacher = load_teacher("resnet8", path, ignore=ignore)
            assert torch.equal(teacher(x := torch.rand(2, 1, 32, 32)), model(x))


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "t.pth"
    torch.save({"net": build("resnet20", 10, 3, seed=0).state_dict()}, path)
    refusals = [
        (("resnet14", {}), r"fit 'resnet14': \d+ unexpected \(layer1.2.conv1.weight, .*\.\.\.\).*fit 'resnet20' of 10"),
        (("resnet32", {}), r"fit 'resnet32': \d+ missing \(layer1.3.conv1.weight.* They fit 'resnet20' of 10 classes"),
        (
            ("vgg8", {"num_classes": 10}),
            r"\d+ missing \(block0.0.weight, .*\d+ unexpected \(conv1.weight, .*'resnet20'",
        ),
        (("vgg8", {}), "num_classes cannot be told from .* They fit 'resnet20' of 10 classes and 3 channels"),
        (("resnet8_s2_w8", {}), "with a size mismatch .conv1.weight is .16, 3, 3, 3. in the file and .8, 3, 3, 3. in"),
        (("resnet20", {"num_classes": 100}), "is 'resnet20' of 10 classes and 3 .*, but here it needs 100 classes\\.$"),
        (("resnet20", {"in_channels": 1}), r"3 channels \(colour\), but here it needs 1 channel \(grey\)\.$"),
        (("resnet2", {}), "model must be one of"),
    ]
    for (arch, numbers), said in refusals:
        with pytest.raises(SpecError, match=said) as caught:
            load_teacher(arch, path, **numbers)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 800
    model = build("resnet14", 10, 3, seed=1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(SpecError):
        load_weights(model, torch.load(path, weights_only=True)["net"], "resnet14")
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_both_mobilenets_fit_one_file(tmp_path):
    torch.save(build("MobileNetV2", 9, 3, seed=0).state_dict(), tmp_path / "t.pth")
    assert load_teacher("MobileNetV2", tmp_path / "t.pth").conv1[0].stride == (2, 2)
    assert load_teacher("MobileNetV2_s1", tmp_path / "t.pth").conv1[0].stride == (1, 1)
    with pytest.raises(SpecError, match="fit 'MobileNetV2' of .* or 'MobileNetV2_s1' of 9 classes"):
        load_teacher("ShuffleV1", tmp_path / "t.pth", 9)


class Wrapped(Linear):
    """A foreign model whose own names begin like a wrapper's."""

    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.backbone = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, x):
        return super().forward(self.backbone(x))


@pytest.mark.parametrize("cls", [Linear, Wrapped])
def test_foreign_files_are_read(cls, tmp_path):
    model, x = cls(6, 1), torch.rand(2, 1, 8, 8)
    for number, prefix in enumerate(("", "module.", "model.")):
        torch.save(prefixed(prefix, model.state_dict()), path := tmp_path / f"{number}.pth")
        teacher = load_teacher(f"{__name__}:{cls.__name__}", path, taps=["first"])
        assert torch.equal(teacher(x), model(x)) and teacher.outputs(x).features[0].shape == (2, 4, 6, 6)


def test_files_without_weights_are_refused(tmp_path):
    path = tmp_path / "t.pth"
    torch.save({"epoch": 3, "model": {"lr": 0.1}}, path)
    with pytest.raises(SpecError, match=r"holds no weights by name, at its top or within; found \[epoch, model\]"):
        load_teacher("resnet8", path)
    torch.save([torch.ones(2)], path)
    with pytest.raises(SpecError, match=r"found \[list\]"):
        load_teacher("resnet8", path)
    torch.save(build("resnet8", 10, seed=0), path)  # a whole module would have to be executed
    with pytest.raises(SpecError, match=r"is a pickled object \(kdlab.models.resnet.ResNet\), such as a whole model"):
        load_teacher("resnet8", path)
    for damaged, said in (
        (b"", "is empty"),
        (b"hello", "text that begins with 'hello'"),
        (b"PK\3\4 no", "part of a file"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(SpecError, match=said):
            load_teacher("resnet8", path)
    with pytest.raises(SpecError, match="nowhere.pth does not exist"):
        load_teacher("resnet8", tmp_path / "nowhere.pth")
