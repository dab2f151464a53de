"""Hierarchical self-supervised distillation (HSAKD): heads on every stage classify class and quarter turn jointly."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.losses.base import Batch, Context, Method, NonNegative, Positive, cross_entropy_rows, kl_rows
from kdlab.losses.layers import drawn, stages
from kdlab.losses.sskd import frozen, select
from kdlab.models import Outputs
from kdlab.models.layers import initialise
from kdlab.registry import register
from kdlab.spec import TURNS


class Head(nn.Module):
    """Stages from a tap to a map of D channels, its mean over positions, a linear classifier of D numbers."""

    def __init__(self, branch: nn.Module, fc: nn.Linear):
        super().__init__()
        self.branch, self.fc = branch, fc

    def forward(self, x: Tensor) -> Tensor:
        """Joint logits (B, 4K) of a stage map (B, C, H, W)."""
        return self.fc(self.branch(x).mean((2, 3)))


def new_stages(network: nn.Module, tap: int, generator: torch.Generator) -> nn.Module:
    """The stages that follow a tap, made anew: He initialisation by fan-out from a given stream.

    Raises:
        SpecError: for a network that does not show how its stages are made.
    """
    if not hasattr(network, "branch"):
        raise SpecError(
            f"hsakd repeats the stages of a network, and {type(network).__name__} has no method branch(tap) that makes "
            "them; those that kdlab registers do."
        )
    with torch.random.fork_rng(devices=[]):  # the layers' own initial weights are replaced below
        branch = network.branch(tap)
    initialise(branch, generator)
    return branch


def auxiliary_heads(network: nn.Module, example: Outputs, context: Context) -> nn.ModuleList:
    """A head for each stage map of a network, with new weights from the context's stream.

    Args:
        network: has ``branch(tap)``.
        example: its Outputs on a few rows.
        context: gives the number of classes and the stream.

    Raises:
        SpecError: for a network that does not show how its stages are made.
    """
    width, outputs, draw = example.embedding.shape[1], TURNS * context.num_classes, context.generator
    heads = [
        Head(new_stages(network, tap, draw), drawn(nn.Linear, width, outputs, generator=draw))
        for tap in range(len(example.features))
    ]
    return nn.ModuleList(heads).to(example.embedding)


def joint_logits(heads: nn.ModuleList, out: Outputs) -> list[Tensor]:
    """The logits of the heads on the stage maps, one (B, 4K) each."""
    return [head(stage) for head, stage in zip(heads, out.features, strict=True)]


def joint_rows(logits: Iterable[Tensor], batch: Batch) -> Tensor:
    """Cross-entropy against class and turn at once, label 4 y + j, summed over heads: (B,) from (B, 4K) each.

    Raises:
        SpecError: where images are mixed.
    """
    if batch.partner is not None:
        raise SpecError("auxiliary heads need one class a row, but the images of this step are mixed.")
    label = TURNS * batch.label + batch.variant
    return sum(F.cross_entropy(values, label, reduction="none") for values in logits)


def soft_rows(student: Iterable[Tensor], teacher: Iterable[Tensor], temperature: float) -> Tensor:
    """``T^2 KL(softmax(t / T) || softmax(s / T))`` of each row, summed over heads: (B,) from (B, 4K) each."""
    pairs = zip(student, teacher, strict=True)
    return temperature**2 * sum(kl_rows(mine, theirs, temperature) for mine, theirs in pairs)


def upright_cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of the rows that are not turned."""
    upright = batch.variant == 0
    plain = select(batch, upright)
    return plain.mean(cross_entropy_rows(logits[upright], plain), hard=True)


@register(
    "hsakd_heads", revision=1, knowledge="none", coupling="required", needs=("teacher", "features", "labels", "turns"),
    stage="teacher", turns="shared",
)  # fmt: skip
class HSAKDHeads(Method):
    """Prepares a frozen teacher for ``hsakd``: auxiliary heads on its stages learn class and quarter turn at once.

    ``L = mean_i sum_l CE(a_il, 4 y_i + j_i)``, with ``a_il`` the 4K logits of the head of stage l on row i, turned j_i
    times. A head is the stages that follow, made anew (after the last stage, that one once more at stride 1), the mean
    over positions and a linear layer. Only the heads are trained.

    Outside of the workbench, ``attach(teacher, teacher, images)`` makes the heads; the rows are those of
    ``Batch.of(labels, views=4, turns=True)``.

    Args: none; the published loss has no numbers to choose.

    Raises:
        SpecError: for a teacher whose stages cannot be made anew, or mixed images.

    Reference: Yang, An, Cai and Xu, Hierarchical Self-supervised Augmented Knowledge Distillation, IJCAI 2021.
    """

    def setup(self, student, teacher, context):
        self.heads = auxiliary_heads(context.teacher, teacher, context)

    def rows(self, student, teacher, batch):
        return {"aux": joint_rows(joint_logits(self.heads, teacher), batch)}


@register(
    "hsakd_joint", revision=1, knowledge="none", coupling="required", needs=("features", "labels", "turns"),
    tune="weight", turns="shared",
)  # fmt: skip
class HSAKDJoint(Method):
    """Trains a teacher for ``hsakd`` from scratch, backbone and auxiliary heads together.

    ``L = mean_{upright i} CE(s_i, y_i) + c mean_i sum_l CE(a_il, 4 y_i + j_i)``, with the heads of ``hsakd_heads``,
    whose gradients reach the backbone. It needs no teacher, and its run may teach any student.

    Outside of the workbench, ``attach(network, None, images)`` makes the heads; the rows are those of
    ``Batch.of(labels, views=4, turns=True)``.

    Args:
        weight: c >= 0; 1 is published.

    Raises:
        SpecError: for a value out of range, a network whose stages cannot be made anew, or mixed images.

    Reference: Yang, An, Cai and Xu, Hierarchical Self-supervised Augmented Knowledge Distillation, IJCAI 2021.
    """

    weight: NonNegative = 1.0

    def setup(self, student, teacher, context):
        self.heads = auxiliary_heads(context.student, student, context)

    def rows(self, student, teacher, batch):
        return {"aux": self.weight * joint_rows(joint_logits(self.heads, student), batch)}

    def terms(self, student, teacher, batch):
        return {"ce": upright_cross_entropy(student.logits, batch)} | super().terms(student, teacher, batch)


@register(
    "hsakd", revision=1, knowledge="logits", coupling="required", needs=("teacher", "features", "turns", "prepared"),
    tune="weight", prepared=("hsakd_heads", "hsakd_joint"), turns="shared",
)  # fmt: skip
class HSAKD(Method):
    """KD of the main classifier and of auxiliary heads on every stage, over all four quarter turns of an image.

    ``L = a mean_{upright i} CE(s_i, y_i) + b KD(s, t) + c sum_l KD(a_l, b_l)``, with ``KD(s, t) = T^2 mean_i
    KL(softmax(t_i / T) || softmax(s_i / T))`` over all rows, and a_l, b_l the 4K joint logits of the heads of stage l:
    the student's are trained with it and dropped afterwards, the teacher's are the prepared ones in eval mode.

    Outside of the workbench, ``attach(student, teacher, images, prepared=...)`` makes the student's heads and takes
    over those of a trained ``HSAKDHeads``; the rows are those of ``Batch.of(labels, views=4, turns=True)``.

    Args:
        temperature: T > 0.
        ce_weight, kd_weight, weight: a, b, c >= 0; 1 is published.

    Raises:
        SpecError: for a value out of range, networks with other numbers of stages or whose stages cannot be made anew,
            or a teacher that was not prepared.

    Reference: Yang, An, Cai and Xu, Hierarchical Self-supervised Augmented Knowledge Distillation, IJCAI 2021.
    """

    temperature: Positive = 3.0
    ce_weight: NonNegative = 1.0
    kd_weight: NonNegative = 1.0
    weight: NonNegative = 1.0

    def setup(self, student, teacher, context):
        stages("hsakd", student, teacher)
        self.heads = auxiliary_heads(context.student, student, context)
        self.teacher_heads = frozen(auxiliary_heads(context.teacher, teacher, context), "heads", context)

    def train(self, mode: bool = True):
        """Train or eval mode for all but the teacher's heads, whose statistics are frozen."""
        super().train(mode)
        if hasattr(self, "teacher_heads"):  # not before setup
            self.teacher_heads.eval()
        return self

    def rows(self, student, teacher, batch):
        theirs = joint_logits(self.teacher_heads, teacher)
        soft = soft_rows(joint_logits(self.heads, student), theirs, self.temperature)
        main = soft_rows([student.logits], [teacher.logits], self.temperature)
        return {"kd": self.kd_weight * main, "aux": self.weight * soft}

    def terms(self, student, teacher, batch):
        hard = self.ce_weight * upright_cross_entropy(student.logits, batch)
        return {"ce": hard} | super().terms(student, teacher, batch)
