"""Energy KD: KD with a temperature for each row, by the energy of the teacher's logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from kdlab.errors import SpecError, check_number
from kdlab.losses.base import Method, NonNegative, Positive, kl_rows
from kdlab.registry import register

DIRECTIONS = ("paper", "released")


def energy(logits: Tensor, temperature: float) -> Tensor:
    """``E = -T log sum_k exp(z_k / T)`` of each row, (B, K) -> (B,); low energy is certainty."""
    return -temperature * torch.logsumexp(logits / temperature, dim=1)


@register("energykd", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher", "dataset"),
          tune="kd_weight")  # fmt: skip
class EnergyKD(Method):
    """KD whose temperature depends on whether the teacher's energy on the row is low, middling or high.

    ``L = a mean_i CE(s_i, y_i) + b mean_i T_i^2 KL(softmax(t_i / T_i) || softmax(s_i / T_i))``

    Energies are compared strictly with two thresholds from one pass of the teacher over the N clean training images
    (the published pass sees weakly augmented ones): of the sorted energies, those of rank floor(r_low N) and of rank
    N - floor(r_high N) - 1, counted from 0. The paper's abstract gives certain rows (low energy) the highest
    temperature and uncertain ones the lowest; the released code does the reverse. With three equal temperatures this
    is KD at the weights 0.1 and 0.9.

    Outside of the workbench, ``attach(student, teacher, images, train=...)`` measures the thresholds on batches
    (x, label) of all clean training images.

    Args:
        direction: ``"paper"`` or ``"released"``.
        taus: the lowest, the middle and the highest temperature, > 0, ascending.
        low_share: r_low, share of the training images below the low threshold, in [0, 1).
        high_share: r_high, share above the high threshold; the two shares sum to at most 1.
        energy_temperature: temperature of the energy, > 0.
        ce_weight: a >= 0.
        kd_weight: b >= 0.

    Raises:
        SpecError: for a value out of range or an unknown direction.

    Reference: Kim, Ham, Lee, Jang and Kim, Maximizing Discrimination Capability of Knowledge Distillation with Energy
    Function, Knowledge-Based Systems 2024.
    """

    direction: Annotated[str, DIRECTIONS] = "paper"
    taus: Sequence[float] = (2.0, 4.0, 6.0)
    low_share: NonNegative = 0.2
    high_share: NonNegative = 0.2
    energy_temperature: Positive = 4.0
    ce_weight: NonNegative = 0.1
    kd_weight: NonNegative = 0.9

    def __post_init__(self):
        if not isinstance(self.taus, Sequence) or len(self.taus) != 3:
            raise SpecError(f"taus must be three temperatures, but got {self.taus!r}.")
        if sorted(check_number("taus", tau, open_low=True) for tau in self.taus) != list(self.taus):
            raise SpecError(f"taus must ascend (direction says which rows get which), but got {self.taus!r}.")
        shares = self.low_share, self.high_share
        if max(shares) >= 1 or sum(shares) > 1:
            given = f"{shares[0]!r}, {shares[1]!r}"
            raise SpecError(f"low_share and high_share must be below 1 and sum to at most 1, but got {given}.")

    def setup(self, student, teacher, context):
        parts = [energy(out.full().logits, self.energy_temperature) for out, _ in context.teacher_pass()]
        energies = torch.cat(parts).sort().values
        n = len(energies)
        ranks = [int(self.low_share * n), n - int(self.high_share * n) - 1]
        self.register_buffer("thresholds", energies[ranks].to(teacher.logits))

    def temperatures(self, teacher_logits: Tensor) -> Tensor:
        """T_i of each row, (B, K) -> (B,)."""
        cool, middle, hot = self.taus
        certain, uncertain = (hot, cool) if self.direction == "paper" else (cool, hot)
        energies = energy(teacher_logits, self.energy_temperature)
        low, high = self.thresholds.to(energies)
        chosen = torch.full_like(energies, middle).masked_fill(energies < low, certain)
        return chosen.masked_fill(energies > high, uncertain)

    def rows(self, student, teacher, batch):
        temperatures = self.temperatures(teacher.logits)
        soft = temperatures**2 * kl_rows(student.logits, teacher.logits, temperatures[:, None])
        return {"ce": self.hard_rows(student, batch), "energykd": self.kd_weight * soft}
