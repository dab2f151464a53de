"""Relational knowledge distillation (RKD): distances between images and angles among three of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import NonNegative
from kdlab.losses.kd import KD
from kdlab.registry import register


def relations(points: Tensor) -> tuple[Tensor, Tensor]:
    """Distances over their mean, and cosines of angles.

    Args:
        points: (B, D).

    Returns:
        ``|x_i - x_j| / m`` (B, B), with m the mean of the positive distances, and the cosine of the angle at j between
        i and k, (B, B, B) in the order j, i, k. Points that coincide have distance and cosine 0.
    """
    vectors = points[None] - points[:, None]
    squares = vectors.square().sum(2)
    apart = squares > 0
    # The root of 0 has an infinite slope: points that coincide take a constant instead.
    lengths = torch.where(apart, squares, 1.0).sqrt()
    units = vectors / lengths[:, :, None]
    distances = torch.where(apart, lengths, 0.0)
    mean = distances.sum() / apart.sum().clamp_min(1)
    return distances / torch.where(mean > 0, mean, 1.0), units @ units.transpose(1, 2)


@register(
    "rkd", revision=1, knowledge="relations", coupling="agnostic", needs=("teacher", "embedding"), tune="weight",
    least={"rkd": {"rows": 3}},
)  # fmt: skip
class RKD(KD):
    """KD plus Huber losses on the distances and the angles among the embeddings of a batch.

    ``L = L_KD + c (a sum_ij h(D_ij - D'_ij) / B^2 + b sum_ijk h(A_ijk - A'_ijk) / B^3)``, with D the distances
    over the mean of the positive ones, A the cosine of the angle at j between i and k, primes for the teacher and
    ``h(x) = x^2 / 2`` for |x| < 1, else ``|x| - 1/2``. Both means count the pairs and triples with equal images, whose
    D and A are 0. The rows' weights do not enter it. Memory grows as B^3 and as B^2 times the embedding's width.

    Args:
        weight: c >= 0.
        distance: a >= 0.
        angle: b >= 0.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range.

    Reference: Park, Kim, Lu and Cho, Relational Knowledge Distillation, CVPR 2019.
    """

    weight: NonNegative = 1.0
    distance: NonNegative = 25.0
    angle: NonNegative = 50.0

    def terms(self, student, teacher, batch):
        pairs = zip(relations(student.embedding), relations(teacher.embedding), strict=True)
        distance, angle = (F.smooth_l1_loss(mine, theirs) for mine, theirs in pairs)
        relational = self.distance * distance + self.angle * angle
        return super().terms(student, teacher, batch) | {"rkd": self.weight * relational}
