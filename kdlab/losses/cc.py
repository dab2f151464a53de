"""Correlation congruence: how alike the images of a batch are, by a kernel of their embeddings."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import require
from kdlab.losses.kd import KD
from kdlab.registry import choose, register


@register("cc", revision=1, knowledge="relations", coupling="agnostic", needs=("teacher", "embedding"), tune="weight")
class CC(KD):
    """KD plus the squared distance between kernel matrices of the embeddings.

    ``L = L_KD + c sum_ij (k(e_i, e_j) - k(d_i, d_j))^2 / B^2``, with e and d the student's and the teacher's
    embeddings scaled to unit length and ``k(x, y) = e^(-2 g) sum_{p=0..P} (2 g)^p / p! (x . y)^p``, the Taylor
    series of the Gaussian kernel ``exp(-g |x - y|^2)``. The rows' weights do not enter it.

    The formula, gamma and the order are the paper's, without its linear layers after the embeddings: the matrices
    compare as they are. The weight is that of the CRD comparison. With it the term is at most 0.01, so that cc differs
    little from KD until ``weight`` is tuned.

    Args:
        weight: c >= 0.
        gamma: g > 0.
        order: P, from 1 to 10.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range.

    Reference: Peng, Jin, Liu et al., Correlation Congruence for Knowledge Distillation, ICCV 2019.
    """

    def __init__(
        self,
        weight: float = 0.02,
        gamma: float = 0.4,
        order: int = 2,
        temperature: float = 4.0,
        ce_weight: float = 1.0,
        kd_weight: float = 1.0,
        preset: str | None = None,
    ):
        super().__init__(temperature, ce_weight, kd_weight, preset)
        self.weight = require("weight", weight)
        self.gamma = require("gamma", gamma, positive=True)
        self.order = choose("order", order, range(1, 11))

    def kernel(self, embedding: Tensor) -> Tensor:
        """k of all pairs of rows: (B, D) -> (B, B)."""
        unit = F.normalize(embedding, dim=1)
        double, cosine = 2 * self.gamma, unit @ unit.T
        powers = (double**p / math.factorial(p) * cosine**p for p in range(self.order + 1))
        return math.exp(-double) * sum(powers)

    def terms(self, student, teacher, batch):
        difference = self.kernel(student.embedding) - self.kernel(teacher.embedding)
        return super().terms(student, teacher, batch) | {"cc": self.weight * difference.square().mean()}
