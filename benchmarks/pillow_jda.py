"""The operations of joint augmentation with Pillow, one image at a time: what tests compare with and benchmarks outrun.

Written from the published table of operations, not from kdlab, and shared by tests/test_augment.py and
benchmarks/augment.py, so that what is measured is what was found to give the same pixels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision import transforms

PLAIN = ("autocontrast", "equalize", "invert")
POSTERIZE_BITS = (8, 8, 7, 7, 6, 6, 5, 5, 4, 4)


def pillow(image: Image.Image, name: str, k: int | None, sign: int) -> Image.Image:
    """One operation at magnitude index k, as the JDA policies apply it to a PIL image."""
    grey = 128 if image.mode == "L" else (128,) * 3

    def affine(*matrix, **how):
        return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=grey, **how)

    width, height = image.size
    if name == "shearX":
        return affine(1, sign * 0.3 * k / 9, 0, 0, 1, 0, resample=Image.Resampling.BICUBIC)
    if name == "shearY":
        return affine(1, 0, 0, sign * 0.3 * k / 9, 1, 0, resample=Image.Resampling.BICUBIC)
    if name == "translateX":
        return affine(1, 0, sign * 150 / 331 * k / 9 * width, 0, 1, 0)
    if name == "translateY":
        return affine(1, 0, 0, 0, 1, sign * 150 / 331 * k / 9 * height)
    if name == "rotate":
        turned = image.convert("RGBA").rotate(30 * k / 9)
        return Image.composite(turned, Image.new("RGBA", image.size, (128,) * 4), turned).convert(image.mode)
    if name == "posterize":
        return ImageOps.posterize(image, POSTERIZE_BITS[k])
    if name == "solarize":
        return ImageOps.solarize(image, 256 - 256 * k / 9)
    if name in PLAIN:
        return getattr(ImageOps, name)(image)
    return getattr(ImageEnhance, name.capitalize())(image).enhance(1 + sign * 0.9 * k / 9)


def to_pil(image: Tensor) -> Image.Image:
    """The PIL image of a uint8 tensor (C, H, W) with 1 or 3 channels."""
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def from_pil(image: Image.Image) -> Tensor:
    """The uint8 tensor (C, H, W) of a PIL image."""
    return torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1)


def pillow_chain(images: Tensor, steps: Sequence[tuple[str, int | None]], fired: Tensor, sign: Tensor) -> Tensor:
    """Every row through its own operations, one PIL image at a time."""
    changed = []
    for row, image in enumerate(map(to_pil, images)):
        for column, (name, k) in enumerate(steps):
            if fired[row, column]:
                image = pillow(image, name, k, int(sign[row, column]))
        changed.append(from_pil(image))
    return torch.stack(changed)


def pillow_weak(mean: tuple[float, ...], std: tuple[float, ...], size: int = 32) -> transforms.Compose:
    """What every view of a PIL image gets: shifted crop, mirror, float tensor, normalisation."""
    return transforms.Compose(
        [
            transforms.RandomCrop(size, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


class Pairs(torch.utils.data.Dataset):
    """Original and augmented view of one image, as data sets of per-image code give them.

    Args:
        images: as ``operation`` takes them.
        operation: ``operation(image, name, k, sign)``, such as ``pillow``.
        steps: (name, magnitude index) of each operation, tried in this order.
        probability: of each operation.
        weak: what both views get in the end, each with its own draw.
    """

    def __init__(self, images: Sequence, operation: Callable, steps: Sequence, probability: float, weak: Callable):
        self.images, self.operation, self.weak = images, operation, weak
        self.steps, self.probability = steps, probability

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = augmented = self.images[index]
        for name, k in self.steps:
            if random.random() < self.probability:
                augmented = self.operation(augmented, name, k, random.choice((1, -1)))
        return self.weak(image), self.weak(augmented)
