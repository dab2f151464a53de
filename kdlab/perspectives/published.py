"""Published CIFAR-100 accuracies, as they stand in ``published.csv``: shown beside ours, never mixed with them.

Columns: the paper's name of the ``method`` and our ``key`` where we have it (else empty); ``teacher`` and ``student``
as the field names them, and what each reaches alone; ``accuracy`` (top-1, percent) and its ``std`` where one is given;
the ``source`` it was read from; by which rule the epoch was picked (``selection``); and a ``note`` on what sets the row
apart: more views, a longer schedule, another teacher. Numbers of the best epoch on test and numbers of the last epoch
stand side by side in the literature; differences under 0.3 between rows are within the noise.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kdlab.errors import choose

PATH = Path(__file__).with_suffix(".csv")
TEXTS = ("method", "key", "teacher", "student", "source", "selection", "note")


def published(teacher: str, student: str, teacher_accuracy: float | None = None) -> pd.DataFrame:
    """The published rows of one pair of networks, all with the same teacher.

    A teacher is the same when its network and its own accuracy are: papers that trained a better one are another group.

    Args:
        teacher: the field's name, for example ``"resnet32x4"``.
        student: likewise.
        teacher_accuracy: which group, in percent; None takes the one with the most rows.

    Returns:
        One row per number, in the order of the file; no rows for an unpublished pair.

    Raises:
        SpecError: for a teacher's accuracy that has no rows.
    """
    blank = {"student_accuracy": "", "std": ""}
    table = pd.read_csv(PATH, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=blank)
    pair = table[(table["teacher"] == teacher) & (table["student"] == student)]
    if pair.empty:
        return pair
    groups = pair["teacher_accuracy"].value_counts()
    chosen = groups.index[0] if teacher_accuracy is None else choose("teacher_accuracy", teacher_accuracy, groups.index)
    return pair[pair["teacher_accuracy"] == chosen].reset_index(drop=True)
