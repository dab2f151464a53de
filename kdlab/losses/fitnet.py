"""FitNet: a map of the student, regressed onto the teacher's map of the same stage (hints)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlab.errors import choose
from kdlab.losses.base import NonNegative, match_size
from kdlab.losses.kd import KD
from kdlab.losses.layers import block
from kdlab.registry import register


@register("fitnet", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "features"), tune="weight")
class FitNet(KD):
    """KD plus the squared distance between a regressed student map and the teacher's map of one stage.

    ``L = L_KD + c mean_i mean_{chw} (r(f_i) - g_i)^2``, with f and g the student's and the teacher's map,
    pooled to the smaller size where they differ, and r a trained 1x1 convolution, BatchNorm and ReLU. All is
    trained jointly, with no stage before (the form and the weight of the CRD comparison).

    Outside of the workbench, ``attach(student, teacher, images)`` makes the regressor.

    Args:
        weight: c >= 0.
        stage: which stage's map is the hint, from 1.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, or a stage that a model does not have.

    Example:
        >>> import torch
        >>> from kdlab.models import build, outputs
        >>> student, teacher = build("resnet8_s2_w4", 10, 1, seed=0), build("resnet8_s2_w8", 10, 1, seed=1).eval()
        >>> images, labels = torch.zeros(4, 1, 28, 28), torch.tensor([0, 1, 2, 3])
        >>> method = FitNet().attach(student, teacher, images)
        >>> len(list(method.parameters()))  # for the optimiser: a convolution, and the two of its BatchNorm
        3
        >>> sorted(method(outputs(student, images), outputs(teacher, images), labels))
        ['ce', 'fitnet', 'kd']

    Reference: Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015.
    """

    weight: NonNegative = 100.0
    stage: int = 2

    def setup(self, student, teacher, context):
        stages = range(1, 1 + min(len(student.features), len(teacher.features)))
        number = choose("stage", self.stage, stages) - 1
        hint, target = student.features[number], teacher.features[number]
        self.regressor = block(hint.shape[1], target.shape[1], 1, context.generator).to(hint)

    def hint_rows(self, hint: Tensor, target: Tensor) -> Tensor:
        """Mean squared distance of each row after regression, (B,)."""
        hint, target = match_size(hint, target)
        return F.mse_loss(self.regressor(hint), target, reduction="none").mean((1, 2, 3))

    def rows(self, student, teacher, batch):
        number = self.stage - 1
        distance = self.hint_rows(student.features[number], teacher.features[number])
        return super().rows(student, teacher, batch) | {"fitnet": self.weight * distance}
