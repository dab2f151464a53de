"""Augmentations in a training loop of one's own: called on a uint8 batch with a generator."""

import pytest
import torch
import torch.nn.functional as F

from kdlab.augment import CropFlip, CutMix, CutMixPick, MixUp, Weak
from kdlab.augment.mixed import Mixed
from kdlab.data import load
from kdlab.errors import SpecError
from kdlab.registry import catalogue, create

NAMES = tuple(catalogue("augment"))


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def images(request):
    return load("fashion").test.images[: 24 * request.param].reshape(24, request.param, 28, 28)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def called(name, images, seed=0):
    """An augmentation's images, with all that it says of them."""
    part, generator = create("augment", name), seeded(seed)
    if catalogue("augment")[name].picks:
        return part(images, generator, logits=lambda x: x.float().flatten(1)[:, :10] / 64)
    answer = part(images, generator)
    return answer if isinstance(answer, Mixed) else (answer,)


@pytest.mark.parametrize("name", NAMES)
def test_every_augmentation_is_callable_and_repeats_bit_by_bit(name, images):
    before = images.clone()
    first, again = called(name, images), called(name, images.contiguous(memory_format=torch.channels_last))
    assert len(first) == len(again) and all(map(torch.equal, first, again))
    assert first[0].dtype == torch.uint8 and first[0].shape == images.shape and torch.equal(images, before)
    if name not in ("weak", "identity"):
        assert not torch.equal(first[0], images) or images.shape[1] == 1 and name == "color"


@pytest.mark.parametrize("name", [name for name in NAMES if not catalogue("augment")[name].picks])
def test_a_call_is_a_draw_and_its_application(name, images):
    part = create("augment", name)
    applied = part.apply(images, part.draw(len(images), tuple(images.shape[1:]), seeded()))
    assert torch.equal(called(name, images)[0], applied)


@pytest.mark.parametrize("part", [CutMix(), MixUp()])
def test_soft_targets_name_both_originals_by_their_shares(part, images):
    labels = torch.arange(24) % 10
    mixed = part(images, seeded())
    targets = mixed.targets(labels, classes=10)
    assert targets.shape == (24, 10) and targets.dtype == torch.float32
    for row, (own, partner, share) in enumerate(zip(mixed.own, mixed.partner, mixed.share, strict=True)):
        expected = torch.zeros(10)
        expected[labels[own]] += share
        expected[labels[partner]] += 1 - share
        torch.testing.assert_close(targets[row], expected)
    F.cross_entropy(torch.randn(24, 10, generator=seeded(1)), targets)


def test_cutmix_pick_keeps_what_the_network_is_least_sure_of(images):
    def logits(x):
        return x[:, 0, :10, 14].float()

    mixed, generator = CutMixPick()(images, seeded(), logits), seeded()
    both = [CutMix()(images, generator) for _ in range(2)]
    candidates = torch.cat([each.images for each in both])
    entropies = torch.distributions.Categorical(logits=logits(candidates)).entropy()
    kept = entropies.argsort(descending=True, stable=True)[:24].sort().values
    assert torch.equal(mixed.images, candidates[kept]) and torch.equal(mixed.own, torch.arange(24).repeat(2)[kept])
    assert len(set(mixed.own.tolist())) < 24


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: Weak()(x.float(), seeded()), "uint8 tensor.*not yet normalised, but got torch.float32"),
        (lambda x: Weak()(x[0], seeded()), "uint8 tensor"),
        (lambda x: Weak()(x.numpy(), seeded()), "but got ndarray"),
        (lambda x: CropFlip()(x.repeat(1, 2, 1, 1), seeded()), "1 .grey. or 3 .colour. channels"),
        (lambda x: Weak()(x, 0), "generator must be a torch.Generator of the CPU.* but got 0"),
        (lambda x: CutMixPick()(x, seeded()), "call it with logits="),
    ],
)
def test_what_cannot_be_augmented_is_refused(call, message, images):
    with pytest.raises(SpecError, match=message):
        call(images)
