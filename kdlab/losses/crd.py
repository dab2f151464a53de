"""Contrastive representation distillation (CRD), with a memory of all training images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.losses.base import Batch, Count, NonNegative, Positive, at_most
from kdlab.losses.kd import KD
from kdlab.losses.layers import drawn
from kdlab.registry import register
from kdlab.rng import generator

EPSILON = 1e-7


def contrastive_rows(
    embeds: Sequence[Tensor],
    memories: Sequence[Tensor],
    index: Tensor,
    negatives: Tensor,
    group: Tensor,
    constants: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Noise-contrastive loss of each row, both sides summed.

    ``- log P_i / (P_i + q) - sum_j log q / (P_j + q)`` with ``P_j = exp(m_j . e_i / tau) / Z``, ``q = K / N``: each
    side's embedding e against the other side's memory m. (1e-7 is added to both denominators, as published.)

    Args:
        embeds: unit vectors of student and teacher, (B, D) each.
        memories: of student and teacher, (N, D) each.
        index: each row's place in the memories, int64 (B,).
        negatives: the K places that each group of rows is held against, bool (groups, N).
        group: of each row, int64 (B,).
        constants: Z of student and teacher, (2,); 0 is taken from this batch, ``N mean_ij exp(m_j . e_i / tau)``.
        temperature: tau > 0.

    Returns:
        The loss, (B,), and the constants that were used.
    """
    size, count = len(memories[0]), int(negatives[0].sum())
    noise, weights = count / size, negatives.to(embeds[0].dtype)
    rows, used = 2 * count * math.log1p(EPSILON / noise), []
    for embed, memory, constant in zip(embeds, reversed(memories), constants, strict=True):
        # All scores by one product, and sums by another: gathering the memories would take K times the embeddings.
        score = embed @ memory.T / temperature
        own = score.gather(1, index[:, None])[:, 0]
        if constant == 0:
            chance = score.detach().exp()
            total = own.detach().exp().sum() + (chance * weights[group]).sum()
            constant = size * total / (len(own) * (1 + count))
        used.append(constant)
        odds = constant.log() + math.log(noise + EPSILON)  # so that exp(score - odds) = P / (q + 1e-7)
        pushed = F.softplus(score - odds, threshold=40) @ weights.T
        rows = rows - F.logsigmoid(own - odds) + pushed.gather(1, group[:, None])[:, 0]
    return rows, torch.stack(used)


def draw_negatives(labels: Tensor, order: Tensor, label: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first images in an order that are of another class than the row.

    Args:
        labels: classes of all images, (N,).
        order: a permutation of the images, int64 (N,).
        label: classes of the rows, (B,).
        count: K; at least so many images must be of another class.

    Returns:
        K images for each class of the batch, bool (classes, N), and the place of each row's class, int64 (B,).
    """
    classes, row = label.unique(return_inverse=True)
    allowed = labels[order] != classes[:, None]
    chosen = torch.empty_like(allowed)
    chosen[:, order] = allowed & (allowed.cumsum(1) <= count)
    return chosen, row


@torch.no_grad()
def update_memory(memory: Tensor, index: Tensor, embed: Tensor, momentum: float) -> None:
    """Move the memory of each image in the batch once, ``m = normalise(momentum m + (1 - momentum) mean e)``.

    Args:
        memory: (N, D), changed in place.
        index: each row's image, int64 (B,); rows of one image are averaged.
        embed: (B, D).
        momentum: in [0, 1].
    """
    image, row = index.unique(return_inverse=True)
    mean = memory.new_zeros(len(image), memory.shape[1]).index_add_(0, row, embed) / row.bincount()[:, None]
    memory[image] = F.normalize(momentum * memory[image] + (1 - momentum) * mean, dim=1)


@register(
    "crd", revision=1, knowledge="contrastive", coupling="agnostic",
    needs=("teacher", "embedding", "dataset", "memory"), tune="weight",
)  # fmt: skip
class CRD(KD):
    """KD plus a contrastive loss: the embeddings of one image agree, against many images of other classes.

    ``L = L_KD + c mean_i (l_s(i) + l_t(i))``, each side's l the noise-contrastive loss (``contrastive_rows``) of its
    embedding, after a trained linear layer and scaled to unit length, against a memory of the other side's embeddings
    of all training images: the own image's and K of other classes'. The K are drawn afresh in each step, without
    repetition, as the start of one random order of the data set, which all rows share. Afterwards each image's
    memories move to the mean of its rows' embeddings. The constants Z are those of the first batch. A mixed row counts
    as its first class.

    Outside of the workbench, ``attach(student, teacher, images, labels=...)`` makes layers and memories, from the
    classes of all training images; a ``Batch`` gives each row's ``index`` among them, and ``after_step`` moves the
    memories.

    Args:
        weight: c >= 0.
        negatives: K >= 1; all that every class has, where they are fewer.
        width: length of the embeddings compared, >= 1.
        nce_temperature: tau > 0.
        momentum: share of the old memory, in [0, 1].
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, or a training set of one class.

    Example:
        >>> import torch
        >>> from kdlab.models import build, outputs
        >>> student, teacher = build("resnet8_s2_w4", 10, 1, seed=0), build("resnet8_s2_w8", 10, 1, seed=1).eval()
        >>> images, labels = torch.zeros(2, 1, 28, 28), torch.arange(10).repeat(5)
        >>> method = CRD(negatives=16).attach(student, teacher, images, labels=labels)
        >>> batch = Batch.of(labels[[3, 8]], index=torch.tensor([3, 8]), step=0)
        >>> loss = method(outputs(student, images), outputs(teacher, images), batch)
        >>> method.after_step(batch)  # in a loop, after the optimiser's step
        >>> sorted(loss)
        ['ce', 'crd', 'kd']

    Reference: Tian, Krishnan and Isola, Contrastive Representation Distillation, ICLR 2020.
    """

    weight: NonNegative = 0.8
    negatives: Count = 16384
    width: Count = 128
    nce_temperature: Positive = 0.07
    momentum: Annotated[float, at_most(1, "in [0, 1]")] = 0.5

    def setup(self, student, teacher, context):
        super().setup(student, teacher, context)
        draw = context.generator
        available = context.train_size - int(context.labels.bincount().max())
        if available < 1:
            raise SpecError("crd needs images of at least two classes, but the training set has one.")
        self.count = min(self.negatives, available)
        widths = student.embedding.shape[1], teacher.embedding.shape[1]
        embeds = [drawn(nn.Linear, inputs, self.width, generator=draw) for inputs in widths]
        self.embeds = nn.ModuleList(embeds).to(student.embedding)
        bound = (3 / self.width) ** 0.5  # of unit length on average
        for side in ("student", "teacher"):
            memory = torch.empty(context.train_size, self.width).uniform_(-bound, bound, generator=draw)
            self.register_buffer(f"{side}_memory", memory.to(student.embedding))
        self.register_buffer("constants", student.embedding.new_zeros(2))  # 0 until the first batch
        self.register_buffer("labels", context.labels.to(student.embedding.device), persistent=False)

    def rows(self, student, teacher, batch):
        outputs = zip(self.embeds, (student, teacher), strict=True)
        embeds = [F.normalize(embed(out.embedding), dim=1) for embed, out in outputs]
        order = torch.randperm(len(self.labels), generator=generator(self.seed, "crd", batch.epoch, batch.step))
        negatives = draw_negatives(self.labels, order.to(self.labels.device), batch.label, self.count)
        memories = (self.student_memory, self.teacher_memory)
        loss, constants = contrastive_rows(
            embeds, memories, batch.index, *negatives, self.constants, self.nce_temperature
        )
        self.constants.copy_(constants)
        self.seen = [embed.detach() for embed in embeds]
        return super().rows(student, teacher, batch) | {"crd": self.weight * loss}

    def after_step(self, batch: Batch) -> None:
        """Move the memories by what ``forward`` saw last."""
        for memory, embed in zip((self.student_memory, self.teacher_memory), self.seen, strict=True):
            update_memory(memory, batch.index, embed, self.momentum)
