"""Drawn policies against torchvision on PIL images; erasing and degrading against numpy, scipy and Pillow."""

import hashlib
import math

import numpy as np
import pytest
import torch
import torchvision.transforms as tv
import torchvision.transforms.functional as F
from PIL import Image
from scipy import ndimage, stats

from kdlab.augment import (
    AutoAugment,
    Blur,
    Cutout,
    Degrade,
    Masking,
    Noise,
    RandAugment,
    TrivialAugment,
)
from kdlab.augment.automatic import BINS, NARROW, WIDE, Drawn
from kdlab.data import load
from kdlab.errors import SpecError
from kdlab.registry import create
from kdlab.rng import generator


def to_pil(image):
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def from_pil(image):
    return torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1)


@pytest.fixture(scope="module")
def test_images():
    return load("fashion").test.images


@pytest.fixture(scope="module", params=["grey", "colour", "oblong"])
def images(request, test_images):
    """Real grey images; real ones stacked as channels beside colour gradients and flat ones; and not square ones."""
    if request.param == "grey":
        return torch.cat([test_images[:9], torch.full((1, 1, 28, 28), 77, dtype=torch.uint8)])
    ramp = torch.arange(28) * 9
    gradient = torch.stack([ramp[:, None].expand(28, 28), ramp.expand(28, 28), (ramp[:, None] + ramp) // 2])
    flat = torch.tensor([10, 200, 90]).view(3, 1, 1).expand(3, 28, 28)
    stacked = test_images[60:75].reshape(5, 3, 28, 28)
    colour = torch.cat([stacked, torch.stack([gradient, gradient.flip(0), flat]).to(torch.uint8)])
    return colour if request.param == "colour" else colour[:, :, :25, 4:23]


def draw(augmentation, images, seed=0):
    return augmentation.draw(len(images), tuple(images.shape[1:]), generator(seed, "test"))


# --- drawn policies ---------------------------------------------------------------------------------------------------

ENHANCERS = {"brightness": "brightness", "color": "saturation", "contrast": "contrast", "sharpness": "sharpness"}


def by_torchvision(image, name, value):
    """One operation on a PIL image by torchvision's functions: nearest neighbour, black from outside."""
    slant = math.degrees(math.atan(value))

    def affine(translate=(0, 0), shear=(0.0, 0.0), center=None):
        return F.affine(image, 0.0, list(translate), 1.0, list(shear), F.InterpolationMode.NEAREST, 0, center)

    if name in ENHANCERS:
        return getattr(F, f"adjust_{ENHANCERS[name]}")(image, 1.0 + value)
    if name in ("autocontrast", "equalize", "invert"):
        return getattr(F, name)(image)
    if name == "identity":
        return image
    return {
        "shearX": lambda: affine(shear=(slant, 0.0), center=[0, 0]),
        "shearY": lambda: affine(shear=(0.0, slant), center=[0, 0]),
        "translateX": lambda: affine((int(value), 0)),
        "translateY": lambda: affine((0, int(value))),
        "rotate": lambda: F.rotate(image, value, F.InterpolationMode.NEAREST, fill=0),
        "posterize": lambda: F.posterize(image, int(value)),
        "solarize": lambda: F.solarize(image, value),
    }[name]()


def magnitude(wide, name, k, bins, size):
    """The published ranges, restated; ``size`` is (height, width)."""
    part = k / (bins - 1)
    if name in ("posterize", "solarize"):
        return 8 - round((6 if wide else 4) * part) if name == "posterize" else 255 - 255 * k / (bins - 1)
    if name.startswith("translate"):
        return 32 * k / (bins - 1) if wide else 150 / 331 * size[name == "translateX"] * part
    narrow = {"shearX": 0.3, "shearY": 0.3, "rotate": 30.0} | dict.fromkeys(ENHANCERS, 0.9)
    broad = {"shearX": 0.99, "shearY": 0.99, "rotate": 135.0} | dict.fromkeys(ENHANCERS, 0.99)
    return (broad if wide else narrow).get(name, 0.0) * k / (bins - 1)


SIGNED = ("shearX", "shearY", "translateX", "translateY", "rotate", *ENHANCERS)


class Fixed(Drawn):
    """Operations as given."""

    def chosen(self, params):
        return params["operation"], params["level"], params["sign"]


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize(("wide", "bins"), [(False, 31), (False, 10), (True, 31)])
def test_operations_agree_with_torchvision_at_every_magnitude(images, name, wide, bins):
    """Pixel by pixel, at both signs."""
    operations, size = WIDE if wide else NARROW, tuple(images.shape[-2:])
    number = list(operations).index(name)
    for sign in (1, -1) if name in SIGNED else (1,):
        levels = range(bins) if operations[name].end is not None else (0,)
        for k in levels:
            filled = torch.full((len(images), 1), number)
            params = {"operation": filled, "level": torch.full_like(filled, k), "sign": torch.full_like(filled, sign)}
            ours = Fixed(operations, bins).apply(images, params)
            value = magnitude(wide, name, k, bins, size) * sign
            theirs = torch.stack([from_pil(by_torchvision(to_pil(image), name, value)) for image in images])
            assert torch.equal(ours, theirs), (k, sign)
            if k == 0 and name in (*SIGNED, "posterize", "identity"):
                assert torch.equal(ours, images)


SPELLED = {"autocontrast": "AutoContrast"}


def spelled(name):
    return SPELLED.get(name, name[0].upper() + name[1:])


PLAIN = {spelled(name): name for name in (*NARROW, "invert")}


@pytest.mark.parametrize(("wide", "bins"), [(False, 31), (False, 10), (True, 31)])
def test_ranges_are_those_of_torchvision(wide, bins):
    """To single precision, in which torchvision works them out."""
    theirs = tv.TrivialAugmentWide()._augmentation_space(bins) if wide else None
    theirs = theirs or tv.RandAugment()._augmentation_space(bins, (25, 19))
    assert [spelled(name) for name in (WIDE if wide else NARROW)] == list(theirs)
    for name in NARROW:
        values, signed = theirs[spelled(name)]
        assert signed == (name in SIGNED) == (WIDE if wide else NARROW)[name].signed
        if values.ndim:
            own = [magnitude(wide, name, k, bins, (25, 19)) for k in range(bins)]
            assert values.tolist() == pytest.approx(own, abs=2e-5)


@pytest.mark.parametrize(
    ("policy", "digest"), [("cifar10", "68cb3a909b71"), ("imagenet", "5d920e63cecb"), ("svhn", "bce3ac92cc9e")]
)
def test_torchvisions_subpolicies_of_autoaugment_are_those_of_the_paper(policy, digest):
    """By a hash of tables that were compared with the paper: the revision of ours says nothing of torchvision."""
    steps = AutoAugment(policy).steps
    assert len(steps) == 25 and hashlib.sha256(repr(steps).encode()).hexdigest()[:12] == digest


@pytest.mark.parametrize(
    "augmentation",
    [RandAugment(), RandAugment(3, 5), TrivialAugment(), *(AutoAugment(p) for p in ("cifar10", "imagenet", "svhn"))],
    ids=["rand", "rand-3-5", "trivial", "auto-cifar10", "auto-imagenet", "auto-svhn"],
)
def test_drawn_chains_agree_with_torchvision(images, augmentation):
    """Whole draws, row by row; the tables are read from the draw, not from ``chosen``."""
    images, size = images.repeat(8, 1, 1, 1), tuple(images.shape[-2:])
    drawn = draw(augmentation, images)
    theirs = []
    for row, image in enumerate(map(to_pil, images)):
        if "pair" in drawn:
            steps = augmentation.steps[drawn["pair"][row]]
            steps = [(PLAIN[name], k or 0) for (name, _, k), on in zip(steps, drawn["fired"][row], strict=True) if on]
            signs = drawn["sign"][row][drawn["fired"][row]]
        else:
            names = [list(NARROW)[code] for code in drawn["operation"][row]]
            level = int(drawn["level"][row]) if "level" in drawn else augmentation.magnitude
            steps, signs = [(name, level) for name in names], drawn["sign"][row]
        for (name, k), sign in zip(steps, signs.tolist(), strict=True):
            wide, bins = "level" in drawn, 10 if "pair" in drawn else 31
            value = magnitude(wide, name, k, bins, size) * (sign if name in SIGNED else 1)
            image = by_torchvision(image, name, value)
        theirs.append(from_pil(image))
    assert torch.equal(augmentation.apply(images, drawn), torch.stack(theirs))


def test_drawn_operations_magnitudes_and_signs_are_uniform():
    drawn = TrivialAugment().draw(20_000, (1, 28, 28), generator(0, "test"))
    assert stats.chisquare(drawn["operation"].flatten().bincount(minlength=14)).pvalue > 1e-3
    assert stats.chisquare(drawn["level"].flatten().bincount(minlength=BINS)).pvalue > 1e-3
    assert stats.binomtest(int((drawn["sign"] == 1).sum()), 20_000).pvalue > 1e-3
    drawn = RandAugment(3).draw(20_000, (1, 28, 28), generator(0, "test"))["operation"]
    assert drawn.shape == (20_000, 3)
    assert stats.chi2_contingency(np.histogram2d(*drawn[:, :2].T.numpy(), bins=14)[0]).pvalue > 1e-3
    drawn = AutoAugment().draw(20_000, (1, 28, 28), generator(0, "test"))
    assert stats.chisquare(drawn["pair"].bincount(minlength=25)).pvalue > 1e-3
    expected = torch.tensor([[p for _, p, _ in pair] for pair in AutoAugment().steps])
    for pair in range(25):
        assert torch.allclose(drawn["fired"][drawn["pair"] == pair].float().mean(0), expected[pair], atol=0.07)


# --- nothing at zero strength -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("randaugment", {"num_ops": 0}),
        ("cutout", {"size": 0}),
        ("masking", {"share": 0.0}),
        ("noise", {"sigma": 0.0}),
        ("blur", {"sigma": 0.0}),
        ("degrade", {"factor": 1}),
        ("degrade", {"factor": 1, "back": "nearest"}),
    ],
)
def test_zero_strength_is_the_identity(images, name, options):
    augmentation = create("augment", name, **options)
    assert torch.equal(augmentation.apply(images, draw(augmentation, images)), images)


# --- erasing ----------------------------------------------------------------------------------------------------------


def overwritten(image, hidden, fill):
    mean = np.floor(image.reshape(len(image), -1).mean(1) + 0.5) if fill is None else np.full(len(image), fill)
    return np.where(hidden, mean[:, None, None], image).astype(np.uint8)


@pytest.mark.parametrize(("size", "fill"), [(8, None), (5, 0), (16, 128), (1, None), (60, None)])
def test_cutout_is_the_published_square(images, size, fill):
    cutout = Cutout(size, fill)
    drawn = draw(cutout, images)
    for image, (y, x), ours in zip(images.numpy(), drawn["centre"].tolist(), cutout.apply(images, drawn), strict=True):
        hidden = np.zeros(image.shape[1:], bool)
        top, left = y - size // 2, x - size // 2
        hidden[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = True
        assert np.array_equal(ours.numpy(), overwritten(image, hidden, fill))


def test_centres_of_cutout_are_uniform_over_the_whole_image():
    drawn = Cutout().draw(20_000, (1, 20, 28), generator(0, "test"))["centre"]
    for side, axis in zip((20, 28), drawn.T, strict=True):
        assert stats.chisquare(axis.bincount(minlength=side)).pvalue > 1e-3


@pytest.mark.parametrize(("patch", "share", "fill"), [(4, 0.25, None), (5, 0.5, 0), (1, 0.1, 99), (28, 1.0, None)])
def test_masking_hides_whole_patches_and_an_exact_share(images, patch, share, fill):
    masking = Masking(patch, share, fill)
    drawn = draw(masking, images)
    patches = drawn["hidden"][0].numel()
    assert (drawn["hidden"].flatten(1).sum(1) == round(share * patches)).all()
    for image, hidden, ours in zip(images.numpy(), drawn["hidden"].numpy(), masking.apply(images, drawn), strict=True):
        whole = np.kron(hidden, np.ones((patch, patch), bool))[: image.shape[1], : image.shape[2]]
        assert np.array_equal(ours.numpy(), overwritten(image, whole, fill))


# --- degrading --------------------------------------------------------------------------------------------------------


def test_noise_is_normal_rounded_and_clipped(images):
    noise = Noise(20.0)
    drawn = draw(noise, images)
    exact = np.clip(images.numpy().astype(int) + drawn["noise"].numpy(), 0, 255)
    assert np.array_equal(noise.apply(images, drawn).numpy(), exact)
    levels = noise.draw(50, (3, 32, 32), generator(0, "test"))["noise"].double().flatten().numpy()
    edges = np.arange(-60, 61) - 0.5
    expected = len(levels) * np.diff(stats.norm.cdf(edges, scale=20.0), prepend=0, append=1)
    found = np.bincount(np.searchsorted(edges, levels), minlength=len(expected))
    assert stats.chisquare(found, expected).pvalue > 1e-3


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 12.0])
def test_blur_is_that_of_scipy(images, sigma):
    ours = Blur(sigma).apply(images, {}).numpy()
    theirs = np.floor(ndimage.gaussian_filter(images.numpy().astype(float), (0, 0, sigma, sigma)) + 0.5)
    assert np.abs(ours - theirs).max() <= 1 and (ours == theirs).mean() > 0.999


@pytest.mark.parametrize("back", ["bicubic", "nearest"])
@pytest.mark.parametrize("factor", [2, 3, 4, 50])
def test_degrade_is_pillows_resize_there_and_back(images, factor, back):
    theirs = []
    for image in map(to_pil, images):
        small = image.resize([-(-side // factor) for side in image.size], Image.Resampling.BOX)
        theirs.append(from_pil(small.resize(image.size, Image.Resampling[back.upper()])))
    assert torch.equal(Degrade(factor, back).apply(images, {}), torch.stack(theirs))


def test_degrade_averages_areas(test_images):
    """Where the factor divides the side, the mean of each square."""
    ours = Degrade(4, "nearest").apply(test_images[:50], {}).double()
    # Two roundings, one along each axis.
    means = test_images[:50].double().unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    assert (ours[:, :, ::4, ::4] - means).abs().max() <= 1
    assert torch.equal(ours, ours[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandAugment(-1), "num_ops must be a non-negative integer, but got -1"),
        (lambda: RandAugment(2, 31), r"magnitude must be an integer in \[0, 30\], but got 31"),
        (lambda: RandAugment(2, 9.0), "magnitude must be an integer"),
        (lambda: AutoAugment("cifar100"), "Did you mean 'cifar10'"),
        (lambda: Cutout(2.5), "size must be a non-negative integer"),
        (lambda: Cutout(fill=256), "fill must be an integer"),
        (lambda: Masking(0), "patch must be an integer"),
        (lambda: Masking(share=1.1), r"share must be a number in \[0, 1\]"),
        (lambda: Noise(float("nan")), "sigma must be a number"),
        (lambda: Blur(-1), "sigma must be a number"),
        (lambda: Degrade(0), "factor must be an integer"),
        (lambda: Degrade(back="cubic"), "Did you mean 'bicubic'"),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(SpecError, match=message):
        build()
