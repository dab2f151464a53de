"""Decoupled KD (DKD) and its relatives NKD and RLD: separate terms for the true class and for all others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import Method, NonNegative, Positive, kl_rows, one_class, warm_up
from kdlab.registry import register


def split_target(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The logit of each row's class, (B, 1), and those of all other classes, (B, K - 1)."""
    classes = logits.shape[1]
    others = (label[:, None] + torch.arange(1, classes, device=label.device)) % classes
    return logits.gather(1, label[:, None]), logits.gather(1, others)


def target_against_rest(own: Tensor, others: Tensor) -> Tensor:
    """Two logits a row, (B, 2), whose softmax is ``(p_y, 1 - p_y)``, of what ``split_target`` gives."""
    return torch.cat([own, others.logsumexp(1, keepdim=True)], dim=1)


@register(
    "dkd", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher", "labels"), tune="beta",
    least={"tckd": {}, "nckd": {"classes": 3}},
)  # fmt: skip
class DKD(Method):
    """KD split into the true class against the rest, and the rest among themselves, each with its own weight.

    ``L = a mean_i CE(s_i, y_i) + w(p) T^2 mean_i [alpha KL(b^t_i || b^s_i) + beta KL(q^t_i || q^s_i)]``

    with ``b = (p_y, 1 - p_y)`` and q the softmax over all classes but y, both at temperature T; the terms are ``tckd``
    and ``nckd``. KD is alpha = 1 and beta = 1 - p^t_y of each row. The published beta depends on the pair: 8 from
    resnet32x4, 6 from VGG13 and among WRNs, 2 from resnet56 and resnet110.

    Args:
        alpha: weight of the true class against the rest, >= 0.
        beta: weight of the rest, >= 0.
        temperature: T > 0.
        ce_weight: a >= 0.
        warmup: length of the linear start w of both terms, in epochs of 240, >= 0; 0 is none.

    Raises:
        SpecError: for a value out of range, and for mixed images.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[4.0, 2.0, 0.0]])
        >>> loss = DKD(beta=8.0)(student, teacher, torch.tensor([0]))
        >>> sorted(loss), round(loss.total.item(), 3)
        (['ce', 'nckd', 'tckd'], 1.611)

    Reference: Zhao, Cui, Song, Qiu and Liang, Decoupled Knowledge Distillation, CVPR 2022.
    """

    alpha: NonNegative = 1.0
    beta: NonNegative = 8.0
    temperature: Positive = 4.0
    ce_weight: NonNegative = 1.0
    warmup: NonNegative = 20.0

    def rows(self, student, teacher, batch):
        label, temperature = one_class("dkd", batch), self.temperature
        s, t = (split_target(out.logits / temperature, label) for out in (student, teacher))
        target, rest = kl_rows(target_against_rest(*s), target_against_rest(*t), 1.0), kl_rows(s[1], t[1], 1.0)
        scale = warm_up(batch, self.warmup) * temperature**2
        hard = self.hard_rows(student, batch)
        return {"ce": hard, "tckd": scale * self.alpha * target, "nckd": scale * self.beta * rest}


@register(
    "nkd", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher", "labels"), tune="gamma",
    least={"target": {}, "rest": {"classes": 3}},
)  # fmt: skip
class NKD(Method):
    """The hard label weighed by the teacher's trust in it, and the other classes normalised among themselves.

    ``L = mean_i [a CE(s_i, y_i) - p^t_y log p^s_y - gamma T^2 sum_{k != y} q^t_k log q^s_k]``

    with p the softmax at temperature 1 and q the softmax at temperature T over all classes but y; the terms are ``ce``,
    ``target`` and ``rest``. They are cross-entropies: a student equal to its teacher still has a loss, no gradient in
    ``rest``, and one towards the label in ``target``.

    Args:
        gamma: weight of the other classes, >= 0.
        temperature: T > 0.
        ce_weight: a >= 0.

    Raises:
        SpecError: for a value out of range, and for mixed images.

    Reference: Yang, Zeng, Li, Zhang, Yuan and Li, From Knowledge Distillation to Self-Knowledge Distillation: A Unified
    Approach with Normalized Loss and Customized Soft Labels, ICCV 2023.
    """

    gamma: NonNegative = 1.5
    temperature: Positive = 1.0
    ce_weight: NonNegative = 1.0

    def rows(self, student, teacher, batch):
        label, temperature = one_class("nkd", batch), self.temperature
        hard = F.cross_entropy(student.logits, label, reduction="none")
        trust = F.softmax(teacher.logits, dim=1).gather(1, label[:, None])[:, 0]
        s, t = (split_target(out.logits / temperature, label)[1] for out in (student, teacher))
        rest = F.cross_entropy(s, F.softmax(t, dim=1), reduction="none")
        return {"ce": self.ce_weight * hard, "target": trust * hard, "rest": self.gamma * temperature**2 * rest}


@register(
    "rld", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher", "labels"), tune="beta",
    least={"scd": {}, "mcd": {"classes": 3}},
)  # fmt: skip
class RLD(DKD):
    """DKD without the teacher's mistakes: its confidence goes to the true class, its errors are left out.

    ``L = a mean_i CE(s_i, y_i) + w(p) mean_i [alpha KL(c^t_i || b^s_i) + beta T^2 KL(q^t_i || q^s_i)]``

    with ``c^t = (max_k p^t_k, rest)`` of the teacher's best class against ``b^s = (p^s_y, rest)`` of the student's true
    class, both at temperature 1, and q the softmax at temperature T over the classes that the teacher ranks below y; a
    row without such classes has no such term. The terms are ``scd`` and ``mcd``. The factor T^2 is read as in DKD.

    Args:
        alpha: weight of the confidence, >= 0.
        beta: weight of the classes below the true one, >= 0.
        temperature: T > 0, of the classes below.
        ce_weight: a >= 0.
        warmup: length of the linear start w of both terms, in epochs of 240, >= 0; 0 is none.

    Raises:
        SpecError: for a value out of range, and for mixed images.

    Reference: Sun, Chen, Lyu, Chen, Chen and Wang, Knowledge Distillation with Refined Logits, ICCV 2025.
    """

    def rows(self, student, teacher, batch):
        label, s, t = one_class("rld", batch), student.logits, teacher.logits
        confidence = kl_rows(
            target_against_rest(*split_target(s, label)), target_against_rest(*split_target(t, t.argmax(1))), 1.0
        )
        out = t >= t.gather(1, label[:, None])
        # Not -inf: a row with nothing below y then has two equal, uniform distributions instead of NaN.
        below = kl_rows(s.masked_fill(out, -1e9), t.masked_fill(out, -1e9), self.temperature)
        start = warm_up(batch, self.warmup)
        correlation = self.beta * self.temperature**2 * below
        hard = self.hard_rows(student, batch)
        return {"ce": hard, "scd": start * self.alpha * confidence, "mcd": start * correlation}
