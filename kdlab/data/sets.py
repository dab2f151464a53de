"""ImageSet: uint8 images in memory with their labels, and the splits of a data set."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kdlab import paths
from kdlab.data import image_cache
from kdlab.data.source import Source
from kdlab.data.streamed import Streamed
from kdlab.errors import SpecError
from kdlab.rng import generator

CHUNK = 256  # images of a streamed set that are looked at in one go


@dataclass(frozen=True)
class ImageSet:
    """Images and labels of one split.

    Args:
        images: (N, C, H, W) uint8; ``Streamed`` where they are decoded when they are asked for.
        labels: (N,) int64.
        rows: (N,) int64, row of each image in the files it came from.
        classes: class names.
        mean: per channel, of the training pixels in [0, 1].
        std: per channel, of the training pixels in [0, 1].
        fingerprint: hash of the files.
    """

    images: Tensor | Streamed
    labels: Tensor
    rows: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.images.shape[1:]))
        return f"<ImageSet: {len(self)} images of {size}, {len(self.classes)} classes>"

    def batch(self, index: Tensor) -> Tensor:
        """Images at ``index`` (B,), as uint8 (B, C, H, W)."""
        return self.images.index_select(0, index.to(self.images.device, non_blocking=True))

    def expect(self, order: Tensor) -> None:
        """Tell in which order images will be asked for; a set that is streamed decodes the next ones meanwhile."""
        if isinstance(self.images, Streamed):
            self.images.expect(order)

    def normalise(self, images: Tensor) -> Tensor:
        """What a network sees: (x / 255 - mean) / std, float32, for uint8 (B, C, H, W) on any device."""
        shift, scale = _levels(tuple(self.mean), tuple(self.std), images.device)
        return images.float().sub_(shift).mul_(scale)

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


@functools.lru_cache(maxsize=64)
def _levels(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """255 mean and 1 / (255 std), (1, C, 1, 1) each; kept, so that no step waits for a copy to its device."""
    means, stds = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (mean, std))
    return 255 * means, 1 / (255 * stds)


def histogram(images: Tensor | Streamed) -> Tensor:
    """How often each value occurs in each channel of uint8 (N, C, H, W): int64 (C, 256)."""
    if isinstance(images, Streamed):
        order = torch.arange(len(images))
        images.expect(order)
        return torch.stack([histogram(images.index_select(0, part)) for part in order.split(CHUNK)]).sum(0)
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])


def value_counts(images: Tensor | Streamed, digest: str) -> Tensor:
    """``histogram``; that of a streamed set is kept beside what else is known of its folder, since it takes a pass.

    Args:
        images: of the training split.
        digest: fingerprint of the data.
    """
    if not isinstance(images, Streamed):
        return histogram(images)
    about = {"data": digest, "shape": list(images.shape)}
    path = paths.home() / "data" / f"{digest}-{len(images)}.counts"
    with contextlib.suppress(Exception):  # one that is not there or damaged, which may fail in many ways, is made again
        kept = image_cache.unsealed(path.read_bytes())
        if about.items() <= kept.items():
            return torch.tensor(kept["counts"])
    counts = histogram(images)
    with contextlib.suppress(OSError):
        paths.write_file(path, image_cache.sealed(about | {"counts": counts.tolist()}))
    return counts


def pixels_of(source: Source, split: str, n: int) -> Tensor | Streamed:
    """The first n images of a split: in memory, or decoded when they are asked for where the source is streamed."""
    if source.read is None:
        return torch.from_numpy(source.pixels(split, n))
    return Streamed(source.read, source.rows[split][:n], source.shape)


def channel_statistics(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in [0, 1] units, exact.

    A histogram makes the sums exact, whatever their order. A constant channel gets std 1.

    Args:
        counts: what ``histogram`` gives, int64 (C, 256).
    """
    value = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in counts:
        share = channel.double() / int(channel.sum())
        centre = float(share @ value)
        mean.append(centre)
        std.append(float(share @ (value - centre) ** 2) ** 0.5 or 1.0)
    return tuple(mean), tuple(std)
