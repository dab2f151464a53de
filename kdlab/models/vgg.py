"""VGG networks with BatchNorm for small images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models.outputs import Outputs
from kdlab.models.resnet import initialise
from kdlab.registry import register

DEPTHS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


def small_classifier(inputs: int, num_classes: int) -> nn.Linear:
    """A linear layer that starts near zero: weights N(0, 0.01^2), biases 0."""
    layer = nn.Linear(inputs, num_classes)
    nn.init.normal_(layer.weight, 0, 0.01)
    nn.init.zeros_(layer.bias)
    return layer


class VGG(nn.Module):
    """Five blocks of ``relu(bn(conv(x)))``, the mean over positions, a linear classifier.

    The sides are halved after blocks 0, 1 and 2, and after block 3 for images of 64 pixels or more; sides of 8 pixels
    are the least. Blocks 3 and 4 share a size and make one stage, so there are four stage maps, as HSAKD taps them.
    Convolutions have a bias. Parameter names are those of RepDistiller, so that its weight files fit.

    Args:
        num_classes: number of classes K.
        in_channels: 1 or 3.
        depths: convolutions in each block.

    Reference: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.
    """

    def __init__(self, num_classes: int, in_channels: int, depths: tuple[int, ...]):
        super().__init__()
        inputs = (in_channels, *WIDTHS)
        for number, depth in enumerate(depths):
            setattr(self, f"block{number}", self._block(inputs[number], inputs[number + 1], depth))
        initialise(self)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.bias)
        self.classifier = small_classifier(WIDTHS[-1], num_classes)

    @staticmethod
    def _block(inputs: int, outputs: int, depth: int) -> nn.Sequential:
        """The block without its last ReLU, which ``outputs`` applies."""
        layers: list[nn.Module] = []
        for number in range(depth):
            layers.append(nn.Conv2d(outputs if number else inputs, outputs, 3, padding=1))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.outputs(x).logits

    def outputs(self, x: Tensor) -> Outputs:
        """Logits, the maps of blocks 0, 1, 2 and 4 (after their ReLU) and the pooled embedding (B, 512)."""
        first = F.relu(self.block0(x), inplace=True)
        second = F.relu(self.block1(F.max_pool2d(first, 2)), inplace=True)
        third = F.relu(self.block2(F.max_pool2d(second, 2)), inplace=True)
        inner = F.relu(self.block3(F.max_pool2d(third, 2)), inplace=True)
        if x.shape[2] >= 64:
            inner = F.max_pool2d(inner, 2)
        fourth = F.relu(self.block4(inner), inplace=True)
        embedding = fourth.mean((2, 3))
        return Outputs(self.classifier(embedding), (first, second, third, fourth), embedding, fourth)

    def branch(self, tap: int) -> nn.Sequential:
        """New stages from a stage map to a final map: those that follow it, or once more the last one, at stride 1.

        The pooling that images of 64 pixels get after block 3 is left out.

        Args:
            tap: which of the four maps, from 0.
        """
        blocks = (self.block0, self.block1, self.block2, self.block3, self.block4)
        depths = [sum(isinstance(layer, nn.Conv2d) for layer in block) for block in blocks]
        layers: list[nn.Module] = []
        for number in range(min(tap + 1, 3), 5):
            inputs = WIDTHS[number - 1] if tap < 3 else WIDTHS[-1]
            layers += [nn.MaxPool2d(2)] if number < 4 and tap < 3 else []
            layers += [self._block(inputs, WIDTHS[number], depths[number]), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)


@register("vgg8", "vgg11", "vgg13", "vgg16", "vgg19", revision=1)
def vgg(name: str, num_classes: int, in_channels: int) -> VGG:
    """VGG-d with BatchNorm for small images, stage widths 64, 128, 256, 512, 512."""
    return VGG(num_classes, in_channels, DEPTHS[int(name.removeprefix("vgg"))])
