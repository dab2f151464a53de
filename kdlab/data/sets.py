"""ImageSet: uint8 images in memory with their labels, and the splits of a data set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kdlab.errors import SpecError
from kdlab.rng import generator


@dataclass(frozen=True)
class ImageSet:
    """Images and labels of one split.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        rows: (N,) int64, row of each image in the files it came from.
        classes: class names.
        mean: per channel, of the training pixels in [0, 1].
        std: per channel, of the training pixels in [0, 1].
        fingerprint: hash of the files.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> Tensor:
        """Images at ``index`` (B,), as uint8 (B, C, H, W)."""
        return self.images.index_select(0, index.to(self.images.device))

    def normalise(self, images: Tensor) -> Tensor:
        """What a network sees: (x / 255 - mean) / std, float32, for uint8 (B, C, H, W) on any device."""
        mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return images.float().sub_(255 * mean).mul_(1 / (255 * std))

    def subset(self, fraction: float, seed: int) -> ImageSet:
        """A stratified share of the set; for one seed a smaller share lies inside every larger one.

        Each class keeps round(fraction * its size) images, at least 1, and the order of the set. Mean and
        std stay those of the whole, so that a teacher of the whole set sees the same inputs.

        Args:
            fraction: in (0, 1].
            seed: chooses which images.

        Raises:
            SpecError: for a fraction outside (0, 1], or a class without images.
        """
        if not 0 < fraction <= 1:
            raise SpecError(f"fraction must be in (0, 1], but got {fraction!r}.")
        kept = []
        for label, name in enumerate(self.classes):
            members = torch.nonzero(self.labels == label).flatten()
            if len(members) == 0:
                raise SpecError(f"class {name!r} has no image, so fraction={fraction} cannot keep one of it.")
            shuffled = torch.randperm(len(members), generator=generator(seed, f"subset/{label}"))
            kept.append(members[shuffled[: max(1, round(fraction * len(members)))]])
        return self.take(torch.cat(kept).sort().values)

    def to(self, device: str | torch.device) -> ImageSet:
        """The same set with its pixels on a device; labels stay where statistics are made, on the CPU."""
        return dataclasses.replace(self, images=self.images.to(device))

    def take(self, index: Tensor) -> ImageSet:
        """The images at ``index`` (M,) as a set of their own."""
        return dataclasses.replace(self, images=self.images[index], labels=self.labels[index], rows=self.rows[index])


class Splits(NamedTuple):
    """Train, val (carved from train; every choice is made on it) and test (scored once)."""

    train: ImageSet
    val: ImageSet
    test: ImageSet


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 (N, C, H, W), in [0, 1] units, exact.

    A histogram per channel makes the sums exact, whatever their order. A constant channel gets std 1.
    """
    value = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        centre = float(share @ value)
        mean.append(centre)
        std.append(float(share @ (value - centre) ** 2) ** 0.5 or 1.0)
    return tuple(mean), tuple(std)
