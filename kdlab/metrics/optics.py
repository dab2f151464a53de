"""What lenses, movement and weather do to an image: the parts of which ``kdlab.metrics.corruptions`` is made.

Images are float (N, C, H, W) in [0, 1]. ``draw`` gives the random generator of a name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import ndimage

Draw = Callable[[str], np.random.Generator]


def blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian of sigma pixels, cut off at 4 sigma; edge pixels go on beyond the edge."""
    return ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest", truncate=4.0)


def disk(radius: float, alias: float) -> np.ndarray:
    """The (5, 5) kernel of a lens out of focus: a disk of at most 1.5 pixels, softened by a Gaussian of 3 x 3.

    Args:
        radius: of the disk, in pixels.
        alias: sigma of the Gaussian, in pixels.
    """
    at = np.arange(-2, 3)
    whole = (at[:, None] ** 2 + at**2 <= radius**2).astype(np.float64)
    soft = np.exp(-(np.arange(-1, 2) ** 2) / (2 * alias**2))
    soft = np.outer(soft, soft) / soft.sum() ** 2
    return ndimage.correlate(whole / whole.sum(), soft, mode="constant")


def motion(x: np.ndarray, radius: int, sigma: float, angle: np.ndarray) -> np.ndarray:
    """A trail in one direction: ``sum_i w_i x(row + ceil(i sin a - 1/2), column + ceil(i cos a - 1/2))``.

    i runs from 0 to 2 radius, ``w_i ~ exp(-i^2 / (2 sigma^2))``; edge pixels go on beyond the edge.

    Args:
        x: images.
        radius, sigma: in pixels.
        angle: of each image, in degrees, (N,).

    Reference: ImageMagick's MotionBlurImage, which the published corruptions call.
    """
    steps, turn = np.arange(2 * radius + 1), np.deg2rad(angle)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    image, channel = np.ogrid[: x.shape[0], : x.shape[1]]
    out = np.zeros_like(x)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        sides = []
        for offset, side in zip((np.sin(turn), np.cos(turn)), x.shape[2:], strict=True):
            moved = np.arange(side) + np.ceil(step * offset - 0.5).astype(int)[:, None]
            sides.append(np.clip(moved, 0, side - 1))
        down, across = sides[0][:, None, :, None], sides[1][:, None, None, :]
        out += x.dtype.type(weight) * x[image[..., None, None], channel[..., None, None], down, across]
    return out


def zoom_matrix(side: int, factor: float) -> np.ndarray:
    """The (side, side) matrix M with which ``M x M'`` is the middle of x, enlarged by a factor >= 1 (bilinear).

    The middle ``ceil(side / factor)`` rows become ``round(that * factor)``, of which the middle ones are kept.
    """
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    large = ndimage.zoom(np.eye(side)[top : top + kept], (factor, 1), order=1)
    trim = (len(large) - side) // 2
    return large[trim : trim + side]


def zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle of images, enlarged by a factor >= 1."""
    down, across = (zoom_matrix(side, factor).astype(x.dtype) for side in x.shape[2:])
    return down @ x @ across.T


def bilinear(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str) -> np.ndarray:
    """Images read at places between pixels.

    Args:
        x: images.
        rows, columns: (N, H, W), in pixels.
        mode: of going on beyond the edge, ``"mirror"`` about the centre of the edge pixel
            (``d c b | a b c d | c b a``), or ``"reflect"`` about its border (``d c b a | a b c d | d c b a``).
    """
    image, channel = (part[..., None, None] for part in np.ogrid[: x.shape[0], : x.shape[1]])
    corners, shares = [], []
    for place, side in ((rows, x.shape[2]), (columns, x.shape[3])):
        low = np.floor(place).astype(int)
        corners.append([_folded(low + one, side, mode)[:, None] for one in (0, 1)])
        share = (place - low)[:, None].astype(x.dtype)
        shares.append((1 - share, share))
    return sum(
        shares[0][i] * shares[1][j] * x[image, channel, corners[0][i], corners[1][j]] for i in (0, 1) for j in (0, 1)
    )


def _folded(at: np.ndarray, side: int, mode: str) -> np.ndarray:
    period = max(1, 2 * side - 2) if mode == "mirror" else 2 * side
    at = at % period
    return np.where(at >= side, period - at - (mode == "reflect"), at)


def plasma(images: int, side: int, decay: float, draw: Draw) -> np.ndarray:
    """Clouds by the diamond-square algorithm, in [0, 1], (N, side, side), 0 and 1 in each.

    On a torus whose side is a power of two; each place gets the mean of its four neighbours, and noise uniform in
    ``+-a^2``, where a is 100 and is divided by ``decay`` from one scale to the next: a small decay makes rough clouds.
    """
    size = 1 << max(1, side - 1).bit_length()
    field, step, wobble = np.zeros((images, size, size)), size, 100.0

    def fill(rows: int, columns: int, first: np.ndarray, second: np.ndarray, name: str) -> None:
        noise = draw(f"plasma/{step}/{name}").uniform(-wobble, wobble, first.shape)
        field[:, rows::step, columns::step] = (first + second) / 4 + wobble * noise

    while step >= 2:
        half, corner = step // 2, field[:, ::step, ::step].copy()
        below = corner + np.roll(corner, -1, axis=1)
        fill(half, half, below, np.roll(below, -1, axis=2), "square")
        centre = field[:, half::step, half::step].copy()
        beside = corner + np.roll(corner, -1, axis=2)
        fill(0, half, centre + np.roll(centre, 1, axis=1), beside, "upper")
        fill(half, 0, centre + np.roll(centre, 1, axis=2), below, "left")
        step, wobble = half, wobble / decay
    field -= field.min((1, 2), keepdims=True)
    return (field / field.max((1, 2), keepdims=True))[:, :side, :side]
