"""Terms and weights that many methods share, row by row: cross-entropy, KL divergence, warm-up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.errors import SpecError
from kdlab.losses.batch import Batch


def cross_entropy_rows(logits: Tensor, batch: Batch) -> Tensor:
    """Hard-label cross-entropy of each row, ``share * CE(label) + (1 - share) * CE(partner)`` where mixed.

    Args:
        logits: (B, K).
        batch: gives ``label``, ``partner`` and ``share``.

    Returns:
        (B,), in nats.
    """
    own = F.cross_entropy(logits, batch.label, reduction="none")
    if batch.partner is None:
        return own
    return torch.lerp(F.cross_entropy(logits, batch.partner, reduction="none"), own, batch.share)


def one_class(method: str, batch: Batch) -> Tensor:
    """The class of each row, (B,), for a method that cannot take two.

    Raises:
        SpecError: when the batch has mixed rows.
    """
    if batch.partner is not None:
        raise SpecError(f"{method} needs one class a row, but this batch has mixed images, which have two.")
    return batch.label


def kl_rows(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``KL(softmax(t / T) || softmax(s / T))`` of each row.

    Args:
        student_logits: s, (B, K).
        teacher_logits: t, (B, K).
        temperature: T > 0.

    Returns:
        (B,), in nats, without the factor T^2.
    """
    s = F.log_softmax(student_logits / temperature, dim=1)
    t = F.log_softmax(teacher_logits / temperature, dim=1)
    if not s.is_cpu:  # the same formula, for which vmap has rules
        return (t.exp() * (t - s)).sum(1)
    return F.kl_div(s, t, reduction="none", log_target=True).sum(1)


def match_size(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Average two maps (B, C, H, W) over windows to the smaller height and the smaller width of the two."""
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    a, b = (x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size) for x in (a, b))
    return a, b


def warm_up(batch: Batch, epochs: float) -> float:
    """The linear start ``min((240 p + 1) / epochs, 1)`` at progress p; 1 throughout for 0 epochs.

    At the beginning of epoch e of 240, counted from 1, this is the published ``min(e / epochs, 1)``.
    """
    return min((240 * batch.progress + 1) / epochs, 1.0) if epochs else 1.0
