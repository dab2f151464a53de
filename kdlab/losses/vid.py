"""Variational information distillation (VID): the likelihood of the teacher's maps, given the student's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.losses.base import NonNegative, Positive, match_size
from kdlab.losses.kd import KD
from kdlab.losses.layers import convolution, stages
from kdlab.registry import register

FLOOR = 1e-5  # least variance


@register("vid", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "features"), tune="weight")
class VID(KD):
    """KD plus the negative log-likelihood of the teacher's maps under a Gaussian that the student's maps predict.

    ``L = L_KD + c mean_i sum_l mean_{chw} (log v_lc + (m_l(f_il) - g_il)^2 / v_lc) / 2``, with f and g the
    student's and the teacher's map of stage l, pooled to the smaller size where they differ, m a trained regressor of
    three 1x1 convolutions with ReLU between them, and ``v_c = softplus(a_c) + 1e-5`` a trained variance of each
    channel. The term is a density's, so that it may fall below 0. Means, not sums, over the map and the weight are
    those of the CRD comparison.

    Outside of the workbench, ``attach(student, teacher, images)`` makes regressors and variances.

    Args:
        weight: c >= 0.
        variance: v before training, > 0.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, or when student and teacher have other numbers of stages.

    Reference: Ahn, Hu, Damianou, Lawrence and Dai, Variational Information Distillation for Knowledge Transfer,
    CVPR 2019.
    """

    weight: NonNegative = 1.0
    variance: Positive = 5.0

    def setup(self, student, teacher, context):
        # The inverse of softplus, in the form that neither overflows nor cancels.
        start = self.variance + math.log(-math.expm1(-self.variance))
        self.regressors, self.scales = nn.ModuleList(), nn.ParameterList()
        for mine, theirs in stages("vid", student, teacher):
            width, draw = theirs.shape[1], context.generator
            first = convolution(mine.shape[1], width, draw)
            rest = (nn.ReLU(), convolution(width, width, draw), nn.ReLU(), convolution(width, width, draw))
            self.regressors.append(nn.Sequential(first, *rest).to(mine))
            self.scales.append(nn.Parameter(mine.new_full((width,), start)))

    def stage_rows(self, stage: int, mine: Tensor, theirs: Tensor) -> Tensor:
        """Negative log-likelihood of each row, mean over the map and without the constant, (B,)."""
        mine, theirs = match_size(mine, theirs)
        variance = (F.softplus(self.scales[stage]) + FLOOR)[:, None, None]
        squares = (self.regressors[stage](mine) - theirs).square()
        return (torch.log(variance) + squares / variance).mean((1, 2, 3)) / 2

    def rows(self, student, teacher, batch):
        pairs = stages("vid", student, teacher)
        surprise = sum(self.stage_rows(stage, *pair) for stage, pair in enumerate(pairs))
        return super().rows(student, teacher, batch) | {"vid": self.weight * surprise}
