"""ResNet-50 for small images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models.layers import Residual, Staged, conv, initialise, thin
from kdlab.registry import register

SIZES = ((64, 256, 3), (256, 512, 4), (512, 1024, 6), (1024, 2048, 3))  # of each stage: channels in, out, blocks


class Bottleneck(Residual):
    """``relu(bn(1x1(relu(bn(3x3(relu(bn(1x1(x)))))))) + shortcut(x))``, four times as wide outside as inside.

    The 3x3 convolution carries the stride; the shortcut projects when the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride, width = stride, outputs // 4
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def before(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(thin(x, self.stride))
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.bn3(self.conv3(x)).add_(shortcut)


@register("ResNet50", revision=1)
class ResNet50(Staged):
    """ResNet-50 for small images: a 3x3 stem of stride 1 without pooling, four stages of bottlenecks.

    Stages have 3, 4, 6, 3 blocks, strides 1, 2, 2, 2 and 256, 512, 1024, 2048 channels; then the mean over positions
    and a linear classifier. Parameter names are those of RepDistiller, so that its weight files fit.

    Args:
        num_classes: number of classes K.
        in_channels: 1 or 3.

    Reference: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    block, classifier = Bottleneck, "linear"

    def __init__(self, num_classes: int, in_channels: int):
        super().__init__()
        self.conv1 = conv(in_channels, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.make_stages(SIZES, stride=1)
        self.linear = nn.Linear(2048, num_classes)
        initialise(self)
