"""Information theoretic distillation (ITRD): correlation and mutual information of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.losses.base import NonNegative
from kdlab.losses.kd import KD
from kdlab.losses.layers import drawn
from kdlab.registry import register


def decorrelation(s: Tensor, t: Tensor, alpha: float) -> Tensor:
    """``log2 sum_d |1 - C_dd|^(2 alpha)``, with C_dd the correlation of dimension d over the rows of a batch.

    Args:
        s: (B, D).
        t: (B, D).
        alpha: at least 0.5.

    Returns:
        A scalar; a constant dimension has correlation 0.
    """
    correlation = F.cosine_similarity(s - s.mean(0), t - t.mean(0), dim=0)
    total = (1 - correlation).abs().pow(2 * alpha).sum()
    return total.clamp_min(torch.finfo(total.dtype).eps).log2()  # the logarithm of a perfect fit is not finite


def gram(z: Tensor) -> Tensor:
    """The cosines of all pairs of rows, scaled to trace 1: (B, D) -> (B, B)."""
    z = F.normalize(z, dim=1)
    return z @ z.T / z.square().sum().clamp_min(torch.finfo(z.dtype).tiny)


def information(s: Tensor, t: Tensor) -> Tensor:
    """Matrix-based mutual information of order 2, ``S(G_s) + S(G_t) - S(G_s o G_t)`` with ``S(A) = -log2 |A|_F^2``.

    o is the elementwise product scaled to trace 1.

    Args:
        s: (B, D).
        t: (B, D').

    Returns:
        A scalar, in bits.
    """
    mine, theirs = gram(s), gram(t)
    joint = mine * theirs
    joint = joint / joint.trace()
    return joint.square().sum().log2() - mine.square().sum().log2() - theirs.square().sum().log2()


@register(
    "itrd", revision=1, knowledge="relations", coupling="agnostic", needs=("teacher", "embedding"), tune="weight",
    least={"correlation": {"rows": 3}, "mutual": {"rows": 2}},
)  # fmt: skip
class ITRD(KD):
    """KD plus a loss on the correlation and one on the mutual information of the embeddings.

    ``L = L_KD + c (c_1 log2 sum_d |1 - C_dd|^(2 alpha) - c_2 I_2(z; g))``, with z the student's embedding after a
    trained linear layer of the teacher's width, g the teacher's, C_dd the correlation of their d-th numbers over the
    batch, and I_2 the matrix-based Renyi mutual information of order 2 from the cosines of all pairs of rows. This
    full form of I_2 is our reading; the teacher's own entropy in it has no gradient. The rows' weights do not enter
    the terms ``correlation`` and ``mutual``. Published without a KD term: ``kd_weight=0``.

    Outside of the workbench, ``attach(student, teacher, images)`` makes the linear layer.

    Args:
        weight: c >= 0.
        correlation: c_1 >= 0.
        mutual: c_2 >= 0.
        alpha: order of the correlation's loss, at least 0.5.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range.

    Reference: Miles, Lopez-Rodriguez and Mikolajczyk, Information Theoretic Representation Distillation, BMVC 2022.
    """

    weight: NonNegative = 1.0
    correlation: NonNegative = 2.0
    mutual: NonNegative = 1.0
    alpha: NonNegative = 1.01

    def __post_init__(self):
        super().__post_init__()
        if self.alpha < 0.5:
            raise SpecError(f"alpha must be at least 0.5, where the gradient is finite, but got {self.alpha!r}.")

    def setup(self, student, teacher, context):
        sizes = student.embedding.shape[1], teacher.embedding.shape[1]
        self.embed = drawn(nn.Linear, *sizes, generator=context.generator).to(student.embedding)

    def terms(self, student, teacher, batch):
        mine, theirs = self.embed(student.embedding), teacher.embedding
        return super().terms(student, teacher, batch) | {
            "correlation": self.weight * self.correlation * decorrelation(mine, theirs, self.alpha),
            "mutual": -self.weight * self.mutual * information(mine, theirs),
        }
