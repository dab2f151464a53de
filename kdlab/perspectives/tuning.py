"""Tuning: each method's own weight at a quarter, once and four times its default, compared on val at seeds of its own.

All methods get the same chance: the same three factors, seeds and budget, on two weak views (or on the views that a
method makes itself). What is chosen here never saw a test image, nor a seed that a perspective compares on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdlab import lab, settings
from kdlab.errors import SpecError
from kdlab.lab.unfinished import writing
from kdlab.perspectives import PROFILES, Profile, lengths, recipes
from kdlab.perspectives import profile as find_profile
from kdlab.perspectives.notebook_parameters import seeds as distinct
from kdlab.perspectives.places import folder
from kdlab.registry import find, preparations
from kdlab.spec import RunSpec

FACTORS = (0.25, 1.0, 4.0)
SEEDS = "100,101,102"
RULE = (
    "Chosen: of the factors that beat the default by more than the paired standard error over the seeds, the one with\n"
    "the highest mean val accuracy; the default where none does. A factor with a diverged run is out. Val only: no\n"
    "test accuracy was looked at."
)


@dataclass(frozen=True)
class Candidate:
    """One weight of one method: ``weight = factor x default`` of the option that the method's ``tune`` names."""

    method: str
    option: str
    factor: float
    weight: float

    def spec(self, profile: Profile) -> RunSpec:
        """The run that tries it, at the first seed: two weak views, or the views that the method makes itself."""
        spec = recipes.method(profile, self.method, {self.option: self.weight})
        return recipes.weak2(spec) if spec.views == 1 else spec


def tune(
    methods: Sequence[str] | None, profile: str | None, given: Mapping[str, Any], seeds: str = SEEDS, *,
    workers: int | None = None, only_plan: bool = False, keep: bool = False,
) -> pd.DataFrame | None:  # fmt: skip
    """Train every candidate that is not in the store, print and write the table, and keep the choice if asked to.

    Args:
        methods: registered names or ``module:Class``; None takes the profile's methods that have a weight to tune.
        profile: smoke, quick, standard, full or paper.
        given: profile fields to change (data, teacher, student); None leaves one alone.
        seeds: numbers separated by commas, none of them a seed of the profile.
        workers: processes; None takes the profile's number.
        only_plan: describe the work and stop.
        keep: write the choice to ``kdlab/perspectives/tuned.csv``, which perspectives read.

    Returns:
        The table, see ``scored``; None after a plan.

    Raises:
        SpecError: for an unknown method, one without a weight, seeds that the profile compares on, or a choice to be
            kept that was not made on the profile's own data and networks. Before anything trains.
    """
    settings.check()
    size = find_profile(profile, **given)
    apart = tuning_seeds(size, seeds)
    if keep and size != PROFILES[size.name]:
        named = f"--keep takes a choice made on the data and networks of profile {size.name!r}"
        raise SpecError(f"{named}; leave out --data, --teacher and --student.")
    tried = [candidate for name in dict.fromkeys(methods or tunable(size)) for candidate in candidates(name)]
    specs = [candidate.spec(size).at_seed(seed) for seed in apart for candidate in tried]
    workers = size.workers if workers is None else workers
    if only_plan:
        todo = lab.plan(specs, workers=settings.workers(workers))
        print(todo.describe(), *filter(None, [lengths(size)]), sep="\n")
        return None
    found = lab.run(specs, workers=workers, require_teacher=size.requires_teacher, note=lengths(size))
    table = scored(tried, apart, found.loc[[lab.run_key(spec) for spec in specs]])
    _write(table, size, keep)
    return table


def _write(table: pd.DataFrame, size: Profile, keep: bool) -> None:
    """Print the table, write it to the profile's folder and, with ``keep``, the choice to the tuned weights."""
    target = folder(size) / "tuning.csv"
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(target, index=False)
    print(f"\n{show(table)}\n\n{RULE}\n\nwritten to {target}")
    if keep:
        print(f"kept in {recipes.keep_tuned(size.regime, table[table['chosen']].to_dict('records'))}")


def tuning_seeds(profile: Profile, text: str) -> tuple[int, ...]:
    """Seeds for tuning.

    Args:
        profile: whose own seeds are taken.
        text: numbers separated by commas.

    Raises:
        SpecError: when they are no numbers, fewer than two, or when the profile compares on one of them.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise SpecError(f"seeds must be numbers like {SEEDS}, but got {text!r}.")
    apart = distinct([int(part) for part in parts])
    if taken := sorted({*apart} & {*profile.seeds}):
        raise SpecError(
            f"seeds must not be those that profile {profile.name!r} compares on, or methods would be judged on what "
            f"they were tuned on; but got {', '.join(map(str, taken))}."
        )
    return apart


def tunable(profile: Profile) -> list[str]:
    """The profile's methods that have a weight; the others are named on the screen."""
    weighed = [name for name in profile.grid if find("losses", name).tune]
    if without := [name for name in profile.grid if name not in weighed]:
        print(f"nothing to tune, since there is no weight: {', '.join(without)}")
    return weighed


def candidates(name: str) -> list[Candidate]:
    """The weights that are tried for a method.

    Raises:
        SpecError: for an unknown method, one that prepares a teacher, or one without a positive weight to scale.
    """
    entry = find("losses", name)
    option = entry.tune
    default = entry.options.get(option)
    if name in preparations():
        raise SpecError(f"method {name!r} prepares a teacher; tune the method that learns from it.")
    if not isinstance(default, int | float) or not default > 0:
        raise SpecError(f"method {name!r} has no weight of its own that could be tuned.")
    return [Candidate(name, option, factor, factor * default) for factor in FACTORS]


def scored(tried: Sequence[Candidate], seeds: Sequence[int], found: pd.DataFrame) -> pd.DataFrame:
    """The candidates with their accuracies on val.

    Args:
        tried: candidates.
        seeds: of the runs.
        found: one row per seed and candidate, the candidates fastest.

    Returns:
        One row per candidate: method, option, factor, weight, mean ``val_accuracy`` in percent, a column a seed
        (empty where the run diverged), ``gain`` over the default, its paired standard ``error``, and ``chosen``.
    """
    values = found["val_accuracy"].mask(found["diverged"].astype(bool)).to_numpy(dtype=float)
    accuracy = pd.DataFrame(values.reshape(len(seeds), len(tried)).T, columns=[f"seed_{seed}" for seed in seeds])
    plain = pd.DataFrame([vars(candidate) for candidate in tried])
    parts = []
    for _, rows in plain.groupby("method", sort=False):
        own = accuracy.loc[rows.index].set_axis(rows["factor"])
        gains = own - own.loc[1.0]
        rows = rows.assign(val_accuracy=own.mean(axis=1, skipna=False).to_numpy())
        rows = pd.concat([rows, accuracy.loc[rows.index]], axis=1)
        rows = rows.assign(gain=gains.mean(axis=1, skipna=False).to_numpy(), error=_error(gains).to_numpy())
        parts.append(rows.assign(chosen=rows["factor"] == chosen(own)))
    return pd.concat(parts)


def chosen(accuracy: pd.DataFrame) -> float:
    """The factor that the rule takes; of two that are equally good, the smaller.

    Args:
        accuracy: factors by seeds, in percent; NaN where a run diverged. Without a complete default the best of the
            complete factors is taken.
    """
    complete = accuracy.dropna()
    if 1.0 not in complete.index:
        return float(complete.mean(axis=1).idxmax()) if len(complete) else 1.0
    gains = complete - complete.loc[1.0]
    better = gains.mean(axis=1)[gains.mean(axis=1) > _error(gains)]
    return float(better.idxmax()) if len(better) else 1.0


def _error(gains: pd.DataFrame) -> pd.Series:
    return gains.std(axis=1, ddof=1, skipna=False) / math.sqrt(gains.shape[1])


def show(table: pd.DataFrame) -> str:
    """The table for a terminal."""
    shown = table.assign(chosen=table["chosen"].map({True: "*", False: ""}))
    numbers = {column: "{:g}".format for column in ("factor", "weight")}
    return shown.to_string(index=False, formatters=numbers, float_format=lambda v: f"{v:.2f}")
