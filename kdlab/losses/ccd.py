"""Cosine confidence distillation: second views weighted by how far the teacher still agrees with itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import Batch, Method, cross_entropy_rows, kl_rows, require
from kdlab.models import Outputs
from kdlab.registry import SpecError, register


def first_views(batch: Batch) -> Tensor:
    """Where each row finds the first view of its original.

    Args:
        batch: gives ``origin`` and ``view``.

    Returns:
        Row number of the view 0 with the same origin, -1 where the batch has none, int64 (B,).
    """
    rows = torch.arange(len(batch.origin), device=batch.origin.device)
    first = torch.full((int(batch.origin.max()) + 1,), -1, device=batch.origin.device)
    start = batch.view == 0
    first[batch.origin[start]] = rows[start]
    return first[batch.origin]


@register("ccd", revision=1, knowledge="logits", coupling="required", needs=("teacher", "pairs"))
class CCD(Method):
    """KD in which every further view of an image counts by the teacher's agreement with itself on the first view.

    ``L = mean_i CE(s_i, y_i) + T^2 mean_i w_i KL(softmax(t_i / T) || softmax(s_i / T))``

    ``w_i = 1 + cos(t_first(i), t_i)`` in [0, 2] with raw teacher logits, where first(i) is view 0 of the same
    original; ``w_i = 1`` for view 0 itself. With one weak and one augmented view of each original this is the
    published ``T^2 (L_orig + L_aug) / 2``; cosines of 0 give KD. Under a trained teacher most cosines are positive, so
    that mainly the second view gains weight. The cosine sees the teacher's logit offset, which softmax does not.

    Args:
        temperature: T > 0.

    Raises:
        SpecError: in a batch where no original has a second view beside its first.

    Reference: Li, Shao, Liu et al., What Role Does Data Augmentation Play in Knowledge Distillation?, ACCV 2022.
    """

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        self.temperature = require("temperature", temperature, positive=True)

    def weights(self, teacher: Outputs, batch: Batch) -> Tensor:
        """The confidence weights w, (B,), in [0, 2]."""
        first = first_views(batch)
        paired = (first >= 0) & (batch.view > 0)
        if not paired.any():
            raise SpecError(
                "ccd needs pairs: no original of this step has a second view beside its first; use views=2 or more."
            )
        cosine = F.cosine_similarity(teacher.logits[first], teacher.logits, dim=1)
        return 1 + torch.where(paired, cosine, torch.zeros_like(cosine))

    def rows(self, student, teacher, batch):
        soft = kl_rows(student.logits, teacher.logits, self.temperature)
        confident = self.weights(teacher, batch) * soft
        return {"ce": cross_entropy_rows(student.logits, batch), "ccd": self.temperature**2 * confident}
