"""Isotonic KD for mixed images (KDI, KDP): classes in the image must rank above all others, by their shares."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import Batch, NonNegative, Positive
from kdlab.losses.kd import SoftTargets
from kdlab.registry import register


def present_classes(batch: Batch) -> tuple[Tensor, Tensor]:
    """The class of the larger and that of the smaller share of each row, twice the same one in unmixed rows, (B,)."""
    if batch.partner is None:
        return batch.label, batch.label
    larger = torch.where(batch.share >= 0.5, batch.label, batch.partner)
    mixed = (batch.share > 0) & (batch.share < 1)
    smaller = torch.where(batch.share >= 0.5, batch.partner, batch.label)
    return larger, torch.where(mixed, smaller, larger)


def without_present(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The values (B, K) with -inf at the one or two present classes."""
    return values.scatter(1, first[:, None], -torch.inf).scatter(1, second[:, None], -torch.inf)


def isotonic(p: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The nearest m to p (least squares) with ``m_first >= m_second >= m_k`` for all other classes k.

    Pooling adjacent violators ends in a block of the violating class with the best of the others, so that its value is
    the largest mean over such blocks. m sums to what p sums to.

    Args:
        p: probabilities, (B, K).
        first: class that must be on top, int64 (B,).
        second: class that must follow, int64 (B,); the same as ``first`` where there is none.

    Returns:
        (B, K).
    """
    others = without_present(p, first, second).sort(dim=1, descending=True).values.cumsum(1)
    others = F.pad(others, (1, 0))
    size = torch.arange(others.shape[1], device=p.device)

    def block(value: Tensor, count: int) -> Tensor:
        return ((value[:, None] + others) / (count + size)).amax(1)

    one, two = (p.gather(1, c[:, None])[:, 0] for c in (first, second))
    both = block(one + two, 2)
    single = first == second
    top = torch.where(single, block(one, 1), torch.maximum(one, both))
    next_top = torch.where(single, top, torch.minimum(block(two, 1), both))
    rest = torch.minimum(p, next_top[:, None])
    return rest.scatter(1, second[:, None], next_top[:, None]).scatter(1, first[:, None], top[:, None])


@register("kdi", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="kd_weight")
class KDI(SoftTargets):
    """KD in which the teacher's soft label is first moved to the nearest one in the order of the shares.

    ``L = a mean_i CE(s_i, y_i) + b T^2 mean_i KL(m_i || softmax(s_i / T))``, with m the projection of
    ``softmax(t / T)`` to ``m_first >= m_second >= m_k``: the class of the larger share, that of the smaller, all others
    (tree-ordered isotonic regression). In unmixed rows the true class alone must be on top. Probabilities are projected
    as in the paper; the released code projects logits.

    Args:
        temperature: T > 0.
        ce_weight: a >= 0; CE is that of the mixed labels.
        kd_weight: b >= 0.

    Raises:
        SpecError: for a value out of range.

    Reference: Cui and Yan, Isotonic Data Augmentation for Knowledge Distillation, IJCAI 2021.
    """

    temperature: Positive = 4.5
    ce_weight: NonNegative = 0.05
    kd_weight: NonNegative = 0.95

    def rows(self, student, teacher, batch):
        target = isotonic(F.softmax(teacher.logits / self.temperature, dim=1), *present_classes(batch))
        log_q = F.log_softmax(student.logits / self.temperature, dim=1)
        soft = F.kl_div(log_q, target, reduction="none").sum(1)
        return {"ce": self.hard_rows(student, batch), "kdi": self.kd_weight * self.temperature**2 * soft}


@register("kdp", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="weight")
class KDP(SoftTargets):
    """KD plus a penalty where the student's own probabilities leave the order of the shares.

    ``L = L_KD + c mean_i {[max_k q_k - min(q_first, q_second)]_+ + [q_second - q_first]_+}``, with q = softmax(s) at
    temperature 1, k over the classes that are not in the image, and first and second those of the larger and of the
    smaller share. In unmixed rows both are the true class. The teacher's soft label stays as it is.

    Args:
        weight: c >= 0.
        temperature, ce_weight, kd_weight: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range.

    Reference: Cui and Yan, Isotonic Data Augmentation for Knowledge Distillation, IJCAI 2021.
    """

    weight: NonNegative = 2.0
    temperature: Positive = 4.5
    ce_weight: NonNegative = 0.05
    kd_weight: NonNegative = 0.95

    def rows(self, student, teacher, batch):
        first, second = present_classes(batch)
        q = F.softmax(student.logits, dim=1)
        one, two = (q.gather(1, c[:, None])[:, 0] for c in (first, second))
        above = F.relu(without_present(q, first, second).amax(1) - torch.minimum(one, two))
        return super().rows(student, teacher, batch) | {"kdp": self.weight * (above + F.relu(two - one))}
