"""Accuracy over the share of augmented images, the number of images, or the budget, and what each point costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdlab.errors import choose
from kdlab.lab.baseline import bar_of
from kdlab.lab.store import Store
from kdlab.widgets.charts.chart import Axis
from kdlab.widgets.drawing import Drawing
from kdlab.widgets.runs.arms import looks
from kdlab.widgets.runs.controls import FILL, RunsExplorer, nothing
from kdlab.widgets.sweep import selection
from kdlab.widgets.sweep.captions import axis, caption, number, point_caption
from kdlab.widgets.sweep.chart import accuracy_axis, across_axis, cost_axis, line_chart
from kdlab.widgets.sweep.lines import UNITS
from kdlab.widgets.sweep.selection import ALL, Selection

SOURCES = {"published figures": "published", "my store and the ledger": "store"}
DIMENSIONS = ("ratio", "shots", "budget")
AXES = {"augmented rows": "ratio", "training images": "shots", "budget": "budget"}


class BudgetExplorer(RunsExplorer):
    """Accuracy with intervals and seeds over ratio, shots or budget; sliders hold the other two.

    Args:
        source: runs, with the columns of ``lab.table``; None takes the store's where it holds a sweep, else the
            published ones.
        **settings: ``runs`` (``"published"``, ``"store"`` or ``"given"``), ``where`` (data and student), ``x``
            (``"ratio"``, ``"shots"`` or ``"budget"``), ``unit`` of the budget (``"epochs"``, ``"student_images"`` or
            ``"steps"``), ``ratio`` and ``shots`` in percent and ``budget`` in its unit (the one on x is not used),
            ``method`` and ``augmentation`` (a name, or ``"all"``), ``metric`` (``"test_accuracy"`` or
            ``"val_accuracy"``) and ``still`` (the same axes for all values of the sliders). None takes what most
            runs have.

    Raises:
        SpecError: for an unknown setting, or a source that lacks a column.
    """

    TITLE = "Ratio and budget explorer"
    QUESTION = "How much augmentation, how many images, how long: what does accuracy depend on, and what does it cost?"
    DEFAULTS = {
        "runs": None, "where": None, "x": "ratio", "unit": "epochs", "ratio": None, "shots": None, "budget": None,
        "method": None, "augmentation": ALL, "metric": "test_accuracy", "still": True,
    }  # fmt: skip

    def __init__(self, source: pd.DataFrame | None = None, **settings: Any):
        super().__init__(**settings)
        self.store, self.usual = Store(), ""
        self.tables = {} if source is None else {"given": selection.given(source, self.store)}

    def table(self, source: str) -> pd.DataFrame:
        """The runs of a source, read once.

        Args:
            source: ``"published"``, ``"store"`` or ``"given"``.
        """
        if source not in self.tables:
            self.tables[source] = selection.published() if source == "published" else selection.stored(self.store)
        return self.tables[source]

    def sources(self) -> list[str]:
        """The sources there are."""
        return [*(["given"] if "given" in self.tables else []), *SOURCES.values()]

    def source(self) -> str:
        """The source that is looked at.

        Raises:
            SpecError: for one that is not there.
        """
        there = self.sources()
        if self.settings["runs"] is not None:
            return choose("runs", self.settings["runs"], there)
        if "given" in there:
            return "given"
        if not self.usual:  # reading the whole store for each move of a slider takes seconds
            own = selection.stored(self.store, own=True)
            self.usual = "store" if selection.is_sweep(own) or self.table("published").empty else "published"
        return self.usual

    def given(self) -> list[str]:
        return ["source"] if "given" in self.tables else []

    def drop_runs(self) -> None:
        self.tables.pop("store", None)
        self.usual = ""

    # ---- what is drawn -----------------------------------------------------------------------------------------------

    def draw(self) -> Drawing:
        s, source = self.settings, self.source()
        chosen = selection.select(self.table(source), s)
        if chosen is None:
            return _nothing(source)
        if not chosen.points:
            return nothing("No run fits these settings.", "Move a slider, or set method and augmentation to all.")
        methods = {p.line: p.runs[-1]["method"] for p in chosen.points}
        kinds = [(methods[line], line.removeprefix(f"{methods[line]} ")) for line in chosen.lines]
        bar = bar_of(chosen.points[-1].runs[-1]["key"], self.store)
        panels = line_chart(
            chosen.points, dict(zip(chosen.lines, looks(kinds), strict=True)), lambda point: point_caption(point, s),
            **_axes(chosen, s, bar.get(s["metric"])), linear=bar.get(s["metric"]),
        )  # fmt: skip
        alt = f"{s['metric'].replace('_', ' ')} over {axis(s)} with student images, lines: {len(chosen.lines)}"
        return Drawing([[panels]], alt, caption(chosen, s, source, self.store))

    # ---- controls ----------------------------------------------------------------------------------------------------

    def controls(self) -> dict[str, Any]:
        texts = {"runs": "runs from", "where": "data, student", "x": "axis", "unit": "budget in", "method": "method",
                 "augmentation": "augmentation", "metric": "accuracy on"}  # fmt: skip
        menus = {name: self.menu("Dropdown", name, text, "auto") for name, text in texts.items()}
        still = self.field("Checkbox", "still", "keep the axes", "auto", indent=False)
        texts = {"ratio": "augmented rows", "shots": "training images", "budget": "budget"}
        wide = "min(100%, 310px)"
        sliders = {name: self.menu("SelectionSlider", name, text, wide) for name, text in texts.items()}
        return menus | {"still": still, "refresh": self.refresh_button()} | sliders

    def adapt(self, changed: str) -> None:
        if changed in ("runs", "where"):
            self.forget("ratio", "shots", "budget", "method", "augmentation", *(["where"] if changed == "runs" else []))
        s, names = self.settings, {v: k for k, v in SOURCES.items()} | {"given": "the given table"}
        self.offer("runs", [(names[v], v) for v in self.sources()], self.source())
        self.offer("x", AXES.items(), s["x"])
        self.offer("unit", [(text, name) for name, text in UNITS.items()], s["unit"])
        self.offer("metric", [("test", "test_accuracy"), ("val", "val_accuracy")], s["metric"])
        self.control["still"].value = s["still"]
        table = self.table(self.source())
        if len(table):
            there = selection.students(table)
            where = s["where"] if s["where"] in there else there[0]
            self.offer("where", [(name, name) for name in there], where)
            for name in ("method", "augmentation"):
                known = sorted(table.loc[table["where"] == where, name].unique())
                value = selection.shown_method(table[table["where"] == where]) if s[name] is None else s[name]
                self.offer(name, [(choice, choice) for choice in (ALL, *known)], value)
            self._adapt_sliders(changed, table)

    def _adapt_sliders(self, changed: str, table: pd.DataFrame) -> None:
        s = self.settings
        rows = selection.selected(table, s)
        there = selection.options(rows, s)
        for name in DIMENSIONS:
            if changed not in ("", name) and s[name] is not None and not selection.near(s[name], there[name]):
                self.forget(name)  # what was held is not there any more
                there = selection.options(rows, s)
        for name, values in there.items():
            unit = UNITS[s["unit"]] if name == "budget" else "%"
            value = selection.held(name, rows, values, s)
            self.offer(name, [(f"{number(v)} {unit}", v) for v in values], value, disabled=s["x"] == name)


def _nothing(source: str) -> Drawing:
    if source == "published":
        return nothing("The published figures are not beside this installation.",
                       f"Choose <b>my store and the ledger</b>, and fill it by <code>{FILL}</code>.")  # fmt: skip
    who = "Your store holds" if source == "store" else "The given table has"
    return nothing(f"{who} no finished run yet.",
                   f"Train some: <code>{FILL}</code>, or choose <b>published figures</b>.")  # fmt: skip


def _axes(chosen: Selection, settings: Mapping[str, Any], linear: float | None) -> dict[str, Axis]:
    """Axes that fit all runs of the student, whichever the sliders show, or only what is shown."""
    x, metric, points, rows = settings["x"], settings["metric"], chosen.points, chosen.rows
    shown = {p.x: number(p.x) for p in sorted(points, key=lambda p: p.x)}
    if settings["still"]:
        xs, costs = selection.values(rows[x]), rows["student_images"].astype(float)
        accuracies = rows[metric].astype(float)[~rows["diverged"].astype(bool)]
    else:
        xs, costs = list(shown), [p.cost("student_images") for p in points]
        accuracies = [value for p in points for value in (*p.accuracies.values(), p.mean.low, p.mean.high)]
    return {
        "across": across_axis([*xs, *shown], shown, axis(settings), x != "ratio"),
        "up": accuracy_axis(accuracies, metric, linear), "cost": cost_axis(costs),
    }  # fmt: skip
