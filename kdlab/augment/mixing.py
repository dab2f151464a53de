"""Mixed images: each row takes a part of another row of the step, on the cropped and mirrored views.

``partner`` says which row is mixed in and ``share`` how much of the row is its own, so that labels mix alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kdlab.augment.bytewise import beside
from kdlab.augment.erase import in_box
from kdlab.augment.mixed import Mixed, Mixing
from kdlab.errors import SpecError, check_number, choose
from kdlab.registry import register

ONE = 1 << 16  # shares are multiples of 1 / 65536: images mix in integers, alike on every device


def partners(n: int, generator: torch.Generator) -> Tensor:
    """One random cycle through all rows: a permutation in which no row is its own partner (unless it is alone).

    Args:
        n: number of rows.
        generator: CPU generator.

    Returns:
        int64 (n,); every other row is equally likely.
    """
    order = torch.randperm(n, generator=generator)
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return partner


def beta(alpha: float, n: int, generator: torch.Generator) -> Tensor:
    """Draws of Beta(alpha, alpha), float64 (n,) in [0, 1].

    ``X / (X + Y)`` of two gamma variables, each ``Gamma(alpha + 1) U^(1 / alpha)``; by logarithms, so that a small
    alpha does not end in 0 / 0.

    Args:
        alpha: > 0.
        n: how many.
        generator: CPU generator.
    """
    shape = torch.full((2, n), alpha + 1.0, dtype=torch.float64)
    gamma = torch._standard_gamma(shape, generator=generator)
    uniform = 1 - torch.rand(2, n, generator=generator, dtype=torch.float64)
    x, y = gamma.log() + uniform.log() / alpha
    return torch.sigmoid(x - y)


@register("mixup", revision=1, mixes=True, where="view")
class MixUp(Mixing):
    """Blend with another image of the step.

    ``x = share x_i + (1 - share) x_partner,  share ~ Beta(alpha, alpha)``, one share a row

    Args:
        alpha: > 0; small values mix little.

    Raises:
        SpecError: for an alpha out of range.

    Reference: H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """

    def __init__(self, alpha: float = 1.0):
        self.alpha = check_number("alpha", alpha, open_low=True)

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """Partners and shares.

        Args:
            n: number of images.
            image_shape: (C, H, W).
            generator: CPU generator of the stream.
            guide: unused.

        Returns:
            ``partner`` (n,) int64 and ``share`` (n,) float32 of the row's own image, in [0, 1].
        """
        partner = partners(n, generator)
        share = (beta(self.alpha, n, generator) * ONE).round() / ONE
        return {"partner": partner, "share": share.float()}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Blended uint8 images (B, C, H, W), rounded to the nearest level."""
        own = (beside(images, params["share"]).double() * ONE).round().int().view(-1, 1, 1, 1)
        mixed = own * images + (ONE - own) * images[beside(images, params["partner"])]
        return ((mixed + ONE // 2) >> 16).to(torch.uint8)


@register("cutmix", revision=1, mixes=True, where="view")
class CutMix(Mixing):
    """Paste a box of another image of the step.

    The box has sides ``floor(side sqrt(1 - lambda))``, halved downwards, ``lambda ~ Beta(alpha, alpha)``, about a
    centre uniform over the image, and is clipped at the border; ``share`` is what remains of the row's own pixels.
    The paper draws one box a batch, this one a row.

    Args:
        alpha: > 0; small values cut nearly nothing or nearly all.

    Raises:
        SpecError: for an alpha out of range.

    Reference: S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe, Y. Yoo, CutMix: Regularization Strategy to Train Strong
    Classifiers with Localizable Features, ICCV 2019.
    """

    def __init__(self, alpha: float = 1.0):
        self.alpha = check_number("alpha", alpha, open_low=True)

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """Partners, boxes and shares.

        Args:
            n: number of images.
            image_shape: (C, H, W).
            generator: CPU generator of the stream.
            guide: unused.

        Returns:
            ``partner`` (n,) int64, ``box`` (n, 4) int64 (top, left, bottom, right; the last two excluded) and
            ``share`` (n,) float32, the exact share of the pixels outside the box.
        """
        size = torch.tensor(image_shape[1:])
        partner = partners(n, generator)
        side = (size * (1 - beta(self.alpha, n, generator)).sqrt()[:, None]).long()
        centre = torch.stack([torch.randint(s, (n,), generator=generator) for s in image_shape[1:]], 1)
        start, stop = (centre - side // 2).clamp(min=0), torch.minimum(centre + side // 2, size)
        share = 1 - (stop - start).prod(1).double() / size.prod()
        return {"partner": partner, "box": torch.cat([start, stop], 1), "share": share.float()}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """uint8 images (B, C, H, W), each with its box of its partner."""
        inside = in_box(images, *beside(images, params["box"]).split(2, 1))
        return torch.where(inside[:, None], images[beside(images, params["partner"])], images)


@register("cutmix_pick", revision=1, mixes=True, where="view", picks="teacher")
class CutMixPick(CutMix):
    """CutMix twice; of the 2 n candidates the n are kept on which a network is least sure (``pick``).

    Draws and images are those of CutMix: training makes the two sets, scores them and keeps half.

    Args:
        alpha: as in CutMix.
        by: whose entropy decides: ``"teacher"`` or ``"student"``.

    Raises:
        SpecError: for a value out of range.

    Reference: H. Wang, S. Lohit, M. Jones, Y. Fu, What Makes a "Good" Data Augmentation in Knowledge Distillation - A
    Statistical Perspective, NeurIPS 2022.
    """

    def __init__(self, alpha: float = 1.0, by: str = "teacher"):
        super().__init__(alpha)
        self.by = choose("by", by, ("teacher", "student"))

    def __call__(
        self, images: Tensor, generator: torch.Generator, logits: Callable[[Tensor], Tensor] | None = None
    ) -> Mixed:
        """Draw and apply CutMix twice, and keep the half on which a network is least sure.

        Args:
            images: uint8 (B, C, H, W) with 1 or 3 channels.
            generator: CPU generator.
            logits: the network, from uint8 images to logits (2 B, K), such as ``lambda x: teacher(normalise(x))``.

        Returns:
            B mixed rows; ``own`` may name an original once, twice or not at all.

        Raises:
            SpecError: without ``logits``, and for what every augmentation refuses.
        """
        if logits is None:
            raise SpecError(
                "cutmix_pick chooses by a network's entropy: call it with logits=, a function from uint8 images to "
                "logits, such as logits=lambda x: teacher(normalise(x))."
            )
        halves = [super(CutMixPick, self).__call__(images, generator) for _ in range(2)]
        candidates = Mixed(*map(torch.cat, zip(*halves, strict=True)))
        with torch.no_grad():
            kept = pick(entropy(logits(candidates.images)))
        return Mixed(*(column[kept] for column in candidates))


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax of logits (B, K) in nats: (B,), in single precision."""
    log_p = logits.float().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def pick(entropies: Tensor) -> Tensor:
    """The half of the candidates with the highest entropies; of equal ones the first.

    >>> pick(torch.tensor([0.1, 0.9, 0.5, 0.5])).tolist()
    [1, 2]

    Args:
        entropies: (2 n,), in nats or any other unit.

    Returns:
        Their numbers, int64 (n,), in ascending order.

    Raises:
        SpecError: for an odd number of candidates.
    """
    if len(entropies) % 2:
        raise SpecError(f"entropies must be an even number of values, but got {len(entropies)}.")
    return entropies.argsort(descending=True, stable=True)[: len(entropies) // 2].sort().values
