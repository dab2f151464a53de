"""Flow of solution procedure (FSP): products of the maps of successive stages, channel by channel."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.losses.ab import Initialising
from kdlab.losses.layers import convolution, stages
from kdlab.models import Outputs
from kdlab.registry import register


def flow(first: Tensor, second: Tensor) -> Tensor:
    """``G_ce = mean_p x_cp y_ep`` of maps x and y at positions p: (B, C, H, W) and (B, E, H, W) -> (B, C, E).

    Where their sizes differ, both take their maxima over windows, to the smaller height and the smaller width.
    """
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    first, second = ((x if x.shape[2:] == size else F.adaptive_max_pool2d(x, size)).flatten(2) for x in (first, second))
    return first @ second.transpose(1, 2) / first.shape[2]


def flow_maps(student: Outputs, teacher: Outputs) -> tuple[list[Tensor], ...]:
    """The maps between which student and teacher have flows: the stem, where both show it, and the stages."""
    stem = student.stem is not None and teacher.stem is not None
    return tuple([*([out.stem] if stem else []), *out.features] for out in (student, teacher))


@register("fsp", revision=2, knowledge="relations", coupling="agnostic", needs=("teacher", "features"), tune="weight")
class FSP(Initialising):
    """KD plus the squared distance between the flow matrices of the stages, from what each reads to what it gives.

    ``L = L_KD + c mean_i sum_l mean_ce (G_ice(r(f_l), r(f_(l+1))) - G_ice(g_l, g_(l+1)))^2``, with f and g the
    student's and the teacher's maps, of the stem (l = 0) and of the stages, and ``G_ce(x, y) = mean_p x_cp y_ep`` over
    positions p, the larger of the two maps max-pooled to the size of the smaller as in the paper. Student and teacher
    may differ in size. In the paper they have the same widths, and r is the identity; where the widths of a stage
    differ, r is a trained 1x1 convolution to the teacher's. Where one of the two does not show its stem (a foreign
    model, or a VGG whose maps are HSAKD's), the first flow is left out: tap the stem of both to have it.

    As in the paper and in the CRD comparison, the distance is trained alone in a stage before, here a share ``init``
    of the budget (30 of 240 epochs): only the terms that count at the moment are returned, ``fsp`` while progress <
    init, ``ce`` and ``kd`` after it, and all three at all times where init is 0. That stage has no other term, so that
    the default weight is 1; the distance is of fourth order in the maps, and with 50, which is named for the
    comparison, our trial (a trained teacher, learning rate 0.05) diverged within ten steps.

    Outside of the workbench, ``attach(student, teacher, images)`` makes the convolutions r.

    Args:
        weight: c >= 0.
        init: share of the training in [0, 1) that the first stage takes; 0 has no stages but the sum of all terms.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, when student and teacher have other numbers of stages, or one map only.

    Reference: Yim, Joo, Bae and Kim, A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and
    Transfer Learning, CVPR 2017.
    """

    def setup(self, student, teacher, context):
        stages("fsp", student, teacher)
        pairs = list(zip(*flow_maps(student, teacher), strict=True))
        if len(pairs) < 2:
            raise SpecError(f"fsp needs two maps at least, but the models have {len(pairs)}.")
        self.bridges = nn.ModuleList()
        for mine, theirs in pairs:
            a, b = mine.shape[1], theirs.shape[1]
            # No activation follows, and the distance is of fourth order: a scale too large would explode.
            layer = nn.Identity() if a == b else convolution(a, b, context.generator, nonlinearity="linear")
            self.bridges.append(layer.to(mine))

    def own_rows(self, student, teacher):
        mine, theirs = flow_maps(student, teacher)
        mine = [bridge(f) for bridge, f in zip(self.bridges, mine, strict=True)]
        flows = zip(pairwise(mine), pairwise(theirs), strict=True)
        return torch.stack([(flow(*f) - flow(*g)).square().mean((1, 2)) for f, g in flows]).sum(0)
