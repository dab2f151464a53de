"""Probabilistic knowledge transfer (PKT): probabilities of being neighbours in a batch, by cosine."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import NonNegative
from kdlab.losses.kd import KD
from kdlab.registry import register

LEAST = 1e-7  # similarity of opposite embeddings, so that no probability is 0


def neighbour_probabilities(embedding: Tensor) -> Tensor:
    """``p_j|i = k_ij / sum_j k_ij`` with ``k_ij = (1 + cos(e_i, e_j)) / 2``: (B, D) -> (B, B)."""
    unit = F.normalize(embedding, dim=1)
    similarity = ((1 + unit @ unit.T) / 2).clamp_min(LEAST)
    return similarity / similarity.sum(1, keepdim=True)


@register(
    "pkt", revision=1, knowledge="relations", coupling="agnostic", needs=("teacher", "embedding"), tune="weight",
    least={"pkt": {"rows": 2}},
)  # fmt: skip
class PKT(KD):
    """KD plus the divergence between the teacher's and the student's neighbour probabilities.

    ``L = L_KD + c sum_ij q_j|i log(q_j|i / p_j|i) / B^2``, with p of the student's and q of the teacher's
    embeddings, ``p_j|i = k_ij / sum_j k_ij`` and the cosine kernel ``k_ij = (1 + cos(e_i, e_j)) / 2``. The rows'
    weights do not enter it.

    The paper leaves each image out of its own neighbours; here it is one of them and the sum is divided by B^2, as the
    large c of the CRD comparison supposes.

    Args:
        weight: c >= 0.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range.

    Reference: Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018.
    """

    weight: NonNegative = 30000.0

    def terms(self, student, teacher, batch):
        mine, theirs = neighbour_probabilities(student.embedding), neighbour_probabilities(teacher.embedding)
        divergence = F.kl_div(mine.log(), theirs, reduction="none").mean()
        return super().terms(student, teacher, batch) | {"pkt": self.weight * divergence}
