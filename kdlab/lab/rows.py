"""Finished runs as a table, one row each, from the store and the ledger. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from kdlab.lab import damage, sources, teachers
from kdlab.lab.damage import Damaged
from kdlab.lab.keys import run_key
from kdlab.lab.ledger import Row
from kdlab.lab.sources import LEDGER, STORE
from kdlab.lab.store import MissingRuns, Store
from kdlab.memo import plan_memo
from kdlab.spec import RunSpec


def table(specs: Sequence[RunSpec] | None = None, store: Store | None = None) -> pd.DataFrame:
    """Finished runs as a table, one row each, indexed by key; never trains and imports no torch.

    A run whose files are damaged is set aside and counts as not trained. ``source`` says whether a row is a run of the
    store or one of the ledger, by the rule of ``kdlab.lab.sources``.

    Args:
        specs: the runs wanted, in this order; None takes everything in the store, and then what only the ledger has.
        store: None takes the default store.

    Raises:
        MissingRuns: when a wanted run is neither in the store nor in the ledger, or a seed is whole in neither.
    """
    store = store or Store()
    if specs is not None:
        return tables([specs], store)
    keys, others = store.keys(), sources.elsewhere(store)
    while True:
        try:
            return rows(store, [*keys, *others], others)
        except Damaged as error:
            store.set_aside(error)
            keys, others = [key for key in keys if key != error.key], sources.elsewhere(store)


def tables(groups: Iterable[Sequence[RunSpec]], store: Store, from_ledger: bool = True) -> pd.DataFrame:
    """The table of several groups of specs, of which each has its seeds from one environment.

    Args:
        groups: of specs; a run that two ask for has the row that the first gives it.
        store: where finished runs live.
        from_ledger: take rows of the ledger, too.

    Raises:
        MissingRuns: as ``table``.
    """
    keys, taken = {}, {}
    with plan_memo():
        for group in groups:
            new = [key for key in keys_of(group) if key not in keys]
            for key in new:
                if store.has(key):
                    store.sound(key)
            found = sources.taken(group, store) if from_ledger else {}
            taken |= {key: found[key] for key in new if key in found}
            keys |= dict.fromkeys(new)
    return rows(store, list(keys), taken)


def finished(specs: Sequence[RunSpec], store: Store | None = None) -> bool:
    """Whether ``table`` has all of these runs."""
    store = store or Store()
    with plan_memo():
        lacking = [key for key in keys_of(specs) if not store.has(key)]
        return not lacking or set(lacking) <= sources.taken(specs, store).keys()


def keys_of(specs: Sequence[RunSpec]) -> list[str]:
    """The keys of specs, each once, in their order."""
    with plan_memo():
        return list(dict.fromkeys(map(run_key, specs)))


def rows(store: Store, keys: list[str], taken: Mapping[str, Row] | None = None) -> pd.DataFrame:
    """The table of some finished runs.

    Args:
        store: where they live.
        keys: of the runs, in the order of the table.
        taken: rows of the ledger by key, which come before the store's.

    Raises:
        MissingRuns: when one of them is in neither.
    """
    taken = taken or {}
    absent = [k for k in keys if k not in taken and not store.has(k)]
    if absent:
        raise MissingRuns(
            f"{len(absent)} of {len(keys)} runs are not in the store {store.root} (first: {absent[0]}). "
            "`kdlab figures` or `kdlab.lab.run(specs)` trains them."
        )
    made = [of_ledger(taken[k], store) if k in taken else row(store, k) for k in keys]
    return pd.DataFrame(made, index=pd.Index(keys, name="key"))


def row(store: Store, key: str) -> dict:
    """A finished run's row of the table.

    Raises:
        Damaged: when its files cannot be read.
    """
    saved, result, made = store.documents(key)
    with damage.reading(key, "spec.json"):
        found = result | store.measured(key)
        return _fields(store, saved, found, made["digest"], made["git"]) | {"source": STORE}


def of_ledger(row: Row, store: Store) -> dict:
    """The row of the table that a row of the ledger is.

    Args:
        row: of the ledger.
        store: which may know the teacher's score, where the row does not.
    """
    return _fields(store, row.spec, row.result, row.environment, row.revision) | {"source": LEDGER}


def _fields(store: Store, saved: Mapping, result: Mapping, environment: str, revision: str) -> dict:
    spec, teacher = saved["spec"], saved["spec"]["teacher"] or {}
    return {
        "data": spec["data"], "fraction": spec["fraction"], "seed": spec["seed"], "replicate": spec["replicate"],
        "student": spec["model"], "teacher": teacher.get("model", teacher.get("arch")),
        "teacher_key": saved["normal"].get("teacher"), "method": spec["method"], "augmentation": spec["augmentation"],
        "views": spec["views"], "ratio": spec["ratio"], "budget_amount": spec["budget"]["amount"],
        "budget_unit": spec["budget"]["unit"],
        **{k: v for k, v in result.items() if k != "curve"}, "val_rise": val_rise(result.get("curve", ())),
        **({} if "teacher_val_accuracy" in result else _taught_by(store, saved["normal"])),
        "environment": environment, "revision": revision,
    }  # fmt: skip


def val_rise(curve: Sequence[dict]) -> float:
    """Points of val accuracy that a run gained over the last quarter of its steps.

    Args:
        curve: of ``result.json``: ``step`` and ``val_accuracy``, the last point at the end.

    Returns:
        NaN where the curve has no point in the last quarter but the end, or holds no number there.
    """
    points = [(p["step"], p["val_accuracy"]) for p in curve if p.get("val_accuracy") is not None]
    before = [accuracy for step, accuracy in points[:-1] if 0.7 * points[-1][0] <= step < points[-1][0]]
    return points[-1][1] - before[0] if before else math.nan


def _taught_by(store: Store, normal: Mapping) -> dict[str, float]:
    """The teacher's score for runs from before it was kept with them: of its own run, if on the same val images."""
    teacher = normal.get("teacher")
    if teacher is None or not store.has(teacher):
        return teachers.columns(None)
    other = store.read(teacher, "spec")["normal"]
    alike = "teacher" not in other and all(other[name] == normal[name] for name in ("data", "sizes"))
    return teachers.columns(store.read(teacher, "result") if alike else None)
