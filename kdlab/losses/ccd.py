"""CCD: KD whose second views are weighted by the cosine between the teacher's logits on the two views."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.errors import SpecError
from kdlab.losses.base import Batch, Method, NonNegative, Positive, kl_rows
from kdlab.models import Outputs
from kdlab.registry import register
from kdlab.rng import generator

WEIGHTINGS = ("cosine", "normalised", "constant", "shuffled")


def first_views(batch: Batch) -> Tensor:
    """Where each row finds the first view of its original.

    Args:
        batch: gives ``origin`` and ``view``.

    Returns:
        Row number of the view 0 with the same origin, -1 where the batch has none, int64 (B,).
    """
    if not batch.origin.is_cpu:  # row by row against each other, for whoever asks a device how many there are waits
        match = (batch.origin[:, None] == batch.origin) & (batch.view == 0)
        return match.int().argmax(1).masked_fill(~match.any(1), -1)
    rows = torch.arange(len(batch.origin), device=batch.origin.device)
    first = torch.full((int(batch.origin.max()) + 1,), -1, device=batch.origin.device)
    start = batch.view == 0
    first[batch.origin[start]] = rows[start]
    return first[batch.origin]


@register("ccd", revision=1, knowledge="logits", coupling="required", needs=("teacher", "pairs"), tune="kd_weight")
class CCD(Method):
    """KD in which every further view of an image counts by the teacher's agreement with itself on the first view.

    ``L = a mean_i CE(s_i, y_i) + b T^2 mean_i w_i KL(softmax(t_i / T) || softmax(s_i / T))``

    ``w_i = 1 + cos(t_first(i), t_i)`` in [0, 2] with raw teacher logits, where first(i) is view 0 of the same
    original; ``w_i = 1`` for view 0 itself. With one weak and one augmented view of each original this is the
    published ``T^2 (L_orig + L_aug) / 2``; cosines of 0 give KD. Under a trained teacher most cosines are positive, so
    that mainly the second view gains weight. The cosine sees the teacher's logit offset, which softmax does not.

    The other weightings are controls that take one thing away from w on the paired rows (those with a first view
    beside them): ``"normalised"`` its mean, by dividing by it; ``"constant"`` all but its mean; ``"shuffled"`` what
    belongs to which pair, by a new permutation at each step.

    Args:
        temperature: T > 0.
        weighting: ``"cosine"`` (published), ``"normalised"``, ``"constant"`` or ``"shuffled"``.
        centred: subtract each row's mean logit before the cosine, which takes the offset away.
        ce_weight: a >= 0.
        kd_weight: b >= 0.

    Raises:
        SpecError: for a value out of range, and in a batch where no original has a second view beside its first.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 1.0], [1.0, 1.0]]), torch.tensor([[4.0, 0.0], [2.0, 0.0]])
        >>> batch = Batch.of(torch.tensor([0, 0]), views=2)  # one image, in two views
        >>> loss = CCD()(student, teacher, batch)
        >>> sorted(loss), round(loss.total.item(), 3)
        (['ccd', 'ce'], 1.476)

    Reference: Li, Shao, Liu et al., What Role Does Data Augmentation Play in Knowledge Distillation?, ACCV 2022.
    """

    temperature: Positive = 4.0
    weighting: Annotated[str, WEIGHTINGS] = "cosine"
    centred: bool = False
    ce_weight: NonNegative = 1.0
    kd_weight: NonNegative = 1.0

    def weights(self, teacher: Outputs, batch: Batch) -> Tensor:
        """The confidence weights w, (B,), those of the cosine in [0, 2]."""
        first = first_views(batch)
        paired = (first >= 0) & (batch.view > 0)
        if paired.is_cpu and not paired.any():
            raise SpecError(
                "ccd needs pairs: no original of this step has a second view beside its first; use views=2 or more."
            )
        t = teacher.logits - teacher.logits.mean(1, keepdim=True) if self.centred else teacher.logits
        cosine = F.cosine_similarity(t[first], t, dim=1)
        weights = 1 + torch.where(paired, cosine, torch.zeros_like(cosine))
        return weights if self.weighting == "cosine" else self.controlled(weights, paired, batch)

    def controlled(self, weights: Tensor, paired: Tensor, batch: Batch) -> Tensor:
        """What a control leaves of the weights (B,) of the paired rows; the other rows keep theirs."""
        if self.weighting == "shuffled":
            rows = paired.nonzero()[:, 0]
            # A row's place in the permutation is that of its address among the pairs, whatever the order of rows.
            address = batch.origin[rows] * (batch.view.max() + 1) + batch.view[rows]
            rows = rows[address.argsort()]
            permutation = torch.randperm(len(rows), generator=generator(self.seed, "ccd", batch.epoch, batch.step))
            return weights.index_copy(0, rows, weights[rows[permutation.to(rows.device)]])
        share = paired.to(weights.dtype)
        mean = batch.mean(share * weights) / batch.mean(share).clamp_min(torch.finfo(weights.dtype).tiny)
        if self.weighting == "constant":
            return torch.where(paired, mean, weights)
        return torch.where(paired, weights / mean.clamp_min(torch.finfo(weights.dtype).eps), weights)

    def rows(self, student, teacher, batch):
        soft = kl_rows(student.logits, teacher.logits, self.temperature)
        confident = self.weights(teacher, batch) * soft
        return {"ce": self.hard_rows(student, batch), "ccd": self.kd_weight * self.temperature**2 * confident}
