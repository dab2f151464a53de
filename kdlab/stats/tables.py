"""Paired arithmetic on the table of runs: one row per run, columns ``arm``, ``seed`` and one per metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from kdlab.errors import SpecError, choose
from kdlab.stats.inference import interval

COSTS = ["student_images", "teacher_forwards", "steps", "seconds"]


def paired_differences(
    table: pd.DataFrame, weights: Mapping[str, float], metric: str = "test_accuracy"
) -> tuple[pd.Series, tuple[str, ...]]:
    """One number per seed, ``sum_a weights[a] * metric[a, seed]``, over the seeds that have every arm.

    Args:
        table: runs; ``diverged`` (bool) and ``environment`` (str) are used where they exist.
        weights: arm to coefficient.
        metric: the column to compare.

    Returns:
        The numbers indexed by seed in ascending order, and flags that say what a reader must know: rows left
        out because they diverged or have no partner, and pairs from different environments.

    Raises:
        SpecError: for an arm or metric that the table lacks, or two rows of one arm and seed.
    """
    if metric == "seed" or metric not in table or not _is_number(table[metric].dtype):
        choose("metric", metric, [c for c in table.select_dtypes("number") if c != "seed"])
    rows = table[table["arm"].isin(list(weights))]
    arms, seeds = rows["arm"].tolist(), rows["seed"].tolist()
    for arm in weights:
        if arm not in arms:
            choose("arm", arm, sorted(set(table["arm"])))
    # Plain Python: a table of runs has few rows and many columns, over which pandas takes a hundred times as long.
    place: dict[tuple[str, int], int] = {}
    for at, one in enumerate(zip(arms, seeds, strict=True)):
        if one in place:
            raise SpecError(f"arm {one[0]!r} has two rows for seed {one[1]}; pairs need one.")
        place[one] = at
    bad = rows["diverged"].astype(bool).tolist() if "diverged" in rows else [False] * len(rows)
    flags = [f"diverged: {arm}, seed {seed}" for (arm, seed), at in sorted(place.items()) if bad[at]]
    values = rows[metric].astype(float).tolist()
    known = {one: values[at] for one, at in place.items() if not bad[at] and not math.isnan(values[at])}
    complete = [seed for seed in sorted(set(seeds)) if all((arm, seed) in known for arm in weights)]
    flags += _seed_flag("left out, without a value in every arm", set(seeds) - set(complete))
    if "environment" in rows:
        kinds: dict[int, set[str]] = {}
        for seed, kind in zip(seeds, rows["environment"], strict=True):
            if not pd.isna(kind):
                kinds.setdefault(seed, set()).add(kind)
        mixed = [seed for seed in complete if len(kinds.get(seed, ())) > 1]
        flags += _seed_flag("pairs runs of different environments", mixed)
    # a written-out sum, not a matrix product, so that every machine rounds alike
    total = [sum(weight * known[arm, seed] for arm, weight in weights.items()) for seed in complete]
    index = pd.Index(complete, dtype=rows["seed"].dtype, name="seed")
    return pd.Series(total, index=index, dtype=float, name="difference"), tuple(flags)


def _is_number(kind: Any) -> bool:
    return is_numeric_dtype(kind) and not is_bool_dtype(kind)


def with_factors(table: pd.DataFrame, levels: Mapping[str, Sequence], names: Sequence[str]) -> pd.DataFrame:
    """The rows of some arms, with the factor levels that their arm stands for in columns of their own.

        >>> table = pd.DataFrame({"arm": ["a", "b", "c"], "seed": 0})
        >>> with_factors(table, {"a": (10, "JDA"), "b": (20, "JDA")}, ("share", "by"))["share"].tolist()
        [10, 20]

    Args:
        table: runs; rows of other arms are left out.
        levels: arm to one level per factor.
        names: of the factors.
    """
    rows = table[table["arm"].isin(list(levels))]
    return rows.assign(**{name: [levels[arm][place] for arm in rows["arm"]] for place, name in enumerate(names)})


def arm_table(table: pd.DataFrame, metric: str = "test_accuracy", means: Sequence[str] = ()) -> pd.DataFrame:
    """Accuracy beside cost, one row per arm.

    Args:
        table: runs.
        metric: the column that gets an interval.
        means: further columns to average, where the table has them.

    Returns:
        Indexed by arm: ``seeds`` that finished and ``diverged`` ones, the mean of the metric and its 95 % t-interval
        ``low`` to ``high``, the other means, and the median cost of a run (``COSTS``): images the student saw, images
        the teacher labelled, optimiser steps, and seconds of the student's own steps (an even share of those taken as
        one network).
    """
    averaged = [name for name in means if name in table]
    columns = {name: table[name].to_numpy(float) for name in dict.fromkeys([metric, *averaged, *COSTS])}
    finished, places = ~table["diverged"].to_numpy(bool), table.groupby("arm", sort=False).indices
    rows = {}
    for arm in table["arm"].drop_duplicates():
        every = places[arm]
        good = every[finished[every]]
        mean = interval(columns[metric][good])
        rows[arm] = {"seeds": mean.n, "diverged": len(every) - len(good), metric: mean.mean, "low": mean.low,
                     "high": mean.high}  # fmt: skip
        rows[arm] |= {name: _of_known(np.mean, columns[name][good]) for name in averaged}
        rows[arm] |= {name: _of_known(np.median, columns[name][every]) for name in COSTS}
    return pd.DataFrame.from_dict(rows, orient="index").astype(dict.fromkeys(["seeds", "diverged", *COSTS[:-1]], int))


def _of_known(take: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    """A mean or median of what is not NaN; NaN of nothing."""
    known = values[~np.isnan(values)]
    return float(take(known)) if len(known) else math.nan


def additive_residual(matrix: pd.DataFrame) -> pd.DataFrame:
    """What row and column effects do not explain: ``x_ij - (m + r_i + c_j)``, fitted by least squares.

    Args:
        matrix: one value per row and column; NaN where a combination is impossible.

    Returns:
        Residuals in the same shape, NaN where the matrix has NaN.
    """
    values = matrix.to_numpy(dtype=float)
    known = np.isfinite(values)
    row, column = np.nonzero(known)
    design = np.hstack([np.eye(values.shape[0])[row], np.eye(values.shape[1])[column]])
    effects, *_ = np.linalg.lstsq(design, values[known], rcond=None)
    residual = np.full_like(values, np.nan)
    residual[known] = values[known] - design @ effects
    return pd.DataFrame(residual, index=matrix.index, columns=matrix.columns)


def _seed_flag(text: str, seeds: Iterable[int]) -> list[str]:
    """``["text: seed 0, 3"]``, or nothing when there are no such seeds."""
    listed = ", ".join(str(seed) for seed in sorted(seeds))
    return [f"{text}: seed {listed}"] if listed else []
