"""What a linear model reaches on a data set, fitted once and kept beside the runs. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import platform
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from kdlab import data
from kdlab.errors import SpecError
from kdlab.lab import sources
from kdlab.lab.damage import Damaged
from kdlab.lab.store import Store

LEVEL = 0.01  # of the test that a fit is above chance
LOOK_EVERY = 0.2  # seconds between two looks at whether another process has finished the fit
_fitting = threading.Lock()  # leases keep processes apart, this the threads of one


def linear(name: str, sizes: Sequence[int] | None = None, store: Store | None = None) -> dict[str, Any]:
    """Softmax regression on the pixels of a data set, as the bar that a network must clear; see ``metrics.linear.fit``.

    It is found in the store by the data's fingerprint, the sizes and the fit's own revision. What is not there is
    fitted in seconds, on at most 10,000 training images, and kept; a process that finds another one fitting waits.

    Args:
        name: a data set, as in ``data.load``.
        sizes: (train, val, test) images kept, or None for all.
        store: None takes the default store.

    Returns:
        ``val_accuracy`` and ``test_accuracy`` in percent, ``val_nll``, ``test_nll``, ``val_ece`` and ``test_ece`` as in
        the table of runs; ``val_share`` and ``test_share``, the largest class's share in percent; ``above_chance``,
        whether val is answered better than by always naming that class (``metrics.chance_p`` below 1 %); ``images``
        used, ``penalty``, ``seconds`` and ``environment``.

    Raises:
        SpecError: for data that cannot be read, sizes that they cannot fill, or a disk that refuses.
    """
    store, key = store or Store(), linear_key(name, sizes)
    place, lease = f".linear/{key}", f"linear-{key}"
    with _fitting:
        while (found := store.get(place)) is None:
            if not store.claim(lease):
                time.sleep(LOOK_EVERY)
                continue
            try:
                if store.get(place) is None:  # it may have come between the look and the claim
                    store.put(place, _fit(name, sizes))
            finally:
                store.release([lease])
    return found


def fitted(name: str, sizes: Sequence[int] | None = None, store: Store | None = None) -> dict[str, Any] | None:
    """What ``linear`` would give if that needs no fit, else None."""
    return (store or Store()).get(f".linear/{linear_key(name, sizes)}")


def bar(name: str, sizes: Sequence[int] | None = None, store: Store | None = None, fit: bool = True) -> dict[str, Any]:
    """What ``linear`` gives and ``val_images``, how many there are: what ``stats.health`` holds runs against.

    Args:
        name, sizes, store: as in ``linear``.
        fit: False gives an empty dictionary where nothing has been fitted yet.
    """
    found = linear(name, sizes, store) if fit else fitted(name, sizes, store)
    return {} if found is None else found | {"val_images": data.sizes(name, sizes)[1]}


def bar_of(key: str, store: Store) -> dict[str, Any]:
    """``bar`` for the data of a finished run, where it needs no fit; empty where the data are gone or have changed."""
    try:
        row = sources.found(key, store)
        saved = row.spec if row else store.read(key, "spec")
        name, sizes = saved["spec"]["data"], saved["spec"]["sizes"]
        return bar(name, sizes, store, fit=False) if data.fingerprint(name) == saved["normal"]["data"] else {}
    except (Damaged, SpecError, KeyError):
        return {}


def linear_key(name: str, sizes: Sequence[int] | None = None) -> str:
    """The address of a fit: 16 hexadecimal digits of the hash of what decides it."""
    from kdlab.metrics.linear import REVISION

    decides = {"linear": REVISION, "data": data.fingerprint(name), "sizes": list(data.sizes(name, sizes))}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _fit(name: str, sizes: Sequence[int] | None) -> dict[str, Any]:
    from kdlab import metrics
    from kdlab.metrics.linear import capped_rows, fit

    started = time.perf_counter()
    source, counts = data.describe(name), dict(zip(data.SPLITS, data.sizes(name, sizes), strict=True))
    for split, count in counts.items():
        if not 1 <= count <= len(source.labels[split]):
            raise SpecError(f"sizes: {split} must be between 1 and {len(source.labels[split])}, but got {count}.")
    labels = {split: source.labels[split][:count] for split, count in counts.items()}
    rows = capped_rows(labels["train"])
    model = fit(source.take("train", rows), labels["train"][rows], len(source.classes))
    numbers: dict[str, Any] = {"images": len(rows), "penalty": model.penalty}
    for split in ("val", "test"):
        logits, truth = model.logits(source.pixels(split, counts[split])), labels[split]
        numbers |= {
            f"{split}_accuracy": 100 * metrics.accuracy(logits, truth),
            f"{split}_nll": metrics.nll(logits, truth),
            f"{split}_ece": metrics.calibration_error(logits, truth),
            f"{split}_share": 100 * float(np.bincount(truth).max()) / len(truth),
        }
    right = round(numbers["val_accuracy"] / 100 * counts["val"])
    numbers["above_chance"] = metrics.chance_p(right, counts["val"], numbers["val_share"] / 100) < LEVEL
    return numbers | {"seconds": round(time.perf_counter() - started, 3), "environment": _environment()}


def _environment() -> dict[str, str]:
    """What a fit was computed with; the digest covers what can change numbers."""
    numbers = {
        "python": platform.python_version(), "numpy": version("numpy"), "scipy": version("scipy"),
        "machine": platform.machine(), "cpu": platform.processor(),
    }  # fmt: skip
    return numbers | {"digest": hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:8]}
