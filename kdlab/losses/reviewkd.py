"""ReviewKD: fused maps of the student against the teacher's maps of that level and those before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.losses.base import NonNegative, match_size, warm_up
from kdlab.losses.kd import KD
from kdlab.losses.layers import block, drawn, stages
from kdlab.models import Outputs
from kdlab.registry import register

POOLS = (4, 2, 1)
MOST_CHANNELS = 512


def levels(out: Outputs, before: bool = False) -> list[Tensor]:
    """The maps to review, deepest first: the embedding as a map of one position, then the stages.

    Args:
        out: of a network.
        before: take the stages before their activation, where the network shows them so.
    """
    return [out.embedding[:, :, None, None], *reversed(before and out.before or out.features)]


def hcl_rows(a: Tensor, b: Tensor) -> Tensor:
    """Hierarchical context loss of each row: squared distance at full size and after pooling to 4, 2 and 1.

    ``sum_k 2^-k mse_k / sum_k 2^-k`` over the full size (k = 0) and the pools smaller than it.

    Args:
        a: maps (B, C, H, W).
        b: maps of the same shape.

    Returns:
        (B,).
    """
    sizes = [None, *(p for p in POOLS if p < min(a.shape[2:]))]
    total, weights = 0, [0.5**k for k in range(len(sizes))]
    for size, weight in zip(sizes, weights, strict=True):
        # Pooling is linear: the pooled maps' difference is the difference's pooled map.
        difference = a - b if size is None else F.adaptive_avg_pool2d(a - b, size)
        total = total + weight * difference.square().mean((1, 2, 3))
    return total / sum(weights)


class Fusion(nn.Module):
    """Attention-based fusion of one level of the student with what came from the deeper ones.

    ``x = a_1 c(f) + a_2 up(deeper)`` with c a 1x1 convolution and BatchNorm, ``(a_1, a_2)`` one sigmoid map each,
    read off both by a 1x1 convolution; the deepest level has nothing to fuse. A 3x3 convolution and BatchNorm make
    x comparable with the teacher's map.

    Args:
        inputs: channels of the student's map.
        middle: channels of x, the same at all levels.
        outputs: channels of the teacher's map.
        deepest: whether there is nothing deeper.
        generator: CPU stream for the initial weights.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, deepest: bool, generator: torch.Generator):
        super().__init__()
        self.enter = block(inputs, middle, 1, generator, relu=False)
        self.attend = None if deepest else drawn(nn.Conv2d, 2 * middle, 2, 1, generator=generator)
        self.leave = block(middle, outputs, 3, generator, relu=False)

    def forward(self, features: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The map to compare with the teacher's, and x for the next level."""
        x = self.enter(features)
        if self.attend is not None:
            deeper = F.interpolate(deeper, x.shape[2:], mode="nearest")
            share = self.attend(torch.cat([x, deeper], 1)).sigmoid()
            x = share[:, :1] * x + share[:, 1:] * deeper
        return self.leave(x), x


@register(
    "reviewkd", revision=2, knowledge="features", coupling="agnostic", needs=("teacher", "features", "embedding"),
    tune="weight",
    least={"reviewkd": {"rows": 2}},
)  # fmt: skip
class ReviewKD(KD):
    """KD plus the distance of the teacher's maps from the student's maps of that level and all deeper ones, fused.

    ``L = L_KD + c w(p) mean_i sum_l HCL(r_l(f_l, ..., f_L), g_l)``, with f and g the maps of student and teacher, the
    embeddings being the deepest (the CIFAR form), r_l the trained ``Fusion`` from the deepest level down to l, HCL the
    distance at several scales (``hcl_rows``) and w(p) a linear start over the progress p. Maps of different sizes are
    pooled to the smaller. Published without a KD term: ``kd_weight=0``.

    The teacher's maps are those before the last ReLU of their stage, as in the authors' code (in a WRN, after the next
    BatchNorm); a foreign teacher's are what its taps name, so tap it before the activation to follow. The student's are
    as they leave the stage.

    Outside of the workbench, ``attach(student, teacher, images)`` makes the fusions.

    Args:
        weight: c >= 0.
        warmup: length of the linear start, in epochs of 240, >= 0; 0 is none.
        activated: True takes the teacher's maps after the ReLU.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, or when student and teacher have other numbers of stages.

    Reference: Chen, Liu, Zhao and Jia, Distilling Knowledge via Knowledge Review, CVPR 2021.
    """

    weight: NonNegative = 5.0
    warmup: NonNegative = 20.0
    activated: bool = False

    def setup(self, student, teacher, context):
        stages("reviewkd", student, teacher)
        middle = min(MOST_CHANNELS, student.embedding.shape[1])
        pairs = zip(levels(student), levels(teacher, not self.activated), strict=True)
        fusions = [
            Fusion(f.shape[1], middle, g.shape[1], number == 0, context.generator)
            for number, (f, g) in enumerate(pairs)
        ]
        self.fusions = nn.ModuleList(fusions).to(student.embedding)

    def rows(self, student, teacher, batch):
        distance, deeper = 0, None
        theirs = levels(teacher, not self.activated)
        for fusion, f, g in zip(self.fusions, levels(student), theirs, strict=True):
            reviewed, deeper = fusion(f, deeper)
            distance = distance + hcl_rows(*match_size(reviewed, g))
        scale = self.weight * warm_up(batch, self.warmup)
        return super().rows(student, teacher, batch) | {"reviewkd": scale * distance}
