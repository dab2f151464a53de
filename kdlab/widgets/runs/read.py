"""The finished runs of a store, each read once a process, with the names of the arms they form."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kdlab import lab
from kdlab.store import Store
from kdlab.widgets.runs.arms import arm_names, run_facts

_READ: dict[Path, dict[str, tuple[dict, dict]]] = {}
_READING = threading.Lock()


class Runs(NamedTuple):
    """What a store holds.

    Args:
        table: as ``lab.table``, with a column ``arm``, the arm's name.
        facts: everything but the seed that decided a run, by key.
        unreadable: key to the reason why a run is not in the table.
    """

    table: pd.DataFrame
    facts: dict[str, dict[str, Any]]
    unreadable: dict[str, str]


def read(store: Store) -> Runs:
    """All finished runs; a finished run never changes, so each is read once a process, and a damaged one every time.

    Args:
        store: where they live.
    """
    with _READING:
        known = _READ.setdefault(store.root.absolute(), {})
        keys = store.keys()
        for gone in set(known) - set(keys):
            del known[gone]
        unreadable = _read([k for k in keys if k not in known], store, known)
        kept = {k: known[k] for k in keys if k in known}
    facts = {k: told for k, (_, told) in kept.items()}
    table = pd.DataFrame([row for row, _ in kept.values()], index=pd.Index(list(kept), name="key"))
    return Runs(table.assign(arm=list(arm_names(facts).values())), facts, unreadable)


class _Part(Store):
    """Some runs of a store."""

    def __init__(self, store: Store, keys: list[str]):
        super().__init__(store.root)
        self.some = keys

    def keys(self) -> list[str]:
        return self.some


def _read(keys: list[str], store: Store, known: dict) -> dict[str, str]:
    """Put rows and facts into ``known``; halving finds the runs whose files cannot be read, and these are returned."""
    if not keys:
        return {}
    try:
        rows = lab.table(store=_Part(store, keys)).to_dict("records")
        told = [run_facts(store.read(k, "spec")) for k in keys]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if len(keys) == 1:
            return {keys[0]: f"{type(error).__name__}: {error}"}
        half = len(keys) // 2
        return _read(keys[:half], store, known) | _read(keys[half:], store, known)
    known.update(zip(keys, zip(rows, told, strict=True), strict=True))
    return {}
