"""Quarter turns: the single augmentation that joint augmentation is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.augment.base import Augmentation
from kdlab.augment.bytewise import beside
from kdlab.errors import SpecError
from kdlab.registry import register


@register("rotation", revision=1)
class QuarterTurn(Augmentation):
    """Turn each image counter-clockwise by 90, 180 or 270 degrees, equally likely.

    The original row stands for 0 degrees, so 0 is never drawn.

    Reference: C. Yang, Z. An, L. Cai, Y. Xu, Hierarchical Self-supervised Augmented Knowledge Distillation, IJCAI 2021
    (all four turns of every image; here one random turn, so that views cost the same).
    """

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """``turns`` (n,) int64 in {1, 2, 3}.

        Raises:
            SpecError: when the images are not square.
        """
        if image_shape[-1] != image_shape[-2]:
            raise SpecError(f"rotation needs square images, but got {image_shape[-2]} x {image_shape[-1]}.")
        return {"turns": torch.randint(1, 4, (n,), generator=generator)}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Turned uint8 images (B, C, H, H)."""
        turned = images.clone()
        for turns in (1, 2, 3):
            rows = beside(images, torch.nonzero(params["turns"] == turns).flatten())
            turned[rows] = torch.rot90(images[rows], turns, (2, 3))
        return turned
