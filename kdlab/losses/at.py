"""Attention transfer (AT): the distance between spatial attention maps, stage by stage."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import NonNegative, match_size
from kdlab.losses.kd import KD
from kdlab.losses.layers import several_positions, stages
from kdlab.registry import register


def attention(features: Tensor) -> Tensor:
    """Mean over channels of the squared map, flattened and scaled to unit length: (B, C, H, W) -> (B, HW)."""
    return F.normalize(features.square().mean(1).flatten(1), dim=1)


@register("at", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "features"), tune="weight")
class AT(KD):
    """KD plus the squared distance between spatial attention maps, summed over stages.

    ``L = L_KD + c mean_i sum_l mean_p (A(f_il) - A(g_il))_p^2``, with ``A(f) = v / |v|`` and
    ``v_p = mean_c f_cp^2`` at position p; maps of different sizes are pooled to the smaller first.

    Args:
        weight: c >= 0.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, when student and teacher have other numbers of stages, or maps
            of one position only.

    Reference: Zagoruyko and Komodakis, Paying More Attention to Attention, ICLR 2017.
    """

    weight: NonNegative = 1000.0

    def setup(self, student, teacher, context):
        several_positions("at", student, teacher)

    def rows(self, student, teacher, batch):
        pairs = [match_size(f, g) for f, g in stages("at", student, teacher)]
        distance = sum((attention(f) - attention(g)).square().mean(1) for f, g in pairs)
        return super().rows(student, teacher, batch) | {"at": self.weight * distance}
