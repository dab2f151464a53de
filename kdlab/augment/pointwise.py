"""Operations on grey values and colours, with the integer and rounding rules of Pillow.

Every function takes uint8 images (m, C, H, W) with 1 or 3 channels and returns new ones of the same shape.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kdlab.augment.bytewise import at_least, beside, truncated


def invert(images: Tensor) -> Tensor:
    """255 - x."""
    return ~images


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Invert the values at or above a threshold in [0, 256]."""
    # An integer bound keeps the comparison in bytes.
    return images ^ at_least(images, math.ceil(threshold)) if threshold <= 255 else images.clone()


def posterize(images: Tensor, bits: float) -> Tensor:
    """Keep the highest ``bits`` (0 to 8) of each value."""
    return images & (256 - 2 ** (8 - int(bits)))


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image to [0, 255]: floor((x - low) 255 / (high - low)).

    The product and the offset are rounded apart in double precision, as Pillow does, so that a value that should reach
    255 sometimes ends at 254 in both. A constant channel stays.
    """
    low, high = images.flatten(2).amin(2).double(), images.flatten(2).amax(2).double()
    flat = high <= low
    # A number over a tensor would become its reciprocal times the number, which rounds twice.
    scale = (torch.full_like(low, 255.0) / (high - low)).masked_fill_(flat, 1.0)
    offset = (-low * scale).masked_fill_(flat, 0.0)
    values = torch.arange(256, dtype=torch.float64, device=images.device)
    return look_up(images, truncated((values * scale[..., None]).add_(offset[..., None]).clamp_(0, 255)))


def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel of each image.

    With counts h and step = (pixels - count of the highest value present) // 255, the value v becomes
    (step // 2 + sum of h below v) // step; a channel with step 0 stays.
    """
    counts = histogram(images)
    total = images.shape[-1] * images.shape[-2]
    highest = images.flatten(2).amax(2, keepdim=True).long()
    step = (total - counts.gather(2, highest)) // 255
    # Quotients of integers below 2^26 come out of a division in double precision on the right side of every integer.
    table = counts.cumsum(2).sub_(counts).add_(step // 2).double().div_(step.clamp(min=1))
    still = step == 0
    if not images.is_cpu or still.any():  # whoever asks another device waits for it
        table = torch.where(still, torch.arange(256, device=images.device), table)
    return look_up(images, truncated(table.clamp_(max=255)))


def histogram(images: Tensor) -> Tensor:
    """Counts of the 256 values per image and channel, int64 (m, C, 256)."""
    m, channels = images.shape[:2]
    values = images.flatten(2).long()
    counts = torch.zeros(m, channels, 256, dtype=torch.int64, device=images.device)
    return counts.scatter_add_(2, values, torch.ones_like(values))


def look_up(images: Tensor, table: Tensor) -> Tensor:
    """Replace each value by its entry in the uint8 table of its image and channel, (m, C, 256) or (m, 1, 256)."""
    values = images.flatten(2).long()
    return table.expand(-1, images.shape[1], -1).gather(2, values).view(images.shape)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black; ``factor`` (m,) float32, 1 leaves the image as it is."""
    return blend(torch.zeros(1, device=images.device), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the constant grey of the image's mean luminance, rounded to an integer."""
    grey = luminance(images).flatten(1)
    pixels = grey.shape[1]
    mean = (2 * grey.sum(1) + pixels) // (2 * pixels)
    return blend(mean.view(-1, 1, 1, 1), images, factor)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's own luminance; a grey image stays as it is."""
    return images.clone() if images.shape[1] == 1 else blend(luminance(images), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by the 3 x 3 kernel of ones with 5 in the middle; borders are not smoothed."""
    smooth = images.float()
    if min(images.shape[-2:]) >= 3:
        # All rows in one line, for long stretches of arithmetic; sums that straddle a row's end are not used.
        width, line = images.shape[-1], smooth.flatten(2)
        rows = (line[..., : -2 * width] + line[..., width:-width]).add_(line[..., 2 * width :])
        total = torch.empty_like(rows)
        sums = torch.add(rows[..., :-2], rows[..., 1:-1], out=total[..., 1:-1])
        sums.add_(rows[..., 2:]).add_(line[..., width + 1 : -width - 1], alpha=4)
        # 13 is odd: no sum is near a tie, so single precision rounds it right.
        sums.div_(13).add_(0.5).floor_()
        smooth[..., 1:-1, 1:-1] = total.view(*images.shape[:2], -1, width)[..., 1:-1]
    return blend(smooth, images, factor)


def luminance(images: Tensor) -> Tensor:
    """ITU-R 601 luma in 16-bit fixed point, integer (m, 1, H, W); a single channel is its own luma."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.int().split(1, 1)
    return (19595 * red).add_(green, alpha=38470).add_(blue, alpha=7471).add_(0x8000).bitwise_right_shift_(16)


def blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """base + factor (image - base), clipped to [0, 255] and truncated to an integer.

    Sum and product are single precision and rounded one after the other, like Pillow's.

    Args:
        base: integers, (m, C, H, W) or broadcast to it.
        images: integers, (m, C, H, W) or broadcast to it.
        factor: (m,) float32.
    """
    base = base.float()
    step = images.float().sub_(base).mul_(beside(images, factor).view(-1, 1, 1, 1))
    return truncated(step.add_(base).clamp_(0, 255))
