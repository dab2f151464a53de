"""The selection of the results browser: the runs that pass its filters, two arms, a run, and its images' labels."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from kdlab.errors import SpecError, choose
from kdlab.widgets.results.table import narrowed, ordered, run_name
from kdlab.widgets.runs.arms import ACCURACIES, differences, view_name
from kdlab.widgets.runs.read import Runs


class Selection(NamedTuple):
    """A selection.

    Args:
        runs: all runs of store and ledger.
        table: those that pass the filters.
        rows: arms or single runs, in the order that is asked for.
        arms: names of the arms in ``rows``, in their order.
        first, second: the arms A and B; the same name where there is only one.
        run: key of the run that is opened.
    """

    runs: Runs
    table: pd.DataFrame
    rows: pd.DataFrame
    arms: list[str]
    first: str
    second: str
    run: str

    @property
    def data(self) -> str:
        """The data of the opened run."""
        return self.table.loc[self.run, "data"]

    def of(self, arm: str) -> pd.DataFrame:
        """Runs of an arm, by seed."""
        return self.table[self.table["arm"] == arm].sort_values("seed")

    def kind(self, arm: str) -> tuple[str, str]:
        """Method and view of an arm."""
        row = self.of(arm).iloc[0]
        return row["method"], view_name(row["augmentation"], row["views"], row["ratio"])

    def students(self) -> dict[str, str]:
        """The opened run and that of the other arm with its seed, by the letter of the arm; the opened one first.

        A run of neither arm is called ``run``, and stands beside that of B.
        """
        row = self.table.loc[self.run]
        own = {self.second: "B", self.first: "A"}.get(row["arm"], "run")
        letter, other = ("A", self.of(self.first)) if own == "B" else ("B", self.of(self.second))
        keys = list(other.index[(other["seed"] == row["seed"]) & (other.index != self.run)])
        return {own: self.run} | ({letter: keys[0]} if keys else {})

    def runs_to_open(self) -> list[tuple[str, str]]:
        """Runs of the two arms first, then the others, as (text, key)."""
        rank = self.table["arm"].map({self.second: 1, self.first: 0}).fillna(2)
        runs = self.table[["arm", "seed", "source"]].assign(rank=rank).sort_values(["rank", "arm", "seed"])
        columns = runs.index, runs["arm"], runs["seed"], runs["source"]
        return [(run_name(key, *more), key) for key, *more in zip(*columns, strict=True)]

    def marks(self) -> dict[str, str]:
        """What stands before an arm or a run in the table."""
        return {self.run: "▸", self.second: "B", self.first: "A"}


def select(runs: Runs, settings: Mapping[str, Any], before: Selection | None = None) -> Selection | None:
    """What the settings select; None where no run passes the filters.

    Args:
        runs: of the store.
        settings: of the browser.
        before: an earlier selection by the same filters and order, of which only arms and run have changed.

    Raises:
        SpecError: for a filter, arm or run that is not there.
    """
    choose("metric", settings["metric"], ACCURACIES)
    if before is not None:
        table, rows = before.table, before.rows
    else:
        table = narrowed(runs.table, settings) if len(runs.table) else runs.table
        if table.empty:
            return None
        rows = ordered(table, settings)
    arms = list(dict.fromkeys(rows["arm"] if settings["single"] else rows.index))
    first, second = (_one_of(name, settings[name], arms) for name in ("arm_a", "arm_b"))
    if first is None or second is None:
        first, second = _pair(first, second, arms, table, runs.facts)
    chosen = Selection(runs, table, rows, arms, first, second, "")
    run = settings["run"]
    return chosen._replace(run=chosen.of(first).index[0] if run is None else _find(run, table.index))


def _one_of(argument: str, name: str | None, arms: Sequence[str]) -> str | None:
    """``choose`` without its list, which would fill a page; None stays None."""
    if name is None or name in arms:
        return name
    near = difflib.get_close_matches(str(name), arms, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SpecError(f"{argument} must be one of the {len(arms)} arms that pass the filters, but got {name!r}.{hint}")


def _pair(
    first: str | None, second: str | None, arms: Sequence[str], table: pd.DataFrame, facts: Mapping[str, dict]
) -> tuple[str, str]:
    """Arms A and B where not both are named: alike in data, student and teacher, apart in as little as there is.

    Args:
        first, second: A and B, or None for those to find.
        arms: to choose from; of equally good pairs, that of the earliest is taken.
        table: runs of the arms.
        facts: by key.
    """
    own = {arm: facts[runs.index[0]] for arm, runs in table.groupby("arm", sort=False)}
    seeds = table.groupby("arm")["seed"].agg(set)

    def rank(one: str, other: str) -> tuple[bool, bool, int, int]:
        apart = differences(own[one], own[other])
        unlike = bool(apart & {"data", "sizes", "model", "teacher"})
        return len(seeds[one] & seeds[other]) < 2, unlike, len(apart), -len(seeds[one] & seeds[other])

    best = None
    for one in [arm for arm in arms if arm != second] if first is None else [first]:
        others = [arm for arm in (arms if second is None else [second]) if arm != one]
        other = min(others, key=lambda arm: rank(one, arm), default=one)
        found = (rank(one, other), one, other)
        best = found if best is None or found[0][:3] < best[0][:3] else best
        if best[0][:3] <= (False, False, 1):
            break
    return best[1:] if best else (arms[0], arms[0])


def _find(key: str, keys: Sequence[str]) -> str:
    found = [k for k in keys if k.startswith(str(key))]
    if len(found) != 1:
        fits = f"{len(found)} of the {len(keys)} filtered runs"
        raise SpecError(f"run must be the beginning of one key, but {key!r} fits {fits}.")
    return found[0]
