"""What a streamed folder gives: images a second, against torchvision's ImageFolder with a DataLoader, in one run.

    python benchmarks/streaming.py [FILES [SIDE]]
    python benchmarks/streaming.py --memory [FILES ...]

Makes a folder of FILES photograph-like JPEGs of 500 x 375 pixels (2,000 where nothing is said) in ten classes and
reads them at SIDE x SIDE (64), in batches of 64 in a shuffled order: streamed by kdlab's threads, by a DataLoader with
as many worker processes, and by kdlab from memory. An epoch of one is followed by an epoch of the others. Both resize
bilinearly with Pillow; kdlab lets it decode a JPEG smaller first, as its rules say. The streamed set holds an eighth of
the images at most, so that most are decoded in every epoch; the bytes that it held are printed beside those of all.

With ``--memory``: folders of so many small JPEGs (10,000, 50,000 and 200,000), each opened and streamed by a process of
its own that holds 64 MiB of images at most while it opens and 8 MiB while it streams; the memory of that process
before, when the folder was open, after 200 steps, and at its highest.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import resource
import statistics
import subprocess
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
        print(f"bytes held: {max(held):,}; all pixels: {memory.images.numel():,}")


def small(root: Path, start: int, stop: int) -> None:
    """Small JPEGs, no two alike."""
    for number in range(start, stop):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        folder = root / f"class{number % CLASSES}" / f"{number // 1000:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"photograph-{number:06d}.jpg", quality=90)


def resident() -> int:
    """Memory of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20


def stream(root: str) -> None:
    """Open a folder, stream 200 batches of it, and print what that took."""
    data.load("fashion")  # whatever loading needs is imported
    before = resident()
    found = data.load(f"folder:{root}?size=16&stream=yes").train
    opened = resident()
    images = dataclasses.replace(
        found, images=Streamed(found.images.read, found.images.rows, (3, 16, 16), held=8 << 20)
    )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images.expect(order)
    for part in order.split(BATCH)[:200]:
        images.batch(part)
    print(f"{before} MB before, {opened} open, {resident()} after 200 steps, "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} at most", flush=True)  # fmt: skip


def memory(*counts: int) -> None:
    """Stream folders of more and more files, twice each: the first time all headers and digests are made."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KDLAB_OUT"], made, root = str(Path(folder) / "out"), 0, Path(folder) / "photographs"
        for count in counts or (10_000, 50_000, 200_000):
            small(root, made, made := count)
            for which in ("first", "again"):
                print(f"{count:,} files, {which}: ", end="", flush=True)
                subprocess.run([sys.executable, __file__, "--stream", str(root)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        memory(*map(int, sys.argv[2:]))
    elif sys.argv[1:2] == ["--stream"]:
        stream(sys.argv[2])
    else:
        main(*map(int, sys.argv[1:3]))
