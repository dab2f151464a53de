"""Neuron selectivity transfer (NST): the maximum mean discrepancy between channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import NonNegative, match_size
from kdlab.losses.kd import KD
from kdlab.losses.layers import several_positions, stages
from kdlab.registry import register


def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Mean of ``(x . y)^2`` over the channels x of a and y of b: (B, C, P) and (B, E, P) -> (B,)."""
    return (a @ b.transpose(1, 2)).square().mean((1, 2))


def selectivity_rows(mine: Tensor, theirs: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of each row between two maps' channels, (B,)."""
    a, b = (F.normalize(x.flatten(2), dim=2) for x in match_size(mine, theirs))
    return mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b)


@register("nst", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "features"), tune="weight")
class NST(KD):
    """KD plus the maximum mean discrepancy between the channels of student and teacher, summed over stages.

    ``L = L_KD + c mean_i sum_l (mean_ab k(f_a, f_b) + mean_ab k(g_a, g_b) - 2 mean_ab k(f_a, g_b))``, with f_a
    and g_b a channel of the student's and the teacher's map of stage l as a vector over positions of unit length, and
    the polynomial kernel ``k(x, y) = (x . y)^2``. Maps of different sizes are pooled to the smaller first. The paper
    compares the last stage; all stages and the weight are those of the CRD comparison.

    Args:
        weight: c >= 0.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, when student and teacher have other numbers of stages, or maps
            of one position only.

    Reference: Huang and Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, arXiv 2017.
    """

    weight: NonNegative = 50.0

    def setup(self, student, teacher, context):
        several_positions("nst", student, teacher)

    def rows(self, student, teacher, batch):
        discrepancy = sum(selectivity_rows(*pair) for pair in stages("nst", student, teacher))
        return super().rows(student, teacher, batch) | {"nst": self.weight * discrepancy}
