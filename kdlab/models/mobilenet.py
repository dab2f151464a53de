"""MobileNetV2 of half width for small images."""

from __future__ import annotations

from torch import Tensor, nn

from kdlab.models.layers import Network, conv, initialise, small_classifier, stage
from kdlab.models.outputs import Outputs
from kdlab.registry import register

# (channels, blocks, stride of the first block); the first group expands 1 time, the others 6 times.
GROUPS = ((8, 1, 1), (12, 2, 1), (16, 3, 2), (32, 4, 2), (48, 3, 1), (80, 3, 2), (160, 1, 1))
TAPS = (1, 2, 4, 6)  # the last group of each size


def unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias, BatchNorm and ReLU (not ReLU6)."""
    return [conv(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class InvertedResidual(nn.Module):
    """``bn(1x1(r(3x3(r(1x1(x))))))``, ``r = relu(bn(.))``, 3x3 depthwise; plus x where the shapes agree.

    The first 1x1 convolution is there even where it does not expand.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int):
        super().__init__()
        inner = expand * inputs
        narrow = unit(inner, outputs, 1)[:-1]  # no ReLU after the bottleneck
        self.conv = nn.Sequential(*unit(inputs, inner, 1), *unit(inner, inner, 3, stride, inner), *narrow)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(Network):
    """A 3x3 stem of 16 channels, seven groups of inverted residuals, 1x1 to 1280 channels, mean, linear classifier.

    Parameter names are those of RepDistiller, so that its weight files fit.

    Args:
        num_classes: number of classes K.
        in_channels: 1 or 3.
        stem_stride: 1 or 2.

    Reference: Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2: Inverted Residuals and Linear Bottlenecks,
    CVPR 2018.
    """

    def __init__(self, num_classes: int, in_channels: int, stem_stride: int):
        super().__init__()
        self.conv1 = nn.Sequential(*unit(in_channels, 16, 3, stem_stride))
        self.blocks = nn.ModuleList()
        inputs = 16
        for number, (outputs, blocks, stride) in enumerate(GROUPS):
            self.blocks.append(stage(InvertedResidual, inputs, outputs, blocks, stride, 6 if number else 1))
            inputs = outputs
        self.conv2 = nn.Sequential(*unit(inputs, 1280, 1))
        initialise(self)
        self.classifier = nn.Sequential(small_classifier(1280, num_classes))

    def outputs(self, x: Tensor) -> Outputs:
        """Logits, the maps of 12, 16, 48 and 160 channels (linear, no ReLU) and the pooled embedding (B, 1280)."""
        x, maps = self.conv1(x), []
        stem = x
        for group in self.blocks:
            x = group(x)
            maps.append(x)
        final = self.conv2(x)
        embedding = final.mean((2, 3))
        taps = tuple(maps[tap] for tap in TAPS)
        before = () if self.training else taps  # no activation to undo
        return Outputs(self.classifier(embedding), taps, embedding, final, stem, before)

    def branch(self, tap: int) -> nn.Sequential:
        """New stages from a stage map to a final map: those that follow it, or once more the last one, at stride 1.

        Args:
            tap: which of the four maps, from 0.
        """
        inputs, last = GROUPS[TAPS[tap]][0], TAPS[tap] == TAPS[-1]
        later = []
        for outputs, blocks, stride in GROUPS[(TAPS[-2] if last else TAPS[tap]) + 1 :]:
            later.append(stage(InvertedResidual, inputs, outputs, blocks, 1 if last else stride, 6))
            inputs = outputs
        return nn.Sequential(*later, *unit(inputs, 1280, 1))


@register("MobileNetV2", "MobileNetV2_s1", revision=1)
def mobilenet_v2(name: str, num_classes: int, in_channels: int) -> MobileNetV2:
    """MobileNetV2 of half width; two networks of one size in the literature, which differ in the stem.

    ``MobileNetV2`` has a stem of stride 2, as in RepDistiller and SSKD (6.5 million multiplications at 32 x 32,
    CIFAR-100 64.60 and 65.79 % by itself); ``MobileNetV2_s1`` has stride 1, as in HSAKD and CCD (25.7 million,
    73.51 %). Their weight files have the same names and shapes: nothing in a file tells which of the two it is.
    """
    return MobileNetV2(num_classes, in_channels, stem_stride=1 if name.endswith("_s1") else 2)
