"""Shifts, shears and turns, with the pixel centres and the interpolation of Pillow.

Which source pixels a target pixel reads depends on the image size and the amount only, so it is worked out once per
amount and kept. What comes from outside the image is ``fill``, mid-grey unless said otherwise.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from kdlab.augment.bytewise import beside, pixels, put, truncated
from kdlab.errors import choose

FILL = 128
INTERPOLATIONS = ("nearest", "bicubic")


def translate(images: Tensor, share: Tensor, axis: str, fill: int = FILL) -> Tensor:
    """Read each pixel ``share`` of the side away along ``"x"`` or ``"y"``, nearest neighbour.

    Args:
        images: uint8 (m, C, H, W).
        share: (m,) signed amounts; few distinct ones.
        axis: ``"x"`` or ``"y"``.
        fill: grey level from outside.
    """
    dim = 3 if axis == "x" else 2
    size = images.shape[dim]

    def move(rows: Tensor, amount: float) -> Tensor:
        # Pixel centres: target k reads the source at floor(k + 1/2 + share size).
        return _shift(rows, math.floor(0.5 + amount * size), dim, fill)

    return by_amount(images, share, move)


def shift(images: Tensor, pixels: Tensor, axis: str, fill: int = FILL) -> Tensor:
    """Move the image right (``"x"``) or down (``"y"``) by whole pixels.

    Args:
        images: uint8 (m, C, H, W).
        pixels: (m,) signed amounts, of which the fraction is dropped; few distinct ones.
        axis: ``"x"`` or ``"y"``.
        fill: grey level from outside.
    """
    dim = 3 if axis == "x" else 2
    return by_amount(images, pixels, lambda rows, amount: _shift(rows, -int(amount), dim, fill))


def rotate(images: Tensor, degrees: float, fill: int = FILL) -> Tensor:
    """Turn counter-clockwise about the centre, nearest neighbour."""
    height, width = images.shape[-2:]
    angle = -math.radians(degrees % 360.0)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    left = -cos * width / 2 - sin * height / 2 + width / 2
    top = sin * width / 2 - cos * height / 2 + height / 2
    source = _pixels(height, width, (cos, sin, left, -sin, cos, top), images.device)
    return pixels(images, source, fill).view(images.shape)


def shear(images: Tensor, slope: Tensor, axis: str, interpolation: str = "bicubic", fill: int = FILL) -> Tensor:
    """Read along ``axis`` at x + slope y (or y + slope x) from the origin in the corner.

    Args:
        images: uint8 (m, C, H, W).
        slope: (m,) signed slopes; few distinct ones.
        axis: ``"x"`` or ``"y"``.
        interpolation: ``"bicubic"`` with a = -1, or ``"nearest"``.
        fill: grey level from outside.
    """
    if axis == "y":
        return shear(images.transpose(2, 3), slope, "x", interpolation, fill).transpose(2, 3)
    bicubic = choose("interpolation", interpolation, INTERPOLATIONS) == "bicubic"
    return by_amount(images, slope, functools.partial(_shear_rows if bicubic else _shear_nearest, fill=fill))


def by_amount(images: Tensor, amounts: Tensor, move) -> Tensor:
    """Apply ``move(images, amount)`` to the rows of each distinct amount.

    Args:
        images: uint8 (m, C, H, W).
        amounts: (m,) numbers.
        move: function of some of the images and a Python number.
    """
    moved = torch.empty_like(images)
    for amount in set(amounts.tolist()):
        rows = beside(images, torch.nonzero(amounts == amount).flatten())
        put(moved, rows, move(images.index_select(0, rows), amount))
    return moved


def _shift(images: Tensor, start: int, dim: int, fill: int) -> Tensor:
    moved = torch.full_like(images, fill)
    length = images.shape[dim] - abs(start)
    if length > 0:
        source = images.narrow(dim, max(start, 0), length)
        moved.narrow(dim, max(-start, 0), length).copy_(source)
    return moved


@functools.lru_cache(maxsize=128)
def _pixels(height: int, width: int, matrix: tuple[float, ...], device: torch.device) -> Tensor:
    """Flat source position of each target pixel of an affine map, in Pillow's 16-bit fixed point; -1 is outside.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        matrix: (a, b, c, d, e, f); the target point (x, y) reads the source at (a x + b y + c, d x + e y + f).
        device: where the positions are wanted.
    """
    a, b, c, d, e, f = matrix

    def fixed(value: float) -> int:
        return math.floor(value * 65536.0 + 0.5)

    y = torch.arange(height, device=device)[:, None]
    x = torch.arange(width, device=device)
    column = (fixed(c + a * 0.5 + b * 0.5) + fixed(a) * x + fixed(b) * y) >> 16
    row = (fixed(f + d * 0.5 + e * 0.5) + fixed(d) * x + fixed(e) * y) >> 16
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return torch.where(inside, row * width + column, -1).flatten()


def _shear_nearest(images: Tensor, slope: float, fill: int) -> Tensor:
    height, width = images.shape[-2:]
    source = _pixels(height, width, (1.0, slope, 0.0, 0.0, 1.0, 0.0), images.device)
    return pixels(images, source, fill).view(images.shape)


def _shear_rows(images: Tensor, slope: float, fill: int) -> Tensor:
    height, width = images.shape[-2:]
    source, weights, inside = _sheared_pixels(height, width, slope, images.device)
    # All rows of an image in one line, so that the arithmetic runs over long stretches; the three sums that straddle
    # each row's end are not used.
    read = pixels(images, source).float()
    before, at, after, beyond = (read[..., tap : read.shape[2] - 3 + tap] for tap in range(4))
    moved = torch.empty_like(read)
    sums = moved[..., :-3]
    # Differences from the nearest sample keep constant areas exact.
    torch.sub(before, at, out=sums).mul_(weights[0])
    sums += (after - at).mul_(weights[1])
    sums += (beyond - at).mul_(weights[2])
    sums += at
    moved = moved.view(*images.shape[:3], width + 3)[..., :width]
    return truncated(moved.clamp(0, 255).mul_(inside).add_(fill * (1 - inside)))


@functools.lru_cache(maxsize=64)
def _sheared_pixels(height: int, width: int, slope: float, device: torch.device):
    """What each row reads when x is sheared: the shift and the weights are the same all along a row.

    Returns:
        Flat source positions of width + 3 samples a row (H (W + 3),), from one before the first to two after the last;
        weights (3, H (W + 3) - 3) of the samples before, after and beyond, relative to the one at the position; and
        which target pixels lie inside, 1 or 0 (H, W).
    """
    y = torch.arange(height, dtype=torch.float64, device=device)[:, None] + 0.5
    x = torch.arange(width, device=device)
    shift = (slope * y).floor()
    d = slope * y - shift
    position = x + 0.5 + slope * y
    source = (torch.arange(-1, width + 2, device=device) + shift.long()).clamp(0, width - 1)
    source = source + width * torch.arange(height, device=device)[:, None]
    weights = torch.stack([-d + 2 * d**2 - d**3, d + d**2 - d**3, d**3 - d**2])
    weights = weights.float().expand(-1, -1, width + 3).flatten(1)[:, :-3].contiguous()
    return source.flatten(), weights, ((position >= 0) & (position < width)).float()
