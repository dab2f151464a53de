"""Which test images a finished run answers right. Imports no torch."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from kdlab import data
from kdlab.errors import SpecError
from kdlab.lab.damage import Damaged
from kdlab.lab.store import Store


def right_of(key: str, store: Store | None = None) -> np.ndarray | None:
    """Which test images a finished run answers right.

    Args:
        key: of the run.
        store: None takes the default store.

    Returns:
        bool (N,); None where the run is not here or damaged, has diverged, or its data are gone or have changed since.
    """
    store = store or Store()
    try:
        return _read(store.root, key) if store.has(key) else None
    except (Damaged, SpecError, KeyError):
        return None


@functools.lru_cache(maxsize=1024)
def _read(root: Path, key: str) -> np.ndarray | None:
    store = Store(root)
    saved = store.read(key, "spec")
    name, digest = saved["spec"]["data"], saved["normal"]["data"]
    if store.read(key, "result")["diverged"] or data.fingerprint(name) != digest:
        return None
    chosen = store.logits(key)["test"].argmax(1)
    return chosen == _labels(name, digest)[: len(chosen)]


@functools.lru_cache(maxsize=8)
def _labels(name: str, fingerprint: str) -> np.ndarray:
    return data.describe(name).labels["test"]
