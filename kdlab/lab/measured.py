"""Numbers that are measured of finished runs afterwards, from their networks: ``out/runs/.measured/KEY.json``.

A run is whole without them. In a table, and in the run's row of the ledger, they are columns ``MEASURE.number``, beside
``MEASURE.revision``. They come from forward passes, so another processor may give other last digits.
"""

from __future__ import annotations

import concurrent.futures as futures
import importlib
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kdlab.lab.keys import run_key
from kdlab.lab.ledger import remeasured
from kdlab.lab.processes import foreign_here, measuring
from kdlab.lab.rows import table
from kdlab.lab.running import run
from kdlab.lab.store import MissingRuns, Store
from kdlab.spec import RunSpec

# Of each measure a number to raise when what it computes changes: numbers of an earlier one count as not there.
REVISIONS = {"external": 1, "fidelity": 1, "sharpness": 1, "views": 1}
DIGITS = 6  # significant ones that are kept


def whole(found: pd.DataFrame, names: Iterable[str]) -> bool:
    """Whether every run of a table has the numbers of some measures.

    Args:
        found: from ``kdlab.lab.table``.
        names: keys of ``REVISIONS``.
    """
    columns = {f"{name}.revision": REVISIONS[name] for name in names}
    return all(name in found and found[name].eq(revision).all() for name, revision in columns.items())


def own_columns(found: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """A table without the numbers of other measures than these."""
    wanted = {*names}
    return found[[column for column in found if "." not in column or column.partition(".")[0] in wanted]]


def measure(
    *groups: Sequence[RunSpec], names: Sequence[str], store: Store | None = None, workers: int | None = None,
    **options: Any,
) -> None:  # fmt: skip
    """Measure what is lacking of some runs; those that are rows of the ledger without these numbers are trained.

    Args:
        *groups: as ``kdlab.lab.run`` takes them; these runs are finished.
        names: keys of ``REVISIONS``.
        store: None takes the default store.
        workers: processes; 0 measures in this one, None takes one per core.
        **options: of ``kdlab.lab.run``, where something is trained.

    Raises:
        SpecError: when a network cannot be loaded, or the disk refuses.
    """
    store, specs = store or Store(), [spec for group in groups for spec in group]
    if _done(specs, names, store):
        return
    run(*groups, store=store, workers=workers, **options)
    seeds: dict[int, list[RunSpec]] = {}  # one after another, since the runs of a seed share images and teachers
    for spec in dict.fromkeys(specs):
        if not _measured(spec, names, store):
            seeds.setdefault(spec.seed, []).append(spec)
    number = min(os.cpu_count() or 1 if workers is None else workers, len(seeds))
    if number < 2 or foreign_here(specs):
        for own in seeds.values():
            _measure_all(own, names, store.root)
        return
    with measuring(number) as pool:
        started = [pool.submit(_measure_all, own, names, store.root) for own in seeds.values()]
        for future in futures.as_completed(started):
            future.result()


def lacking(specs: Sequence[RunSpec], names: Sequence[str], store: Store | None = None) -> str:
    """A sentence on what ``measure`` would do; empty where nothing is lacking.

    Args:
        specs: finished or not.
        names: keys of ``REVISIONS``.
        store: None takes the default store.
    """
    store = store or Store()
    if not names or _done(specs, names, store):
        return ""
    there = sum(store.has(run_key(spec)) and _measured(spec, names, store) for spec in specs)
    return (
        f"{len(specs) - there} of {len(specs)} runs are measured afterwards ({', '.join(names)}), from their weights: "
        "rows of the ledger without these numbers are trained"
    )


def _done(specs: Sequence[RunSpec], names: Sequence[str], store: Store) -> bool:
    try:
        return whole(table(specs, store), names)
    except MissingRuns:
        return False


def _measured(spec: RunSpec, names: Sequence[str], store: Store) -> bool:
    return whole(pd.DataFrame([store.measured(run_key(spec))]), names)


def _measure_all(specs: Sequence[RunSpec], names: Sequence[str], root: Path) -> None:
    for spec in specs:
        _measure(spec, names, Store(root))


def _measure(spec: RunSpec, names: Sequence[str], store: Store) -> None:
    key = run_key(spec)
    kept = store.measured(key)
    for name in names:
        if kept.get(f"{name}.revision") != REVISIONS[name]:
            diverged = store.read(key, "result")["diverged"]
            found = {} if diverged else importlib.import_module(f"kdlab.lab.{name}").measured(spec, store)
            own = {f"{name}.{what}": _short(value) for what, value in found.items()}
            kept = remeasured(kept, f"{name}.", {f"{name}.revision": REVISIONS[name]} | own)
            store.keep_measured(key, kept)


def _short(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
