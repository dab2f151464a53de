"""VGG networks with BatchNorm for small images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import choose
from kdlab.models.layers import Network, initialise, small_classifier
from kdlab.models.outputs import Outputs
from kdlab.registry import register

DEPTHS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
MAPS = {"crd": (1, 2, 3, 4), "hsakd": (0, 1, 2, 4)}  # the blocks whose maps are the features


class VGG(Network):
    """Five blocks of ``relu(bn(conv(x)))``, the mean over positions, a linear classifier.

    The sides are halved after blocks 0, 1 and 2, and after block 3 for images of 64 pixels or more; sides of 8 pixels
    are the least. Convolutions have a bias. Parameter names are those of RepDistiller, so that its weight files fit.

    There are four stage maps. The CRD comparison, from which the methods on features have their weights, reads blocks 1
    to 4, and block 0 as the stem; HSAKD reads blocks 0, 1, 2 and 4, the last of each size.

    Args:
        num_classes: number of classes K.
        in_channels: 1 or 3.
        depths: convolutions in each block.
        maps: ``"crd"`` or ``"hsakd"``: whose four maps.

    Reference: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.
    """

    def __init__(self, num_classes: int, in_channels: int, depths: tuple[int, ...], maps: str = "crd"):
        super().__init__()
        self.taps = MAPS[choose("maps", maps, MAPS)]
        inputs = (in_channels, *WIDTHS)
        for number, depth in enumerate(depths):
            setattr(self, f"block{number}", self._block(inputs[number], inputs[number + 1], depth))
        initialise(self)
        self.classifier = small_classifier(WIDTHS[-1], num_classes)

    @staticmethod
    def _block(inputs: int, outputs: int, depth: int) -> nn.Sequential:
        """The block without its last ReLU, which ``outputs`` applies."""
        layers: list[nn.Module] = []
        for number in range(depth):
            layers.append(nn.Conv2d(outputs if number else inputs, outputs, 3, padding=1))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers[:-1])

    def outputs(self, x: Tensor) -> Outputs:
        """Logits, four maps (after their ReLU) and the pooled embedding (B, 512)."""
        side, keep, maps, before = x.shape[2], not self.training, [], []
        for number in range(5):
            if number in (1, 2, 3) or (number == 4 and side >= 64):
                x = F.max_pool2d(x, 2)
            x = getattr(self, f"block{number}")(x)
            before.append(x)
            x = F.relu(x, inplace=not keep)
            maps.append(x)
        embedding = x.mean((2, 3))
        features = tuple(maps[tap] for tap in self.taps)
        stem = None if 0 in self.taps else maps[0]
        before = tuple(before[tap] for tap in self.taps) if keep else ()
        return Outputs(self.classifier(embedding), features, embedding, x, stem, before)

    def branch(self, tap: int) -> nn.Sequential:
        """New stages from a stage map to a final map: those that follow it, or once more the last one, at stride 1.

        The pooling that images of 64 pixels get after block 3 is left out.

        Args:
            tap: which of the four maps, from 0.
        """
        last = tap == len(self.taps) - 1
        inputs = WIDTHS[self.taps[tap]]
        layers: list[nn.Module] = []
        for number in range(self.taps[tap - last] + 1, 5):
            layers += [nn.MaxPool2d(2)] if number < 4 and not last else []
            depth = sum(isinstance(layer, nn.Conv2d) for layer in getattr(self, f"block{number}"))
            layers += [self._block(inputs, WIDTHS[number], depth), nn.ReLU(inplace=True)]
            inputs = WIDTHS[number]
        return nn.Sequential(*layers)


@register("vgg8", "vgg11", "vgg13", "vgg16", "vgg19", revision=2)
def vgg(name: str, num_classes: int, in_channels: int, maps: str = "crd") -> VGG:
    """VGG-d with BatchNorm for small images, stage widths 64, 128, 256, 512, 512."""
    return VGG(num_classes, in_channels, DEPTHS[int(name.removeprefix("vgg"))], maps)
