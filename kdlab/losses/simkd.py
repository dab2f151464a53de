"""SimKD: the student's final map is regressed onto the teacher's, whose classifier it then uses."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.losses.base import NonNegative, Positive
from kdlab.losses.kd import KD
from kdlab.losses.layers import block
from kdlab.models import classifier, outputs
from kdlab.registry import register


@register(
    "simkd", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "final", "inference"),
    tune="weight",
)  # fmt: skip
class SimKD(KD):
    """The student's final map, projected, is regressed onto the teacher's, whose frozen classifier then reads it.

    ``L = c mean_i mean_{chw} (P(f_i) - g_i)^2``, with f and g the final maps of student and teacher, pooled to the
    smaller size where they differ, and P three trained convolutions (1x1, 3x3, 1x1, each with BatchNorm and ReLU) of
    ``D_t / reduction`` channels inside. At test time the logits are the teacher's classifier of P(f)'s mean over
    positions: P is part of the student and the student's own classifier is never used. Labels do not enter the
    published form; ``ce_weight`` and ``kd_weight`` above 0 add the terms of ``KD`` on the student's unused logits.

    Outside of the workbench, ``attach(student, teacher, images)`` makes the projector;
    ``predict(student, x)`` gives its logits.

    Args:
        weight: c >= 0.
        reduction: how many times fewer channels P has inside than the teacher's map: 1, 2, 4 or 8.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, or a model without a final map or linear classifier.

    Reference: Chen, Mei, Zhang, Wang, Feng and Chen, Knowledge Distillation with the Reused Teacher Classifier,
        CVPR 2022.
    """

    weight: NonNegative = 1.0
    reduction: Annotated[int, (1, 2, 4, 8)] = 2
    temperature: Positive = 4.0
    ce_weight: NonNegative = 0.0
    kd_weight: NonNegative = 0.0

    def setup(self, student, teacher, context):
        inputs, width = student.final.shape[1], teacher.final.shape[1]
        self.size = tuple(map(min, student.final.shape[2:], teacher.final.shape[2:]))
        narrow, draw = max(1, width // self.reduction), context.generator
        blocks = block(inputs, narrow, 1, draw), block(narrow, narrow, 3, draw), block(narrow, width, 1, draw)
        self.projector = nn.Sequential(*blocks).to(student.final)
        # Copied, so that the method's weights are all a student needs besides its own.
        head = classifier(context.teacher, teacher)
        self.register_buffer("classes", head.weight.detach().clone())
        self.register_buffer("offset", None if head.bias is None else head.bias.detach().clone())

    def project(self, final: Tensor) -> Tensor:
        """P of a student's final map, at the smaller of the two sizes."""
        return self.projector(F.adaptive_avg_pool2d(final, self.size))

    def rows(self, student, teacher, batch):
        target = F.adaptive_avg_pool2d(teacher.final, self.size)
        distance = F.mse_loss(self.project(student.final), target, reduction="none").mean((1, 2, 3))
        terms = super().rows(student, teacher, batch)
        weighted = {name: terms[name] for name in terms if getattr(self, f"{name}_weight") > 0}
        return weighted | {"simkd": self.weight * distance}

    def predict(self, model, x):
        """Logits (B, K) of the teacher's classifier on the student's projected map."""
        final = outputs(model, x).full().final
        training = self.projector.training
        self.projector.eval()  # the student alone is in eval mode here
        try:
            embedding = self.project(final).mean((2, 3))
        finally:
            self.projector.train(training)
        return F.linear(embedding, self.classes, self.offset)
