"""Augmentations of other libraries behind the house's protocol, and the notes on labels."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import ImageOps

from kdlab.augment import label_safety
from kdlab.augment.safety import EFFECTS, NOTES
from kdlab.data import READERS, load
from kdlab.errors import SpecError
from kdlab.foreign.augmentation import PerImage
from kdlab.registry import catalogue, create, find
from kdlab.rng import generator, global_stream

# Else albumentations asks for updates over the network when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

V1, V2 = "torchvision.transforms", "torchvision.transforms.v2"
TORCHVISION = [
    (f"{V1}:RandomErasing", {"p": 1.0}),
    (f"{V1}:RandomRotation", {"degrees": 30}),
    (f"{V1}:TrivialAugmentWide", {}),
    (f"{V1}:RandomPerspective", {"p": 1.0}),
    (f"{V2}:RandomErasing", {"p": 1.0, "scale": [0.1, 0.3]}),
    (f"{V2}:RandomRotation", {"degrees": [-20, 20]}),
    (f"{V2}:ColorJitter", {"brightness": 0.5}),
    (f"{V2}:RandomAffine", {"degrees": 10, "translate": [0.1, 0.1]}),
]
ALBUMENTATIONS = [
    ("albumentations:GaussNoise", {"p": 1.0}),
    ("albumentations:CoarseDropout", {"p": 1.0, "num_holes_range": [3, 5]}),
    ("albumentations:Affine", {"p": 1.0, "rotate": [-20, 20]}),
]


def identifier(case):
    return case[0].replace("torchvision.transforms", "tv")


@pytest.fixture(scope="module")
def test_images():
    return load("fashion").test.images


@pytest.fixture(params=[*TORCHVISION, *ALBUMENTATIONS], ids=identifier)
def foreign(request):
    name, options = request.param
    if name.startswith("albumentations"):
        pytest.importorskip("albumentations")
    return create("augment", name, **options)


def draw(augmentation, images, seed=0):
    return augmentation.draw(len(images), tuple(images.shape[1:]), generator(seed, "test"))


@pytest.mark.parametrize("channels", [1, 3])
def test_replay_rows_and_random_states(foreign, test_images, channels):
    """Bit-equal replay, rows by themselves and unlike each other, input and global states left alone."""
    images = test_images[: 8 * channels].reshape(8, channels, 28, 28).clone()
    images[1] = images[0]
    before, states = images.clone(), (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())
    drawn = draw(foreign, images)
    assert drawn["seed"].dtype == torch.int64 and len(drawn["seed"].unique()) == 8
    first = foreign.apply(images, drawn)
    assert first.dtype == torch.uint8 and first.shape == images.shape
    assert torch.equal(first, foreign.apply(images, drawn)) and torch.equal(images, before)
    rows = torch.tensor([5, 0, 5])
    assert torch.equal(foreign.apply(images[rows], {"seed": drawn["seed"][rows]}), first[rows])
    assert not torch.equal(first[0], first[1]) and not torch.equal(first, before)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])


def test_torchvision_gets_a_seeded_tensor(test_images):
    from torchvision.transforms import v2

    drawn = draw(create("augment", f"{V2}:RandomErasing", p=1.0), test_images[:4])
    ours = create("augment", f"{V2}:RandomErasing", p=1.0).apply(test_images[:4], drawn)
    for image, seed, changed in zip(test_images, drawn["seed"].tolist(), ours, strict=False):
        with global_stream(seed, "row"):
            assert torch.equal(changed, v2.RandomErasing(p=1.0)(image))


def test_albumentations_gets_a_seeded_array(test_images):
    library = pytest.importorskip("albumentations")
    images = test_images[:12].reshape(4, 3, 28, 28)
    ours = create("augment", "albumentations:GaussNoise", p=1.0)
    drawn, theirs = draw(ours, images), library.GaussNoise(p=1.0)
    for image, seed, changed in zip(images, drawn["seed"].tolist(), ours.apply(images, drawn), strict=True):
        theirs.set_random_seed(seed)
        assert np.array_equal(theirs(image=image.permute(1, 2, 0).numpy())["image"], changed.permute(1, 2, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_other_callables_get_pil_images(test_images, channels):
    images = test_images[: 4 * channels].reshape(4, channels, 28, 28)
    mirror = PerImage(ImageOps.mirror)
    assert mirror.takes == "pil"
    assert torch.equal(mirror.apply(images, draw(mirror, images)), images.flip(-1))
    assert PerImage(torch.nn.Identity()).takes == "tensor"
    assert torch.equal(PerImage(torch.fliplr, takes="tensor").apply(images, draw(mirror, images)), images.flip(-2))


def test_states_are_put_back_after_an_error(test_images):
    def fails(image):
        raise RuntimeError(str(torch.rand(1)))

    state = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        PerImage(fails).apply(test_images[:1], {"seed": torch.tensor([3])})
    assert torch.equal(state, torch.get_rng_state())


OWN = """
class Darker:
    facts = {"mixes": False}
    def __init__(self, by=2):
        self.by = by
    def draw(self, n, image_shape, generator, guide=None):
        return {}
    def apply(self, images, params):
        return images // self.by

class Plain:
    def __init__(self, level, strength=1.0):
        self.level = level
    def __call__(self, image):
        return image.point(lambda value: min(value, self.level))

def nothing(what=3):
    return what
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_augmentations.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_augmentations"
    sys.modules.pop("own_augmentations", None)


def test_own_code_with_the_protocol_is_taken_as_it_is(own_module, test_images):
    darker = create("augment", f"{own_module}:Darker", by=4)
    assert not isinstance(darker, PerImage)
    assert torch.equal(darker.apply(test_images[:2], {}), test_images[:2] // 4)


def test_options_without_a_default_can_and_must_be_given(own_module, test_images):
    entry = find("augment", f"{own_module}:Plain")
    assert list(entry.options) == ["level", "strength"] and entry.options["strength"] == 1.0
    plain = create("augment", f"{own_module}:Plain", level=9)
    assert plain.apply(test_images[:5], draw(plain, test_images[:5])).max() == 9
    with pytest.raises(SpecError, match="needs the option 'level'"):
        create("augment", f"{own_module}:Plain")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (f"{V2}:RandomRotation", {}, "needs the option 'degrees'"),
        (f"{V2}:RandomRotation", {"degree": 3}, "Did you mean 'degrees'"),
        (f"{V1}:RandomRotation", {"degrees": -3}, "cannot be built with {'degrees': -3}: If degrees is a single"),
        ("torchvision.transforms:RandomWarp", {}, "has no RandomWarp"),
        ("math:sqrt", {}, "class or function of a Python file"),
        ("own_augmentations:nothing", {}, "callable from image to image, but got 3"),
    ],
)
def test_what_cannot_be_built_is_refused(own_module, name, options, message):
    with pytest.raises(SpecError, match=message):
        create("augment", name, **options)


@pytest.mark.parametrize(
    ("function", "takes", "given"),
    [
        (lambda image: image[:, 2:], "tensor", r"uint8 \(1, 26, 28\)"),
        (lambda image: image / 255, "tensor", r"float32 \(1, 28, 28\)"),
        (lambda image: image.convert("RGB"), "pil", r"uint8 \(3, 28, 28\)"),
    ],
)
def test_another_shape_or_type_is_refused(test_images, function, takes, given):
    with pytest.raises(SpecError, match=f"must keep the shape and type of an image.* but gave {given}"):
        PerImage(function, takes).apply(test_images[:1], {"seed": torch.tensor([1])})


def test_unknown_input_is_refused():
    with pytest.raises(SpecError, match="Did you mean 'pil'"):
        PerImage(ImageOps.mirror, "pill")


# --- labels -----------------------------------------------------------------------------------------------------------


def test_notes_name_what_exists():
    names = set(catalogue("augment"))
    assert set(EFFECTS) <= names and all(set(notes) <= names for notes in NOTES.values())
    assert set(NOTES) == set(READERS)
    assert len([note for notes in NOTES.values() for note in notes.values() if len(note) > 110]) == 0


def test_label_safety_depends_on_the_data():
    assert label_safety("fashion", "rotation") is None and label_safety("cifar10", "weak") is None
    assert "sleeves" in label_safety("fashion", "cutout") and label_safety("cifar100", "cutout") is None
    assert "quarter turns" in label_safety("folder:letters", "rotation")
    assert label_safety("folder:letters", "brightness") is None
    for name in ("mixup", "cutmix", "cutmix_pick"):
        assert "two classes" in label_safety("fashion", name)
    assert "foreign" in label_safety("fashion", f"{V2}:RandomErasing")
    with pytest.raises(SpecError, match="Did you mean 'cutout'"):
        label_safety("fashion", "cutoff")


def test_label_safety_needs_no_torch():
    code = "import sys; from kdlab.augment import label_safety as f; f('fashion', 'jda'); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
