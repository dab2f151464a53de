"""Hidden parts: one square, or patches of a grid."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.augment.base import Augmentation
from kdlab.augment.bytewise import beside
from kdlab.errors import check_integer, check_number
from kdlab.registry import register


def _checked_fill(fill: int | None) -> int | None:
    return None if fill is None else check_integer("fill", fill, 0, 255)


def in_box(images: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Which pixels lie in the box of their image: bool (B, H, W).

    Args:
        images: (B, C, H, W).
        start: (B, 2), the first row and column.
        stop: (B, 2), the row and the column after the last.
    """
    sides = (torch.arange(side, device=images.device) for side in images.shape[-2:])
    down, across = ((at >= start[:, k, None]) & (at < stop[:, k, None]) for k, at in enumerate(sides))
    return down[:, :, None] & across[:, None, :]


def hide(images: Tensor, hidden: Tensor, fill: int | None) -> Tensor:
    """The images with some pixels overwritten.

    Args:
        images: uint8 (B, C, H, W).
        hidden: bool (B, H, W).
        fill: grey level, or None for the rounded mean of each channel of each image.
    """
    if fill is not None:
        return images.masked_fill(hidden[:, None], fill)
    pixels = images.shape[-2] * images.shape[-1]
    mean = (2 * images.flatten(2).sum(2, dtype=torch.int64) + pixels) // (2 * pixels)
    return torch.where(hidden[:, None], mean.to(torch.uint8)[..., None, None], images)


@register("cutout", revision=1)
class Cutout(Augmentation):
    """Hide one square, its centre uniform over the image; what lies beyond the border is cut off.

    The paper fills normalised images with 0, the mean of the data. A policy does not know the data, so the default
    is the nearest that an image knows itself: the mean of each of its channels.

    Args:
        size: side of the square in pixels, >= 0; the paper has 8 for CIFAR-100 and 16 for CIFAR-10.
        fill: grey level in [0, 255], or None for the image's own mean.

    Raises:
        SpecError: for a value out of range.

    Reference: T. DeVries, G. Taylor, Improved Regularization of Convolutional Neural Networks with Cutout,
    arXiv:1708.04552, 2017.
    """

    def __init__(self, size: int = 8, fill: int | None = None):
        self.size, self.fill = check_integer("size", size), _checked_fill(fill)

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """``centre`` (n, 2) int64: row in [0, H) and column in [0, W)."""
        return {"centre": torch.stack([torch.randint(s, (n,), generator=generator) for s in image_shape[1:]], 1)}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """uint8 images (B, C, H, W); rows and columns from centre - size // 2 on, ``size`` of them, are hidden."""
        start = beside(images, params["centre"]) - self.size // 2
        return hide(images, in_box(images, start, start + self.size), self.fill)


@register("masking", revision=1)
class Masking(Augmentation):
    """Hide a share of the patches of a grid, other patches in every image.

    Args:
        patch: side of the square patches in pixels, >= 1; the last ones may be narrower.
        share: of the patches, in [0, 1], rounded to whole patches.
        fill: grey level in [0, 255], or None for the image's own mean.

    Raises:
        SpecError: for a value out of range.

    Reference: patches as in K. He, X. Chen, S. Xie, Y. Li, P. Dollar, R. Girshick, Masked Autoencoders Are Scalable
    Vision Learners, CVPR 2022; hidden here in the pixels.
    """

    def __init__(self, patch: int = 4, share: float = 0.25, fill: int | None = None):
        self.patch, self.share = check_integer("patch", patch, 1), check_number("share", share, 0, 1)
        self.fill = _checked_fill(fill)

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """``hidden`` (n, ceil(H / patch), ceil(W / patch)) bool, round(share patches) of them true in every row."""
        height, width = (-(-side // self.patch) for side in image_shape[1:])
        rank = torch.rand(n, height * width, generator=generator).argsort(dim=1, stable=True)
        return {"hidden": (rank < round(self.share * height * width)).view(n, height, width)}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """uint8 images (B, C, H, W) with the drawn patches hidden."""
        height, width = images.shape[-2:]
        hidden = beside(images, params["hidden"]).repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)
        return hide(images, hidden[:, :height, :width], self.fill)
