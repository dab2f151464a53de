"""Which images a finished run answers right, from its logits and the labels of the data. Imports no torch."""

from __future__ import annotations

import functools

import numpy as np

from kdlab import data
from kdlab.errors import SpecError
from kdlab.lab import damage
from kdlab.lab.store import Store


@functools.lru_cache(maxsize=16)
def truth(name: str, digest: str, split: str, rows: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels of the first ``rows`` images of a split, and class names, without decoding an image.

    Args:
        name: of the data.
        digest: their fingerprint when the run was made.
        split: ``"train"``, ``"val"`` or ``"test"``.
        rows: images that were answered.

    Raises:
        SpecError: when the data are gone, or are not those that the run was made with.
    """
    if data.fingerprint(name) != digest:
        raise SpecError(f"The files of data {name!r} have changed since this run, so its labels are not known.")
    source = data.describe(name)
    return source.labels[split][:rows], source.classes


def right(store: Store, key: str) -> np.ndarray:
    """Whether each test image is answered right by a finished run, bool (N,); by a diverged one none is.

    Args:
        store: where the run is.
        key: of the run.

    Raises:
        Damaged: when its files cannot be read.
        SpecError: when its data are gone, or have changed.
    """
    saved, result, _ = store.documents(key)
    logits = store.logits(key)["test"]
    with damage.reading(key, "spec.json"):
        labels, _ = truth(saved["spec"]["data"], saved["normal"]["data"], "test", len(logits))
    if result.get("diverged"):
        return np.zeros(len(logits), bool)
    return logits.argmax(1) == labels
