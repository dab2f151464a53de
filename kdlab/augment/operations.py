"""The 14 operations of joint augmentation, single or in a chain, each row with its own draw.

Magnitudes have ten levels k = 0 ... 9; the value is limit k / 9 (``SCALES``). The table of values and the behaviour of
each operation follow the JDA policies (W. Li, S. Shao, W. Liu, Z. Qiu, Z. Zhu, W. Huan, What Role Does Data
Augmentation Play in Knowledge Distillation?, ACCV 2022), which build on AutoAugment (E. Cubuk, B. Zoph, D. Mane,
V. Vasudevan, Q. Le, AutoAugment: Learning Augmentation Strategies from Data, CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kdlab.augment import geometric, pointwise
from kdlab.augment.base import Augmentation
from kdlab.augment.bytewise import beside, put
from kdlab.errors import SpecError, check_integer, check_number, choose
from kdlab.registry import register

LEVELS = 10


@dataclass(frozen=True)
class Scale:
    """How an operation is applied and what its magnitude index means.

    Args:
        function: ``function(images, value)``; ``value`` is a float, or (m,) when signed, or absent without magnitudes.
        start: value at index 0, where the operation does nothing; None for operations without a magnitude.
        end: value at index 9.
        signed: the value's sign is drawn, plus or minus equally likely.
        factor: the signed value is added to 1 (enhancement factors).
        whole: the value is rounded to an integer.
        level: index that ``Operation`` takes when none is given.
    """

    function: Callable
    start: float | None = None
    end: float = 0.0
    signed: bool = False
    factor: bool = False
    whole: bool = False
    level: int | None = None

    def value(self, index: int | None) -> float | None:
        """Unsigned value at a magnitude index."""
        if self.start is None:
            return None
        value = self.start + (self.end - self.start) * index / (LEVELS - 1)
        return round(value) if self.whole else value

    def does_nothing(self, index: int | None) -> bool:
        """Whether the operation leaves every image as it is at this index."""
        return self.start is not None and self.value(index) == self.start

    def apply(self, images: Tensor, index: int | None, sign: Tensor) -> Tensor:
        """Changed copies of uint8 images (m, C, H, W); ``sign`` (m,) holds 1 or -1."""
        value = self.value(index)
        if value is None:
            return self.function(images)
        if not self.signed:
            return self.function(images, value)
        amount = sign.double() * value
        return self.function(images, (1 + amount).float() if self.factor else amount)


def _enhancement(function: Callable, level: int) -> Scale:
    return Scale(function, 0.0, 0.9, signed=True, factor=True, level=level)


# Default levels are those of the CIFAR-100 policy, or of the CIFAR-10 one where that does nothing.
SCALES = {
    "shearX": Scale(partial(geometric.shear, axis="x"), 0.0, 0.3, signed=True, level=5),
    "shearY": Scale(partial(geometric.shear, axis="y"), 0.0, 0.3, signed=True, level=8),
    "translateX": Scale(partial(geometric.translate, axis="x"), 0.0, 150 / 331, signed=True, level=1),
    "translateY": Scale(partial(geometric.translate, axis="y"), 0.0, 150 / 331, signed=True, level=8),
    "rotate": Scale(geometric.rotate, 0.0, 30.0, level=3),
    "color": _enhancement(pointwise.color, level=4),
    "contrast": _enhancement(pointwise.contrast, level=3),
    "sharpness": _enhancement(pointwise.sharpness, level=5),
    "brightness": _enhancement(pointwise.brightness, level=3),
    "posterize": Scale(pointwise.posterize, 8.0, 4.0, whole=True, level=9),
    "solarize": Scale(pointwise.solarize, 256.0, 0.0, level=4),
    "autocontrast": Scale(pointwise.autocontrast),
    "equalize": Scale(pointwise.equalize),
    "invert": Scale(pointwise.invert),
}


def draw_signs(n: int, width: int, generator: torch.Generator) -> Tensor:
    """Signs 1 and -1, equally likely, int8 (n, width)."""
    return torch.randint(2, (n, width), generator=generator, dtype=torch.int8) * 2 - 1


class Chain(Augmentation):
    """Operations tried one after another in a fixed order, each kept with the same probability, row by row.

    Args:
        steps: (name, magnitude index) of each operation; the index is None where there is no magnitude.
        probability: of each operation for each row, in [0, 1].

    Raises:
        SpecError: for an unknown operation, an index outside 0 ... 9 or a probability outside [0, 1].
    """

    def __init__(self, steps: tuple[tuple[str, int | None], ...], probability: float):
        for name, index in steps:
            scale = SCALES[choose("operation", name, SCALES)]
            if scale.start is not None:
                check_integer(f"magnitude of {name!r}", index, 0, LEVELS - 1)
        self.steps, self.probability = tuple(steps), check_number("probability", probability, 0, 1)

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """Which operations change which rows, and how.

        Args:
            n: number of images.
            image_shape: (C, H, W).
            generator: CPU generator of the stream.
            guide: unused.

        Returns:
            ``fired`` (n, operations) bool and ``sign`` (n, operations) int8 of 1 or -1, which only signed
            operations use.
        """
        fired = torch.rand(n, len(self.steps), generator=generator) < self.probability
        return {"fired": fired, "sign": draw_signs(n, len(self.steps), generator)}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Changed uint8 images (B, C, H, W); only the rows where an operation fired are touched."""
        images = images.clone()
        fired, sign = params["fired"].t().contiguous(), params["sign"].t().contiguous()
        for k, (name, index) in enumerate(self.steps):
            if SCALES[name].does_nothing(index):
                continue
            rows = fired[k].nonzero().flatten()
            if len(rows):
                place = beside(images, rows)
                some = images.index_select(0, place)
                put(images, place, SCALES[name].apply(some, index, sign[k].index_select(0, rows)))
        return images


@register(
    "shearX", "shearY", "translateX", "translateY", "rotate", "color", "contrast", "sharpness", "brightness",
    "posterize", "solarize", "autocontrast", "equalize", "invert", revision=1,
)  # fmt: skip
class Operation(Chain):
    """One operation of joint augmentation on its own.

    Args:
        name: one of the 14 operations.
        magnitude: index 0 ... 9, or None for the level of the CIFAR policies; operations without a magnitude take None.
        probability: of changing a row, in [0, 1].

    Raises:
        SpecError: for a value out of range, or a magnitude for an operation that has none.
    """

    def __init__(self, name: str, magnitude: int | None = None, probability: float = 1.0):
        scale = SCALES[choose("operation", name, SCALES)]
        if scale.start is None and magnitude is not None:
            raise SpecError(f"{name!r} has no magnitude, but got magnitude={magnitude!r}.")
        super().__init__(((name, scale.level if magnitude is None else magnitude),), probability)
