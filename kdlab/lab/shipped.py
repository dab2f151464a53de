"""The pair that explorers look through before anything is trained here: two finished runs that come with the package.

``pair/<key>/`` are run folders like those of a store, with the logits of val alone. They are opened by key, so that a
regime, a revision or data that have changed since find nothing, and what is needed is trained. They take no part in
tables and figures: those have the runs of the store and the rows of the ledger.

    python -c "from kdlab.lab import shipped; shipped.ship(KEYS)"     # anew, from the default store
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from kdlab.lab.damage import Damaged
from kdlab.lab.store import NEEDED, MissingRuns, Store

PLACE = Path(__file__).with_name("pair")


def shipped(keys: Iterable[str]) -> Store | None:
    """The store of shipped runs where it has all of these, and can read them; else None.

    Args:
        keys: of finished runs.
    """
    store, keys = Store(PLACE), list(keys)
    try:
        whole = all(store.has(key) and not store.damaged(key) for key in keys)
    except Damaged:
        return None
    return store if whole else None


def ship(keys: Iterable[str], store: Store | None = None, place: Path = PLACE) -> None:
    """Replace the shipped runs by finished ones of a store.

    Args:
        keys: of the teacher's run and the student's.
        store: None takes the default store.
        place: the folder of shipped runs.

    Raises:
        MissingRuns: when a run is not in the store.
        Damaged: when one of its files cannot be read.
    """
    store, keys = store or Store(), list(keys)
    if missing := [key for key in keys if not store.has(key)]:
        raise MissingRuns(f"run {missing[0]} is not in the store {store.root}.")
    found = {}
    for key in keys:
        documents = dict(zip(NEEDED, store.documents(key), strict=True))
        parts = {part: store.weights(key, part) for part in ("student", "method")}
        found[key] = documents, parts | {"logits": {"val": store.logits(key)["val"]}}
    shutil.rmtree(place, ignore_errors=True)
    for key, (documents, tensors) in found.items():
        Store(place).write(key, documents, tensors)
    for folder in (".building", ".checkpoints", ".leases"):
        shutil.rmtree(place / folder, ignore_errors=True)
