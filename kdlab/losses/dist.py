"""DIST: correlations of probabilities, within rows and within classes, instead of a divergence."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdlab.losses.base import Method, NonNegative, Positive
from kdlab.registry import register


def pearson_distance(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """``1 - rho`` with Pearson's correlation rho of a and b along a dimension; 1 where one of them is constant."""
    a, b = (x - x.mean(dim, keepdim=True) for x in (a, b))
    return 1 - F.cosine_similarity(a, b, dim=dim)


@register(
    "dist", revision=1, knowledge="logits", coupling="agnostic", needs=("teacher",), tune="weight",
    least={"inter": {"classes": 3}, "intra": {"rows": 3}},
)  # fmt: skip
class DIST(Method):
    """Cross-entropy plus what is missing in the correlation of probabilities, within rows and within columns.

    ``L = a mean_i CE(s_i, y_i) + c T^2 [beta mean_i (1 - rho_i) + gamma mean_k (1 - rho_k)]``

    with ``rho_i`` the correlation of student's and teacher's probabilities at temperature T over the classes of row i
    (term ``inter``), and ``rho_k`` over the rows of the batch for class k (term ``intra``), so that the number of rows
    matters and their weights do not enter ``intra``. The defaults are those of the authors' class; for CIFAR the paper
    is said to take beta = gamma = 2 and T = 4, which we could not verify.

    Args:
        beta: weight of the rows' correlation, >= 0.
        gamma: weight of the columns' correlation, >= 0.
        temperature: T > 0.
        ce_weight: a >= 0.
        weight: c >= 0, of both correlations.

    Raises:
        SpecError: for a value out of range.

    Reference: Huang, You, Wang, Qian and Xu, Knowledge Distillation from A Stronger Teacher, NeurIPS 2022.
    """

    beta: NonNegative = 1.0
    gamma: NonNegative = 1.0
    temperature: Positive = 1.0
    ce_weight: NonNegative = 1.0
    weight: NonNegative = 1.0

    def probabilities(self, student, teacher) -> tuple[Tensor, ...]:
        """Of student and teacher at the method's temperature, each (B, K)."""
        return tuple(F.softmax(out.logits / self.temperature, dim=1) for out in (student, teacher))

    def rows(self, student, teacher, batch):
        inter = pearson_distance(*self.probabilities(student, teacher), dim=1)
        return {"ce": self.hard_rows(student, batch), "inter": self.weight * self.beta * self.temperature**2 * inter}

    def terms(self, student, teacher, batch):
        intra = pearson_distance(*self.probabilities(student, teacher), dim=0).mean()
        scale = self.weight * self.gamma * self.temperature**2
        return super().terms(student, teacher, batch) | {"intra": scale * intra}
