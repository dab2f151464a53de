"""The corruptions against the published loops restated on single images, and what must hold of all of them."""

import io
import math

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage

from kdlab.data import load
from kdlab.errors import SpecError
from kdlab.metrics import corruptions, optics
from kdlab.metrics.corruptions import CORRUPTIONS, RENDERINGS, STRENGTHS, corrupt, render

DRAW = np.random.default_rng(0)
SMOOTH = ndimage.gaussian_filter(DRAW.random((5, 3, 32, 32)), (0, 0, 1.5, 1.5))
COLOUR = np.rint(255 * (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)).astype(np.uint8)
DRAWN = {
    name for name in CORRUPTIONS if name.split("_")[-1] not in ("brightness", "contrast", "pixelate", "compression")
}
DRAWN -= {"defocus_blur", "zoom_blur"}


@pytest.fixture(scope="module")
def grey():
    return load("fashion", sizes=(64, 32, 32)).test.images[:5].numpy()


def generators(seed=0):
    """A source of named generators, each of them the same for one seed."""
    made = {}
    return lambda name: made.setdefault(name, np.random.default_rng([seed, *name.encode()]))


# ---- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_at_each_strength_on_grey_and_colour(name, grey, monkeypatch):
    for images in (grey, COLOUR):
        before = images.copy()
        whole = [corrupt(images, name, strength) for strength in STRENGTHS]
        change = [np.abs(made.astype(float) - images).mean() for made in whole]
        assert all(made.dtype == np.uint8 and made.shape == images.shape for made in whole)
        # The published elastic strengths go from moving the whole to moving its parts, which changes fewer pixels.
        assert (0 < change[0] < change[-1] or name == "elastic_transform") and (images == before).all(), change
        assert (corrupt(torch.from_numpy(images), name, 5) == whole[-1]).all()
        assert (corrupt(images[:2], name, 5) == whole[-1][:2]).all(), "what follows an image changes nothing"
        assert ((corrupt(images, name, 5, seed=1) != whole[-1]).any()) == (name in DRAWN)
        with monkeypatch.context() as patch:
            patch.setattr(corruptions, "CHUNK", 2)
            assert (corrupt(images, name, 5) == whole[-1]).all()


def test_a_grey_image_is_a_colour_image_without_colour(grey):
    threefold = np.repeat(grey, 3, axis=1)
    for name in set(CORRUPTIONS) - {"gaussian_noise", "shot_noise", "impulse_noise", "jpeg_compression"}:
        one, three = (corrupt(images, name, 4).astype(int) for images in (grey, threefold))
        assert np.abs(three - one).max() <= 1, name  # luma in single precision


def test_renderings(grey):
    for images in (grey, COLOUR):
        made = {name: render(images, name) for name in RENDERINGS}
        assert all(m.shape == images.shape and m.dtype == np.uint8 and (m != images).any() for m in made.values())
        assert (made["inverted"].astype(int) + images == 255).all()
    flat = np.full((1, 3, 32, 32), 77, dtype=np.uint8)
    assert all((render(flat, name) == 77).all() for name in ("resampled", "cropped"))


def test_what_is_no_image_or_no_corruption_is_said():
    for make, said in (
        (lambda: corrupt(COLOUR, "fgo", 1), "corruption must be one of .* Did you mean 'fog'"),
        (lambda: corrupt(COLOUR, "fog", 6), r"strength must be an integer in \[1, 5\], but got 6"),
        (lambda: corrupt(COLOUR / 255, "fog", 1), "images must be uint8 .* but got float64"),
        (lambda: corrupt(COLOUR[:, :2], "fog", 1), r"1 or 3 channels, but got uint8 \(5, 2, 32, 32\)"),
        (lambda: render(COLOUR, "invert"), "rendering must be one of .* Did you mean 'inverted'"),
    ):
        with pytest.raises(SpecError, match=said):
            make()


# ---- noise and colour ------------------------------------------------------------------------------------------------


def test_noise_has_the_published_moments():
    middle = np.full((20, 3, 32, 32), 128, dtype=np.uint8)
    for strength, sigma, photons, share in ((1, 0.04, 500, 0.01), (5, 0.1, 50, 0.07)):
        noisy = {kind: corrupt(middle, f"{kind}_noise", strength) / 255 for kind in ("gaussian", "shot", "impulse")}
        assert noisy["gaussian"].std() == pytest.approx(sigma, rel=0.02)
        assert noisy["shot"].std() == pytest.approx(math.sqrt(128 / 255 / photons), rel=0.02)
        assert noisy["shot"].mean() == pytest.approx(128 / 255, rel=0.002)
        hit = np.isin(noisy["impulse"], (0, 1))
        assert hit.mean() == pytest.approx(share, rel=0.1) and noisy["impulse"][hit].mean() == pytest.approx(
            0.5, abs=0.05
        )


def test_brightness_and_contrast_by_hand():
    for strength, more, kept in ((1, 0.05, 0.75), (5, 0.3, 0.15)):
        images = np.concatenate([COLOUR, np.zeros_like(COLOUR[:1])])
        hsv = rgb_to_hsv(images.transpose(0, 2, 3, 1) / 255)
        hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
        expected = 255 * hsv_to_rgb(hsv).transpose(0, 3, 1, 2)
        assert np.abs(corrupt(images, "brightness", strength) - expected).max() < 0.51
        for image, made in zip(COLOUR, corrupt(COLOUR, "contrast", strength), strict=True):
            mean = image.mean((1, 2), keepdims=True)
            assert np.abs(made - (mean + kept * (image - mean))).max() < 0.51


def test_pixelate_and_jpeg_are_pillows():
    for strength, share, quality in ((1, 0.95, 80), (5, 0.65, 40)):
        made = [corrupt(COLOUR, name, strength)[0].transpose(1, 2, 0) for name in ("pixelate", "jpeg_compression")]
        image = Image.fromarray(COLOUR[0].transpose(1, 2, 0))
        small = image.resize((int(32 * share),) * 2, Image.Resampling.BOX)
        assert (made[0] == np.asarray(small.resize((32, 32), Image.Resampling.BOX))).all()
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        assert (made[1] == np.asarray(Image.open(file))).all()


# ---- blur ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("radius", "alias"), CORRUPTIONS["defocus_blur"][1])
def test_defocus_is_opencvs(radius, alias):
    cv2 = pytest.importorskip("cv2")
    at = np.arange(-8, 9)
    whole = np.array(at[:, None] ** 2 + at**2 <= radius**2, dtype=np.float32)
    kernel = cv2.GaussianBlur(whole / whole.sum(), ksize=(3, 3), sigmaX=alias)
    assert np.allclose(optics.disk(radius, alias), kernel[6:11, 6:11], atol=1e-6) and optics.disk(
        radius, alias
    ).sum() == pytest.approx(1)
    strength = 1 + CORRUPTIONS["defocus_blur"][1].index((radius, alias))
    expected = cv2.filter2D(COLOUR[0].transpose(1, 2, 0) / 255, -1, kernel.astype(np.float64))
    made = corrupt(COLOUR, "defocus_blur", strength)[0].transpose(1, 2, 0)
    assert np.abs(made - 255 * expected).max() < 0.51


def test_glass_is_the_published_loop_with_its_views():
    """One image, one pass; numpy's views make the published swap a copy."""
    draw, sigma = generators(), 0.4
    made = corruptions._glass_blur(COLOUR[:1].astype(np.float32) / 255, (sigma, 1), draw)
    draw = generators()
    up, left = (draw(f"{way}/0").integers(0, 2, (1, 1, 32, 32))[0, 0] for way in ("up", "left"))
    x = ndimage.gaussian_filter(COLOUR[0].transpose(1, 2, 0) / 255, (sigma, sigma, 0), mode="nearest")
    x = np.rint(x * 255).astype(np.uint8)
    for h in range(31, 1, -1):
        for w in range(31, 1, -1):
            there = h - up[h, w], w - left[h, w]
            x[h, w], x[there] = x[there], x[h, w]
    expected = ndimage.gaussian_filter(x / 255, (sigma, sigma, 0), mode="nearest").transpose(2, 0, 1)
    assert np.allclose(made[0], expected, atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 30.0, -45.0, -100.0])
def test_motion_pixel_by_pixel(angle):
    x, radius, sigma = SMOOTH[0, 0, :9, :11], 3, 2.0
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * radius + 1)]
    expected = np.zeros_like(x)
    for row, column in np.ndindex(x.shape):
        for i, weight in enumerate(weights):
            down = row + math.ceil(i * math.sin(math.radians(angle)) - 0.5)
            across = column + math.ceil(i * math.cos(math.radians(angle)) - 0.5)
            there = x[min(max(down, 0), 8), min(max(across, 0), 10)]
            expected[row, column] += weight / sum(weights) * there
    assert np.allclose(optics.motion(x[None, None], radius, sigma, np.array([angle])), expected)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.13, 1.25, 2.25])
@pytest.mark.parametrize("side", [28, 32])
def test_zoom_is_that_of_scipy(factor, side):
    x = SMOOTH[0].transpose(1, 2, 0)[:side, :side]
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    large = ndimage.zoom(x[top : top + kept, top : top + kept], (factor, factor, 1), order=1)
    trim = (large.shape[0] - side) // 2
    expected = large[trim : trim + side, trim : trim + side]
    assert np.allclose(optics.zoomed(x.transpose(2, 0, 1)[None], factor)[0].transpose(1, 2, 0), expected)
    assert np.allclose(optics.zoom_matrix(side, factor).sum(1), 1)


@pytest.mark.parametrize("mode", ["mirror", "reflect"])
def test_reading_between_pixels_is_that_of_scipy(mode):
    places = [DRAW.uniform(-9, 40, (5, 6, 7)) for _ in range(2)]
    made = optics.bilinear(SMOOTH, *places, mode)
    for image in range(5):
        at = [place[image] for place in places]
        for channel in range(3):
            expected = ndimage.map_coordinates(SMOOTH[image, channel], at, order=1, mode=mode)
            assert np.allclose(made[image, channel], expected, atol=1e-9)


def test_elastic_moves_three_points_as_drawn():
    ramps = np.stack(np.broadcast_arrays(*np.mgrid[:32, :32], 0.0))[None] / 64  # row, column, nothing
    made = corruptions._elastic_transform(ramps, (0, 0, 0.08), generators())[0] * 64
    moves = generators()("corners").uniform(-2.56, 2.56, (1, 3, 2))[0]
    for (x, y), (dx, dy) in zip([(26, 26), (26, 6), (6, 6)], moves, strict=True):
        column, row = x + dx, y + dy  # there is now what was at (x, y)
        found = [ndimage.map_coordinates(channel, [[row], [column]], order=1)[0] for channel in made[:2]]
        assert found == pytest.approx([y, x], abs=1e-6)


# ---- weather ---------------------------------------------------------------------------------------------------------


def published_clouds(size, decay, draw):
    """The published diamond-square, on one map."""
    field, step, wobble = np.zeros((size, size)), size, 100.0

    def mean(array, name):
        return array / 4 + wobble * draw(f"plasma/{step}/{name}").uniform(-wobble, wobble, array.shape)

    while step >= 2:
        half = step // 2
        corner = field[0:size:step, 0:size:step]
        total = corner + np.roll(corner, shift=-1, axis=0)
        total += np.roll(total, shift=-1, axis=1)
        field[half:size:step, half:size:step] = mean(total, "square")
        centre, corner = field[half:size:step, half:size:step], field[0:size:step, 0:size:step]
        total = centre + np.roll(centre, 1, axis=0) + (corner + np.roll(corner, -1, axis=1))
        field[0:size:step, half:size:step] = mean(total, "upper")
        total = centre + np.roll(centre, 1, axis=1) + (corner + np.roll(corner, -1, axis=0))
        field[half:size:step, 0:size:step] = mean(total, "left")
        step, wobble = half, wobble / decay
    field -= field.min()
    return field / field.max()


@pytest.mark.parametrize("decay", [3, 1.75])
def test_clouds_are_the_published_ones(decay):
    made = optics.plasma(1, 28, decay, generators())
    assert np.allclose(made[0], published_clouds(32, decay, generators())[:28, :28])
    fog = corruptions._fog(SMOOTH[:1, :, :28, :28], (0.75, decay), generators())[0]
    x = SMOOTH[0, :, :28, :28]
    assert np.allclose(fog, (x + 0.75 * made[0]) * x.max() / (x.max() + 0.75))
