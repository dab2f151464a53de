"""KD++: the norm and the direction of the student's embeddings, against the teacher's class means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.losses.base import Context, NonNegative, one_class
from kdlab.losses.kd import KD
from kdlab.losses.layers import drawn
from kdlab.registry import register


def class_directions(context: Context, width: int) -> Tensor:
    """Unit vectors along the teacher's class means over the clean training set; 0 for a class without images.

    Args:
        context: gives ``teacher_pass`` and the number of classes K.
        width: of the teacher's embedding, D.

    Returns:
        (K, D).
    """
    total = torch.zeros(context.num_classes, width)
    for out, label in context.teacher_pass():
        embedding = out.full().embedding.detach()
        total = total.to(embedding).index_add_(0, label.to(embedding.device), embedding)
    return F.normalize(total, dim=1)  # a sum points where its mean does


def nd_rows(student: Tensor, teacher: Tensor, direction: Tensor) -> Tensor:
    """``1 - f.c / max(|f|, |g|)`` of each row: 0 where f is along c and at least as long as g.

    Args:
        student: f, (B, D).
        teacher: g, (B, D).
        direction: unit vectors c, (B, D).

    Returns:
        (B,), in [0, 2].
    """
    longer = torch.maximum(student.norm(dim=1), teacher.norm(dim=1))
    return 1 - (student * direction).sum(1) / longer.clamp_min(torch.finfo(longer.dtype).eps)


@register(
    "kdpp", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "embedding", "labels", "dataset"),
    tune="weight",
)  # fmt: skip
class KDPP(KD):
    """KD++: KD plus ND, which lengthens the student's embeddings along the teacher's mean of their class.

    ``L = L_KD + c mean_i (1 - f_i . c_yi / max(|f_i|, |g_i|))``, with f and g the embeddings of student and teacher and
    c_y the unit vector along the mean of g over the clean training images of class y. Where the widths differ, f is
    the student's embedding after a trained linear layer of the teacher's width.

    Outside of the workbench, ``attach(student, teacher, images, train=...)`` makes class means and layer, from batches
    (x, label) of all clean training images.

    Args:
        weight: c >= 0; the published ones differ by pair, 2 is that of ResNet-56 and ResNet-20.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, or mixed labels.

    Reference: Wang, Cheng, Duan, Wang, Feng and Kong, Improving Knowledge Distillation via Regularizing Feature
        Direction and Norm, ECCV 2024.
    """

    weight: NonNegative = 2.0

    def setup(self, student, teacher, context):
        mine, theirs = student.embedding.shape[1], teacher.embedding.shape[1]
        layer = nn.Identity() if mine == theirs else drawn(nn.Linear, mine, theirs, generator=context.generator)
        self.embed = layer.to(student.embedding)
        self.register_buffer("directions", class_directions(context, theirs).to(student.embedding))

    def rows(self, student, teacher, batch):
        towards = self.directions[one_class("kdpp", batch)]
        distance = nd_rows(self.embed(student.embedding), teacher.embedding, towards)
        return super().rows(student, teacher, batch) | {"kdpp": self.weight * distance}
