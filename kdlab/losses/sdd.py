"""Scale-decoupled distillation (SDD): KD on the logits of regions of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.losses.base import NonNegative, kl_rows, one_class
from kdlab.losses.kd import SoftTargets
from kdlab.models import classifier
from kdlab.registry import register


def region_logits(final: Tensor, scales: Sequence[int], layer: nn.Linear) -> Tensor:
    """The classifier's logits on each cell of an m x m grid over the image, for every scale m.

    Args:
        final: the map before pooling, (B, D, H, W).
        scales: the numbers m.
        layer: the classifier, D to K.

    Returns:
        (B, R, K), R the sum of the m^2.
    """
    regions = torch.cat([F.adaptive_avg_pool2d(final, scale).flatten(2) for scale in scales], dim=2)
    bias = None if layer.bias is None else layer.bias.to(final)
    return F.linear(regions.transpose(1, 2), layer.weight.to(final), bias)


@register("sdd", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher", "final", "labels"),
          tune="kd_weight")  # fmt: skip
class SDD(SoftTargets):
    """KD on the logits of regions, more strongly where a region tells the teacher something else than the whole.

    ``L = a mean_i CE(s_i, y_i) + b T^2 mean_i mean_r v_ir KL(softmax(t_ir / T) || softmax(s_ir / T))``

    r runs over the cells of m x m grids for all scales m; s_ir and t_ir are the networks' own classifiers on the mean
    of their final map over the cell. ``v_ir`` is c where the teacher is right about the region and wrong about the
    image or the other way round (complementary knowledge), 1 elsewhere. With the single scale 1 this is KD. The mean
    over regions keeps KD's scale whatever the scales are; the published sum is b times the number of regions.

    Outside of the workbench, ``attach(student, teacher, images)`` finds the two classifiers.

    Args:
        scales: grid sizes m, distinct integers >= 1; published (1, 2), or (1, 2, 4) for students of other families.
        complementary_weight: c >= 0.
        temperature, ce_weight, kd_weight: T > 0, a >= 0 and b >= 0.

    Raises:
        SpecError: for a value out of range, a model without a final map or linear classifier, a map smaller than a
            grid, and for mixed images.

    Reference: Wei, Luo and Luo, Scaled Decoupled Distillation, CVPR 2024.
    """

    scales: Sequence[int] = (1, 2)
    complementary_weight: NonNegative = 2.0

    def __post_init__(self):
        listed = list(self.scales) if isinstance(self.scales, Sequence) else []
        if not listed or len(set(listed)) < len(listed) or not all(type(m) is int and m >= 1 for m in listed):
            raise SpecError(f"scales must be distinct integers of at least 1, but got {self.scales!r}.")
        self.scales = tuple(listed)

    def setup(self, student, teacher, context):
        for who, out in (("student", student), ("teacher", teacher)):
            if min(out.final.shape[2:]) < max(self.scales):
                size = "x".join(map(str, out.final.shape[2:]))
                raise SpecError(f"scales must not exceed the final map, {size} in the {who}, but got {self.scales}.")
        # In a tuple, out of sight of nn.Module: the student's layer must not become this method's parameter too.
        self.layers = (classifier(context.student, student), classifier(context.teacher, teacher))

    def rows(self, student, teacher, batch):
        label = one_class("sdd", batch)
        s = region_logits(student.final, self.scales, self.layers[0])
        t = region_logits(teacher.final, self.scales, self.layers[1]).detach()
        soft = kl_rows(s.flatten(0, 1), t.flatten(0, 1), self.temperature).view(s.shape[:2])
        differs = (t.argmax(2) == label[:, None]) != (teacher.logits.argmax(1) == label)[:, None]
        soft = torch.where(differs, self.complementary_weight * soft, soft)
        return {"ce": self.hard_rows(student, batch), "sdd": self.kd_weight * self.temperature**2 * soft.mean(1)}
