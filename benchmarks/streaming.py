"""What a streamed folder gives: images a second, against torchvision's ImageFolder with a DataLoader, in one run.

    python benchmarks/streaming.py [FILES [SIDE]]

Makes a folder of FILES photograph-like JPEGs of 500 x 375 pixels (2,000 where nothing is said) in ten classes and
reads them at SIDE x SIDE (64), in batches of 64 in a shuffled order: streamed by kdlab's threads, by a DataLoader with
as many worker processes, and by kdlab from memory. An epoch of one is followed by an epoch of the others. Both resize
bilinearly with Pillow; kdlab lets it decode a JPEG smaller first, as its rules say. The streamed set holds an eighth of
the images at most, so that most are decoded in every epoch; the bytes that it held are printed beside those of all.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from kdlab import data
from kdlab.data.sets import ImageSet
from kdlab.data.source import HELD
from kdlab.data.streamed import THREADS, Streamed

BATCH, EPOCHS, CLASSES = 64, 3, 10


def photographs(root: Path, files: int) -> None:
    """Smooth random colours with some noise, which are about as hard to decode as photographs."""
    for number in range(files):
        random = np.random.default_rng(number)
        colours = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        pixels = np.asarray(colours).astype(np.int16) + random.integers(-9, 10, (375, 500, 1))
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:06d}.jpg", quality=90)


def ours(images: ImageSet, held: list[int]) -> Callable[[int], Iterator[torch.Tensor]]:
    """An epoch of kdlab's set, in the order of training."""

    def epoch(number: int) -> Iterator[torch.Tensor]:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(number))
        images.expect(order)
        for part in order.split(BATCH):
            yield images.batch(part)
            held.append(images.images.bytes_held if isinstance(images.images, Streamed) else images.images.numel())

    return epoch


def theirs(root: Path, side: int) -> Callable[[int], Iterator[torch.Tensor]]:
    """An epoch of a DataLoader over an ImageFolder, whose workers stay."""
    to_bytes = transforms.Compose([transforms.Resize((side, side)), transforms.PILToTensor()])
    loader = DataLoader(
        ImageFolder(str(root), to_bytes), BATCH, shuffle=True, num_workers=THREADS, persistent_workers=True
    )
    return lambda number: (images for images, _ in loader)


def rate(epoch: Iterator[torch.Tensor]) -> float:
    """Images a second."""
    started, count = time.perf_counter(), 0
    for images in epoch:
        count += len(images)
    return count / (time.perf_counter() - started)


def main(files: int = 2000, side: int = 64) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KDLAB_OUT"] = str(Path(folder) / "out")
        root = Path(folder) / "photographs"
        root.mkdir()
        photographs(root, files)
        name, held = f"folder:{root}?size={side}", []
        stream, memory = (data.load(each).train for each in (f"{name}&stream=yes", name))
        room = min(HELD, memory.images.numel() // 8)
        few = Streamed(stream.images.read, stream.images.rows, tuple(stream.images.shape[1:]), held=room)
        stream = dataclasses.replace(stream, images=few)
        readers = {"streamed": ours(stream, held), "DataLoader": theirs(root, side), "memory": ours(memory, [])}
        rates = {what: [] for what in readers}
        for number in range(EPOCHS + 1):
            for what, epoch in readers.items():
                rates[what].append(rate(epoch(number)))
        for what, found in rates.items():
            print(f"{what}: {statistics.median(found[1:]):,.0f} images a second")  # the first epoch starts workers
        ratios = [one / other for one, other in zip(rates["streamed"][1:], rates["DataLoader"][1:], strict=True)]
        print(f"streamed over DataLoader with {THREADS} workers: {statistics.median(ratios):.2f} x "
              f"[{min(ratios):.2f}, {max(ratios):.2f}]")  # fmt: skip
        print(f"bytes of pixels held: {max(held):,} of {memory.images.numel():,}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
