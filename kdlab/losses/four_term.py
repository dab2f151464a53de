"""The four terms of KD with augmentation, each with its own weight: labels and teacher, on plain and augmented rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdlab.errors import SpecError, check_number
from kdlab.losses.base import Batch, Method, NonNegative, Positive, cross_entropy_rows, kl_rows
from kdlab.registry import register

NAMES = ("ce", "ce_augmented", "kd", "kd_augmented")


def group_mean(batch: Batch, values: Tensor, group: Tensor, hard: bool = False) -> Tensor:
    """Weighted mean of the values (B,) over the rows of a group, bool (B,); 0 when their weights are 0."""
    share = group.to(values.dtype)
    return batch.mean(share * values, hard) / batch.mean(share, hard).clamp_min(torch.finfo(values.dtype).tiny)


@register("four_term", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="kd_weight")
class FourTerm(Method):
    """Labels and teacher on plain rows, labels and teacher on augmented rows: four means, weighed one by one.

    ``L = c [w_1 CE(plain) + w_2 CE(augmented) + b T^2 (w_3 KL(plain) + w_4 KL(augmented))]``, each a mean over its rows

    The published c is 1/2, so that (1, 0, 1, 0) is half of the usual KD. Rescaled, c = 2 / sum_j w_j: the weights sum
    to 2 as those of KD do, (1, 0, 1, 0) is KD on the plain rows and (1, 1, 1, 1) is KD on all (of as many plain as
    augmented ones), and arms differ in what they learn from, not in the size of their steps. A group without rows in a
    step is left out, and of the sum too: without augmentation (1, 1, 1, 1) is KD. Both CE terms follow ``hard_weight``.

    Args:
        weights: (w_1, w_2, w_3, w_4) = the journal's (L_ce, L_A, L_kd, L_T), each >= 0.
        rescaled: False takes the published c = 1/2.
        temperature: T > 0.
        kd_weight: b >= 0, a factor beside the weights which the rescaling does not see.

    Raises:
        SpecError: for a value out of range, and in a step without a row for any term of positive weight.

    Reference: Li, Shao, Liu et al., What Role Does Data Augmentation Play in Knowledge Distillation?, ACCV 2022, in the
    form of its extension in Neurocomputing 2024.
    """

    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
    rescaled: bool = True
    temperature: Positive = 4.0
    kd_weight: NonNegative = 1.0

    def __post_init__(self):
        if not isinstance(self.weights, Sequence) or len(self.weights) != 4:
            raise SpecError(f"weights must be four numbers, of {', '.join(NAMES)}, but got {self.weights!r}.")
        self.weights = tuple(check_number(f"weights: {name}", w) for name, w in zip(NAMES, self.weights, strict=True))

    def scale(self, batch: Batch) -> float:
        """The common factor c of the batch."""
        there = (not batch.augmented.all(), bool(batch.augmented.any())) * 2
        total = sum(w for w, some in zip(self.weights, there, strict=True) if some)
        if not total:
            raise SpecError(
                f"four_term has no row for its terms: weights is {self.weights}, and this step has "
                f"{int(batch.augmented.sum())} augmented of {len(batch.label)} rows."
            )
        return 2 / total if self.rescaled else 0.5

    def terms(self, student, teacher, batch):
        hard = cross_entropy_rows(student.logits, batch)
        soft = self.kd_weight * self.temperature**2 * kl_rows(student.logits, teacher.logits, self.temperature)
        groups = (~batch.augmented, batch.augmented)
        means = [group_mean(batch, hard, g, hard=True) for g in groups] + [group_mean(batch, soft, g) for g in groups]
        scale = self.scale(batch)
        return {name: scale * w * mean for name, w, mean in zip(NAMES, self.weights, means, strict=True)}
