"""ABKD: a divergence between forward and reverse KL, set by two exponents."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlab.errors import SpecError
from kdlab.losses.base import Method, NonNegative, Positive
from kdlab.registry import register

LEAST = 0.05  # a smaller exponent than this, but not 0, loses the divergence to rounding in float32


def alpha_beta_rows(log_q: Tensor, log_p: Tensor, alpha: float, beta: float) -> Tensor:
    """The alpha-beta divergence of each row, ``D(p || q)``, with its limits where an exponent is 0.

    Args:
        log_q: log probabilities of the student, (B, K).
        log_p: log probabilities of the teacher, (B, K).
        alpha: exponent >= 0 of p.
        beta: exponent >= 0 of q; (1, 0) is KL(p || q), (0, 1) is KL(q || p), (0, 0) half the squared distance of logs.

    Returns:
        (B,).
    """
    total, ratio = alpha + beta, log_q - log_p
    if not total:
        return ratio.square().sum(1) / 2
    p, q = (total * log_p).exp(), (total * log_q).exp()
    if not beta:
        return ((q - p) / alpha - p * ratio).sum(1) / alpha
    if not alpha:
        return ((p - q) / beta + q * ratio).sum(1) / beta
    product = (alpha * log_p + beta * log_q).exp()
    return (alpha / total * p + beta / total * q - product).sum(1) / (alpha * beta)


@register("abkd", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="weight")
class ABKD(Method):
    """Cross-entropy plus the alpha-beta divergence from the teacher's softened probabilities.

    ``L = a mean_i CE(s_i, y_i) + c mean_i D(softmax(t_i / T) || softmax(s_i / T))``, with

    ``D(p || q) = -1 / (alpha beta) sum_k [p^alpha q^beta - (alpha p^(alpha+beta) + beta q^(alpha+beta))/(alpha+beta)]``

    and its limits: (1, 0) is forward KL, (0, 1) reverse KL. The exponents and the weight are those of resnet56 to
    resnet20; the weight is read as standing in for the factor T^2 (KD is alpha 1, beta 0 and weight T^2).

    Args:
        alpha: exponent of the teacher's probabilities, 0 or at least 0.05.
        beta: exponent of the student's, 0 or at least 0.05.
        weight: c >= 0.
        temperature: T > 0.
        ce_weight: a >= 0.

    Raises:
        SpecError: for a value out of range, negative exponents and those too near 0 among them.

    Reference: Wang, Yang, Wang, Wang, Xu and Huang, ABKD: Pursuing a Proper Allocation of the Probability Mass in
    Knowledge Distillation via alpha-beta-Divergence, ICML 2025.
    """

    alpha: NonNegative = 0.8
    beta: NonNegative = 0.3
    weight: NonNegative = 32.0
    temperature: Positive = 4.0
    ce_weight: NonNegative = 1.0

    def __post_init__(self):
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if 0 < value < LEAST:
                raise SpecError(f"{name} must be 0 (the limit) or at least {LEAST}, but got {value!r}.")

    def rows(self, student, teacher, batch):
        log_q, log_p = (F.log_softmax(out.logits / self.temperature, dim=1) for out in (student, teacher))
        hard = self.hard_rows(student, batch)
        return {"ce": hard, "abkd": self.weight * alpha_beta_rows(log_q, log_p, self.alpha, self.beta)}
