"""ResNets for small images: ResNet-8 to ResNet-110, their x4 widths, and stride-2 ones for laptops."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models.layers import Residual, Staged, conv, initialise, thin
from kdlab.registry import register


class BasicBlock(Residual):
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

    def before(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(thin(x, self.stride))
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(x)).add_(shortcut)


class ResNet(Staged):
    """A 3x3 stem, three stages of basic blocks (strides 1, 2, 2), the mean over positions, a linear classifier.

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

    block = BasicBlock

    def __init__(
        self, num_classes: int, in_channels: int, blocks: int, widths: tuple[int, int, int], stem: int, stride: int = 1
    ):
        super().__init__()
        self.conv1 = conv(in_channels, stem, 3, stride)
        self.bn1 = nn.BatchNorm2d(stem)
        self.make_stages([(*channels, blocks) for channels in pairwise((stem, *widths))], stride=1)
        self.fc = nn.Linear(widths[2], num_classes)
        initialise(self)


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
