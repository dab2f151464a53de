"""Networks for inference alone: equal to their originals up to rounding, and what they leave untouched."""

import copy

import pytest
import torch
from torch import nn

from kdlab.models import NAMES, build, outputs
from kdlab.models.frozen import LaidOut, frozen


def trained(name: str, channels: int = 3) -> nn.Module:
    """A network whose BatchNorms are far from the identity, as after training."""
    network = build(name, 10, channels, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low, high in (
                    (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0),
                    (module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5),
                ):  # fmt: skip
                    values.uniform_(low, high, generator=generator)
    return network


def parts(said):
    singles = {"logits": said.logits, "embedding": said.embedding, "final": said.final, "stem": said.stem}
    lists = {f"{name}{k}": v for name in ("features", "before") for k, v in enumerate(getattr(said, name))}
    return {name: value for name, value in (singles | lists).items() if value is not None}


@pytest.mark.parametrize("name", NAMES)
def test_every_model_gives_the_same_outputs(name):
    network = trained(name)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        right, found = parts(outputs(network, x)), parts(outputs(frozen(network, x), x))
    assert right.keys() == found.keys()
    for part, values in right.items():
        assert (found[part] - values).abs().max() <= 2e-5 * values.abs().max(), part


@pytest.mark.parametrize("name", ["resnet20", "vgg8", "resnet8_s2_w32", "MobileNetV2", "ShuffleV2"])
def test_batch_norms_of_convolutions_are_gone(name):
    made = frozen(trained(name), torch.zeros(2, 3, 32, 32))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in made.modules())
    assert any(isinstance(module, LaidOut) for module in made.modules()) == torch.backends.mkldnn.is_available()


@pytest.mark.parametrize("name", ["resnet8_s2_w8", "wrn_16_1", "MobileNetV2", "ShuffleV2"])
def test_bits_do_not_depend_on_how_the_original_lies_in_memory(name):
    network, x = trained(name), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        right = frozen(network, x)(x)
        assert torch.equal(frozen(network.to(memory_format=torch.channels_last), x)(x), right)


def test_the_original_is_left_as_it_is():
    network = build("resnet8", 10, 3, seed=0)
    before, mode = copy.deepcopy(network.state_dict()), network.training
    frozen(network, torch.randn(2, 3, 32, 32))
    after = network.state_dict()
    assert network.training == mode and before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(p.requires_grad for p in network.parameters()) and not network.conv1._forward_hooks


@pytest.mark.parametrize("name", ["resnet8_s2_w16", "resnet20", "wrn_16_1", "vgg8", "MobileNetV2"])
@pytest.mark.parametrize("rows", [1, 33])
def test_bits_do_not_depend_on_the_example(name, rows):
    network = trained(name)
    x = torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(frozen(network, x[:1])(x), frozen(network, torch.zeros(64, 3, 32, 32))(x))


def test_bfloat16_rounds_and_gives_float32():
    network = trained("resnet8_s2_w16", 1)
    x = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        right, found = outputs(network, x), outputs(frozen(network, x, "bfloat16"), x)
    error = (found.logits - right.logits).abs().max() / right.logits.abs().max()
    assert found.logits.dtype == found.embedding.dtype == torch.float32
    assert 0 < error < 0.03


class Reads(nn.Module):
    """A foreign network that reads its convolution both before and after a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x):
        x = self.conv(x)
        return self.fc((x + self.norm(x)).mean((2, 3)))


def test_a_foreign_network_is_taken_as_it_is():
    network, x = Reads(), torch.randn(4, 3, 8, 8)
    network(x)
    network.eval()
    with torch.no_grad():
        assert torch.equal(frozen(network, x)(x), network(x))
