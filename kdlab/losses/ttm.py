"""Transformed teacher matching (TTM, WTTM): a power of the teacher's probabilities, no temperature of the student."""

from __future__ import annotations

import torch.nn.functional as F

from kdlab.losses.base import Method, NonNegative, Positive, kl_rows
from kdlab.registry import register


@register("ttm", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="weight")
class TTM(Method):
    """The student's own probabilities are matched to a power of the teacher's, without a temperature of the student.

    ``L = a mean_i CE(s_i, y_i) + c mean_i KL(u_i || softmax(s_i))``, with ``u = p^gamma / sum_k p_k^gamma`` of the
    teacher's p = softmax(t), which is softmax(gamma t), and no factor T^2. The defaults are those that the authors
    give for VGG13 to VGG8.

    Args:
        weight: c >= 0.
        gamma: exponent > 0, the inverse of a temperature.
        ce_weight: a >= 0.

    Raises:
        SpecError: for a value out of range.

    Reference: Zheng and Yang, Knowledge Distillation Based on Transformed Teacher Matching, ICLR 2024.
    """

    weight: NonNegative = 45.0
    gamma: Positive = 0.1
    ce_weight: NonNegative = 1.0

    def rows(self, student, teacher, batch):
        hard = self.hard_rows(student, batch)
        return {"ce": hard, "ttm": self.weight * kl_rows(student.logits, self.gamma * teacher.logits, 1.0)}


@register("wttm", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="weight")
class WTTM(TTM):
    """TTM in which a row counts the more, the flatter the teacher is on it.

    ``L = a mean_i CE(s_i, y_i) + c mean_i U_i KL(u_i || softmax(s_i))``, with u as in TTM and the power sum
    ``U_i = sum_k p_k^gamma`` of the teacher's p = softmax(t), between 1 (certain) and K^(1 - gamma) (uniform). It is
    not scaled to mean 1, hence the smaller c. The defaults are the only ones that the authors' page gives, for WTTM
    beside CRD from VGG13 to VGG8.

    Args:
        weight: c >= 0.
        gamma: exponent > 0, the inverse of a temperature.
        ce_weight: a >= 0.

    Raises:
        SpecError: for a value out of range.

    Reference: Zheng and Yang, Knowledge Distillation Based on Transformed Teacher Matching, ICLR 2024.
    """

    weight: NonNegative = 4.0
    gamma: Positive = 0.2

    def rows(self, student, teacher, batch):
        plain = super().rows(student, teacher, batch)
        power_sum = (self.gamma * F.log_softmax(teacher.logits, dim=1)).exp().sum(1)
        return {"ce": plain["ce"], "wttm": power_sum * plain["ttm"]}
