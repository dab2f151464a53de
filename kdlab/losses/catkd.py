"""CAT-KD: the distance between class activation maps."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.errors import SpecError
from kdlab.losses.base import NonNegative
from kdlab.losses.kd import KD
from kdlab.models import classifier
from kdlab.registry import register


def class_maps(final: Tensor, classes: Tensor, grid: int) -> Tensor:
    """Class activation maps pooled to a grid, each scaled to unit length.

    Args:
        final: map before pooling, (B, D, H, W).
        classes: the classifier's weight, (K, D).
        grid: positions along each side.

    Returns:
        (B, K, grid^2).
    """
    pooled = F.adaptive_avg_pool2d(final, grid)  # before the classes: both are linear, and D < K h w
    return F.normalize(torch.einsum("kd,bdhw->bkhw", classes.to(pooled), pooled).flatten(2), dim=2)


@register("catkd", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "final"), tune="weight")
class CATKD(KD):
    """KD plus the squared distance between the class activation maps, over all classes.

    ``L = L_KD + c mean_i mean_k mean_p (A(f_i)_k - A(g_i)_k)_p^2``, with ``A(f)_k = v / |v|`` and v the map
    ``sum_d W_kd f_d`` of class k, without the bias, pooled to grid x grid positions p; f is the map before pooling and
    W the weight of the model's own classifier, so that the term trains the student's classifier, too. The published
    weights were tuned for each pair (for a WRN-40-2 teacher 12 with WRN-16-2, 1.5 with WRN-40-1; 600 for ResNet32x4
    with ShuffleNetV2); published without a KD term: ``kd_weight=0``.

    Outside of the workbench, ``attach(student, teacher, images)`` makes a copy of the teacher's classifier.

    Args:
        weight: c >= 0.
        grid: positions along each side, 2 to 8.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, or a model without a linear classifier or a final map of several positions.

    Reference: Guo, Yan, Li and Lin, Class Attention Transfer Based Knowledge Distillation, CVPR 2023.
    """

    weight: NonNegative = 12.0
    grid: Annotated[int, range(2, 9)] = 2

    def setup(self, student, teacher, context):
        if student.final.shape[2:].numel() == 1:
            raise SpecError("catkd compares maps position by position, but the student's final map has one position.")
        # In a tuple the layer stays the student's: torch would save and train an attribute as the method's own.
        self.live = (classifier(context.student, student),)
        self.register_buffer("classes", classifier(context.teacher, teacher).weight.detach().clone())

    def rows(self, student, teacher, batch):
        mine = class_maps(student.final, self.live[0].weight, self.grid)
        theirs = class_maps(teacher.final, self.classes, self.grid)
        return super().rows(student, teacher, batch) | {"catkd": self.weight * (mine - theirs).square().mean((1, 2))}
