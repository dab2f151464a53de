"""What answers from the store: rows that match filters, a run by the beginning of its key, a table of runs as text."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kdlab.errors import SpecError, choose
from kdlab.lab import ledger
from kdlab.lab.sources import STORE
from kdlab.lab.store import Store

SHOWN = ["arm", "student", "teacher", "method", "augmentation", "views", "ratio", "fraction", "seed", "steps",
         "student_images", "teacher_forwards", "teacher_val_accuracy", "val_accuracy", "test_accuracy",
         "diverged", "source"]  # fmt: skip


def show(table: pd.DataFrame) -> str:
    """A table of runs for the terminal; where some are from the ledger, the last column says which."""
    columns = [c for c in SHOWN if c in table and not table[c].isna().all()]
    if (table["source"] == STORE).all():
        columns.remove("source")
    return table[columns].to_string(float_format=lambda v: f"{v:.2f}")


def select(table: pd.DataFrame, where: Sequence[str]) -> pd.DataFrame:
    """Rows that match all ``column=value`` filters.

    Raises:
        SpecError: for an unknown column, with the nearest.
    """
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise SpecError(f"a filter must look like column=value, but got {condition!r}.")
        values = table[choose("column", column, table.columns)]
        numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        try:
            table = table[values == float(value) if numeric else values.astype(str).str.lower() == value.lower()]
        except ValueError:
            raise SpecError(f"column {column!r} holds numbers, but got {value!r}.") from None
    return table


def find_key(prefix: str) -> str:
    """The one finished run, of the store or of the ledger, whose key starts with ``prefix``.

    Raises:
        SpecError: when there is none, or more than one.
    """
    keys = sorted({*Store().keys(), *ledger.by_key()})
    found = [k for k in keys if k.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        raise SpecError(f"key {prefix!r} fits {len(found)} runs: {', '.join(found[:5])} ...")
    raise SpecError(f"no finished run has a key that starts with {prefix!r}; `kdlab runs` lists {len(keys)}.")
