"""Cross-entropy alone: training without a teacher."""

from __future__ import annotations

from kdlab.losses.base import Method, cross_entropy_rows
from kdlab.registry import register


@register("ce", revision=1, knowledge="none", coupling="none", needs=())
class CE(Method):
    """Cross-entropy with the hard labels; no teacher.

    ``L = mean_i CE(s_i, y_i)``
    """

    def rows(self, student, teacher, batch):
        return {"ce": cross_entropy_rows(student.logits, batch)}
