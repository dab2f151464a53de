"""Runs as lines over the share of augmented rows, the share of images, or the budget, by method and policy."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdlab import stats
from kdlab.widgets.runs.arms import COSTS, arm_key, row_facts, unusual, usual_values, view_name

UNITS = {"epochs": "epochs", "student_images": "student images", "steps": "steps"}
ALIKE = 0.01  # budgets that differ by less are one: a number of steps is whole
DIMENSIONS = ("fraction", "budget", "steps", "ratio", "augmentation", "hard_labels", "what")

KEPT = ("where", "line", "base", "augmented", "ratio", "shots", "epochs", "student_images", "teacher_forwards", "steps",
        "seed", "method", "augmentation", "views", "teacher", "test_accuracy", "val_accuracy", "diverged")  # fmt: skip


class Point(NamedTuple):
    """A place on a line and the runs behind it.

    Args:
        line: its name.
        x: in the axis's own units.
        mean: with its t-interval over the seeds that finished.
        runs: the table's rows by seed, as dicts with their ``key``.
        metric: the accuracy that the mean is of.
    """

    line: str
    x: float
    mean: stats.Interval
    runs: tuple[dict[str, Any], ...]
    metric: str

    @property
    def seeds(self) -> list[int]:
        """Of all runs."""
        return [run["seed"] for run in self.runs]

    @property
    def diverged(self) -> list[int]:
        """Seeds that did not finish."""
        return [run["seed"] for run in self.runs if run["diverged"]]

    @property
    def accuracies(self) -> dict[int, float]:
        """The metric by seed, NaN for a run that diverged."""
        return {run["seed"]: math.nan if run["diverged"] else run[self.metric] for run in self.runs}

    def cost(self, name: str) -> float:
        """Median over the runs of ``"student_images"``, ``"teacher_forwards"`` or ``"steps"``."""
        return statistics.median(run[name] for run in self.runs)


def prepared(table: pd.DataFrame, facts: Mapping[str, Mapping[str, Any]] | None = None) -> pd.DataFrame:
    """Runs with what makes lines of them.

    Args:
        table: as ``lab.table``, indexed by key or with a column ``key``.
        facts: of the runs whose specs are at hand, by key; the others are known by their columns.

    Returns:
        Some columns of the table, with ``where`` (data and student), ``base`` (what decides a run but for its policy
        and ``DIMENSIONS``), ``line`` (a name for base and policy), ``augmented``, ``ratio`` and ``shots`` in percent,
        and ``epochs``.
    """
    table = table.reset_index() if table.index.name == "key" else table
    table = table.drop_duplicates("key").set_index("key")
    records = zip(table.index, table.to_dict("records"), strict=True)
    by_key = {key: (facts or {}).get(key) or row_facts(row) for key, row in records}
    augmented = table["augmentation"].ne("weak") & table["ratio"].gt(0)
    policy = [arm_key(_policy(by_key[key])) if more else "" for key, more in zip(table.index, augmented, strict=True)]
    rows = table.assign(
        where=table["data"] + ", " + table["student"], policy=policy,
        shots=(100 * table["fraction"].astype(float)).round(6),
        ratio=(100 * table["ratio"].astype(float).where(augmented, 0.0)).round(6), augmented=augmented,
        base=[arm_key(_base(by_key[key])) for key in table.index],
        originals=[by_key[key]["originals_per_step"] for key in table.index],
    )  # fmt: skip
    rows["epochs"] = _epochs(rows)
    return rows.assign(line=_line_names(rows, by_key))[list(KEPT)]


def _base(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in facts.items() if k not in DIMENSIONS and not k.startswith("augmentation_options.")}


def _epochs(rows: pd.DataFrame) -> pd.Series:
    """Passes over the run's own training images; other units are converted by runs that count in epochs."""
    seen = rows["steps"] * rows["originals"]
    own = rows["budget_unit"] == "epochs"
    size = seen[own] / rows.loc[own, "budget_amount"].astype(float)
    by_share = size.groupby([rows.loc[own, "data"], rows.loc[own, "shots"]]).median()
    whole = (size / rows.loc[own, "shots"] * 100).groupby(rows.loc[own, "data"]).median()
    where = zip(rows["data"], rows["shots"], strict=True)
    sizes = [by_share.get(at, whole.get(at[0], np.nan) * at[1] / 100) for at in where]
    return (seen / np.array(sizes, float)).where(~own, rows["budget_amount"].astype(float))


def _line_names(rows: pd.DataFrame, by_key: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A name for each pair of base and policy: method, policy and views, and what else is unusual about it."""
    first = {(base, policy): key for base, policy, key in zip(rows["base"], rows["policy"], rows.index, strict=True)}
    usual = usual_values(_base(by_key[key]) | _policy(by_key[key]) for key in first.values())
    names = {}
    for line, key in first.items():
        row, facts = rows.loc[key], _base(by_key[key]) | _policy(by_key[key])
        view = view_name(row["augmentation"] if line[1] else "weak", row["views"], 0.5 if line[1] else 0.0)
        view = f"{row['augmentation']}, {row['views']} views" if "%" in view else view
        names[line] = ", ".join([f"{row['method']} {view}", *unusual(facts, usual)])
    taken = Counter(names.values())
    unique = {line: n if taken[n] == 1 else f"{n} ({first[line][:8]})" for line, n in names.items()}
    return [unique[line] for line in zip(rows["base"], rows["policy"], strict=True)]


def _policy(facts: Mapping[str, Any]) -> dict[str, Any]:
    own = ("augmentation", "hard_labels")
    return {k: v for k, v in facts.items() if k in own or k.startswith("augmentation_options.")}


def alike(values: pd.Series) -> pd.Series:
    """Values with those within ``ALIKE`` of each other made one, the most frequent of them."""
    counts = values.dropna().value_counts().sort_index()
    groups = (counts.index.to_series().pct_change() > ALIKE).cumsum().to_numpy()
    common = {value: part.idxmax() for _, part in counts.groupby(groups) for value in part.index}
    return values.map(common)


def on_axis(rows: pd.DataFrame, x: str, fixed: Mapping[str, float]) -> list[dict[str, Any]]:
    """The runs of each line over an axis.

    Lines without augmentation stay, whatever the ratio: they are what augmented ones are compared with. Over the ratio
    they are the beginning of each line that differs from them in its policy alone.

    Args:
        rows: from ``prepared``, with a column ``budget``.
        x: ``"ratio"``, ``"shots"`` or ``"budget"``.
        fixed: value of each of the other two.

    Returns:
        Rows with their ``key`` and ``x``; a run that begins several lines is there once for each.
    """
    for name in ("shots", "budget"):
        if name != x:
            rows = rows[np.isclose(rows[name], fixed[name])]
    records = [row | {"x": row[x]} for row in rows.reset_index().to_dict("records")]
    if x != "ratio":
        return [row for row in records if not row["augmented"] or math.isclose(row["ratio"], fixed["ratio"])]
    lines: dict[str, set[str]] = {}
    for row in records:
        if row["augmented"]:
            lines.setdefault(row["base"], set()).add(row["line"])
    made = [row for row in records if row["augmented"] or row["base"] not in lines]
    plain = [row for row in records if not row["augmented"]]
    return made + [row | {"line": line} for row in plain for line in sorted(lines.get(row["base"], ()))]


def points(rows: Sequence[dict[str, Any]], metric: str) -> tuple[list[Point], int]:
    """Means and intervals by line and x.

    Args:
        rows: from ``on_axis``.
        metric: the accuracy.

    Returns:
        The points in order of line and x, and how many runs were left out since another one of the same seed stands for
        the same point.
    """
    groups: dict[tuple[str, float], dict[int, dict]] = {}
    for row in sorted(rows, key=lambda row: (row["line"], row["x"], row["seed"], row["key"])):
        groups.setdefault((row["line"], row["x"]), {}).setdefault(row["seed"], row)
    made = []
    for (line, x), runs in groups.items():
        mean = stats.interval(run[metric] for run in runs.values() if not run["diverged"])
        made.append(Point(line, float(x), mean, tuple(runs.values()), metric))
    return made, len(rows) - sum(len(point.runs) for point in made)


def cost_text(point: Point) -> str:
    """``59,520 student images, 59,520 teacher forwards, 465 steps``, medians over the runs."""
    return ", ".join(f"{point.cost(name):,.0f} {text}" for name, text in COSTS.items())


def seeds_text(seeds: Sequence[int]) -> str:
    """``0 to 5`` or ``0, 2, 5``."""
    seeds = sorted(map(int, seeds))
    gapless = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if gapless else ", ".join(map(str, seeds))
