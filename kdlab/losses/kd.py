"""Knowledge distillation (KD) by softened class probabilities."""

from __future__ import annotations

from kdlab.errors import choose
from kdlab.losses.base import Method, NonNegative, Positive, kl_rows
from kdlab.registry import register

PRESETS = {"crd": (0.1, 0.9)}  # CE and KD weights of the CRD comparison (Tian et al., ICLR 2020)


class SoftTargets(Method):
    """The two terms of ``KD``, for methods that add to them: ``ce`` and ``kd``."""

    temperature: Positive = 4.0
    ce_weight: NonNegative = 1.0
    kd_weight: NonNegative = 1.0

    def rows(self, student, teacher, batch):
        hard = self.hard_rows(student, batch)
        soft = kl_rows(student.logits, teacher.logits, self.temperature)
        return {"ce": hard, "kd": self.kd_weight * self.temperature**2 * soft}


@register("kd", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="kd_weight")
class KD(SoftTargets):
    """Cross-entropy plus the divergence from the teacher's softened probabilities.

    ``L = a mean_i CE(s_i, y_i) + b T^2 mean_i KL(softmax(t_i / T) || softmax(s_i / T))``

    Args:
        temperature: T > 0.
        ce_weight: a >= 0.
        kd_weight: b >= 0.
        preset: ``"crd"`` sets a = 0.1 and b = 0.9; None keeps the two weights.

    Raises:
        SpecError: for a value out of range or an unknown preset.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[4.0, 2.0, 0.0]])
        >>> loss = KD()(student, teacher, torch.tensor([0]))
        >>> sorted(loss), round(loss.total.item(), 3)
        (['ce', 'kd'], 0.713)

    Reference: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, NIPS workshop 2014.
    """

    temperature: Positive = 4.0
    ce_weight: NonNegative = 1.0
    kd_weight: NonNegative = 1.0
    preset: str | None = None

    def __post_init__(self):
        if self.preset is not None:
            self.ce_weight, self.kd_weight = PRESETS[choose("preset", self.preset, PRESETS)]
