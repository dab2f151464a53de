"""Paired arithmetic on the table of runs: one row per run, columns ``arm``, ``seed`` and one per metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from kdlab.errors import SpecError, choose


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
    choose("metric", metric, [c for c in table.select_dtypes("number") if c != "seed"])
    for arm in weights:
        choose("arm", arm, sorted(set(table["arm"])))
    rows = table[table["arm"].isin(list(weights))]
    for twice in rows[rows.duplicated(["arm", "seed"])].itertuples():
        raise SpecError(f"arm {twice.arm!r} has two rows for seed {twice.seed}; pairs need one.")
    flags = []
    diverged = rows["diverged"].astype(bool) if "diverged" in rows else rows["seed"].isna()
    for lost in rows[diverged].sort_values(["arm", "seed"]).itertuples():
        flags.append(f"diverged: {lost.arm}, seed {lost.seed}")
    wide = rows[~diverged].pivot(index="seed", columns="arm", values=metric).reindex(columns=list(weights))
    complete = wide.dropna().astype(float)
    flags += _seed_flag("left out, without a value in every arm", set(rows["seed"]) - set(complete.index))
    if "environment" in rows:
        kinds = rows[rows["seed"].isin(complete.index)].groupby("seed")["environment"].nunique()
        flags += _seed_flag("pairs runs of different environments", kinds[kinds > 1].index)
    # a written-out sum, not a matrix product, so that every machine rounds alike
    total = sum(weight * complete[arm] for arm, weight in weights.items())
    return total.rename("difference"), tuple(flags)


def gain(
    table: pd.DataFrame, baseline: str, by: Sequence[str] = ("seed",), metric: str = "test_accuracy"
) -> pd.DataFrame:
    """The table with a column ``gain``: the metric minus the baseline arm's, at the same seed and setting.

    Args:
        table: runs.
        baseline: the arm to subtract; its own rows are left out of the result.
        by: columns that must agree between a row and its baseline, for example ``("seed", "fraction")``.
        metric: the column to compare.

    Raises:
        SpecError: for a baseline that the table lacks or that is not unique within ``by``.
    """
    choose("baseline", baseline, sorted(set(table["arm"])))
    by = list(by)
    reference = table[table["arm"] == baseline]
    if reference.duplicated(by).any():
        raise SpecError(f"baseline {baseline!r} has several rows for one ({', '.join(by)}); add columns to by.")
    others = table[table["arm"] != baseline]
    merged = others.merge(reference[[*by, metric]].rename(columns={metric: "baseline"}), on=by, how="left")
    return merged.assign(gain=merged[metric] - merged["baseline"]).drop(columns="baseline")


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
