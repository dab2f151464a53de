"""Curriculum temperature (CTKD): KD at a temperature that is trained against the student."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kdlab.losses.base import Method, NonNegative, kl_rows
from kdlab.registry import register

LOWEST, SPAN = 1.0, 20.0  # the learned temperature lies between LOWEST and LOWEST + SPAN


@register("ctkd", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="kd_weight")
class CTKD(Method):
    """KD at a learned temperature, one for all rows, that is trained to raise the loss which the student lowers.

    ``L = a mean_i CE(s_i, y_i) + b T^2 mean_i KL(softmax(t_i / T) || softmax(s_i / T))``, with
    ``T = 1 + 20 sigmoid(theta)`` and theta = 1 at first. The gradient of theta is multiplied by ``-l(p)``, where l
    rises from 0 to 1 along a cosine: ``l = (1 - cos(pi min(240 p / w, 1))) / 2`` at progress p. The factor T^2 is part
    of the loss that theta raises. This is the global variant of the paper, which starts at T = 15.6.

    Args:
        ce_weight: a >= 0.
        kd_weight: b >= 0.
        warmup: w, length of the rise of l, in epochs of 240, >= 0; 0 is none.

    Raises:
        SpecError: for a value out of range.

    Reference: Li, Li, Yang, Zhao, Song, Luo, Li and Yang, Curriculum Temperature for Knowledge Distillation, AAAI 2023.
    """

    ce_weight: NonNegative = 0.1
    kd_weight: NonNegative = 0.9
    warmup: NonNegative = 10.0

    def __post_init__(self):
        self.theta = nn.Parameter(torch.ones(()))

    def strength(self, progress: float) -> float:
        """The factor l in [0, 1] of the temperature's gradient."""
        done = min(240 * progress / self.warmup, 1.0) if self.warmup else 1.0
        return (1 - math.cos(math.pi * done)) / 2

    def temperature(self, progress: float) -> Tensor:
        """T as a scalar whose gradient for theta has the opposite sign and the strength of the moment."""
        fixed = self.theta.detach()
        theta = fixed - self.strength(progress) * (self.theta - fixed)
        return LOWEST + SPAN * torch.sigmoid(theta)

    def rows(self, student, teacher, batch):
        temperature = self.temperature(batch.progress)
        soft = kl_rows(student.logits, teacher.logits, temperature)
        return {"ce": self.hard_rows(student, batch), "kd": self.kd_weight * temperature**2 * soft}
