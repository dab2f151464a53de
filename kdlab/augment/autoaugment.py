"""AutoAugment: each image goes through one of 25 learned pairs of operations, each with its own probability.

Sub-policies are those of the paper's appendix; ranges of the magnitudes (10 bins) as in ``kdlab.augment.automatic``.

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

# Two (operation, probability, bin) for each of 25 sub-policies.
SUBPOLICIES = {
    "cifar10": (
        (("invert", 0.1, None), ("contrast", 0.2, 6)),
        (("rotate", 0.7, 2), ("translateX", 0.3, 9)),
        (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
        (("shearY", 0.5, 8), ("translateY", 0.7, 9)),
        (("autocontrast", 0.5, None), ("equalize", 0.9, None)),
        (("shearY", 0.2, 7), ("posterize", 0.3, 7)),
        (("color", 0.4, 3), ("brightness", 0.6, 7)),
        (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
        (("equalize", 0.6, None), ("equalize", 0.5, None)),
        (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
        (("color", 0.7, 7), ("translateX", 0.5, 8)),
        (("equalize", 0.3, None), ("autocontrast", 0.4, None)),
        (("translateY", 0.4, 3), ("sharpness", 0.2, 6)),
        (("brightness", 0.9, 6), ("color", 0.2, 8)),
        (("solarize", 0.5, 2), ("invert", 0.0, None)),
        (("equalize", 0.2, None), ("autocontrast", 0.6, None)),
        (("equalize", 0.2, None), ("equalize", 0.6, None)),
        (("color", 0.9, 9), ("equalize", 0.6, None)),
        (("autocontrast", 0.8, None), ("solarize", 0.2, 8)),
        (("brightness", 0.1, 3), ("color", 0.7, 0)),
        (("solarize", 0.4, 5), ("autocontrast", 0.9, None)),
        (("translateY", 0.9, 9), ("translateY", 0.7, 9)),
        (("autocontrast", 0.9, None), ("solarize", 0.8, 3)),
        (("equalize", 0.8, None), ("invert", 0.1, None)),
        (("translateY", 0.7, 9), ("autocontrast", 0.9, None)),
    ),
    "imagenet": (
        (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, None)),
        (("equalize", 0.8, None), ("equalize", 0.6, None)),
        (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
        (("equalize", 0.4, None), ("solarize", 0.2, 4)),
        (("equalize", 0.4, None), ("rotate", 0.8, 8)),
        (("solarize", 0.6, 3), ("equalize", 0.6, None)),
        (("posterize", 0.8, 5), ("equalize", 1.0, None)),
        (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
        (("equalize", 0.6, None), ("posterize", 0.4, 6)),
        (("rotate", 0.8, 8), ("color", 0.4, 0)),
        (("rotate", 0.4, 9), ("equalize", 0.6, None)),
        (("equalize", 0.0, None), ("equalize", 0.8, None)),
        (("invert", 0.6, None), ("equalize", 1.0, None)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("rotate", 0.8, 8), ("color", 1.0, 2)),
        (("color", 0.8, 8), ("solarize", 0.8, 7)),
        (("sharpness", 0.4, 7), ("invert", 0.6, None)),
        (("shearX", 0.6, 5), ("equalize", 1.0, None)),
        (("color", 0.4, 0), ("equalize", 0.6, None)),
        (("equalize", 0.4, None), ("solarize", 0.2, 4)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, None)),
        (("invert", 0.6, None), ("equalize", 1.0, None)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("equalize", 0.8, None), ("equalize", 0.6, None)),
    ),
    "svhn": (
        (("shearX", 0.9, 4), ("invert", 0.2, None)),
        (("shearY", 0.9, 8), ("invert", 0.7, None)),
        (("equalize", 0.6, None), ("solarize", 0.6, 6)),
        (("invert", 0.9, None), ("equalize", 0.6, None)),
        (("equalize", 0.6, None), ("rotate", 0.9, 3)),
        (("shearX", 0.9, 4), ("autocontrast", 0.8, None)),
        (("shearY", 0.9, 8), ("invert", 0.4, None)),
        (("shearY", 0.9, 5), ("solarize", 0.2, 6)),
        (("invert", 0.9, None), ("autocontrast", 0.8, None)),
        (("equalize", 0.6, None), ("rotate", 0.9, 3)),
        (("shearX", 0.9, 4), ("solarize", 0.3, 3)),
        (("shearY", 0.8, 8), ("invert", 0.7, None)),
        (("equalize", 0.9, None), ("translateY", 0.6, 6)),
        (("invert", 0.9, None), ("equalize", 0.6, None)),
        (("contrast", 0.3, 3), ("rotate", 0.8, 4)),
        (("invert", 0.8, None), ("translateY", 0.0, 2)),
        (("shearY", 0.7, 6), ("solarize", 0.4, 8)),
        (("invert", 0.6, None), ("rotate", 0.8, 4)),
        (("shearY", 0.3, 7), ("translateX", 0.9, 3)),
        (("shearX", 0.1, 6), ("invert", 0.6, None)),
        (("solarize", 0.7, 2), ("translateY", 0.6, 7)),
        (("shearY", 0.8, 4), ("invert", 0.8, None)),
        (("shearX", 0.7, 9), ("translateY", 0.8, 3)),
        (("shearY", 0.8, 5), ("autocontrast", 0.7, None)),
        (("shearX", 0.7, 2), ("invert", 0.1, None)),
    ),
}


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
        numbers = {name: number for number, name in enumerate(self.operations)}
        self.steps = SUBPOLICIES[choose("policy", policy, SUBPOLICIES)]
        self.operation = torch.tensor([[numbers[name] for name, _, _ in pair] for pair in self.steps])
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
