"""Finished runs as a table, one row each. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from kdlab.lab import damage, teachers
from kdlab.lab.damage import Damaged
from kdlab.lab.keys import run_key
from kdlab.lab.store import MissingRuns, Store
from kdlab.memo import plan_memo
from kdlab.spec import RunSpec


def table(specs: Sequence[RunSpec] | None = None, store: Store | None = None) -> pd.DataFrame:
    """Finished runs as a table, one row each, indexed by key; never trains and imports no torch.

    A run whose files are damaged is set aside and counts as not trained.

    Args:
        specs: the runs wanted, in this order; None takes everything in the store.
        store: None takes the default store.

    Raises:
        MissingRuns: when a wanted run is not in the store.
    """
    store = store or Store()
    keys = store.keys() if specs is None else keys_of(specs)
    while specs is None:
        try:
            return rows(store, keys)
        except Damaged as error:
            store.set_aside(error)
            keys = [key for key in keys if key != error.key]
    for key in keys:
        if store.has(key):
            store.sound(key)
    return rows(store, keys)


def keys_of(specs: Sequence[RunSpec]) -> list[str]:
    """The keys of specs, each once, in their order."""
    with plan_memo():
        return list(dict.fromkeys(map(run_key, specs)))


def rows(store: Store, keys: list[str]) -> pd.DataFrame:
    """The table of some finished runs.

    Raises:
        MissingRuns: when one of them is not in the store.
    """
    absent = [k for k in keys if not store.has(k)]
    if absent:
        raise MissingRuns(
            f"{len(absent)} of {len(keys)} runs are not in the store {store.root} (first: {absent[0]}). "
            "`kdlab figures` or `kdlab.lab.run(specs)` trains them."
        )
    return pd.DataFrame([row(store, k) for k in keys], index=pd.Index(keys, name="key"))


def row(store: Store, key: str) -> dict:
    """A finished run's row of the table.

    Raises:
        Damaged: when its files cannot be read.
    """
    saved, result, made = store.documents(key)
    with damage.reading(key, "spec.json"):
        return _fields(store, saved, result, made)


def _fields(store: Store, saved: dict, result: dict, made: dict) -> dict:
    spec, teacher = saved["spec"], saved["spec"]["teacher"] or {}
    return {
        "data": spec["data"], "fraction": spec["fraction"], "seed": spec["seed"], "replicate": spec["replicate"],
        "student": spec["model"], "teacher": teacher.get("model", teacher.get("arch")),
        "teacher_key": saved["normal"].get("teacher"), "method": spec["method"], "augmentation": spec["augmentation"],
        "views": spec["views"], "ratio": spec["ratio"], "budget_amount": spec["budget"]["amount"],
        "budget_unit": spec["budget"]["unit"],
        **{k: v for k, v in result.items() if k != "curve"}, "val_rise": val_rise(result.get("curve", ())),
        **({} if "teacher_val_accuracy" in result else _taught_by(store, saved["normal"])),
        "environment": made["digest"], "revision": made["git"],
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


def _taught_by(store: Store, normal: dict) -> dict[str, float]:
    """The teacher's score for runs from before it was kept with them: of its own run, if on the same val images."""
    teacher = normal.get("teacher")
    if teacher is None or not store.has(teacher):
        return teachers.columns(None)
    other = store.read(teacher, "spec")["normal"]
    alike = "teacher" not in other and all(other[name] == normal[name] for name in ("data", "sizes"))
    return teachers.columns(store.read(teacher, "result") if alike else None)
