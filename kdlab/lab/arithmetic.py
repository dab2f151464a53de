"""How fast a network runs that was never measured: from its multiply-adds and its machine's arithmetic. No torch.

``seconds = products m / M + copies n / N + start``, for an image: m multiply-adds of a forward pass, n numbers that it
keeps for the backward pass, M multiply-adds a second in a product of large matrices, N numbers copied a second.
"""

from __future__ import annotations

from typing import NamedTuple

from kdlab.lab import memory

# Thousands of multiply-adds of a forward pass, for a pixel of a colour image.
MULTIPLY_ADDS = {
    "MobileNetV2": 6.37, "MobileNetV2_s1": 25.1, "ShuffleV1": 37.8, "ShuffleV2": 43.5, "ResNet50": 1270,
    "resnet8": 12.2, "resnet14": 26, "resnet20": 39.9, "resnet32": 67.5, "resnet44": 95.2, "resnet56": 123,
    "resnet110": 247, "resnet8x4": 173, "resnet32x4": 1060,
    "resnet8_s2_w4": 0.213, "resnet8_s2_w8": 0.793, "resnet8_s2_w16": 3.06, "resnet8_s2_w32": 12,
    "resnet8_s2_w64": 47.6,
    "vgg8": 93.9, "vgg11": 205, "vgg13": 278, "vgg16": 389, "vgg19": 499,
    "wrn_16_1": 26, "wrn_16_2": 98.7, "wrn_40_1": 81.3, "wrn_40_2": 320,
}  # fmt: skip
OTHER = 82.0  # a network that is not listed counts like torchvision's resnet50


class Machine(NamedTuple):
    """A second's arithmetic: multiply-adds in a product of large float32 matrices, float32 numbers copied."""

    multiply_adds: float
    numbers: float


class Pass(NamedTuple):
    """What a pass costs: products and copies as in the formula, and seconds for an image beside both."""

    products: float
    copies: float
    start: float


CORE = Machine(100e9, 4e9)  # a core with AVX-512, where nothing was measured
CARD = Machine(20e12, 250e9)  # a GPU, likewise
# Fitted to resnet8_s2 of five widths on a core; on a GPU (an H200) to cohorts of 64 resnet8_s2_w8, 8 wrn_16_2 and 4
# resnet8x4, whose maps' copies explain it all. A student by itself waits for its kernels to start, five times as long.
ON_CORE = {"forward": Pass(1.03, 4.8, 8e-6), "training": Pass(4.0, 22.0, 50e-6)}
ON_CARD = {"forward": Pass(1.5, 3.0, 1e-7), "training": Pass(1.0, 10.0, 2e-7)}


def seconds(model: str, pixels: int, training: bool, machine: Machine, card: bool = False) -> float:
    """Predicted seconds for an image.

    Args:
        model: name of the network.
        pixels: of an image.
        training: forward and backward, instead of forward alone.
        machine: whose arithmetic.
        card: whether that is a GPU's.
    """
    cost = (ON_CARD if card else ON_CORE)["training" if training else "forward"]
    products = 1000 * MULTIPLY_ADDS.get(model, OTHER) * pixels
    kept = memory.NETWORKS.get(model, memory.OTHER)[1] * pixels
    return cost.products * products / machine.multiply_adds + cost.copies * kept / machine.numbers + cost.start
