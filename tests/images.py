"""Small folders of images that tests read: drawn, so that each is another and a class can be learned."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(label: str, number: int, side: int = 16) -> np.ndarray:
    """A grey image (side, side) of its own for every class and number: a stripe at a drawn place on noise."""
    draw = np.random.default_rng([number, *label.encode()])
    pixels = draw.integers(0, 60, (side, side), dtype=np.uint8)
    place = draw.integers(side - 2)
    (pixels if sum(label.encode()) % 2 else pixels.T)[place : place + 2] = draw.integers(150, 250)
    return pixels


def save(file: Path, pixels: np.ndarray, **options) -> None:
    """Pixels as an image file, its folder made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def fill(root: Path, counts: dict[str, int], first: int = 0, side: int = 16, suffix: str = ".png") -> Path:
    """A folder per class with so many images, numbered from ``first``."""
    for label, count in counts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            save(root / label / f"{number:03d}{suffix}", picture(label, number, side))
    return root
