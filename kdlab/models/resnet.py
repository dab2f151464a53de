"""Residual networks for small images: ResNet-8 to ResNet-110, their x4 widths, and stride-2 ones for
laptops."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models.outputs import Outputs
from kdlab.registry import register


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias (a BatchNorm always follows) that keeps the size at stride 1."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def thin(x: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th pixel: a 1x1 convolution of this is the strided one, but faster and safer.

    oneDNN's strided 1x1 convolution is slow backwards on a CPU, and in channels_last it writes out of bounds.
    """
    return x if stride == 1 else x[:, :, ::stride, ::stride]


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


def initialise(model: nn.Module) -> None:
    """He initialisation by fan-out for every convolution; BatchNorm starts as the identity by default."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class BasicBlock(nn.Module):
    """``relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))``; the shortcut projects when the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.before(x), inplace=True)

    def before(self, x: Tensor) -> Tensor:
        """The block's map before its last ReLU."""
        shortcut = x if self.downsample is None else self.downsample(thin(x, self.stride))
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(x)).add_(shortcut)


class ResNet(nn.Module):
    """A 3x3 stem, three stages of basic blocks (strides 1, 2, 2), the mean over positions, a linear
    classifier.

    Parameter names are those of RepDistiller, so that its weight files fit.

    Args:
        num_classes: number of classes K.
        in_channels: 1 or 3.
        blocks: basic blocks in each stage.
        widths: channels of stage 1, 2, 3.
        stem: channels after the stem.
        stride: stride of the stem; 2 quarters the cost.

    Reference: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        blocks: int,
        widths: tuple[int, int, int],
        stem: int,
        stride: int = 1,
    ):
        super().__init__()
        self.conv1 = conv(in_channels, stem, 3, stride)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = self._stage(stem, widths[0], blocks, 1)
        self.layer2 = self._stage(widths[0], widths[1], blocks, 2)
        self.layer3 = self._stage(widths[1], widths[2], blocks, 2)
        self.fc = nn.Linear(widths[2], num_classes)
        initialise(self)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        later = [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
        return nn.Sequential(BasicBlock(inputs, outputs, stride), *later)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.outputs(x).logits

    def outputs(self, x: Tensor) -> Outputs:
        """Logits, the three stage maps (after their ReLU) and the pooled embedding (B, widths[2])."""
        keep = not self.training
        stem = F.relu(self.bn1(self.conv1(x)), inplace=True)
        first, one = through(self.layer1, stem, keep)
        second, two = through(self.layer2, first, keep)
        third, three = through(self.layer3, second, keep)
        embedding = third.mean((2, 3))
        before = (one, two, three) if keep else ()
        return Outputs(self.fc(embedding), (first, second, third), embedding, third, stem, before)

    def branch(self, tap: int) -> nn.Sequential:
        """New stages from a stage map to a final map: those that follow it, or once more the last one, at stride 1.

        Args:
            tap: which of the three maps, from 0.
        """
        stages = (self.layer1, self.layer2, self.layer3)
        blocks, widths = len(self.layer1), [stage[0].conv2.out_channels for stage in stages]
        later = [self._stage(a, b, blocks, 2) for a, b in pairwise(widths[tap:])]
        return nn.Sequential(*(later or [self._stage(widths[-1], widths[-1], blocks, 1)]))


@register("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", revision=1)
def resnet(name: str, num_classes: int, in_channels: int) -> ResNet:
    """ResNet-d for small images, d = 6n + 2, stage widths 16, 32, 64."""
    depth = int(name.removeprefix("resnet"))
    return ResNet(num_classes, in_channels, (depth - 2) // 6, (16, 32, 64), stem=16)


@register("resnet8x4", "resnet32x4", revision=1)
def resnet_x4(name: str, num_classes: int, in_channels: int) -> ResNet:
    """ResNet-d four times as wide: stage widths 64, 128, 256 after a stem of 32."""
    depth = int(name.removeprefix("resnet").removesuffix("x4"))
    return ResNet(num_classes, in_channels, (depth - 2) // 6, (64, 128, 256), stem=32)


@register("resnet8_s2_w4", "resnet8_s2_w8", revision=1, narrow=True)
def narrow_resnet(name: str, num_classes: int, in_channels: int) -> ResNet:
    """ResNet-8 for a laptop, narrow enough to be trained side by side with others as one network."""
    return small_resnet(name, num_classes, in_channels)


@register("resnet8_s2_w16", "resnet8_s2_w32", revision=1)
def small_resnet(name: str, num_classes: int, in_channels: int) -> ResNet:
    """ResNet-8 for a laptop: stride-2 stem and stage widths w, 2w, 4w (w is the number after ``_w``)."""
    width = int(name.rpartition("_w")[2])
    return ResNet(num_classes, in_channels, 1, (width, 2 * width, 4 * width), stem=width, stride=2)
