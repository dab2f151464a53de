"""Multi-level logit distillation (MLLD): rows, pairs of rows and pairs of classes, at five temperatures."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.errors import SpecError
from kdlab.losses.base import Batch, Method, NonNegative, kl_rows
from kdlab.models import Outputs
from kdlab.registry import register

TEMPERATURES = (4.0, 3.0, 5.0, 2.0, 6.0)
MISTAKEN = (2.0, 6.0)  # where the released code's strong term reads the weak view


def at_most_median(values: Tensor) -> Tensor:
    """1 where a value does not exceed the median of all (the middle of the two in between), else 0."""
    return (values <= values.quantile(0.5)).to(values.dtype)


@register("mlld", revision=1, knowledge="logits", coupling="required", needs=("teacher", "pairs"), tune="weight")
class MLLD(Method):
    """KD of each row, of the rows' inner products and of the classes' inner products, at five temperatures.

    ``L = a mean_i CE(s_i, y_i) + c sum_T [T^2 mean_i m_i KL(P^t_i || P^s_i) + mean_i m_i |G^t_i - G^s_i|^2
    + mean_v sum_k n_vk |M^t_vk - M^s_vk|^2 / K]``, terms ``ce``, ``instance``, ``batch`` and ``class``

    T in 4, 3, 5, 2, 6; P the softmax at T. View v of all originals is a batch of its own: G = P P^T over its rows,
    M = P^T P over its classes. Masks m (rows) and n (classes) keep, of view 0, those where the teacher at temperature 1
    is no more certain than its median: highest probability of a row, sum over the rows of a class. They are 1 in
    further views.

    ``mode="paper"`` is this, the idea of the paper with masks that mask. ``mode="released"`` is what the released code
    computes: the masks of view 0 shrink to their mean; G and M of further views are left out; the further views' KL at
    T = 2 and 6 reads view 0 instead. The released code sums over its two views; here they are averaged in both modes,
    as in every other method. That the masks keep the uncertain half, and that all terms weigh 1, is our reading.

    Outside of the workbench, ``Batch.of(labels, views=2)`` gives the rows of two views.

    Args:
        weight: c >= 0.
        ce_weight: a >= 0.
        mode: ``"paper"`` or ``"released"``.

    Raises:
        SpecError: for a value out of range, and in a batch without a first or without a further view.

    Reference: Jin, Wang and Lin, Multi-Level Logit Distillation, CVPR 2023.
    """

    weight: NonNegative = 1.0
    ce_weight: NonNegative = 1.0
    mode: Annotated[str, ("paper", "released")] = "paper"

    def masks(self, teacher: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        """The masks of view 0: of its rows, (B,) with 0 in further views, and of the classes, (K,)."""
        first = batch.view == 0
        if not first.any() or first.all():
            raise SpecError("mlld needs pairs: this step has rows of one view only; use views=2 or more.")
        certain = F.softmax(teacher.logits[first], dim=1)
        rows = torch.zeros_like(teacher.logits[:, 0])
        rows[first] = at_most_median(certain.amax(1))
        classes = at_most_median(certain.sum(0))
        if self.mode == "released":
            rows, classes = torch.where(first, rows[first].mean(), 0.0), classes.mean().expand_as(classes)
        return rows, classes

    def rows(self, student, teacher, batch):
        first, mask = (batch.view == 0).to(student.logits.dtype), self.masks(teacher, batch)[0]
        further = 1 - first
        same = batch.view[:, None] == batch.view
        instance = pairs = 0.0
        for temperature in TEMPERATURES:
            p, q = (F.softmax(out.logits / temperature, dim=1) for out in (student, teacher))
            strong = first if self.mode == "released" and temperature in MISTAKEN else further
            soft = kl_rows(student.logits, teacher.logits, temperature)
            instance = instance + temperature**2 * (mask + strong) * soft
            pairs = pairs + (same * (p @ p.T - q @ q.T).square()).sum(1)
        counted = mask if self.mode == "released" else mask + further
        hard = self.hard_rows(student, batch)
        return {"ce": hard, "instance": self.weight * instance, "batch": self.weight * counted * pairs}

    def terms(self, student, teacher, batch):
        classes = self.masks(teacher, batch)[1]
        levels = []
        for view in batch.view.unique():
            here = batch.view == view
            further = 0.0 if self.mode == "released" else 1.0
            counted = torch.where(view == 0, classes, further)
            for temperature in TEMPERATURES:
                p, q = (F.softmax(out.logits[here] / temperature, dim=1) for out in (student, teacher))
                levels.append((counted * (p.T @ p - q.T @ q).square().sum(1)).mean())
        level = len(TEMPERATURES) * torch.stack(levels).mean()  # sum over temperatures, mean over views
        return super().terms(student, teacher, batch) | {"class": self.weight * level}
