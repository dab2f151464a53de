"""ShuffleNets for small images. Both keep PyTorch's default initialisation, as their family does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models.layers import Residual, Staged, conv
from kdlab.registry import register

GROUPS = 3  # of the 1x1 convolutions of version 1


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel ``i * n + j`` (group i of n channels each) goes to ``j * groups + i``."""
    if groups == 1:
        return x
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class UnitV1(Residual):
    """``relu(bn(1x1(r(3x3(shuffle(r(1x1(x))))))) + x)``, ``r = relu(bn(.))``: 1x1 in groups, 3x3 depthwise.

    With stride 2 the 3x3 mean of x is appended to the channels instead of added. The middle has a quarter of the
    channels that the unit itself computes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        own = outputs - inputs if stride == 2 else outputs
        middle = own // 4
        self.stride, self.groups = stride, 1 if inputs == 24 else GROUPS  # 24 channels: too few for groups
        self.conv1, self.bn1 = conv(inputs, middle, 1, groups=self.groups), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = conv(middle, middle, 3, stride, middle), nn.BatchNorm2d(middle)
        self.conv3, self.bn3 = conv(middle, own, 1, groups=GROUPS), nn.BatchNorm2d(own)

    def before(self, x: Tensor) -> Tensor:
        """The unit's map before its last ReLU."""
        inner = shuffle(F.relu(self.bn1(self.conv1(x)), inplace=True), self.groups)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)
        inner = self.bn3(self.conv3(inner))
        if self.stride == 2:
            return torch.cat([inner, F.avg_pool2d(x, 3, 2, padding=1)], 1)
        return inner + x


class BasicV2(nn.Module):
    """Half of the channels through ``r(1x1(bn(3x3(r(1x1(.))))))``, the others as they are; 3x3 is depthwise."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = conv(half, half, 1), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = conv(half, half, 3, groups=half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        kept, inner = x.chunk(2, 1)
        return shuffle(torch.cat([kept, F.relu(self._inner(inner), inplace=True)], 1), 2)

    def before(self, x: Tensor) -> Tensor:
        """The unit's map before its last ReLU, which the kept half has behind it."""
        kept, inner = x.chunk(2, 1)
        return shuffle(torch.cat([kept, self._inner(inner)], 1), 2)

    def _inner(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn3(self.conv3(self.bn2(self.conv2(x))))


class DownV2(nn.Module):
    """All channels through two branches, each giving half of the outputs."""

    def __init__(self, inputs: int, outputs: int, stride: int = 2):
        super().__init__()
        half = outputs // 2
        self.conv1, self.bn1 = conv(inputs, inputs, 3, stride, inputs), nn.BatchNorm2d(inputs)
        self.conv2, self.bn2 = conv(inputs, half, 1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(inputs, half, 1), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = conv(half, half, 3, stride, half), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        left = self.bn1(self.conv1(x))
        left = F.relu(self.bn2(self.conv2(left)), inplace=True)
        right = F.relu(self.bn3(self.conv3(x)), inplace=True)
        right = self.bn4(self.conv4(right))
        right = F.relu(self.bn5(self.conv5(right)), inplace=True)
        return shuffle(torch.cat([left, right], 1), 2)


class ShuffleNet(Staged):
    """What both versions share: a 1x1 stem to 24 channels, three stages of stride 2, mean, linear classifier.

    Parameter names are those of RepDistiller, so that its weight files fit.

    Args:
        in_channels: 1 or 3.
        widths: channels of the three stages, of 4, 8 and 4 units.
    """

    classifier = "linear"

    def __init__(self, in_channels: int, widths: tuple[int, int, int]):
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, 24, 1), nn.BatchNorm2d(24)
        first, second, third = widths
        self.make_stages([(24, first, 4), (first, second, 8), (second, third, 4)])


@register("ShuffleV1", revision=1)
class ShuffleV1(ShuffleNet):
    """ShuffleNet of 3 groups: 240, 480, 960 channels in 4, 8, 4 units; embedding (B, 960).

    Args:
        num_classes: number of classes K.
        in_channels: 1 or 3.

    Reference: Zhang, Zhou, Lin and Sun, ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile
    Devices, CVPR 2018.
    """

    block = UnitV1

    def __init__(self, num_classes: int, in_channels: int):
        super().__init__(in_channels, (240, 480, 960))
        self.linear = nn.Linear(960, num_classes)


@register("ShuffleV2", revision=1)
class ShuffleV2(ShuffleNet):
    """ShuffleNetV2 of width 1: 116, 232, 464 channels in 4, 8, 4 units, 1x1 to 1024 channels; embedding (B, 1024).

    Args:
        num_classes: number of classes K.
        in_channels: 1 or 3.

    Reference: Ma, Zhang, Zheng and Sun, ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design,
    ECCV 2018.
    """

    def __init__(self, num_classes: int, in_channels: int):
        super().__init__(in_channels, (116, 232, 464))
        self.conv2, self.bn2 = conv(464, 1024, 1), nn.BatchNorm2d(1024)
        self.linear = nn.Linear(1024, num_classes)

    def stage(self, inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        later = [BasicV2(outputs) for _ in range(blocks - 1)]
        return nn.Sequential(DownV2(inputs, outputs, stride), *later)

    def head(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(x)), inplace=True)

    def branch(self, tap: int) -> nn.Sequential:
        """The stages as in ``ShuffleV1``, and the 1x1 convolution after them."""
        return nn.Sequential(*super().branch(tap), conv(464, 1024, 1), nn.BatchNorm2d(1024), nn.ReLU(inplace=True))
