"""Similarity preservation (SP): inner products of all pairs of images in a batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import NonNegative
from kdlab.losses.kd import KD
from kdlab.registry import register


def similarity(features: Tensor) -> Tensor:
    """``G = F F^T`` over the rows of a batch, each row of G scaled to unit length: (B, ...) -> (B, B)."""
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


@register(
    "sp", revision=1, knowledge="relations", coupling="agnostic", needs=("teacher", "features"), tune="weight",
    least={"sp": {"rows": 2}},
)  # fmt: skip
class SP(KD):
    """KD plus the squared distance between the similarity matrices of the last stage.

    ``L = L_KD + c |G_s - G_t|_F^2 / B^2``, with G the matrix of inner products of all B rows' maps, its rows
    scaled to unit (L2) length. The distance is at most 4 / B, hence the large c. The rows' weights do not
    enter it.

    Args:
        weight: c >= 0.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range.

    Reference: Tung and Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019.
    """

    weight: NonNegative = 3000.0

    def terms(self, student, teacher, batch):
        difference = similarity(student.features[-1]) - similarity(teacher.features[-1])
        return super().terms(student, teacher, batch) | {"sp": self.weight * difference.square().mean()}
