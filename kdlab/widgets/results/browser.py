"""The run store to look through: filter it, compare two arms, open a run, take the table away."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import Any

import pandas as pd

from kdlab import stats
from kdlab.data import visitors
from kdlab.errors import SpecError
from kdlab.lab import sources
from kdlab.lab.answers import truth
from kdlab.lab.baseline import bar_of
from kdlab.lab.damage import Damaged
from kdlab.lab.right import right_in
from kdlab.lab.store import Store
from kdlab.widgets.charts.tiles import Tiles, Words
from kdlab.widgets.charts.twin import Cell
from kdlab.widgets.drawing import Drawing, table
from kdlab.widgets.results import captions
from kdlab.widgets.results import table as tables
from kdlab.widgets.results.run import run_row
from kdlab.widgets.results.selection import Selection, select
from kdlab.widgets.runs.arms import ACCURACIES, looks
from kdlab.widgets.runs.controls import RunsExplorer
from kdlab.widgets.runs.panels import comparison, notice
from kdlab.widgets.runs.read import Runs, read

IN_WORDS = 12  # rows of the table in a static twin
LATER = {"arm_a": None, "arm_b": None, "run": None}


class ResultsBrowser(RunsExplorer):
    """The finished runs by arm, two arms compared by seed, and one run's course, confusions and calibration.

    Args:
        store: where runs live; None takes the default store.
        **settings: the filters ``data``, ``student``, ``teacher``, ``method``, ``augmentation``, ``seed`` (a value, or
            ``"all"``) and ``where`` (further ``column=value``, between spaces); ``sort`` (a column), ``descending`` and
            ``single`` (runs instead of arms); ``metric`` (``"test_accuracy"`` or ``"val_accuracy"``), ``arm_a`` and
            ``arm_b`` (names of arms, compared as A minus B), ``run`` (a key, or its beginning) and ``name`` (of the csv
            file). None takes the first one that fits.

    Raises:
        SpecError: for an unknown setting.
    """

    TITLE = "Results browser"
    QUESTION = "Which runs are there, do two arms really differ, and what does a run get wrong?"
    DEFAULTS = {
        **dict.fromkeys(tables.FILTERS, tables.ALL), "where": "", "sort": "test_accuracy", "descending": True,
        "single": False, "metric": "test_accuracy", **LATER, "name": "runs",
    }  # fmt: skip
    KINDS = dict.fromkeys(tables.FILTERS, object)  # a seed is a number, all of them a word

    def __init__(self, store: Store | None = None, **settings: Any):
        super().__init__(**settings)
        self.store = store or Store()
        self.runs: Runs | None = None
        self.last: tuple[Runs, dict[str, Any], Selection | None] | None = None

    def given(self) -> list[str]:
        return ["store"] if self.store.root != Store().root else []

    def drop_runs(self) -> None:
        self.runs = None

    def everything(self) -> Runs:
        """All runs of the store, as last looked at."""
        if self.runs is None:
            self.runs = read(self.store)
        return self.runs

    def selection(self) -> Selection | None:
        """What the settings select; None where no run passes the filters.

        Raises:
            SpecError: for a filter, arm or run that is not there.
        """
        runs = self.everything()
        asked = {name: value for name, value in self.settings.items() if name != "name"}
        if self.last is None or self.last[0] is not runs or self.last[1] != asked:
            same = self.last is not None and self.last[0] is runs and self.last[1] | LATER == asked | LATER
            self.last = runs, asked, select(runs, self.settings, self.last[2] if same else None)
        return self.last[2]

    # ---- what is drawn -----------------------------------------------------------------------------------------------

    def static(self) -> Drawing:
        """The drawing, and the beginning of the table in its caption."""
        drawing, chosen = self.draw(), self.selection()
        if chosen is None:
            return drawing
        html = tables.as_html(chosen.rows, chosen.marks(), IN_WORDS)
        return replace(drawing, caption=f"{drawing.caption}\n<h3>{captions.count_text(chosen)}</h3>\n{html}")

    def draw(self) -> Drawing:
        """Comparison and run, one above the other."""
        chosen, metric = self.selection(), self.settings["metric"]
        if chosen is None:
            return captions.nothing_text(self.everything())
        bar = bar_of(chosen.of(chosen.first).index[0], self.store)
        two, verdict, findings = self._pair(chosen, bar)
        styles = dict(zip("AB", looks([chosen.kind(chosen.first), chosen.kind(chosen.second)]), strict=True))
        names = {"A": chosen.first} | ({"B": chosen.second} if verdict else {})
        styles = {letter: styles[letter] for letter in names}
        pair = (chosen.first, chosen.second, metric, bar.get(metric), tuple(two.index))
        panels = self.cached(pair, lambda: comparison(two, names, styles, verdict, metric, bar.get(metric)))
        opened = self.cached(chosen.run, lambda: self._run(chosen))
        alt = f"{metric.replace('_', ' ')} of two arms with their difference; below, curve, confusions and "
        alt += f"reliability of run {chosen.run[:8]}"
        seeds = two[["arm", "seed", metric]].sort_values(["arm", "seed"]).itertuples(index=False)
        numbers = table(("arm", "seed", f"{metric.replace('_', ' ')} (%)"), seeds)
        parts = [
            captions.verdict_text(verdict, chosen, findings),
            captions.difference_text(chosen),
            captions.run_text(chosen),
        ]
        return Drawing([panels, *opened], alt, "\n".join(parts), numbers)

    def _pair(
        self, chosen: Selection, bar: dict[str, Any]
    ) -> tuple[pd.DataFrame, stats.Verdict | None, list[stats.Finding]]:
        """The runs of two arms, called A and B, the verdict on their difference and their health under their names."""
        names = {chosen.second: "B", chosen.first: "A"}
        two = chosen.table[chosen.table["arm"].isin(names)]
        verdict, findings = None, []
        if len(names) == 2:
            verdict = stats.paired(two, chosen.first, chosen.second, self.settings["metric"])
            findings = stats.health(two, [verdict.contrast], bar, right_in(two, self.store))
        return two.assign(arm=two["arm"].map(names)), verdict, findings

    def _run(self, chosen: Selection) -> list[list[Cell]]:
        """The rows of the chosen run; an error takes the place of what cannot be drawn."""
        key, row = chosen.run, chosen.table.loc[chosen.run]
        title, curve = Words(f"Run {key[:8]}: {row['arm']}, seed {row['seed']}", bold=True, size=15), ()
        head = Tiles([[title]], 300, 600)
        try:
            published = sources.found(key, self.store, row["environment"])
            curve = (published.result if published else self.store.read(key, "result"))["curve"]
            if row["diverged"]:
                raise SpecError(f"This run diverged at step {row['diverged_at']:.0f}: its answers mean nothing.")
            if published:
                raise SpecError("This run is from the ledger, which keeps its numbers and not its answers to val.")
            logits = self.store.logits(key)["val"]
            labels, classes = truth(row["data"], chosen.runs.facts[key]["files"], "val", len(logits))
        except Damaged as error:
            return [[notice(f"The files of run {key[:8]} cannot be read ({error.file} {error.reason}).")]]
        except SpecError as error:
            return [[head], run_row(curve, None, None, (), str(error))]
        return [[head], run_row(curve, logits, labels, classes)]

    # ---- controls ----------------------------------------------------------------------------------------------------

    def controls(self) -> dict[str, Any]:
        titles = {"sort": "sort by", "arm_a": "arm A", "arm_b": "arm B", "metric": "compare by"}
        narrow = {"width": "280px", "style": {"description_width": "100px"}}
        names = (*tables.FILTERS, "sort", "arm_a", "arm_b", "run", "metric")
        made = {
            name: self.menu("Dropdown", name, titles.get(name, name),
                            **({"width": "min(100%, 490px)"} if name in LATER else narrow))
            for name in names
        }  # fmt: skip
        hint = {"placeholder": "ratio=0.5 views=2", "tooltip": "column=value, between spaces"}
        return made | {
            "where": self.field("Text", "where", continuous_update=False, **hint, **narrow),
            "descending": self.field("Checkbox", "descending", "highest first", indent=False),
            "single": self.field("Checkbox", "single", "single runs", indent=False),
            "refresh": self.refresh_button(),
            "name": self.field("Text", "name", "csv name", **narrow),
            "export": self.button("Export csv", self.export, "Write the filtered table", "download"),
        }

    def _build(self) -> None:
        import ipywidgets as w

        def bar(*names: str) -> w.Box:
            return made_of("kd-controls", *(self.control[name] for name in names))

        def made_of(look: str, *children) -> w.Box:
            box = w.Box(children)
            box.add_class(look)
            return box

        self.table, self.exported = w.HTML(), w.HTML()
        super()._build()
        head, _, message, picture, line = self.box.children
        filters = bar(*tables.FILTERS, "where", "sort", "descending", "single", "refresh")
        beside = made_of("kd-beside", self.table, bar("name", "export"), self.exported)
        chosen = bar("arm_a", "arm_b", "run", "metric")
        self.box.children = [head, made_of("kd-browse", filters, beside), chosen, message, picture, line]

    def adapt(self, changed: str) -> None:
        if changed in (*tables.FILTERS, "where", "refresh"):
            self.forget(*LATER)
        s, runs = self.settings, self.everything()
        for name in tables.FILTERS:
            self.offer(name, tables.choices(runs.table, name), s[name])
        for name in ("where", "descending", "single", "name"):
            self.control[name].value = s[name]
        self.offer("sort", tables.SORTS.items(), s["sort"])
        self.offer("metric", [(text, name) for name, text in ACCURACIES.items()], s["metric"])
        if (chosen := self.selection()) is not None:
            arms = [(arm, arm) for arm in chosen.arms]
            self.offer("arm_a", arms, chosen.first)
            self.offer("arm_b", arms, chosen.second)
            self.offer("run", _run_choices(chosen), chosen.run)

    def redraw(self) -> None:
        """Table, comparison and run for the present settings; the last good ones stay where that fails."""
        with self.lock, self.errors_shown():
            self.table.value = self._listed()
            super().redraw()

    def _listed(self) -> str:
        chosen = self.selection()
        if chosen is None:
            return "<p>No run to list.</p>"
        html = tables.as_html(chosen.rows, chosen.marks(), metric=self.settings["metric"])
        text = f"{captions.count_text(chosen)}. {captions.unreadable_text(chosen.runs)}"
        return f'<p>{text}</p><div class="kd-scroll" tabindex="0" role="region" aria-label="runs">{html}</div>'

    def export(self) -> None:
        """Write the filtered table, all of its rows, to a csv file of a new name, and offer to download it."""
        with self.lock, self.errors_shown():
            chosen = self.selection()
            if chosen is None:
                raise SpecError("there is nothing to export: no run passes the filters.")
            if visitors.here():
                text = f"{len(chosen.rows):,} rows. {tables.download(chosen.rows, 'runs.csv')}"
            else:
                path, link = tables.export(chosen.rows, self.settings["name"])
                text = f"{len(chosen.rows):,} rows written to <code>{escape(str(path))}</code>. {link}"
            self.exported.value = f'<p class="kd-message" role="status">{text}</p>'
            self.show_message("")


def _run_choices(chosen: Selection) -> list[tuple[str, str]]:
    """Runs of the two arms first, then the others."""
    rank = chosen.table["arm"].map({chosen.second: 1, chosen.first: 0}).fillna(2)
    runs = chosen.table.assign(rank=rank).sort_values(["rank", "arm", "seed"])
    return [(f"{r.Index[:8]}  {r.arm}, seed {r.seed}{captions.origin(r.source)}", r.Index) for r in runs.itertuples()]
