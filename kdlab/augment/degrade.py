"""Lost quality: noise, blur, resolution.

Weighted sums have integer weights in double precision. They are exact, so every device, batch size and order of
summation gives the same pixels.
"""

from __future__ import annotations

import functools
from itertools import accumulate

import torch
from torch import Tensor

from kdlab.augment.base import Augmentation
from kdlab.augment.bytewise import beside
from kdlab.errors import check_integer, check_number, choose
from kdlab.registry import register

ONE = 1 << 22  # fixed-point 1 of the weights: the 22 bits of Pillow


@register("noise", revision=1)
class Noise(Augmentation):
    """Add Gaussian noise to every value by itself, rounded and clipped to [0, 255].

    Args:
        sigma: standard deviation in grey levels, in [0, 255].

    Raises:
        SpecError: for a sigma out of range.
    """

    def __init__(self, sigma: float = 16.0):
        self.sigma = check_number("sigma", sigma, 0, 255)

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """``noise`` (n, C, H, W) int16, in grey levels."""
        # Double precision: no processor's last digit decides how a value is rounded.
        normal = torch.randn(n, *image_shape, generator=generator, dtype=torch.float64)
        return {"noise": (self.sigma * normal).round().to(torch.int16)}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Noisy uint8 images (B, C, H, W)."""
        return (images + beside(images, params["noise"])).clamp(0, 255).to(torch.uint8)


@register("blur", revision=1)
class Blur(Augmentation):
    """Smooth with a Gaussian, cut off at 4 sigma, the image mirrored about its borders.

    ``out(i) = sum_d w(d) in(i + d),  w(d) ~ exp(-d^2 / (2 sigma^2)),  |d| <= floor(4 sigma + 1/2)``, along both axes

    Args:
        sigma: in pixels, in [0, 100].

    Raises:
        SpecError: for a sigma out of range.
    """

    def __init__(self, sigma: float = 1.0):
        self.sigma = check_number("sigma", sigma, 0, 100)

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Blurred uint8 images (B, C, H, W), rounded once at the end."""
        down, across = (gaussian_weights(side, self.sigma, images.device) for side in images.shape[-2:])
        # 8 + 22 + 22 bits: below the 53 of a double.
        return _rounded(down @ (images.double() @ across.T), ONE * ONE)


@register("degrade", revision=1)
class Degrade(Augmentation):
    """Lose resolution: average over squares of pixels, then enlarge to the old size.

    Sides are divided by ``factor``, rounded up; both ways are Pillow's resize (box; bicubic or nearest).

    Args:
        factor: pixels along a side that become one, >= 1.
        back: ``"bicubic"`` or ``"nearest"``.

    Raises:
        SpecError: for an unknown ``back`` or a factor out of range.
    """

    def __init__(self, factor: int = 2, back: str = "bicubic"):
        self.factor = check_integer("factor", factor, 1)
        self.back = choose("back", back, ("bicubic", "nearest"))

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Degraded uint8 images (B, C, H, W)."""
        height, width = images.shape[-2:]
        small = resize(images, (-(-height // self.factor), -(-width // self.factor)), "box")
        return resize(small, (height, width), self.back)


def resize(images: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """Images at another size as Pillow gives them: first along rows, then along columns, each rounded.

    Args:
        images: uint8 (B, C, H, W).
        size: (height, width).
        kernel: a name of ``KERNELS``.
    """
    down, across = (
        resize_weights(old, new, kernel, images.device) for old, new in zip(images.shape[-2:], size, strict=True)
    )
    return _rounded(down @ _rounded(images.double() @ across.T, ONE).double(), ONE)


def _rounded(total: Tensor, one: int) -> Tensor:
    return (total + one // 2).div_(one).floor_().clamp_(0, 255).to(torch.uint8)


def _bicubic(x: Tensor) -> Tensor:
    """Cubic convolution with a = -1/2."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


# Kernel and how far it reaches, in target pixels when shrinking, else in source pixels.
KERNELS = {
    "box": (lambda x: ((x > -0.5) & (x <= 0.5)).double(), 0.5),
    "bicubic": (_bicubic, 2.0),
    "nearest": (None, 0.0),
}


@functools.lru_cache(maxsize=64)
def resize_weights(old: int, new: int, kernel: str, device: torch.device) -> Tensor:
    """What each new pixel reads of the old ones along a side: (new, old) float64 integers, rows summing to about 2^22.

    Args:
        old: pixels along the side.
        new: pixels wanted.
        kernel: a name of ``KERNELS``.
        device: where the weights are wanted.
    """
    scale = old / new
    centre = ((torch.arange(new, dtype=torch.float64) + 0.5) * scale)[:, None]
    at = torch.arange(old, dtype=torch.float64)
    function, support = KERNELS[kernel]
    if function is None:
        # Pillow adds the step up: where a centre falls between two pixels, the sum's rounding decides.
        source = torch.tensor([int(c) for c in accumulate([scale] * (new - 1), initial=scale / 2)])
        return ((at == source[:, None]) * ONE).double().to(device)
    stretch = max(scale, 1.0)
    first = (centre - support * stretch + 0.5).trunc()
    last = (centre + support * stretch + 0.5).trunc()
    weights = function((at - centre + 0.5) / stretch) * ((at >= first) & (at < last))
    return (weights / weights.sum(1, keepdim=True) * ONE).round().to(device)


@functools.lru_cache(maxsize=64)
def gaussian_weights(side: int, sigma: float, device: torch.device) -> Tensor:
    """What each pixel reads along a side when blurred: (side, side) float64 integers, rows summing to about 2^22.

    Args:
        side: pixels.
        sigma: in pixels, >= 0.
        device: where the weights are wanted.
    """
    reach = int(4 * sigma + 0.5)
    away = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (away / max(sigma, 1e-9)) ** 2)
    weights = (weights / weights.sum() * ONE).round()
    # Mirrored with the border pixel twice: 2 1 0 | 0 1 2 ... has the period 2 side.
    source = (torch.arange(side)[:, None] + torch.arange(-reach, reach + 1)) % (2 * side)
    source = torch.minimum(source, 2 * side - 1 - source)
    return torch.zeros(side, side, dtype=torch.float64).scatter_add_(1, source, weights.expand(side, -1)).to(device)
