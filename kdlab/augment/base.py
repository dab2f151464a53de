"""What every augmentation can do: draw parameters, apply them, or both in one call on a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.errors import SpecError


def check_batch(images: Tensor, generator: torch.Generator) -> None:
    """Refuse what an augmentation cannot be called with.

    Raises:
        SpecError: unless images are uint8 (B, C, H, W) with 1 or 3 channels and the generator is one of the CPU.
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.dim() != 4:
        given = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise SpecError(f"images must be a uint8 tensor (B, C, H, W), not yet normalised, but got {given}.")
    if images.shape[1] not in (1, 3):
        raise SpecError(f"images must have 1 (grey) or 3 (colour) channels, but got the shape {tuple(images.shape)}.")
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        given = f"one on {generator.device}" if isinstance(generator, torch.Generator) else repr(generator)
        raise SpecError(f"generator must be a torch.Generator of the CPU, where all draws are made, but got {given}.")


class Augmentation:
    """Base class: ``draw`` makes the random choices, ``apply`` follows them, and calling does both.

    >>> from kdlab.augment import JDA
    >>> images = torch.arange(2 * 3 * 32 * 32).view(2, 3, 32, 32).to(torch.uint8)
    >>> augmented = JDA("cifar100")(images, torch.Generator().manual_seed(0))
    >>> augmented.shape, augmented.dtype
    (torch.Size([2, 3, 32, 32]), torch.uint8)
    >>> torch.equal(augmented, JDA("cifar100")(images, torch.Generator().manual_seed(0)))
    True
    """

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """All random choices for n images, one per image; none unless a subclass has some.

        Args:
            n: number of images.
            image_shape: (C, H, W).
            generator: CPU generator of the stream.
            guide: the teacher's Outputs on the images that ``apply`` receives, for augmentations that ask for them.

        Returns:
            Parameters by name, each (n, ...).
        """
        return {}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Augmented copies of uint8 images (n, C, H, W), given what ``draw`` returned; deterministic."""
        raise NotImplementedError

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw, then apply.

        Args:
            images: uint8 (B, C, H, W) with 1 or 3 channels, on any device.
            generator: CPU generator; the same state gives the same bits on every device.

        Returns:
            uint8 (B, C, H, W), where ``images`` are.

        Raises:
            SpecError: for images of another type or shape, or another generator.
        """
        return self._augmented(images, generator)[0]

    def _augmented(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        check_batch(images, generator)
        n, channels, height, width = images.shape
        drawn = self.draw(n, (channels, height, width), generator)
        params = {name: value.to(images.device) for name, value in drawn.items()}
        return self.apply(images, params), params
