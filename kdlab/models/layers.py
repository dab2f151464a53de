"""What our networks are built of: convolutions, stages of blocks, and the base classes Network and Staged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models.outputs import Outputs


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias (a BatchNorm always follows) that keeps the size at stride 1."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def small_classifier(inputs: int, num_classes: int) -> nn.Linear:
    """A linear layer that starts near zero: weights N(0, 0.01^2), biases 0."""
    layer = nn.Linear(inputs, num_classes)
    nn.init.normal_(layer.weight, 0, 0.01)
    nn.init.zeros_(layer.bias)
    return layer


def initialise(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """He initialisation by fan-out for every convolution, biases 0; BatchNorm starts as the identity by default.

    Args:
        model: changed in place.
        generator: the stream of the weights; None is the global one.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def thin(x: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th pixel: a 1x1 convolution of this is the strided one, but faster and safer.

    oneDNN's strided 1x1 convolution is slow backwards on a CPU, and in channels_last it writes out of bounds.
    """
    return x if stride == 1 else x[:, :, ::stride, ::stride]


def stage(block: Callable[..., nn.Module], inputs: int, outputs: int, count: int, stride: int, *more) -> nn.Sequential:
    """``count`` blocks ``block(inputs, outputs, stride, *more)``, of which the first has the stride.

    The later blocks are made first: the order in which initial weights are drawn is part of a run's result.
    """
    later = [block(outputs, outputs, 1, *more) for _ in range(count - 1)]
    return nn.Sequential(block(inputs, outputs, stride, *more), *later)


def through(stage: nn.Sequential, x: Tensor, keep: bool) -> tuple[Tensor, Tensor | None]:
    """A stage's map, and the same before its last ReLU.

    Args:
        stage: blocks whose map is ``relu(block.before(x))``.
        x: what the stage reads.
        keep: False takes no memory for the second, which is None then.
    """
    if not keep:
        return stage(x), None
    *blocks, last = stage
    for block in blocks:
        x = block(x)
    before = last.before(x)
    return F.relu(before), before


class Residual(nn.Module):
    """A block of a stage, which ends in a ReLU."""

    def before(self, x: Tensor) -> Tensor:
        """The block's map before its last ReLU."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.before(x), inplace=True)


class Network(nn.Module):
    """A network that gives Outputs; called, it gives its logits."""

    def outputs(self, x: Tensor) -> Outputs:
        """One forward pass on normalised images (B, C, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.outputs(x).logits


class Staged(Network):
    """``relu(bn1(conv1(x)))``, stages of blocks that end in a ReLU, the mean over positions, a linear classifier.

    Attributes:
        classifier: name of the linear layer in published files of weights.
        block: class of the blocks that stages are made of.
        part: what the names of the stages begin with there.
    """

    block: type[nn.Module]
    classifier = "fc"
    part = "layer"

    def make_stages(self, sizes: Sequence[tuple[int, int, int]], stride: int = 2) -> None:
        """Make the stages ``layer1``, ``layer2`` ...

        Args:
            sizes: input channels, output channels and blocks of each.
            stride: of the first; the others have stride 2.
        """
        self.sizes = tuple(sizes)
        for number, size in enumerate(self.sizes, 1):
            setattr(self, f"{self.part}{number}", self.stage(*size, stride if number == 1 else 2))

    def stage(self, inputs: int, outputs: int, blocks: int, stride: int) -> nn.Module:
        """One stage of blocks."""
        return stage(self.block, inputs, outputs, blocks, stride)

    def head(self, x: Tensor) -> Tensor:
        """The map whose mean is the embedding, of the last stage's map."""
        return x

    def outputs(self, x: Tensor) -> Outputs:
        """Logits, the stage maps (after their ReLU) and the pooled embedding."""
        stem = x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        features, before = [], []
        for number in range(1, len(self.sizes) + 1):
            x, inner = through(getattr(self, f"{self.part}{number}"), x, keep=not self.training)
            features.append(x)
            before.append(inner)
        final = self.head(x)
        embedding = final.mean((2, 3))
        logits = getattr(self, self.classifier)(embedding)
        return Outputs(logits, tuple(features), embedding, final, stem, () if self.training else tuple(before))

    def branch(self, tap: int) -> nn.Sequential:
        """New stages from a stage map to a final map: those that follow it, or once more the last one, at stride 1.

        Args:
            tap: which of the stage maps, from 0.
        """
        _, outputs, blocks = self.sizes[-1]
        later = [self.stage(*size, 2) for size in self.sizes[tap + 1 :]]
        return nn.Sequential(*(later or [self.stage(outputs, outputs, blocks, 1)]))
