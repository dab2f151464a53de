"""RandAugment and TrivialAugment: operations drawn per image, at a given or a drawn magnitude.

Magnitudes have bins k = 0 ... bins - 1 with the value start + (end - start) k / (bins - 1). Ranges, signs, nearest
neighbour and black from outside are those of torchvision's classes of the same names. As there, solarize inverts the
value 255 even in bin 0, and so RandAugment is never the identity: autocontrast and equalize have no magnitude.
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
from kdlab.augment.operations import draw_signs
from kdlab.errors import check_integer
from kdlab.registry import register

BINS = 31


@dataclass(frozen=True)
class Range:
    """An operation and what its magnitudes mean.

    Args:
        function: ``function(images, values)`` with one float64 value a row; None leaves the images as they are.
        start: value in bin 0.
        end: value in the last bin; None for operations without a magnitude.
        signed: the value's sign is drawn, plus or minus equally likely.
    """

    function: Callable[[Tensor, Tensor], Tensor] | None = None
    start: float = 0.0
    end: float | None = None
    signed: bool = False

    def values(self, level: Tensor, sign: Tensor, bins: int) -> Tensor:
        """Values (m,) float64 of the bins ``level`` (m,), times ``sign`` (m,) of 1 or -1 where values are signed."""
        if self.end is None:
            return torch.zeros_like(level, dtype=torch.float64)
        values = self.start + (self.end - self.start) * level.double() / (bins - 1)
        return values * sign if self.signed else values


def _share(images: Tensor, values: Tensor, axis: str) -> Tensor:
    return geometric.shift(images, values * images.shape[3 if axis == "x" else 2], axis, fill=0)


def _turn(images: Tensor, values: Tensor) -> Tensor:
    return geometric.by_amount(images, values, partial(geometric.rotate, fill=0))


def _enhance(images: Tensor, values: Tensor, function: Callable) -> Tensor:
    return function(images, (1 + values).float())


def _posterize(images: Tensor, values: Tensor) -> Tensor:
    return geometric.by_amount(images, values.round(), pointwise.posterize)


def _solarize(images: Tensor, values: Tensor) -> Tensor:
    return geometric.by_amount(images, values, pointwise.solarize)


def _plain(images: Tensor, values: Tensor, function: Callable) -> Tensor:
    return function(images)


def ranges(shear: float, shift: Callable, limit: float, turn: float, factor: float, bits: int) -> dict[str, Range]:
    """The operations of automatic policies by name, with these ends of their ranges.

    Args:
        shear: slope.
        shift: ``shift(images, values, axis)``, in shares of the side or in pixels.
        limit: of the shift.
        turn: in degrees, counter-clockwise.
        factor: of enhancement, away from 1.
        bits: that posterize keeps of 8.
    """
    slope = partial(geometric.shear, interpolation="nearest", fill=0)
    names = ("brightness", "color", "contrast", "sharpness")
    enhance = {name: partial(_enhance, function=getattr(pointwise, name)) for name in names}
    return {
        "identity": Range(),
        "shearX": Range(partial(slope, axis="x"), 0.0, shear, signed=True),
        "shearY": Range(partial(slope, axis="y"), 0.0, shear, signed=True),
        "translateX": Range(partial(shift, axis="x"), 0.0, limit, signed=True),
        "translateY": Range(partial(shift, axis="y"), 0.0, limit, signed=True),
        "rotate": Range(_turn, 0.0, turn, signed=True),
        **{name: Range(function, 0.0, factor, signed=True) for name, function in enhance.items()},
        "posterize": Range(_posterize, 8.0, bits),
        "solarize": Range(_solarize, 255.0, 0.0),
        "autocontrast": Range(partial(_plain, function=pointwise.autocontrast)),
        "equalize": Range(partial(_plain, function=pointwise.equalize)),
    }


NARROW = ranges(shear=0.3, shift=_share, limit=150 / 331, turn=30.0, factor=0.9, bits=4)
WIDE = ranges(shear=0.99, shift=partial(geometric.shift, fill=0), limit=32.0, turn=135.0, factor=0.99, bits=2)


class Drawn(Augmentation):
    """Operations drawn for each row: ``chosen`` tells which, and ``apply`` groups the rows by operation.

    Args:
        operations: what the numbers of operations mean.
        bins: number of magnitudes.
    """

    def __init__(self, operations: dict[str, Range], bins: int):
        self.operations, self.bins = operations, bins

    def chosen(self, params: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Number of the operation, bin, and sign 1 or -1, each (B, operations one after another)."""
        raise NotImplementedError

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Changed uint8 images (B, C, H, W), each row by its own operations."""
        operation, level, sign = self.chosen(params)
        images = images.clone()
        for slot in range(operation.shape[1]):
            for code, scale in enumerate(self.operations.values()):
                rows = torch.nonzero(operation[:, slot] == code).flatten()
                if scale.function and len(rows):
                    values = scale.values(level[rows, slot], sign[rows, slot], self.bins)
                    place = beside(images, rows)
                    put(images, place, scale.function(images.index_select(0, place), values))
        return images


@register("randaugment", revision=1)
class RandAugment(Drawn):
    """Operations drawn uniformly and with replacement from 14, all at one magnitude.

    The code of CCD has a variant with ``num_ops=3, magnitude=5``.

    Args:
        num_ops: operations in a row, >= 0.
        magnitude: bin 0 ... 30.

    Raises:
        SpecError: for a value out of range.

    Reference: E. Cubuk, B. Zoph, J. Shlens, Q. Le, RandAugment: Practical Automated Data Augmentation with a Reduced
    Search Space, NeurIPS 2020.
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9):
        super().__init__(NARROW, BINS)
        self.num_ops = check_integer("num_ops", num_ops)
        self.magnitude = check_integer("magnitude", magnitude, 0, BINS - 1)

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """``operation`` (n, num_ops) int64 in [0, 14) and ``sign`` (n, num_ops) int8 of 1 or -1."""
        operation = torch.randint(len(self.operations), (n, self.num_ops), generator=generator)
        return {"operation": operation, "sign": draw_signs(n, self.num_ops, generator)}

    def chosen(self, params: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The drawn operations, all at the same magnitude."""
        return params["operation"], torch.full_like(params["operation"], self.magnitude), params["sign"]


@register("trivialaugment", revision=1)
class TrivialAugment(Drawn):
    """TrivialAugment Wide: one operation of 14 at one of 31 magnitudes of wide ranges, all drawn uniformly.

    Reference: S. Mueller, F. Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation, ICCV 2021.
    """

    def __init__(self):
        super().__init__(WIDE, BINS)

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """``operation`` int64 in [0, 14), ``level`` int64 in [0, 31) and ``sign`` int8 of 1 or -1, each (n, 1)."""
        operation = torch.randint(len(self.operations), (n, 1), generator=generator)
        level = torch.randint(BINS, (n, 1), generator=generator)
        return {"operation": operation, "level": level, "sign": draw_signs(n, 1, generator)}

    def chosen(self, params: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What was drawn."""
        return params["operation"], params["level"], params["sign"]
