"""Which test images the runs of a table answer right, for comparisons image by image. Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from kdlab.errors import SpecError
from kdlab.lab import answers, sources
from kdlab.lab.store import Store


def right_of(key: str, store: Store | None = None, environment: str | None = None) -> np.ndarray | None:
    """Which test images a finished run answers right.

    Args:
        key: of the run.
        store: None takes the default store.
        environment: as in the table's column; None takes the store's run where there is one, else the ledger's.

    Returns:
        bool (N,); None where the run is not here or damaged, has diverged, or its data are gone or have changed since.
    """
    store = store or Store()
    try:
        row = sources.found(key, store, environment)
        if row is not None:
            return None if row.result["diverged"] else row.right()
        return _read(store.root, key)
    except (SpecError, KeyError):
        return None


def right_in(table: pd.DataFrame, store: Store | None = None) -> Callable[[str], np.ndarray | None]:
    """``right_of`` for the runs of a table, each of the environment that its row names.

    Args:
        table: runs, indexed by key or with a column ``key``.
        store: None takes the default store.
    """
    table = table.reset_index() if table.index.name == "key" else table
    there = {"key", "environment"} <= set(table)
    places = dict(zip(table["key"], table["environment"], strict=True)) if there else {}
    return lambda key: right_of(key, store, places.get(key))


@functools.lru_cache(maxsize=1024)
def _read(root: Path, key: str) -> np.ndarray | None:
    store = Store(root)
    return None if store.read(key, "result")["diverged"] else answers.right(store, key)
