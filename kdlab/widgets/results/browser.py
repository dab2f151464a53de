"""The run store to look through: filter it, compare two arms, open a run, take the table away."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from kdlab import stats
from kdlab.data import visitors
from kdlab.errors import SpecError
from kdlab.lab.baseline import bar_of
from kdlab.lab.right import right_in
from kdlab.lab.store import Store
from kdlab.plotting.look import INK
from kdlab.widgets.charts.twin import Cell
from kdlab.widgets.drawing import Drawing, table
from kdlab.widgets.line import shown
from kdlab.widgets.results import answers, captions, images
from kdlab.widgets.results import table as tables
from kdlab.widgets.results.answers import Answers
from kdlab.widgets.results.images import together_text
from kdlab.widgets.results.live import Watch
from kdlab.widgets.results.opened import image_rows, run_rows, students
from kdlab.widgets.results.run import courses, numbers
from kdlab.widgets.results.selection import Selection, select
from kdlab.widgets.runs.arms import ACCURACIES, looks
from kdlab.widgets.runs.controls import RunsExplorer
from kdlab.widgets.runs.panels import comparison
from kdlab.widgets.runs.read import Runs, read

IN_WORDS = 12  # rows of the table in a static twin
INSIDE = {"cell": None, "image": None}  # a run
LATER = {"arm_a": None, "arm_b": None, "run": None} | INSIDE


class ResultsBrowser(RunsExplorer):
    """The finished runs by arm, two arms compared by seed, one run's course, confusions and calibration, and one image.

    Args:
        store: where runs live, or the folder of it; None takes the default store.
        **settings: the filters ``data``, ``student``, ``teacher``, ``method``, ``augmentation``, ``seed`` (a value, or
            ``"all"``) and ``where`` (further ``column=value``, between spaces); ``sort`` (a column), ``descending`` and
            ``single`` (runs instead of arms, which are averages over seeds); ``metric`` (``"test_accuracy"`` or
            ``"val_accuracy"``), ``arm_a`` and ``arm_b`` (names of arms, compared as A minus B), ``run`` (a key, or its
            beginning), ``cell`` (of its confusions: ``"Shirt > Coat"``, labelled a shirt, taken for a coat), ``image``
            (a number in val) and ``name`` (of the csv file). None takes the first one that fits; for arms, two of one
            teacher that differ in as little as there is.

    Raises:
        SpecError: for an unknown setting.
    """

    TITLE = "Results browser"
    QUESTION = "Which runs are there, do two arms really differ, and what does a run get wrong?"
    DEFAULTS = {
        **dict.fromkeys(tables.FILTERS, tables.ALL), "where": "", "sort": "val_accuracy", "descending": True,
        "single": False, "metric": "test_accuracy", **LATER, "name": "runs",
    }  # fmt: skip
    KINDS = dict.fromkeys(tables.FILTERS, object) | {"cell": str, "image": int}  # a seed is a number, all a word

    def __init__(self, store: Store | Path | str | None = None, **settings: Any):
        super().__init__(**settings)
        self.store = store if isinstance(store, Store) else Store(store)
        self.runs: Runs | None = None
        self.data = ""  # of the opened run
        self.last: tuple[Runs, dict[str, Any], Selection | None] | None = None

    def given(self) -> list[str]:
        return [shown(str(self.store.root))] if self.store.root != Store().root else []

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
        self.data = chosen.data
        bar = bar_of(chosen.of(chosen.first).index[0], self.store)
        two, verdict, findings = self._pair(chosen, bar)
        styles = dict(zip("AB", looks([chosen.kind(chosen.first), chosen.kind(chosen.second)]), strict=True))
        names = {"A": chosen.first} | ({"B": chosen.second} if verdict else {})
        styles = {letter: styles[letter] for letter in names}
        pair = (chosen.first, chosen.second, metric, bar.get(metric), tuple(two.index))
        runs = two[["arm", "seed", "source"]].itertuples()
        opens = {(r.arm, r.seed): tables.run_name(r.Index, names.get(r.arm, ""), r.seed, r.source) for r in runs}
        rows = [self.cached(pair, lambda: comparison(two, names, styles, verdict, metric, bar.get(metric), opens))]
        curves = self.cached(("points", pair), lambda: self._courses(chosen, two))
        opened = self.answers(chosen.run, chosen)
        rows.append(self.cached(("courses", pair), lambda: courses(curves, styles)))
        rows += run_rows(chosen, opened)
        colours = {letter: style["color"] for letter, style in styles.items()} | {"run": INK}
        rows += self._images(chosen, colours)
        alt = f"{metric.replace('_', ' ')} of two arms with their difference and their curves; then of run "
        alt += f"{chosen.run[:8]}: curve, confusions, reliability, images"
        seeds = two[["arm", "seed", metric]].sort_values(["arm", "seed"]).itertuples(index=False)
        told = table(("arm", "seed", f"{metric.replace('_', ' ')} (%)"), seeds)
        told += numbers(curves, opened.curve, opened.logits, opened.labels, opened.classes)
        parts = [
            captions.verdict_text(verdict, chosen, findings),
            captions.difference_text(chosen),
            captions.run_text(chosen),
            captions.measured_text(chosen),
            together_text(students(chosen, lambda key: self.answers(key, chosen))),
        ]
        return Drawing(rows, alt, "\n".join(filter(None, parts)), told)

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

    def _courses(self, chosen: Selection, two: pd.DataFrame) -> dict[str, list]:
        """The points on val of the runs of two arms, by letter; what cannot be read is left out."""
        good = two[~two["diverged"].astype(bool)].groupby("arm")
        found = {letter: [answers.course(key, chosen, self.store) for key in runs.index] for letter, runs in good}
        return {letter: [curve for curve in curves if curve] for letter, curves in found.items()}

    def answers(self, key: str, chosen: Selection) -> Answers:
        """What a run answered, read once.

        Args:
            key: of the run.
            chosen: the selection.
        """
        return self.cached(("answers", key), lambda: answers.read(key, chosen, self.store))

    # ---- one image ---------------------------------------------------------------------------------------------------

    def look(self, chosen: Selection) -> tuple[Answers, images.Look] | None:
        """What is looked at in the chosen run; None where its answers are not there."""
        found = self.answers(chosen.run, chosen)
        return (found, images.look_into(found, *(self.settings[name] for name in INSIDE))) if found.known else None

    def _images(self, chosen: Selection, colours: dict[str, str]) -> list[list[Cell]]:
        """The images of a cell of the confusions, and what the students of both arms say of one."""
        if (looked := self.look(chosen)) is None:
            return []
        name, n = looked[0].data, len(looked[0].labels)
        pixels = self.cached(("val", name, n), lambda: answers.pixels(name, n))
        return image_rows(chosen, looked[1], lambda key: self.answers(key, chosen), pixels, colours)

    # ---- controls ----------------------------------------------------------------------------------------------------

    def controls(self) -> dict[str, Any]:
        titles = {"sort": "sort by", "arm_a": "arm A", "arm_b": "arm B", "metric": "compare by", "cell": "confusion"}
        narrow = {"width": "280px", "style": {"description_width": "100px"}}
        names = (*tables.FILTERS, "sort", *LATER, "metric")
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

        self.table, self.exported, self.watch = w.HTML(), w.HTML(), Watch(self)
        super()._build()
        head, _, message, picture, line = self.box.children
        filters = bar(*tables.FILTERS, "where", "sort", "descending", "single", "refresh")
        beside = made_of("kd-beside", self.table, bar("name", "export"), self.exported)
        chosen = bar(*LATER, "metric")
        self.box.children = [
            head,
            made_of("kd-browse", filters, beside),
            chosen,
            message,
            picture,
            line,
            self.watch.shown,
        ]

    def adapt(self, changed: str) -> None:
        if changed in (*tables.FILTERS, "where", "refresh"):
            self.forget(*LATER)
        if changed == "cell":
            self.forget("image")
        if changed in ("arm_a", "arm_b", "run") and (now := self.selection()) and self.data != now.data:
            self.forget(*INSIDE)  # which are classes and images of other data
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
            self.offer("run", chosen.runs_to_open(), chosen.run)
            looked = self.look(chosen)
            self.offer("cell", looked[1].cells if looked else (), looked and looked[1].cell, disabled=not looked)
            offered = looked[1].options(looked[0]) if looked else ()
            self.offer("image", offered, looked and looked[1].image, disabled=not looked)
        self.watch.start()

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
