"""Mixed images: partners, shares, boxes and the choice among candidates, against numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy import stats

from kdlab.augment import CutMix, CutMixPick, MixUp, pick
from kdlab.augment.mixing import beta, partners
from kdlab.data import load
from kdlab.errors import SpecError
from kdlab.rng import generator


@pytest.fixture(scope="module", params=[(1, 28, 28), (3, 25, 19)], ids=["grey", "oblong-colour"])
def images(request):
    """Real images, grey, or stacked as channels and cut."""
    channels, height, width = request.param
    real = load("fashion").test.images[: 24 * channels]
    return real.reshape(24, channels, 28, 28)[:, :, :height, :width]


def draw(augmentation, images, seed=0):
    return augmentation.draw(len(images), tuple(images.shape[1:]), generator(seed, "test"))


def test_a_share_of_one_is_the_row_itself(images):
    drawn = draw(MixUp(), images) | {"share": torch.ones(len(images))}
    assert torch.equal(MixUp().apply(images, drawn), images)
    drawn = draw(CutMix(), images)
    drawn["box"][:, 2:] = drawn["box"][:, :2]
    assert torch.equal(CutMix().apply(images, drawn), images)


@pytest.mark.parametrize("n", [1, 2, 3, 64])
def test_partners_are_a_permutation_without_fixed_points(n):
    for seed in range(20):
        partner = partners(n, generator(seed, "test"))
        assert partner.sort().values.tolist() == list(range(n))
        assert n == 1 or (partner != torch.arange(n)).all()


def test_every_other_row_is_as_likely_a_partner():
    found = torch.stack([partners(5, generator(seed, "test")) for seed in range(4000)])
    for row in range(5):
        counts = found[:, row].bincount(minlength=5)
        assert stats.chisquare(counts[torch.arange(5) != row]).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.05, 0.4, 1.0, 8.0])
def test_shares_follow_the_beta_distribution(alpha):
    share = beta(alpha, 5000, generator(0, "test")).numpy()
    # Small alphas crowd about 1, where numbers are too coarse; below 1/2 all of them can be told apart.
    assert stats.kstest(share[share < 0.5], lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).pvalue > 1e-3
    assert stats.binomtest(int((share < 0.5).sum()), 5000).pvalue > 1e-3
    if alpha == 1:
        share = MixUp(alpha).draw(5000, (1, 28, 28), generator(1, "test"))["share"]
        assert stats.kstest(share.numpy(), stats.uniform.cdf).pvalue > 1e-3


def test_tiny_alphas_give_zeros_and_ones_and_no_nan():
    share = beta(1e-6, 1000, generator(0, "test"))
    assert ((share < 1e-6) | (share > 1 - 1e-6)).double().mean() > 0.99
    assert 0.4 < share.mean() < 0.6


def test_mixup_is_the_weighted_sum(images):
    drawn = draw(MixUp(), images)
    own, share = images.numpy().astype(float), drawn["share"].double().numpy()[:, None, None, None]
    exact = share * own + (1 - share) * own[drawn["partner"].numpy()]
    assert drawn["share"].dtype == torch.float32
    assert np.array_equal(MixUp().apply(images, drawn), np.floor(exact + 0.5))


@pytest.mark.parametrize("alpha", [0.3, 1.0, 5.0])
def test_cutmix_pastes_a_clipped_box_and_counts_what_remains(images, alpha):
    cutmix = CutMix(alpha)
    images = images.repeat(6, 1, 1, 1)
    drawn = draw(cutmix, images)
    height, width = images.shape[-2:]
    for row, (image, ours) in enumerate(zip(images.numpy(), cutmix.apply(images, drawn).numpy(), strict=True)):
        top, left, bottom, right = drawn["box"][row].tolist()
        assert 0 <= top <= bottom <= height and 0 <= left <= right <= width
        pasted = image.copy()
        pasted[:, top:bottom, left:right] = images[drawn["partner"][row], :, top:bottom, left:right]
        assert np.array_equal(ours, pasted)
        assert drawn["share"][row] == np.float32(1 - (bottom - top) * (right - left) / (height * width))


def test_boxes_of_cutmix_have_the_published_sides(monkeypatch):
    """Unclipped boxes, and the mean share, which clipping raises."""
    monkeypatch.setattr("kdlab.augment.mixing.beta", lambda alpha, n, generator: torch.full((n,), 0.75).double())
    top, left, bottom, right = CutMix().draw(4000, (1, 32, 24), generator(0, "test"))["box"].T
    assert set((bottom - top)[(top > 0) & (bottom < 32)].tolist()) == {16}
    assert set((right - left)[(left > 0) & (right < 24)].tolist()) == {12}
    assert stats.chisquare(((top + bottom) // 2)[(top > 0) & (bottom < 32)].bincount()[9:]).pvalue > 1e-3


def test_cutmix_pick_draws_like_cutmix(images):
    drawn = draw(CutMix(0.7), images)
    assert all(torch.equal(value, drawn[key]) for key, value in draw(CutMixPick(0.7, by="student"), images).items())


def test_pick_keeps_the_half_of_highest_entropy():
    values = torch.randint(6, (40,), generator=generator(0, "test")).double()
    order = sorted(range(40), key=lambda k: (-float(values[k]), k))
    kept = pick(values)
    assert kept.tolist() == sorted(order[:20]) and kept.dtype == torch.int64
    assert pick(torch.ones(6)).tolist() == [0, 1, 2] and pick(torch.empty(0)).tolist() == []


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MixUp(0), "alpha must be a positive, finite number, but got 0"),
        (lambda: CutMix(True), "alpha must be a positive, finite number"),
        (lambda: CutMixPick(by="techer"), "Did you mean 'teacher'"),
        (lambda: pick(torch.ones(3)), "even number"),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(SpecError, match=message):
        build()
