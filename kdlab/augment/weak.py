"""The weak augmentation that every view gets, a shifted crop and a mirror; and the view that does without."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.augment.base import Augmentation
from kdlab.augment.bytewise import beside, crops, put
from kdlab.errors import check_integer
from kdlab.registry import register


@register("weak", revision=1)
class Weak(Augmentation):
    """No policy: the view is the original, to which training adds the crop and flip that every view gets."""

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """The images themselves."""
        return images


@register("identity", revision=1, where="alone")
class Identity(Augmentation):
    """No augmentation at all: the view is the original, without the crop and flip that every other view gets."""

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """The images themselves."""
        return images


class CropFlip(Augmentation):
    """Pad with black, crop back to size at a random place, mirror every second image or so.

    Args:
        padding: pixels on each side, >= 0; the shift is uniform in [-padding, padding] on each axis.
        flip: mirror left and right with probability 1/2.

    Raises:
        SpecError: for a negative padding.
    """

    def __init__(self, padding: int = 4, flip: bool = True):
        self.padding, self.flip = check_integer("padding", padding), flip

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """Crop corners and mirrors.

        Args:
            n: number of images.
            image_shape: (C, H, W).
            generator: CPU generator of the stream.
            guide: unused.

        Returns:
            ``corner`` (n, 2) int64 in [0, 2 padding] (top, left in the padded image) and ``flip`` (n,) bool.
        """
        corner = torch.randint(2 * self.padding + 1, (n, 2), generator=generator)
        return {"corner": corner, "flip": (torch.rand(n, generator=generator) < 0.5) & self.flip}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Cropped and mirrored uint8 images (B, C, H, W)."""
        height, width = images.shape[-2:]
        top, left = params["corner"].unbind(1)
        cropped = crops(F.pad(images, (self.padding,) * 4), top, left, height, width)
        mirrored = beside(images, torch.nonzero(params["flip"]).flatten())
        put(cropped, mirrored, cropped.index_select(0, mirrored).flip(-1))
        return cropped
