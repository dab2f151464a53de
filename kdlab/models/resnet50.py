"""ResNet-50 for small images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models.outputs import Outputs
from kdlab.models.resnet import conv, initialise, thin, through
from kdlab.registry import register

SIZES = ((64, 64, 3), (256, 128, 4), (512, 256, 6), (1024, 512, 3))  # of each stage: input channels, width, blocks


class Bottleneck(nn.Module):
    """``relu(bn(1x1(relu(bn(3x3(relu(bn(1x1(x)))))))) + shortcut(x))``, four times as wide outside as inside.

    The 3x3 convolution carries the stride; the shortcut projects when the shape changes.
    """

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != 4 * width:
            self.shortcut = nn.Sequential(conv(inputs, 4 * width, 1), nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.before(x), inplace=True)

    def before(self, x: Tensor) -> Tensor:
        """The block's map before its last ReLU."""
        shortcut = self.shortcut(thin(x, self.stride))
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.bn3(self.conv3(x)).add_(shortcut)


@register("ResNet50", revision=1)
class ResNet50(nn.Module):
    """ResNet-50 for small images: a 3x3 stem of stride 1 without pooling, four stages of bottlenecks.

    Stages have 3, 4, 6, 3 blocks, strides 1, 2, 2, 2 and 256, 512, 1024, 2048 channels; then the mean over positions
    and a linear classifier. Parameter names are those of RepDistiller, so that its weight files fit.

    Args:
        num_classes: number of classes K.
        in_channels: 1 or 3.

    Reference: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    def __init__(self, num_classes: int, in_channels: int):
        super().__init__()
        self.conv1 = conv(in_channels, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(*SIZES[0], 1)
        self.layer2 = self._stage(*SIZES[1], 2)
        self.layer3 = self._stage(*SIZES[2], 2)
        self.layer4 = self._stage(*SIZES[3], 2)
        self.linear = nn.Linear(2048, num_classes)
        initialise(self)

    @staticmethod
    def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        later = [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
        return nn.Sequential(Bottleneck(inputs, width, stride), *later)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.outputs(x).logits

    def outputs(self, x: Tensor) -> Outputs:
        """Logits, the four stage maps (after their ReLU) and the pooled embedding (B, 2048)."""
        keep = not self.training
        stem = F.relu(self.bn1(self.conv1(x)), inplace=True)
        first, one = through(self.layer1, stem, keep)
        second, two = through(self.layer2, first, keep)
        third, three = through(self.layer3, second, keep)
        fourth, four = through(self.layer4, third, keep)
        embedding = fourth.mean((2, 3))
        before = (one, two, three, four) if keep else ()
        return Outputs(self.linear(embedding), (first, second, third, fourth), embedding, fourth, stem, before)

    def branch(self, tap: int) -> nn.Sequential:
        """New stages from a stage map to a final map: those that follow it, or once more the last one, at stride 1.

        Args:
            tap: which of the four maps, from 0.
        """
        later = [self._stage(*sizes, 2) for sizes in SIZES[tap + 1 :]]
        return nn.Sequential(*(later or [self._stage(2048, 512, 3, 1)]))
