"""Correlation congruence (CC): relations between the embeddings of a batch."""

from __future__ import annotations

import math
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.losses.base import Count, NonNegative, Positive
from kdlab.losses.kd import KD
from kdlab.losses.layers import drawn
from kdlab.registry import register

FORMS = ("crd", "kernel")


def products(delta: Tensor) -> Tensor:
    """``sum_(i != j) d_i . d_j / (B (B - 1))`` over the rows of (B, D); 0 for a row alone."""
    rows = len(delta)
    return (delta.sum(0).square() - delta.square().sum(0)).sum() / max(1, rows * (rows - 1))


@register(
    "cc", revision=2, knowledge="relations", coupling="agnostic", needs=("teacher", "embedding"), tune="weight",
    least={"cc": {"rows": 2}},
)  # fmt: skip
class CC(KD):
    """KD plus what the distances from the teacher's embeddings have in common between two images of a batch.

    ``L = L_KD + c sum_(i != j) d_i . d_j / (B (B - 1))``, with ``d_i = |E_s(e_i) - E_t(g_i)|`` (element by element), e
    and g the embeddings of student and teacher and E_s, E_t a trained linear layer each to ``width`` numbers. This is
    the loss of the CRD comparison, whose weight is the default; there i and j are successive rows of the batch, here
    the mean over all orders of the rows is taken, so that the order has no meaning. The rows' weights do not enter it.

    ``form="kernel"`` is the paper's formula: ``L = L_KD + c sum_ij (k(e_i, e_j) - k(g_i, g_j))^2 / B^2``, of the
    embeddings scaled to unit length, with ``k(x, y) = e^(-2 g) sum_{p=0..P} (2 g)^p / p! (x . y)^p``, the Taylor series
    of the Gaussian kernel ``exp(-g |x - y|^2)``, without linear layers. On the same inputs its gradient was 400 to 1200
    times smaller than the other form's, a thousandth of KD's under the default weight: give ``weight`` too.

    Outside of the workbench, ``attach(student, teacher, images)`` makes the linear layers.

    Args:
        weight: c >= 0.
        form: ``"crd"`` or ``"kernel"``.
        width: of the linear layers, >= 1; of form ``"crd"``.
        gamma: g > 0; of form ``"kernel"``.
        order: P, from 1 to 10; of form ``"kernel"``.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range.

    Reference: Peng, Jin, Liu et al., Correlation Congruence for Knowledge Distillation, ICCV 2019; the default form as
    in Tian, Krishnan and Isola, Contrastive Representation Distillation, ICLR 2020.
    """

    weight: NonNegative = 0.02
    form: Annotated[str, FORMS] = "crd"
    width: Count = 128
    gamma: Positive = 0.4
    order: Annotated[int, range(1, 11)] = 2

    def setup(self, student, teacher, context):
        if self.form == "crd":
            widths = student.embedding.shape[1], teacher.embedding.shape[1]
            layers = [drawn(nn.Linear, inputs, self.width, generator=context.generator) for inputs in widths]
            self.embeds = nn.ModuleList(layers).to(student.embedding)

    def kernel(self, embedding: Tensor) -> Tensor:
        """k of all pairs of rows: (B, D) -> (B, B)."""
        unit = F.normalize(embedding, dim=1)
        double, cosine = 2 * self.gamma, unit @ unit.T
        powers = (double**p / math.factorial(p) * cosine**p for p in range(self.order + 1))
        return math.exp(-double) * sum(powers)

    def terms(self, student, teacher, batch):
        if self.form == "crd":
            mine, theirs = (layer(out.embedding) for layer, out in zip(self.embeds, (student, teacher), strict=True))
            own = products((mine - theirs).abs())
        else:
            own = (self.kernel(student.embedding) - self.kernel(teacher.embedding)).square().mean()
        return super().terms(student, teacher, batch) | {"cc": self.weight * own}
