"""The finished runs of a store and of the ledger, with the names of the arms they form."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kdlab import lab
from kdlab.data.visitors import may_see
from kdlab.lab import sources
from kdlab.lab.damage import Damaged, reading
from kdlab.lab.rows import of_ledger
from kdlab.lab.store import Store
from kdlab.widgets.runs.arms import arm_names, run_facts

_READ: dict[Path, dict[str, tuple[dict, dict]]] = {}
_LOST: dict[Path, dict[str, str]] = {}
_READING = threading.Lock()


class Runs(NamedTuple):
    """What store and ledger hold.

    Args:
        table: as ``lab.table``, with a column ``arm``, the arm's name.
        facts: everything but the seed that decided a run, by key.
        unreadable: key to the reason why a run is not in the table.
    """

    table: pd.DataFrame
    facts: dict[str, dict[str, Any]]
    unreadable: dict[str, str]


def read(store: Store) -> Runs:
    """All finished runs, and behind them the rows of the ledger whose runs the store lacks.

    A finished run never changes, so each is read once a process. A damaged one is set aside.

    Args:
        store: where they live.
    """
    with _READING:
        place = store.root.absolute()
        known, lost = _READ.setdefault(place, {}), _LOST.setdefault(place, {})
        keys = store.keys()
        for old in set(known) - set(keys):
            del known[old]
        gone: set[str] = set()
        for key in keys:
            while key not in known and key not in gone:
                lost.pop(key, None)
                try:
                    known[key] = _read(store, key)
                except Damaged as error:  # of this run, or of its teacher, whose score stands in its row
                    store.set_aside(error)
                    known.pop(error.key, None)
                    gone.add(error.key)
                    lost[error.key] = f"{error.file} {error.reason}"
        kept = {k: known[k] for k in keys if k in known}
    published = sources.elsewhere(store)
    kept |= {key: (of_ledger(row, store), run_facts(row.spec)) for key, row in published.items()}
    kept = {key: run for key, run in kept.items() if may_see(run[0]["data"])}
    facts = {k: known_facts for k, (_, known_facts) in kept.items()}
    table = pd.DataFrame([row for row, _ in kept.values()], index=pd.Index(list(kept), name="key"))
    return Runs(table.assign(arm=list(arm_names(facts).values())), facts, dict(lost))


def _read(store: Store, key: str) -> tuple[dict, dict]:
    """The row and the facts of a run.

    Raises:
        Damaged: when its files cannot be read.
    """
    row = lab.row(store, key)
    with reading(key, "spec.json"):
        return row, run_facts(store.read(key, "spec"))
