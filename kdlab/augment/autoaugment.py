"""AutoAugment: each image goes through one of 25 learned pairs of operations, each with its own probability.

Sub-policies are those of the paper's appendix, as torchvision lists them; ranges of the magnitudes (10 bins) as in
``kdlab.augment.automatic``.

Reference: E. Cubuk, B. Zoph, D. Mane, V. Vasudevan, Q. Le, AutoAugment: Learning Augmentation Strategies from Data,
CVPR 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.augment.automatic import NARROW, Drawn, Range
from kdlab.augment.operations import draw_signs
from kdlab.augment.pointwise import invert
from kdlab.errors import choose
from kdlab.registry import register

BINS = 10

POLICIES = ("cifar10", "imagenet", "svhn")


@register("autoaugment", revision=1)
class AutoAugment(Drawn):
    """One of a policy's 25 sub-policies per row, drawn uniformly; each of its two operations fires by itself.

    Args:
        policy: the data the sub-policies were learned on: ``"cifar10"``, ``"imagenet"`` or ``"svhn"``.

    Raises:
        SpecError: for an unknown policy.
    """

    def __init__(self, policy: str = "cifar10"):
        super().__init__(NARROW | {"invert": Range(lambda images, values: invert(images))}, BINS)
        from torchvision.transforms import AutoAugment, AutoAugmentPolicy  # takes a second, for one policy

        # Two (operation, probability, bin) for each of 25 sub-policies.
        self.steps = AutoAugment(AutoAugmentPolicy(choose("policy", policy, POLICIES))).policies
        numbers = {name.lower(): number for number, name in enumerate(self.operations)}
        self.operation = torch.tensor([[numbers[name.lower()] for name, _, _ in pair] for pair in self.steps])
        self.chance = torch.tensor([[chance for _, chance, _ in pair] for pair in self.steps])
        self.level = torch.tensor([[level or 0 for _, _, level in pair] for pair in self.steps])

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """Which sub-policy, and what of it happens.

        Args:
            n: number of images.
            image_shape: (C, H, W).
            generator: CPU generator of the stream.
            guide: unused.

        Returns:
            ``pair`` (n,) int64 in [0, 25), ``fired`` (n, 2) bool and ``sign`` (n, 2) int8 of 1 or -1.
        """
        pair = torch.randint(len(self.steps), (n,), generator=generator)
        fired = torch.rand(n, 2, generator=generator) < self.chance[pair]
        return {"pair": pair, "fired": fired, "sign": draw_signs(n, 2, generator)}

    def chosen(self, params: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The operations of the drawn pairs; one that did not fire is the identity, number 0."""
        pair = params["pair"]
        operation = self.operation.to(pair.device)[pair] * params["fired"]
        return operation, self.level.to(pair.device)[pair], params["sign"]
