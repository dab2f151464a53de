"""How fast kdlab makes the views of joint augmentation (JDA), against the usual ways to make them: one CPU thread.

    python benchmarks/augment.py [--operations]

Everyone does the same work: the CIFAR-100 policy on 32 x 32 colour images in uint8; of every original a plain and an
augmented view; on both a shifted crop, a mirror and normalisation; batches of 128 originals in shuffled order. kdlab's
side is what training runs: ``Views.at`` and ``Views.batch``, with the streams and the bookkeeping of pairs. It leaves
out the two steps of the policy that change no image, and so do the others; only "as published" takes the trouble.

The images are Fashion-MNIST's, which come with kdlab: three of them make the channels of one, black fills 28 up to 32.

The others:
    Pillow          one image at a time in a data set's __getitem__, the oracle of tests/test_augment.py. The bar: 15 x.
    torchvision v2  one image at a time on uint8 tensors. It has no bicubic shear for tensors: bilinear.
    kornia          whole batches in float32. It draws a magnitude from the range between the two that JDA knows, fills
                    with black, and its contrast, brightness and saturation follow other formulas.

Prints originals a second of both and how many times as many kdlab makes: median [lowest, highest] of pairs in turn.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial

import torch
from images import colour
from paired import pairs, report, spread, timed
from pillow_jda import Pairs, pillow, pillow_weak, to_pil
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from kdlab.augment import POLICIES
from kdlab.augment.operations import SCALES
from kdlab.data import load
from kdlab.data.sets import ImageSet
from kdlab.training.layout import Layout
from kdlab.training.runtime import keep_memory
from kdlab.training.views import Views

BAR = 15
ORIGINALS = 128  # in a step
STEPS = 8  # of the others, in one measurement
REPEATS_OF_OPERATION = 51
MORE = 4  # times as many of kdlab's, for a time that is long enough to measure
GREY = [128.0] * 3
PROBABILITY, PUBLISHED = POLICIES["cifar100"]
POLICY = tuple((name, k) for name, k in PUBLISHED if not SCALES[name].does_nothing(k))


def kdlab_steps(data: ImageSet) -> Callable[[int], None]:
    """Steps of training, without the training."""
    views = Views(data, 0, 0, ORIGINALS, {})
    layout = Layout("jda", (), 2, 0.5)

    def run(steps: int) -> None:
        for step in range(steps):
            views.at(step)
            batch = views.batch(layout, 0.0)
        assert batch.x.shape == (2 * ORIGINALS, 3, 32, 32) and batch.augmented.sum() == ORIGINALS

    return run


def loaded(pairs_of_views: Pairs) -> Callable[[], None]:
    """An epoch of a data set of per-image code."""
    loader = DataLoader(pairs_of_views, ORIGINALS, shuffle=True, drop_last=True)

    def run() -> None:
        for plain, augmented in loader:
            assert plain.shape == augmented.shape == (ORIGINALS, 3, 32, 32)

    return run


def pillow_epoch(data: ImageSet, policy: tuple = POLICY) -> Callable[[], None]:
    """Pillow, one image at a time; tensors become PIL images once, before."""
    images = [to_pil(image) for image in data.images]
    return loaded(Pairs(images, pillow, policy, PROBABILITY, pillow_weak(data.mean, data.std)))


def torchvision_operation(image: Tensor, name: str, k: int | None, sign: int) -> Tensor:
    """One operation of the policy on a uint8 tensor (3, H, W)."""
    value = SCALES[name].value(k)
    if name == "rotate":
        return vision.rotate(image, value, fill=GREY)
    if name.startswith(("shear", "translate")):
        axes = [1, 0] if name.endswith("X") else [0, 1]
        pixels = round(sign * value * image.shape[-1]) if name.startswith("translate") else 0
        degrees = math.degrees(math.atan(sign * value)) if name.startswith("shear") else 0.0
        return vision.affine(
            image,
            angle=0.0,
            translate=[pixels * axis for axis in axes],
            scale=1.0,
            shear=[degrees * axis for axis in axes],
            interpolation=v2.InterpolationMode.BILINEAR if degrees else v2.InterpolationMode.NEAREST,
            fill=GREY,
            center=[0.0, 0.0],
        )
    if name == "solarize":
        return vision.solarize(image, value)
    if name in ("autocontrast", "equalize", "invert"):
        return getattr(vision, name)(image)
    return getattr(vision, "adjust_" + {"color": "saturation"}.get(name, name))(image, 1 + sign * value)


def torchvision_epoch(data: ImageSet) -> Callable[[], None]:
    """torchvision v2, one image at a time."""
    weak = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data.mean, data.std),
        ]
    )
    return loaded(Pairs(list(data.images), torchvision_operation, POLICY, PROBABILITY, weak))


def kornia_policy(augmentation) -> list[torch.nn.Module]:
    """The policy's operations in the module ``kornia.augmentation``, in order."""
    value = {name: SCALES[name].value(k) for name, k in POLICY}
    degrees = math.degrees(math.atan(value["shearX"]))
    threshold = value["solarize"] / 255

    def around(name: str, centre: float) -> tuple[float, float]:
        return centre - value[name], centre + value[name]

    return [
        augmentation.RandomAutoContrast(p=PROBABILITY),
        augmentation.RandomContrast(around("contrast", 1), p=PROBABILITY),
        augmentation.RandomSolarize((threshold, threshold), (0.0, 0.0), p=PROBABILITY),
        augmentation.RandomTranslate(None, around("translateY", 0), "nearest", p=PROBABILITY),
        augmentation.RandomShear((-degrees, degrees), "bicubic", p=PROBABILITY),
        augmentation.RandomBrightness(around("brightness", 1), p=PROBABILITY),
        augmentation.RandomTranslate(around("translateX", 0), None, "nearest", p=PROBABILITY),
        augmentation.RandomSharpness(around("sharpness", 1), p=PROBABILITY),
        augmentation.RandomInvert(p=PROBABILITY),
        augmentation.RandomSaturation(around("color", 1), p=PROBABILITY),
        augmentation.RandomEqualize(p=PROBABILITY),
        augmentation.RandomRotation((value["rotate"], value["rotate"]), "nearest", p=PROBABILITY),
    ]


def kornia_epoch(data: ImageSet) -> Callable[[], None] | None:
    """kornia on whole batches; None where it is not installed."""
    try:
        from kornia import augmentation
    except ImportError:
        return None
    policy = torch.nn.Sequential(*kornia_policy(augmentation))
    weak = torch.nn.Sequential(
        augmentation.RandomCrop((32, 32), padding=4),
        augmentation.RandomHorizontalFlip(),
        augmentation.Normalize(data.mean, data.std),
    )

    def run() -> None:
        for index in torch.randperm(len(data)).split(ORIGINALS):
            x = data.batch(index).float() / 255
            assert weak(torch.cat([x, policy(x)])).shape == (2 * ORIGINALS, 3, 32, 32)

    return run


def against(name: str, epoch: Callable[[], None], ours: Callable[[int], None], bar: float | None = None) -> None:
    """Time another way and kdlab's in turn and print the line."""
    others = timed(epoch)
    kdlab = timed(lambda: ours(MORE * STEPS))
    measured = pairs(lambda: others() / STEPS, lambda: kdlab() / (MORE * STEPS))
    theirs, mine = (ORIGINALS / statistics.median(seconds) for seconds in zip(*measured, strict=True))
    report(f"{name:14s} {theirs:8.0f}/s   kdlab {mine:8.0f}/s", spread(measured), bar)


def operations(images: Tensor) -> None:
    """Print the time of each operation on the rows of a step at which it fires, and Pillow's on one of them."""
    rows = images[: round(PROBABILITY * ORIGINALS)]
    pictures = [to_pil(image) for image in rows]
    signs = torch.arange(len(rows)) % 2 * 2 - 1

    def theirs(name: str, k: int | None) -> None:
        for picture, sign in zip(pictures, signs.tolist(), strict=True):
            pillow(picture, name, k, sign)

    print(f"\n{f'operation, {len(rows)} rows':22s} {'kdlab us':>9s} {'a row':>7s} {'Pillow':>7s}")
    for name, k in POLICY:
        one, other = partial(theirs, name, k), partial(SCALES[name].apply, rows, k, signs)
        measured = pairs(timed(one), timed(other), REPEATS_OF_OPERATION)
        slow, fast = (1e6 * statistics.median(seconds) for seconds in zip(*measured, strict=True))
        label = name if k is None else f"{name} {k}"
        print(f"{label:22s} {fast:9.0f} {fast / len(rows):7.1f} {slow / len(rows):7.1f}")


def main() -> None:
    """Time kdlab against each of the others."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", action="store_true", help="time each operation, too")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    data = colour(load("fashion", sizes=(ORIGINALS * STEPS, 100, 100)).train)
    ours = kdlab_steps(data)
    against("Pillow", pillow_epoch(data), ours, BAR)
    against("  as published", pillow_epoch(data, PUBLISHED), ours, BAR)
    against("torchvision v2", torchvision_epoch(data), ours)
    if epoch := kornia_epoch(data):
        against("kornia", epoch, ours)
    else:
        print("kornia: not installed (pip install kornia)")
    if wanted.operations:
        operations(data.images)


if __name__ == "__main__":
    main()
