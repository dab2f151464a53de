"""Joint data augmentation (JDA): a fixed chain of operations, each kept with a small probability.

Reference: W. Li, S. Shao, W. Liu, Z. Qiu, Z. Zhu, W. Huan, What Role Does Data Augmentation Play in Knowledge
Distillation?, ACCV 2022.
"""

from __future__ import annotations

from kdlab.augment.operations import Chain
from kdlab.errors import choose
from kdlab.registry import register

# (probability, ((operation, magnitude index), ...)) per policy. Some steps do nothing (posterize 0, shearY 0 and
# color 0); they are part of the published chains and are drawn, so they stay listed.
POLICIES = {
    "cifar100": (
        0.3,
        (
            ("autocontrast", None), ("contrast", 3), ("posterize", 0), ("solarize", 4), ("translateY", 8),
            ("shearX", 5), ("brightness", 3), ("shearY", 0), ("translateX", 1), ("sharpness", 5),
            ("invert", None), ("color", 4), ("equalize", None), ("rotate", 3),
        ),
    ),
    "cifar10": (
        0.5,
        (
            ("invert", None), ("rotate", 2), ("shearY", 8), ("posterize", 9), ("autocontrast", None),
            ("color", 3), ("sharpness", 9), ("equalize", None), ("contrast", 7), ("translateY", 3),
            ("brightness", 6), ("solarize", 2), ("translateX", 3), ("shearX", 8),
        ),
    ),
    "imagenet": (
        0.2,
        (
            ("posterize", 8), ("solarize", 5), ("equalize", None), ("posterize", 7), ("equalize", None),
            ("equalize", None), ("solarize", 3), ("posterize", 5), ("rotate", 3), ("equalize", None),
            ("rotate", 8), ("rotate", 9), ("equalize", None), ("invert", None), ("color", 4),
            ("rotate", 8), ("color", 8), ("sharpness", 7), ("shearX", 5), ("color", 0),
            ("equalize", None), ("solarize", 5), ("invert", None), ("color", 4), ("equalize", None),
        ),
    ),
}  # fmt: skip


@register("jda", revision=1)
class JDA(Chain):
    """JDA: every operation of a policy is tried once, in order, on each row.

    Args:
        policy: ``"cifar100"`` (14 operations, p = 0.3), ``"cifar10"`` (14, p = 0.5) or ``"imagenet"`` (25, p = 0.2).
        probability: of each operation for each row, in [0, 1]; None takes the policy's own.

    Raises:
        SpecError: for an unknown policy or a probability outside [0, 1].
    """

    def __init__(self, policy: str = "cifar100", probability: float | None = None):
        own, steps = POLICIES[choose("policy", policy, POLICIES)]
        super().__init__(steps, own if probability is None else probability)
