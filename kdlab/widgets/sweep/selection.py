"""The selection of the budget explorer: which runs there are, what is held fixed, and the points on the axis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdlab.errors import SpecError, choose
from kdlab.lab.sources import STORE
from kdlab.lab.store import Store
from kdlab.paths import CHECKOUT
from kdlab.perspectives import Profile, profile
from kdlab.plotting import load
from kdlab.widgets.runs.arms import ACCURACIES
from kdlab.widgets.runs.read import read
from kdlab.widgets.sweep.lines import ALIKE, UNITS, Point, alike, on_axis, points, prepared

PUBLISHED = CHECKOUT / "figures"
FILES = ("ratio_sweep-shares.json", "few_shot-fractions.json")
AXES = {"ratio": "augmented rows (%)", "shots": "training images (%)", "budget": "budget"}
ALL = "all"
CLEAR_LINES, MOST_LINES = 8, 10
NEEDED = ("key", "data", "fraction", "seed", "replicate", "student", "teacher", "method", "augmentation", "views",
          "ratio", "budget_amount", "budget_unit", "steps", "student_images", "teacher_forwards", "test_accuracy",
          "val_accuracy", "diverged")  # fmt: skip


class Selection(NamedTuple):
    """A selection.

    Args:
        rows: runs of the chosen student, method and augmentation.
        fixed: value of ``ratio``, ``shots`` and ``budget``; the one on the axis is not used.
        points: of the lines that are shown.
        lines: their names, in order.
        more: lines left out since there are too many.
        twice: runs left out since another one of their seed stands for the same point.
    """

    rows: pd.DataFrame
    fixed: dict[str, float]
    points: list[Point]
    lines: list[str]
    more: int
    twice: int


# ---- sources ---------------------------------------------------------------------------------------------------------


def published() -> pd.DataFrame:
    """The runs behind two published figures; empty where the figures are not installed."""
    paths = [PUBLISHED / name for name in FILES]
    if not all(path.exists() for path in paths):
        return pd.DataFrame()
    return prepared(pd.concat([load(path)[0] for path in paths]).drop(columns="arm"))


def published_profile() -> Profile:
    """The profile that the published figures were made in."""
    meta = load(PUBLISHED / FILES[0])[1]["meta"]
    return profile(meta["profile"], **meta["overrides"])


def stored(store: Store, own: bool = False) -> pd.DataFrame:
    """The finished runs of a store, and with them, unless only its own are asked for, those of the ledger."""
    runs = read(store)
    table = runs.table[runs.table["source"] == STORE] if own and len(runs.table) else runs.table
    return prepared(table, runs.facts) if len(table) else table


def given(source: pd.DataFrame, store: Store) -> pd.DataFrame:
    """A table that a person has handed over; what the store knows of its runs keeps their arms apart.

    Raises:
        SpecError: when a column of ``lab.table`` is missing.
    """
    table = source.reset_index() if source.index.name == "key" else source
    for column in NEEDED:
        if column not in table:
            raise SpecError(f"source must have the columns of kdlab.lab.table, but it has no {column!r}.")
    return prepared(table, read(store).facts) if len(table) else table


def is_sweep(table: pd.DataFrame) -> bool:
    """Whether some line has two places of two seeds each, other things being equal."""
    if table.empty:
        return False
    seeds = table.groupby(["where", "line", "ratio", "shots", "steps"])["seed"].nunique().reset_index()
    enough = seeds[seeds["seed"] > 1]
    held = {"ratio": ["shots", "steps"], "shots": ["ratio"], "steps": ["ratio", "shots"]}  # fewer images, fewer steps
    return any(enough.groupby(["where", "line", *names]).size().max() > 1 for names in held.values() if len(enough))


# ---- selection -------------------------------------------------------------------------------------------------------


def students(table: pd.DataFrame) -> list[str]:
    """Pairs of data and student, most distilled runs first: a teacher's own runs are a student's too."""
    runs = table.groupby("where").agg(taught=("teacher", "count"), every=("where", "size"))
    return list(runs.sort_values(["taught", "every"], ascending=False).index)


def selected(table: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Runs of the chosen student, method and augmentation; those without augmentation always stay beside it.

    Raises:
        SpecError: for a value that no run has.
    """
    for name, known in (("x", AXES), ("unit", UNITS), ("metric", ACCURACIES)):
        choose(name, settings[name], known)
    there = students(table)
    where = there[0] if settings["where"] is None else choose("where", settings["where"], there)
    rows = table[table["where"] == where]
    rows = rows.assign(budget=alike(rows[settings["unit"]].astype(float)))
    for name in ("method", "augmentation"):
        known = [ALL, *sorted(table.loc[table["where"] == where, name].unique())]
        value = shown_method(rows) if settings[name] is None else choose(name, settings[name], known)
        if value != ALL:
            rows = rows[(rows[name] == value) | ((name == "augmentation") & ~rows["augmented"])]
    return rows


def shown_method(rows: pd.DataFrame) -> str:
    """Which method is shown where none is set: all of them, but for KD alone where lines would be too many."""
    return "kd" if rows["line"].nunique() > CLEAR_LINES and "kd" in set(rows["method"]) else ALL


def options(rows: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, list[float]]:
    """Values that exist of ratio, shots and budget; of the budget only those at the shots that are held.

    Args:
        rows: from ``selected``.
        settings: of the explorer.
    """
    there = {name: values(rows[name]) for name in ("ratio", "shots")}
    known = settings["shots"] is None or near(settings["shots"], there["shots"])
    if settings["x"] != "shots" and known:
        rows = rows[np.isclose(rows["shots"], held("shots", rows, there["shots"], settings))]
    return there | {"budget": values(rows["budget"])}


def held(name: str, rows: pd.DataFrame, there: list[float], settings: Mapping[str, Any]) -> float:
    """The value of a dimension that is held: what is set, else half, all, or what most runs have.

    Raises:
        SpecError: for a value that no run has.
    """
    if (asked := settings[name]) is not None:
        found = near(asked, there)
        return found[0] if found else choose(name, asked, [float(f"{value:.4g}") for value in there])
    usual, common = {"ratio": 50.0, "shots": 100.0}.get(name), rows.loc[rows[name].isin(there), name].mode()
    return usual if usual in there else float(common.max()) if len(common) else np.nan


def near(asked: Any, there: Iterable[float]) -> list[float]:
    """The values that are what is asked for, as nearly as budgets of whole steps can be."""
    return [v for v in there if math.isclose(v, asked, rel_tol=ALIKE)] if isinstance(asked, int | float) else []


def select(table: pd.DataFrame, settings: Mapping[str, Any]) -> Selection | None:
    """What the settings select; None where there is no run at all.

    Args:
        table: from one of the sources.
        settings: of the explorer.

    Raises:
        SpecError: for a value that no run has.
    """
    if table.empty:
        return None
    rows = selected(table, settings)
    if rows.empty:
        return Selection(rows, {}, [], [], 0, 0)
    there = options(rows, settings)
    fixed = {name: held(name, rows, there[name], settings) for name in there}
    found, twice = points(on_axis(rows, settings["x"], fixed), settings["metric"])
    lines = [line for line, _ in Counter(p.line for p in found).most_common()]
    kept = sorted(lines[:MOST_LINES], key=lambda line: (not line.startswith("kd "), line))
    return Selection(rows, fixed, [p for p in found if p.line in kept], kept, len(lines) - len(kept), twice)


def values(column: pd.Series) -> list[float]:
    """What there is, in ascending order."""
    return sorted(float(value) for value in column.dropna().unique())
