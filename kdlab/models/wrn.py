"""Wide residual networks for small images."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models.layers import Staged, conv, initialise, thin
from kdlab.models.outputs import Outputs
from kdlab.registry import register


class PreActivationBlock(nn.Module):
    """``conv(relu(bn(conv(relu(bn(x)))))) + shortcut``.

    Where the channels change, the shortcut is a 1x1 convolution without BatchNorm of the activated input;
    elsewhere it is the raw input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3)
        self.convShortcut = None if inputs == outputs else conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.convShortcut is None else self.convShortcut(thin(active, self.stride))
        inner = F.relu(self.bn2(self.conv1(active)), inplace=True)
        return self.conv2(inner) + shortcut


class WideResNet(Staged):
    """WRN-d-k: a stem of 16, three groups of pre-activation blocks of widths 16k, 32k, 64k (strides 1, 2, 2).

    Parameter names are those of RepDistiller, so that its weight files fit. No dropout.

    Args:
        num_classes: number of classes K.
        in_channels: 1 or 3.
        blocks: blocks in each group, (d - 4) / 6.
        factor: the width k.

    Reference: Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016.
    """

    block, part = PreActivationBlock, "block"

    def __init__(self, num_classes: int, in_channels: int, blocks: int, factor: int):
        super().__init__()
        widths = (16, 16 * factor, 32 * factor, 64 * factor)
        self.conv1 = conv(in_channels, 16, 3)
        self.make_stages([(*channels, blocks) for channels in pairwise(widths)], stride=1)
        self.bn1 = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1], num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def stage(self, inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        return nn.Sequential(OrderedDict(layer=super().stage(inputs, outputs, blocks, stride)))

    def outputs(self, x: Tensor) -> Outputs:
        """Logits, the three group maps (before any activation) and the pooled embedding (B, 64k).

        ``before`` holds the group maps after the BatchNorm, and before the ReLU, that reads them next.
        """
        stem = self.conv1(x)
        first = self.block1(stem)
        second = self.block2(first)
        third = self.block3(second)
        final = F.relu(self.bn1(third), inplace=True)
        embedding = final.mean((2, 3))
        before = ()
        if not self.training:  # a second call in train mode would move the running statistics twice
            norms = self.block2.layer[0].bn1, self.block3.layer[0].bn1, self.bn1
            before = tuple(norm(x) for norm, x in zip(norms, (first, second, third), strict=True))
        return Outputs(self.fc(embedding), (first, second, third), embedding, final, stem, before)

    def branch(self, tap: int) -> nn.Sequential:
        """The groups as in ``Staged``, and the BatchNorm and ReLU after them."""
        return nn.Sequential(*super().branch(tap), nn.BatchNorm2d(self.sizes[-1][1]), nn.ReLU())


@register("wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2", revision=1)
def wrn(name: str, num_classes: int, in_channels: int) -> WideResNet:
    """Wide ResNet of depth d and width k, named ``wrn_d_k``."""
    depth, factor = (int(part) for part in name.split("_")[1:])
    return WideResNet(num_classes, in_channels, (depth - 4) // 6, factor)
