"""TeKAP: KD from noisy copies of the teacher's logits as well."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from kdlab.losses.base import Batch, Count, NonNegative, Positive, at_most, kl_rows
from kdlab.losses.kd import SoftTargets
from kdlab.registry import register
from kdlab.rng import generator


@register("tekap", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="weight")
class TeKAP(SoftTargets):
    """KD from the teacher and from copies of its logits with noise, drawn anew at each step.

    ``L = a mean_i CE(s_i, y_i) + b T^2 mean_i [KL_T(t_i || s_i) + c sum_j KL_T(u_ij || s_i)]``, with
    ``u_ij = (1 - r) t_i + r e_ij``, e standard normal and ``KL_T(t || s) = KL(softmax(t / T) || softmax(s / T))``. The
    terms are ``ce``, ``kd`` and ``tekap`` (the copies). This is the logit part of the method.

    Args:
        weight: c >= 0.
        noise: r in [0, 1].
        copies: number of copies j, >= 1.
        temperature, ce_weight, kd_weight: T > 0, a >= 0 and b >= 0.

    Raises:
        SpecError: for a value out of range.

    Reference: Hossain, Akhter, Hong and Huh, Single Teacher, Multiple Perspectives: Teacher Knowledge Augmentation for
    Enhanced Knowledge Distillation, ICLR 2025.
    """

    weight: NonNegative = 0.8
    noise: Annotated[float, at_most(1, "a share in [0, 1]")] = 0.1
    copies: Count = 3
    temperature: Positive = 4.0
    ce_weight: NonNegative = 0.1
    kd_weight: NonNegative = 0.9

    def perspectives(self, logits: Tensor, batch: Batch) -> Tensor:
        """The noisy copies u of the teacher's logits, (B, K) -> (copies, B, K)."""
        shape = (self.copies, logits.shape[1])
        # A row's noise belongs to its view of its original, whichever rows are beside it.
        address = zip(batch.origin.tolist(), batch.view.tolist(), strict=True)
        streams = (generator(self.seed, f"tekap/{origin}/{view}", batch.epoch, batch.step) for origin, view in address)
        noise = torch.stack([torch.randn(shape, generator=stream) for stream in streams], dim=1)
        return torch.lerp(logits, noise.to(logits), self.noise)

    def rows(self, student, teacher, batch):
        copies = self.perspectives(teacher.logits, batch)
        noisy = sum(kl_rows(student.logits, copy, self.temperature) for copy in copies)
        scale = self.kd_weight * self.weight * self.temperature**2
        return super().rows(student, teacher, batch) | {"tekap": scale * noisy}
