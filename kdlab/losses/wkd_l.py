"""WKD-L: Wasserstein distance of logits, whose costs are similarities between classes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.errors import SpecError
from kdlab.losses.base import Count, Method, NonNegative, Positive, at_most, one_class
from kdlab.models import Outputs
from kdlab.registry import register

STEEPEST = 40.0  # cost / regularisation above which exp(-cost / regularisation) is too small for float32


def class_similarity(passes: Iterable[tuple[Outputs, Tensor]], num_classes: int) -> Tensor:
    """Linear centred kernel alignment (CKA) between the embeddings of any two classes.

    With X_k the (D, N_k) embeddings of class k, ``CKA_kl = <M_k, M_l> / (|M_k| |M_l|)`` of the kernels over feature
    dimensions ``M_k = H X_k X_k^T H``, H the centring matrix: classes may have any number of images. K D^2 numbers are
    held at a time.

    Args:
        passes: Outputs and labels of the training images, a part after another.
        num_classes: K.

    Returns:
        (K, K) in [0, 1], float64 on the CPU; a class without images is like no other.
    """
    kernels: Tensor | None = None
    for out, labels in passes:
        embedding, labels = out.embedding.detach().double().cpu(), labels.cpu()
        if kernels is None:
            kernels = embedding.new_zeros(num_classes, embedding.shape[1], embedding.shape[1])
        for k in labels.unique().tolist():
            own = embedding[labels == k]
            kernels[k] += own.T @ own
    kernels = kernels - kernels.mean(1, keepdim=True)
    kernels = F.normalize((kernels - kernels.mean(2, keepdim=True)).flatten(1), dim=1, eps=1e-300)
    return (kernels @ kernels.T).clamp(0, 1)


def transport(p: Tensor, q: Tensor, cost: Tensor, regularisation: float, iterations: int) -> Tensor:
    """Cost of the entropic transport plan from p to q, ``<P, C>``, by Sinkhorn's iterations.

    Args:
        p: (B, K), rows sum to 1; a zero takes its class out of the problem.
        q: (B, K), likewise, with zeros at the same places.
        cost: C, (K, K).
        regularisation: weight of the entropy, > 0.
        iterations: >= 1; after each, the plan's columns sum to q.

    Returns:
        (B,).
    """
    kernel = torch.exp(-cost / regularisation)
    v = (q > 0).to(q)
    for _ in range(iterations):
        u = p / (v @ kernel.T)
        v = q / (u @ kernel)
    return ((u @ (kernel * cost)) * v).sum(1)


@register(
    "wkd_l", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher", "embedding", "labels", "dataset"),
    of_teacher=("embedding",), tune="weight",
    least={"target": {}, "wkd_l": {"classes": 3}},
)  # fmt: skip
class WKDL(Method):
    """The true class by cross-entropy with the teacher's trust, the others by the cost of moving them onto the teacher.

    ``L = mean_i [a CE(s_i, y_i) - p^t_y log p^s_y + c d(p) W(q^t_i, q^s_i)]``

    with p the softmax at temperature 1, q the softmax at temperature T over all classes but y, and W the Sinkhorn
    transport cost, no factor T^2, where moving from class k to l costs ``C_kl = 1 - exp(-kappa (1 - CKA_kl))``. CKA is
    that of the teacher's embeddings of the clean training images of the two classes, with a linear kernel over feature
    dimensions. The decay ``d = (1 + cos(pi z)) / 2``, z rising from 0 at epoch ``decay_from`` to 1 at the end, is read
    as one of W alone. The terms are ``ce``, ``target`` and ``wkd_l``; entropy keeps W above 0 for equal logits.

    Outside of the workbench, ``attach(student, teacher, images, train=...)`` measures the costs on batches (x, label)
    of all clean training images.

    Args:
        weight: c >= 0.
        temperature: T > 0.
        ce_weight: a >= 0.
        kappa: sharpness of the cost, > 0.
        regularisation: weight of the entropy in the transport plan, > 0.
        iterations: Sinkhorn's iterations, >= 1.
        decay_from: epoch of 240 at which the decay begins, in [0, 240]; 240 is none.

    Raises:
        SpecError: for a value out of range, a regularisation too small for the costs, and for mixed images.

    Reference: Lv, Yang and Li, Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation,
    NeurIPS 2024.
    """

    weight: NonNegative = 600.0
    temperature: Positive = 8.0
    ce_weight: NonNegative = 1.0
    kappa: Positive = 1.0
    regularisation: Positive = 0.05
    iterations: Count = 10
    decay_from: Annotated[float, at_most(240, "an epoch of 240, in [0, 240]")] = 150.0

    def setup(self, student, teacher, context):
        cost = -torch.expm1(-self.kappa * (1 - class_similarity(context.teacher_pass(), context.num_classes)))
        cost = ((cost + cost.T) / 2).fill_diagonal_(0)
        if cost.max() / self.regularisation > STEEPEST:
            least = cost.max().item() / STEEPEST
            raise SpecError(f"regularisation must be at least {least:.3g} here, but got {self.regularisation!r}.")
        self.register_buffer("cost", cost.to(teacher.logits))

    def decay(self, progress: float) -> float:
        """The factor d of the transport term, 1 before ``decay_from`` and towards 0 at the end."""
        begun = 240 * progress - self.decay_from
        return (1 + math.cos(math.pi * begun / (240 - self.decay_from))) / 2 if begun > 0 else 1.0

    def rows(self, student, teacher, batch):
        label, s, t = one_class("wkd_l", batch), student.logits, teacher.logits
        hard = F.cross_entropy(s, label, reduction="none")
        trust = F.softmax(t, dim=1).gather(1, label[:, None])[:, 0]
        own = F.one_hot(label, s.shape[1]).bool()
        q_s, q_t = (F.softmax(z.masked_fill(own, -torch.inf) / self.temperature, dim=1) for z in (s, t))
        moved = transport(q_t, q_s, self.cost.to(s), self.regularisation, self.iterations)
        scale = self.weight * self.decay(batch.progress)
        return {"ce": self.ce_weight * hard, "target": trust * hard, "wkd_l": scale * moved}
