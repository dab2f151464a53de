"""The 15 usual corruptions at five strengths, and other renderings of the same images, on uint8 images (N, C, H, W).

Constants and formulas are those with which CIFAR-10-C was made, for grey images, too, and lengths in shares of the side
where they are so there. Other than there: results are rounded, not cut off; all strengths of a corruption share their
draws, so that a stronger one is more of the same (*elastic_transform* moves the whole less and its parts more); and
*frost* lays clouds over the image (``optics.plasma``), since the six photographs it was made with do not come with this
package. Grey and colour images of any size are taken; the strengths were chosen for 32 x 32.

Reference: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
    ICLR 2019, and the code published with it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from kdlab.errors import SpecError, check_integer, choose
from kdlab.metrics import _array, optics
from kdlab.metrics.optics import Draw
from kdlab.rng import stream_seed

STRENGTHS = (1, 2, 3, 4, 5)
RENDERINGS = ("inverted", "resampled", "cropped")
CHUNK = 500  # images at a time; how many does not change what they get
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green and blue in grey


def corrupt(images, name: str, strength: int, seed: int = 0) -> np.ndarray:
    """Corrupted copies of images.

    What an image gets depends on seed, corruption and its place in the set, not on how many follow it. The numbers are
    those of one version of numpy and, for ``jpeg_compression``, of Pillow.

    Args:
        images: uint8 (N, C, H, W), grey or colour.
        name: one of ``CORRUPTIONS``.
        strength: 1 to 5.
        seed: of the draws.

    Returns:
        uint8 (N, C, H, W).

    Raises:
        SpecError: for another name or strength, or images of another kind.
    """
    pixels = _images(images)
    apply, constants = CORRUPTIONS[choose("corruption", name, CORRUPTIONS)]
    constant = constants[check_integer("strength", strength, 1, len(STRENGTHS)) - 1]
    generators: dict[str, np.random.Generator] = {}

    def draw(what: str) -> np.random.Generator:
        if what not in generators:
            generators[what] = np.random.default_rng(stream_seed(seed, "corruption", name, what))
        return generators[what]

    out = np.empty_like(pixels)
    for at in range(0, len(pixels), CHUNK):
        out[at : at + CHUNK] = _bytes(apply(pixels[at : at + CHUNK].astype(np.float32) / 255, constant, draw))
    return out


def render(images, name: str) -> np.ndarray:
    """The same images as another source might give them: ``inverted`` (a negative), ``resampled`` (by way of half the
    side, box down and bicubic up) or ``cropped`` (the middle 7/8 of each side, enlarged, bicubic).

    Args:
        images: uint8 (N, C, H, W), grey or colour.
        name: one of ``RENDERINGS``.

    Returns:
        uint8 (N, C, H, W).
    """
    pixels = _images(images)
    choose("rendering", name, RENDERINGS)
    if name == "inverted":
        return 255 - pixels
    height, width = pixels.shape[2:]
    if name == "resampled":
        return _resized(pixels, (-(-width // 2), -(-height // 2)), Image.Resampling.BOX, Image.Resampling.BICUBIC)
    box = (width / 16, height / 16, width * 15 / 16, height * 15 / 16)
    return _by_plane(pixels, lambda image: image.resize((width, height), Image.Resampling.BICUBIC, box))


def _images(images) -> np.ndarray:
    pixels = _array(images)
    if pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        return pixels
    raise SpecError(f"images must be uint8 (N, C, H, W) with 1 or 3 channels, but got {pixels.dtype} {pixels.shape}.")


def _bytes(x: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _by_plane(pixels: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Pillow on each channel of each image."""
    planes = [np.asarray(change(Image.fromarray(plane))) for plane in pixels.reshape(-1, *pixels.shape[2:])]
    return np.stack(planes).reshape(pixels.shape) if planes else pixels


def _resized(pixels: np.ndarray, small: tuple[int, int], *ways: Image.Resampling) -> np.ndarray:
    size = pixels.shape[3], pixels.shape[2]
    return _by_plane(pixels, lambda image: image.resize(small, ways[0]).resize(size, ways[1]))


# ---- noise -----------------------------------------------------------------------------------------------------------


def _gaussian_noise(x, sigma, draw):
    return x + np.float32(sigma) * draw("noise").standard_normal(x.shape, np.float32)


def _shot_noise(x, photons, draw):
    return draw("noise").poisson(x * photons) / photons


def _impulse_noise(x, share, draw):
    chance = draw("noise").random(x.shape, np.float32)
    return np.where(chance < share / 2, 0, np.where(chance >= 1 - share / 2, 1, x))


# ---- blur ------------------------------------------------------------------------------------------------------------


def _defocus_blur(x, lens, draw):
    return ndimage.correlate(x, optics.disk(*lens)[None, None], mode="mirror")


def _glass_blur(x, glass, draw):
    """Blurred pixels, each moved by at most one up and left, blurred; the published swap of views copies, as here."""
    sigma, passes = glass
    x = _bytes(optics.blur(x, sigma)).astype(np.float32) / 255
    rows, columns = (np.arange(side) for side in x.shape[2:])
    image, channel = (part[..., None, None] for part in np.ogrid[: x.shape[0], : x.shape[1]])
    inside = (rows >= 2)[:, None] & (columns >= 2)
    for number in range(passes):
        up, left = (draw(f"{way}/{number}").integers(0, 2, (len(x), 1, *x.shape[2:])) for way in ("up", "left"))
        x = x[image, channel, rows[:, None] - up * inside, columns - left * inside]
    return optics.blur(x, sigma)


def _motion_blur(x, trail, draw):
    return optics.motion(x, *trail, draw("angle").uniform(-45, 45, len(x)))


def _zoom_blur(x, factors, draw):
    return (x + sum(optics.zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


# ---- weather ---------------------------------------------------------------------------------------------------------


def _snow(x, weather, draw):
    mean, spread, zoom, least, radius, sigma, kept = weather
    flakes = draw("flakes").standard_normal((len(x), 1, *x.shape[2:]), np.float32)
    flakes = optics.zoomed(mean + spread * flakes, zoom)
    flakes = _bytes(np.where(flakes < least, 0, flakes)).astype(np.float32) / 255
    flakes = optics.motion(flakes, radius, sigma, draw("angle").uniform(-135, -45, len(x)))
    grey = np.einsum("nchw,c->nhw", x, LUMA)[:, None] if x.shape[1] == 3 else x
    return kept * x + (1 - kept) * np.maximum(x, 1.5 * grey + 0.5) + flakes + flakes[:, :, ::-1, ::-1]


def _clouds(x, decay, draw):
    return optics.plasma(len(x), max(x.shape[2:]), decay, draw)[:, None, : x.shape[2], : x.shape[3]]


def _frost(x, shares, draw):
    return shares[0] * x + shares[1] * _clouds(x, 2, draw)


def _fog(x, fog, draw):
    thick, decay = fog
    brightest = x.max((1, 2, 3), keepdims=True)
    return (x + thick * _clouds(x, decay, draw)) * brightest / (brightest + thick)


# ---- digital ---------------------------------------------------------------------------------------------------------


def _brightness(x, more, draw):
    """The value of hue, saturation and value, raised: the largest channel, with which the others keep their ratios."""
    value = x.max(1, keepdims=True)
    raised = np.minimum(value + np.float32(more), 1)
    return np.where(value > 0, x * raised / np.maximum(value, 1e-9), raised)


def _contrast(x, kept, draw):
    return kept * x + (1 - kept) * x.mean((2, 3), keepdims=True)


def _elastic_transform(x, shares, draw):
    """Three points moved and the image with them, then each pixel by smoothed noise; lengths are shares of the side."""
    reach, smooth, apart = (share * x.shape[2] for share in shares)
    centre, square = np.array(x.shape[2:]) // 2, min(x.shape[2:]) // 3
    before = centre + square * np.array([[1, 1], [1, -1], [-1, -1]])  # as (x, y)
    after = before + draw("corners").uniform(-apart, apart, (len(x), 3, 2))
    back = np.linalg.solve(np.pad(after, ((0, 0), (0, 0), (0, 1)), constant_values=1), before[None].astype(float))
    down, across = np.mgrid[: x.shape[2], : x.shape[3]]
    place = np.stack([across, down, np.ones_like(down)], -1) @ back[:, None]  # (N, H, W, 2), as (x, y)
    x = optics.bilinear(x, place[..., 1], place[..., 0], "mirror")
    if not reach:
        return x
    ways = (draw(way).uniform(-1, 1, (len(x), *x.shape[2:])) for way in ("across", "down"))
    moved = [reach * ndimage.gaussian_filter(w, (0, smooth, smooth), mode="reflect", truncate=3) for w in ways]
    return optics.bilinear(x, down + moved[1], across + moved[0], "reflect")


def _pixelate(x, share, draw):
    box = Image.Resampling.BOX
    return _resized(_bytes(x), (int(x.shape[3] * share), int(x.shape[2] * share)), box, box) / 255


def _jpeg_compression(x, quality, draw):
    made = []
    for image in _bytes(x).transpose(0, 2, 3, 1):
        file = io.BytesIO()
        Image.fromarray(image.squeeze(2) if x.shape[1] == 1 else image).save(file, "JPEG", quality=quality)
        made.append(np.asarray(Image.open(file)).reshape(image.shape))
    return np.stack(made).transpose(0, 3, 1, 2) / 255


SNOW = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)  # fmt: skip
ELASTIC = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
# Name to what is done to float images in [0, 1], and its constant at each strength.
CORRUPTIONS: dict[str, tuple[Callable[[np.ndarray, Any, Draw], np.ndarray], tuple]] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (_shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": (_defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": (_glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    "motion_blur": (_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (_zoom_blur, tuple(np.arange(1, end, 0.01) for end in (1.06, 1.11, 1.16, 1.21, 1.26))),
    "snow": (_snow, SNOW),
    "frost": (_frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": (_fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": (_elastic_transform, ELASTIC),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": (_jpeg_compression, (80, 65, 58, 50, 40)),
}
