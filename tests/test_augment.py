"""Augmentations against Pillow on real images, and the properties that replay and pairing rest on."""

import numpy as np
import pytest
import torch
from PIL import ImageOps
from pillow_jda import PLAIN, POSTERIZE_BITS, from_pil, pillow, pillow_chain, to_pil
from scipy import stats

from kdlab.augment import JDA, POLICIES, CropFlip, Operation, QuarterTurn
from kdlab.augment.operations import SCALES, Chain
from kdlab.data import load
from kdlab.errors import SpecError
from kdlab.registry import catalogue, create
from kdlab.rng import generator

BICUBIC = ("shearX", "shearY")
SIGNED = ("shearX", "shearY", "translateX", "translateY", "color", "contrast", "sharpness", "brightness")


@pytest.fixture(scope="module")
def test_images():
    return load("fashion").test.images


@pytest.fixture(scope="module", params=["grey", "colour", "oblong"])
def images(request, test_images):
    """Real grey images; real ones stacked as channels beside colour gradients and flat ones; and not square ones."""
    if request.param == "grey":
        return torch.cat([test_images[:60], torch.full((1, 1, 28, 28), 77, dtype=torch.uint8)])
    stacked = torch.cat([test_images[60:100], test_images[100:140], test_images[140:180]], 1)
    ramp = torch.arange(28) * 9
    gradient = torch.stack([ramp[:, None].expand(28, 28), ramp.expand(28, 28), (ramp[:, None] + ramp) // 2])
    flat = torch.tensor([10, 200, 90]).view(3, 1, 1).expand(3, 28, 28)
    colour = torch.cat([stacked, torch.stack([gradient, gradient.flip(0), flat]).to(torch.uint8)])
    return colour if request.param == "colour" else colour[:, :, :25, 4:23]


CASES = [(name, k) for name in SCALES for k in ([None] if name in PLAIN else range(10))]


def params(n, sign=1, operations=1):
    return {
        "fired": torch.ones(n, operations, dtype=torch.bool),
        "sign": torch.full((n, operations), sign, dtype=torch.int8),
    }


@pytest.mark.parametrize(("name", "k"), CASES)
def test_operation_agrees_with_pillow(images, name, k):
    for sign in (1, -1) if name in SIGNED else (1,):
        ours = Operation(name, k).apply(images, params(len(images), sign))
        theirs = torch.stack([from_pil(pillow(to_pil(image), name, k, sign)) for image in images])
        error = (ours.int() - theirs.int()).abs()
        if name in BICUBIC:
            assert error.max() <= 3 and (error <= 1).double().mean() >= 0.99
        else:
            assert error.max() == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_joint_augmentation_agrees_with_pillow(images, policy):
    """Whole chains, row by row: exact wherever the bicubic shear, the one inexact operation, did not fire."""
    jda = JDA(policy)
    images = images.repeat(3, 1, 1, 1)
    drawn = jda.draw(len(images), tuple(images.shape[1:]), generator(0, "test"))
    ours = jda.apply(images, drawn)
    theirs = pillow_chain(images, jda.steps, drawn["fired"], drawn["sign"])
    sheared = drawn["fired"][:, [name in BICUBIC and k > 0 for name, k in jda.steps]].any(1)
    assert torch.equal(ours[~sheared], theirs[~sheared])
    assert 0.5 < (~sheared).double().mean() or policy == "cifar10"


def test_autocontrast_rounds_like_pillow_between_every_two_levels():
    low, high = torch.triu_indices(256, 256, offset=1)
    between = (low[:, None] + (high - low)[:, None] * torch.arange(16) // 15).to(torch.uint8).view(-1, 1, 4, 4)
    pairs = torch.arange(0, len(between), 7)
    ours = Operation("autocontrast").apply(between[pairs], params(len(pairs)))
    theirs = torch.stack([from_pil(ImageOps.autocontrast(to_pil(image))) for image in between[pairs]])
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("name", "k"), [("posterize", 0), ("posterize", 1), ("solarize", 0), ("rotate", 0)])
def test_steps_that_do_nothing_unsigned(images, name, k):
    assert torch.equal(Operation(name, k).apply(images, params(len(images))), images)


@pytest.mark.parametrize("name", SIGNED)
def test_index_zero_of_signed_operations_does_nothing(images, name):
    """Bit-exact, both as the chain skips it and as the operation itself computes it."""
    assert torch.equal(Operation(name, 0).apply(images, params(len(images), -1)), images)
    sign = torch.ones(len(images), dtype=torch.int8)
    assert torch.equal(SCALES[name].apply(images, 0, sign), images)


def test_tables_of_values():
    assert tuple(SCALES["posterize"].value(k) for k in range(10)) == POSTERIZE_BITS
    solarize = [256, 227.6, 199.1, 170.7, 142.2, 113.8, 85.3, 56.9, 28.4, 0]
    assert [SCALES["solarize"].value(k) for k in range(10)] == pytest.approx(solarize, abs=0.06)
    assert SCALES["translateY"].value(8) == pytest.approx(0.4028, abs=1e-4)
    assert SCALES["translateX"].value(9) == pytest.approx(0.4532, abs=1e-4)
    assert [SCALES["rotate"].value(k) for k in (0, 3, 9)] == pytest.approx([0, 10, 30])


def test_tiny_images_pass_through_every_operation():
    one = torch.full((2, 3, 1, 1), 50, dtype=torch.uint8)
    for name in SCALES:
        assert Operation(name).apply(one, params(2)).shape == one.shape


# --- what replay, pairing and cohorts rest on -----------------------------------------------------------------------

AUGMENTATIONS = [
    *(create("augment", name) for name in catalogue("augment")),
    *(JDA(policy) for policy in POLICIES),
    CropFlip(),
]


def label(augmentation):
    if isinstance(augmentation, Chain):
        return f"{type(augmentation).__name__}-{len(augmentation.steps)}-{augmentation.steps[0][0]}"
    return type(augmentation).__name__


@pytest.fixture(params=AUGMENTATIONS, ids=label)
def augmentation(request):
    return request.param


def draw(augmentation, images, seed=0):
    return augmentation.draw(len(images), tuple(images.shape[1:]), generator(seed, "test"))


@pytest.mark.parametrize("channels", [1, 3])
def test_replay_is_bit_equal_and_leaves_its_input_alone(augmentation, test_images, channels):
    images = test_images[: 40 * channels].reshape(40, channels, 28, 28)
    before = images.clone()
    drawn = draw(augmentation, images)
    first = augmentation.apply(images, drawn)
    assert first.dtype == torch.uint8 and first.shape == images.shape
    assert torch.equal(first, augmentation.apply(images, drawn))
    assert torch.equal(images, before)
    assert all(torch.equal(drawn[key], again) for key, again in draw(augmentation, images).items())


def test_rows_do_not_depend_on_each_other(augmentation, test_images):
    if getattr(augmentation, "facts", {}).get("mixes"):
        pytest.skip("mixing takes another row by its very nature")
    images = test_images[:50]
    drawn = draw(augmentation, images)
    rows = torch.tensor([7, 3, 44, 3, 20])
    alone = augmentation.apply(images[rows], {key: value[rows] for key, value in drawn.items()})
    assert torch.equal(alone, augmentation.apply(images, drawn)[rows])


def test_draws_are_per_sample_and_leave_the_global_generator_alone(augmentation, test_images):
    state = torch.get_rng_state()
    drawn = draw(augmentation, test_images[:200])
    assert torch.equal(torch.get_rng_state(), state)
    for value in drawn.values():
        assert len(value) == 200
        if value.dtype != torch.bool or getattr(augmentation, "probability", 0.5) < 1:
            assert len(value.unique(dim=0)) > 1


@pytest.mark.parametrize(("policy", "mean"), [("cifar100", 4.2), ("cifar10", 7.0), ("imagenet", 5.0)])
def test_operations_fire_as_often_as_they_should(policy, mean):
    jda = JDA(policy)
    drawn = jda.draw(20_000, (1, 28, 28), generator(1, "test"))
    fired = drawn["fired"].double()
    probability = mean / len(jda.steps)
    assert jda.probability == pytest.approx(probability)
    # Two-sided binomial tests of each operation, Bonferroni over all of them; then the mean, and independence.
    pvalues = [stats.binomtest(int(column.sum()), 20_000, probability).pvalue for column in fired.T]
    assert min(pvalues) > 1e-3 / len(pvalues)
    assert fired.sum(1).mean().item() == pytest.approx(mean, abs=0.05)
    correlation = torch.corrcoef(fired.T) - torch.eye(len(jda.steps))
    assert correlation.abs().max() < 0.035
    assert (drawn["sign"] == 1).double().mean().item() == pytest.approx(0.5, abs=0.01)
    assert set(drawn["sign"].unique().tolist()) == {-1, 1}


def test_cifar100_policy_leaves_the_published_share_untouched(test_images):
    jda = JDA("cifar100")
    effective = torch.tensor([not SCALES[name].does_nothing(k) for name, k in jda.steps])
    assert effective.sum() == 12
    fired = jda.draw(50_000, (1, 28, 28), generator(2, "test"))["fired"]
    assert (~fired[:, effective].any(1)).double().mean().item() == pytest.approx(0.7**12, abs=0.002)


def test_probability_of_a_single_operation_and_of_a_policy():
    drawn = Operation("invert", probability=0.25).draw(20_000, (1, 28, 28), generator(0, "test"))
    assert drawn["fired"].double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert not JDA(probability=0.0).draw(9, (1, 28, 28), generator(0, "x"))["fired"].any()


def test_quarter_turns_are_uniform_turns_of_the_image(test_images):
    images = test_images[:3000]
    drawn = draw(QuarterTurn(), images)
    assert stats.chisquare(drawn["turns"].bincount()[1:]).pvalue > 1e-3
    turned = QuarterTurn().apply(images, drawn)
    for row in range(20):
        turns = int(drawn["turns"][row])
        assert np.array_equal(turned[row, 0].numpy(), np.rot90(images[row, 0].numpy(), turns))


def test_crops_and_flips_are_those_of_a_loop(test_images):
    images = test_images[:60].reshape(20, 3, 28, 28)
    drawn = draw(CropFlip(), images)
    for image, (top, left), flip, ours in zip(
        images.numpy(), drawn["corner"].tolist(), drawn["flip"], CropFlip().apply(images, drawn), strict=True
    ):
        crop = np.pad(image, ((0, 0), (4, 4), (4, 4)))[:, top : top + 28, left : left + 28]
        assert np.array_equal(ours.numpy(), crop[:, :, ::-1] if flip else crop)


def test_crops_are_uniform_and_flips_fair():
    drawn = CropFlip().draw(20_000, (1, 28, 28), generator(0, "test"))
    for axis in drawn["corner"].T:
        assert stats.chisquare(axis.bincount(minlength=9)).pvalue > 1e-3
    assert stats.binomtest(int(drawn["flip"].sum()), 20_000).pvalue > 1e-3
    still = CropFlip(padding=0, flip=False)
    images = torch.arange(12, dtype=torch.uint8).view(1, 1, 3, 4)
    assert torch.equal(still.apply(images, draw(still, images)), images)


# --- names and refusals -----------------------------------------------------------------------------------------------


def test_the_catalogue_reads_names_facts_and_options():
    entries = catalogue("augment")
    mixing = {name for name, entry in entries.items() if entry.mixes}
    assert {*SCALES, "weak", "jda", "rotation"} <= entries.keys() - mixing
    assert {"cutmix", "cutmix_pick", "mixup"} <= mixing
    assert all(entries[name].where == "view" for name in mixing)
    assert catalogue("augment")["cutmix_pick"].picks == catalogue("augment")["cutmix_pick"].options["by"]
    assert catalogue("augment")["shearX"].options == {"magnitude": None, "probability": 1.0}
    assert create("augment", "jda", policy="imagenet").steps == POLICIES["imagenet"][1]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Operation("shear"), "Did you mean 'shear"),
        (lambda: Operation("rotate", 10), r"an integer in \[0, 9\], but got 10"),
        (lambda: Operation("rotate", 1.5), r"an integer in \[0, 9\], but got 1.5"),
        (lambda: Operation("invert", 3), "has no magnitude"),
        (lambda: Operation("rotate", probability=1.2), r"\[0, 1\], but got 1.2"),
        (lambda: JDA("cifar"), "Did you mean 'cifar10"),
        (lambda: JDA(probability=-0.1), r"\[0, 1\], but got -0.1"),
        (lambda: CropFlip(-1), "padding"),
        (lambda: QuarterTurn().draw(2, (1, 4, 5), None), "square images"),
        (lambda: create("augment", "jda", polycy="cifar10"), "Did you mean 'policy'"),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(SpecError, match=message):
        build()
