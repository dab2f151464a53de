"""Operations on grey values and colours, with the integer and rounding rules of Pillow.

Every function takes uint8 images (m, C, H, W) with 1 or 3 channels and returns new ones of the same shape.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def invert(images: Tensor) -> Tensor:
    """255 - x."""
    return ~images


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Invert the values at or above a threshold in [0, 256]."""
    # An integer bound keeps the comparison in bytes.
    return torch.where(images >= math.ceil(threshold), ~images, images) if threshold <= 255 else images.clone()


def posterize(images: Tensor, bits: float) -> Tensor:
    """Keep the highest ``bits`` (0 to 8) of each value."""
    return images & (256 - 2 ** (8 - int(bits)))


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image to [0, 255]: floor((x - low) 255 / (high - low)).

    The product and the offset are rounded apart in double precision, as Pillow does, so that a value that should reach
    255 sometimes ends at 254 in both. A constant channel stays.
    """
    low, high = images.flatten(2).amin(2).double(), images.flatten(2).amax(2).double()
    # A number over a tensor would become its reciprocal times the number, which rounds twice.
    scale = torch.full_like(low, 255.0) / (high - low)
    values = torch.arange(256, dtype=torch.float64, device=images.device)
    table = values * scale[..., None] + (-low * scale)[..., None]
    flat = (high <= low)[..., None]
    return look_up(images, torch.where(flat, values, table).clamp(0, 255).to(torch.uint8))


def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel of each image.

    With counts h and step = (pixels - count of the highest value present) // 255, the value v becomes
    (step // 2 + sum of h below v) // step; a channel with step 0 stays.
    """
    counts = histogram(images)
    total = images.shape[-1] * images.shape[-2]
    highest = images.flatten(2).amax(2, keepdim=True).long()
    step = (total - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = (step // 2 + below) // step.clamp(min=1)
    values = torch.arange(256, device=images.device)
    return look_up(images, torch.where(step == 0, values, table).clamp(max=255).to(torch.uint8))


def histogram(images: Tensor) -> Tensor:
    """Counts of the 256 values per image and channel, int64 (m, C, 256)."""
    m, channels = images.shape[:2]
    first = 256 * torch.arange(m * channels, dtype=torch.int32, device=images.device).view(m, channels, 1)
    values = images.flatten(2) + first
    return torch.bincount(values.flatten(), minlength=256 * m * channels).view(m, channels, 256)


def look_up(images: Tensor, table: Tensor) -> Tensor:
    """Replace each value by its entry in the uint8 table of its image and channel, (m, C, 256) or (m, 1, 256)."""
    values = images.flatten(2).long()
    return table.expand(-1, images.shape[1], -1).gather(2, values).view(images.shape)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black; ``factor`` (m,) float32, 1 leaves the image as it is."""
    return look_up(images, _blend_table(torch.zeros_like(factor), factor))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the constant grey of the image's mean luminance, rounded to an integer."""
    grey = luminance(images).flatten(1)
    pixels = grey.shape[1]
    mean = (2 * grey.sum(1) + pixels) // (2 * pixels)
    return look_up(images, _blend_table(mean, factor))


def _blend_table(base: Tensor, factor: Tensor) -> Tensor:
    """Table (m, 1, 256) of blending with a constant ``base`` (m,)."""
    values = torch.arange(256, device=base.device).view(1, 1, 1, 256)
    return blend(base.view(-1, 1, 1, 1), values, factor).flatten(2)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's own luminance; a grey image stays as it is."""
    return images.clone() if images.shape[1] == 1 else blend(luminance(images), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by the 3 x 3 kernel of ones with 5 in the middle; borders are not smoothed."""
    smooth = images.float()
    if min(images.shape[-2:]) >= 3:
        inner = smooth[..., 1:-1, 1:-1]
        rows = smooth[..., :-2, :] + smooth[..., 1:-1, :] + smooth[..., 2:, :]
        total = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(inner, alpha=4)
        # 13 is odd: no sum is near a tie, so single precision rounds it right.
        inner.copy_(total.div_(13).add_(0.5).floor_())
    return blend(smooth, images, factor)


def luminance(images: Tensor) -> Tensor:
    """ITU-R 601 luma in 16-bit fixed point, integer (m, 1, H, W); a single channel is its own luma."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.int().split(1, 1)
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """base + factor (image - base), clipped to [0, 255] and truncated to an integer.

    Sum and product are single precision and rounded one after the other, like Pillow's.

    Args:
        base: integers, (m, C, H, W) or broadcast to it.
        images: integers, (m, C, H, W) or broadcast to it.
        factor: (m,) float32.
    """
    base = base.float()
    step = (images.float() - base) * factor.view(-1, 1, 1, 1)
    return step.add_(base).clamp_(0, 255).to(torch.uint8)
