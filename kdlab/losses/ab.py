"""AB: before the usual training, the student's neurons are trained to be active where the teacher's are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.losses.base import NonNegative, Positive, match_size
from kdlab.losses.kd import KD
from kdlab.losses.layers import block, stages
from kdlab.registry import register


class Initialising(KD):
    """KD after a first share of the training that a method's own term has for itself.

    A subclass writes ``own_rows``; its term has its registered name.
    """

    weight: NonNegative = 1.0
    init: NonNegative = 0.125

    def __post_init__(self):
        super().__post_init__()
        if self.init >= 1:
            raise SpecError(f"init must be a share of the training in [0, 1), but got {self.init!r}.")

    def own_rows(self, student, teacher) -> Tensor:
        """The method's own term of each row, before its weight, (B,)."""
        raise NotImplementedError

    def rows(self, student, teacher, batch):
        first = batch.progress < self.init
        own = {}
        if first or self.init == 0:
            own = {self.names[0]: self.weight * self.own_rows(student, teacher)}
        return own if first else super().rows(student, teacher, batch) | own


def boundary(mine: Tensor, theirs: Tensor, margin: float) -> Tensor:
    """``relu(m - x)^2`` where the teacher is active (> 0), ``relu(m + x)^2`` elsewhere, of each element."""
    return (margin - torch.where(theirs > 0, mine, -mine)).relu().square()


@register("ab", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "features"), tune="weight")
class AB(Initialising):
    """A stage in which connected student maps learn the teacher's activation boundaries, then KD.

    ``L = c mean_i sum_l 2^(l - S) sum_chw b(r_l(f_il), g_il)`` while progress < init, afterwards ``L = L_KD``,
    with ``b(x, g) = relu(m - x)^2`` where the teacher's neuron is active, g > 0, and ``relu(m + x)^2`` where it is
    not; f and g are the student's and the teacher's map of stage l of S and r a trained 1x1 convolution and BatchNorm.
    Maps of different sizes are pooled to the smaller first.

    Only the terms that count at the moment are returned: ``ab`` alone in the first stage, ``ce`` and ``kd`` after it,
    all three at all times where init is 0. As in the CRD comparison the default has two stages, the first as long as
    30 of 240 epochs (there 30 epochs came on top of 240; here they are part of the budget). The default weight is the
    factor 3/1000 on the sum over the map with which the authors train. The teacher's neurons are read after the
    activation where a model's maps are, which leaves the boundary where it is; the student's connector then reads
    activated maps too, where the paper has the numbers before.

    Outside of the workbench, ``attach(student, teacher, images)`` makes the connectors.

    Args:
        weight: c >= 0.
        margin: m > 0.
        init: share of the training in [0, 1) that the first stage takes; 0 has no stages but the sum of all terms.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, or when student and teacher have other numbers of stages.

    Reference: Heo, Lee, Yun and Choi, Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
    Neurons, AAAI 2019.
    """

    weight: NonNegative = 0.003
    margin: Positive = 1.0
    init: NonNegative = 0.125

    def setup(self, student, teacher, context):
        self.connectors = nn.ModuleList()
        for mine, theirs in stages("ab", student, teacher):
            connector = block(mine.shape[1], theirs.shape[1], 1, context.generator, relu=False)
            self.connectors.append(connector.to(mine))

    def own_rows(self, student, teacher):
        total = 0.0
        for connector, (mine, theirs) in zip(self.connectors, stages("ab", student, teacher), strict=True):
            mine, theirs = match_size(mine, theirs)
            # Each stage counts twice as much as the one before it: the last has weight 1.
            total = total / 2 + boundary(connector(mine), theirs, self.margin).sum((1, 2, 3))
        return total
