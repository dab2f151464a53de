"""Cosine confidence distillation: augmented rows weighted by how far the teacher still agrees with itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import Batch, Method, cross_entropy_rows, kl_rows, require
from kdlab.models import Outputs
from kdlab.registry import SpecError, register


def reference_logits(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The logits of each row's unaugmented view (their mean where there are several).

    Args:
        logits: (B, K).
        batch: gives ``origin`` and ``augmented``.

    Returns:
        References (B, K), zero where there is none, and whether there is one, bool (B,).
    """
    same = (batch.origin[:, None] == batch.origin) & ~batch.augmented
    count = same.sum(1, keepdim=True)
    return same.to(logits.dtype) @ logits / count.clamp_min(1), count[:, 0] > 0


@register("ccd", revision=1, knowledge="logits", coupling="required", needs=("teacher", "pairs"))
class CCD(Method):
    """KD in which an augmented row counts by the teacher's agreement with itself on the unaugmented view.

    ``L = mean_i CE(s_i, y_i) + T^2 mean_i w_i KL(softmax(t_i / T) || softmax(s_i / T))``

    For an augmented row ``w_i = 1 + cos(t_ref(i), t_i)``, in [0, 2], with raw teacher logits; ref(i) is the
    unaugmented row of the same original (the mean of their logits if several). For an unaugmented row, and
    for an augmented one whose original has no unaugmented row, ``w_i = 1``. With one augmented row for each
    unaugmented one this is the published ``T^2 (L_orig + L_aug) / 2``; at any share, cosines of 0 give KD.
    The cosine is mostly positive, so that mainly augmented rows gain weight.

    Args:
        temperature: T > 0.

    Raises:
        SpecError: in a step where no original has both an unaugmented and an augmented row.

    Reference: Li et al., What Role Does Data Augmentation Play in Knowledge Distillation?, ACCV 2022.
    """

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        self.temperature = require("temperature", temperature, positive=True)

    def weights(self, teacher: Outputs, batch: Batch) -> Tensor:
        """The confidence weights w, (B,), in [0, 2]."""
        reference, known = reference_logits(teacher.logits, batch)
        paired = known & batch.augmented
        if not paired.any():
            raise SpecError(
                "ccd needs pairs: no original of this step has both an unaugmented and an augmented row. "
                "Use an augmentation other than weak and a ratio above 0 and below 1."
            )
        cosine = F.cosine_similarity(reference, teacher.logits, dim=1)
        return 1 + torch.where(paired, cosine, torch.zeros_like(cosine))

    def rows(self, student, teacher, batch):
        soft = kl_rows(student.logits, teacher.logits, self.temperature)
        confident = self.weights(teacher, batch) * soft
        return {"ce": cross_entropy_rows(student.logits, batch), "ccd": self.temperature**2 * confident}
