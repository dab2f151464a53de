"""Mixed, a batch of mixed images with their shares, and the base class of the augmentations that make one."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.augment.base import Augmentation


class Mixed(NamedTuple):
    """Mixed images: row i shows the share ``share[i]`` of original ``own[i]``, and else original ``partner[i]``.

    Attributes:
        images: uint8 (B, C, H, W).
        own: number of the row's own original in the batch, int64 (B,).
        partner: number of the original mixed in, int64 (B,).
        share: of the row's own original, float32 (B,) in [0, 1].
    """

    images: Tensor
    own: Tensor
    partner: Tensor
    share: Tensor

    def targets(self, labels: Tensor, classes: int) -> Tensor:
        """Soft labels ``share onehot(labels[own]) + (1 - share) onehot(labels[partner])``, as cross-entropy takes them.

        Args:
            labels: classes of the originals, int64 (B,).
            classes: number of classes K.

        Returns:
            float32 (B, K).
        """
        own, partner = (F.one_hot(labels[rows], classes) for rows in (self.own, self.partner))
        return torch.lerp(partner.float(), own.float(), self.share[:, None])


class Mixing(Augmentation):
    """Base class of augmentations that mix images, and so labels; meant for views already cropped and mirrored.

    >>> from kdlab.augment import CutMix
    >>> images, labels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([1, 0])
    >>> mixed = CutMix()(images, torch.Generator().manual_seed(0))
    >>> mixed.images.shape, mixed.partner.tolist()
    (torch.Size([2, 3, 32, 32]), [1, 0])
    >>> mixed.targets(labels, classes=10).shape
    torch.Size([2, 10])
    """

    def __call__(self, images: Tensor, generator: torch.Generator) -> Mixed:
        """Draw, then apply; arguments and errors as of every augmentation.

        Returns:
            The mixed images, and which originals they show how much of.
        """
        mixed, params = self._augmented(images, generator)
        own = torch.arange(len(images), device=images.device)
        return Mixed(mixed, own, params["partner"], params["share"])
