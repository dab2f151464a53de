"""The selection of the results browser: the runs that pass its filters, two arms, a run, and its images' labels."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from kdlab.errors import SpecError, choose
from kdlab.widgets.results.table import narrowed, ordered
from kdlab.widgets.runs.arms import ACCURACIES, view_name
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

    def of(self, arm: str) -> pd.DataFrame:
        """Runs of an arm, by seed."""
        return self.table[self.table["arm"] == arm].sort_values("seed")

    def kind(self, arm: str) -> tuple[str, str]:
        """Method and view of an arm."""
        row = self.of(arm).iloc[0]
        return row["method"], view_name(row["augmentation"], row["views"], row["ratio"])

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
    first, second = settings["arm_a"], settings["arm_b"]
    first = arms[0] if first is None else _one_of("arm_a", first, arms)
    second = _partner(first, arms, table) if second is None else _one_of("arm_b", second, arms)
    chosen = Selection(runs, table, rows, arms, first, second, "")
    run = settings["run"]
    return chosen._replace(run=chosen.of(first).index[0] if run is None else _find(run, table.index))


def _one_of(argument: str, name: str, arms: Sequence[str]) -> str:
    """``choose`` without its list, which would fill a page."""
    if name in arms:
        return name
    near = difflib.get_close_matches(str(name), arms, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SpecError(f"{argument} must be one of the {len(arms)} arms that pass the filters, but got {name!r}.{hint}")


def _partner(first: str, arms: Sequence[str], table: pd.DataFrame) -> str:
    """The first other arm of the same student on the same data that shares most seeds with an arm."""
    own = table[table["arm"] == first]
    seeds, kind = set(own["seed"]), own[["data", "student"]].iloc[0]
    alike = table[(table["data"] == kind["data"]) & (table["student"] == kind["student"])]
    common = {arm: len(seeds & set(other)) for arm, other in alike.groupby("arm")["seed"]}
    return max((arm for arm in arms if arm != first), key=lambda arm: common.get(arm, -1), default=first)


def _find(key: str, keys: Sequence[str]) -> str:
    found = [k for k in keys if k.startswith(str(key))]
    if len(found) != 1:
        fits = f"{len(found)} of the {len(keys)} filtered runs"
        raise SpecError(f"run must be the beginning of one key, but {key!r} fits {fits}.")
    return found[0]
