"""The table of the results browser: filters, order, rows as HTML, and the csv file."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdlab.errors import SpecError, choose, is_plain
from kdlab.lab.sources import LEDGER
from kdlab.lab.unfinished import writing
from kdlab.paths import home
from kdlab.widgets.charts.tiles import opener
from kdlab.widgets.runs.arms import ACCURACIES, TEACHER, arms_table

ALL, NONE = "all", "none"
FILTERS = ("data", "student", "teacher", "method", "augmentation", "seed")
SORTS = {"test accuracy": "test_accuracy", "val accuracy": "val_accuracy", "name": "arm", "seeds": "seed",
         "student images": "student_images", "teacher forwards": "teacher_forwards", "steps": "steps"}  # fmt: skip
LIMIT = 200
HEADS = {"arm": "arm", "key": "run", "seed": "seed", "seeds": "seeds", "test_accuracy": "test (%)",
         "interval": "95 % interval", "val_accuracy": "val (%)", TEACHER: "teacher's val (%)",
         "student_images": "student images", "teacher_forwards": "teacher forwards", "steps": "steps"}  # fmt: skip


def choices(table: pd.DataFrame, column: str) -> list[tuple[str, Any]]:
    """What a filter can be set to, as (text, value): all of them, and each value that some run has.

    Args:
        table: runs.
        column: one of ``FILTERS``.
    """
    values = table[column].astype(object).where(table[column].notna(), NONE).unique() if column in table else ()
    return [(ALL, ALL), *((str(v), v) for v in sorted(values, key=lambda v: (str(type(v)), v)))]


def narrowed(table: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """The rows that pass all filters.

    Args:
        table: runs, indexed by key.
        settings: a value or ``"all"`` for each of ``FILTERS``, and ``where``: further ``column=value``, between spaces.

    Raises:
        SpecError: for a value that no run has, or a malformed or unknown column.
    """
    for column in FILTERS:
        if (value := settings[column]) != ALL:
            choose(column, value, [v for _, v in choices(table, column)])
            table = table[table[column].isna() if value == NONE else table[column] == value]
    if not settings["where"].strip():
        return table
    from kdlab.lab.query import select  # what the command line does; the static twin may never need it

    try:
        conditions = shlex.split(settings["where"])
    except ValueError:
        raise SpecError(f"where has a quotation mark without its partner: {settings['where']!r}.") from None
    return select(table.reset_index(), conditions).set_index("key")


def ordered(table: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """What the browser shows: arms, or single runs, in the order that is asked for.

    Args:
        table: runs with a column ``arm``, indexed by key.
        settings: ``single``, ``sort``, ``descending`` and ``metric``.

    Returns:
        ``arms_table``'s rows, or the runs themselves.
    """
    single, by = settings["single"], choose("sort", settings["sort"], SORTS.values())
    rows = (table if single else arms_table(table, settings["metric"]).rename(columns={"seeds": "seed"})).reset_index()
    then = [column for column in ("arm", "seed") if column != by]
    ascending = [not settings["descending"], *(True for _ in then)]
    rows = rows.sort_values([by, *then], ascending=ascending, na_position="last")
    return rows.set_index("key") if single else rows.rename(columns={"seed": "seeds"}).set_index("arm")


def origin(source: str) -> str:
    """What stands behind a run that is no run of the store."""
    return ", from the ledger" if source == LEDGER else ""


def run_name(key: str, arm: str, seed: int, source: str) -> str:
    """``1a2b3c4d  kd jda, seed 3``: a run in the menu."""
    return f"{key[:8]}  {arm}, seed {seed}{origin(source)}"


def as_html(rows: pd.DataFrame, marks: Mapping[str, str], limit: int = LIMIT, metric: str = "") -> str:
    """Rows of ``ordered`` as an HTML table.

    Args:
        rows: arms or single runs.
        marks: arm or key to what stands before its name, for example ``"A"``.
        limit: rows shown; the number of others follows.
        metric: the accuracy whose interval is drawn as a bar in each row of arms; ``""`` draws none.
    """
    single = rows.index.name == "key"
    names = ["key", "arm", "seed", *ACCURACIES] if single else ["arm", "seeds", *ACCURACIES, "interval"]
    names += [*([TEACHER] if TEACHER in rows else []), "student_images", "teacher_forwards", "steps"]
    scale = _scale(rows.head(limit)) if metric and not single else None
    number = {n: "" if n in ("key", "arm") else ' class="kd-number"' for n in names}
    heads = "".join(f'<th scope="col"{number[n]}>{HEADS[n]}</th>' for n in names) + ("<th></th>" if scale else "")
    body = "".join(_row(row, names, marks, scale, metric) for row in rows.head(limit).reset_index().to_dict("records"))
    more = f"<p>{len(rows) - limit:,} more rows: filter, or export the csv.</p>" if len(rows) > limit else ""
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{more}"


def _row(row: dict[str, Any], names: list[str], marks: Mapping[str, str], scale, metric: str) -> str:
    cells = []
    for place, name in enumerate(names):
        text = escape(_cell(row, name))
        if place == 0:
            mark = marks.get(row[name], "")
            if metric:  # where there are menus
                text = opener(*("run", run_name(row["key"], row["arm"], row["seed"], row["source"])) if name == "key"
                              else ("arm_a", row[name]), text)  # fmt: skip
            badge = f'<span class="kd-mark">{escape(mark)}</span> ' if mark else ""
            cells.append(f'<th scope="row">{badge}{f"<code>{text}</code>" if name == "key" else text}</th>')
        else:
            cells.append(f"<td>{text}</td>" if name == "arm" else f'<td class="kd-number">{text}</td>')
    return f"<tr>{''.join(cells)}{_bar(row, metric, *scale) if scale else ''}</tr>"


def _cell(row: dict[str, Any], name: str) -> str:
    if name == "interval":
        return f"{row['low']:.2f} to {row['high']:.2f}" if np.isfinite(row["low"]) else "no interval"
    value = row[name]
    if name == TEACHER:
        return f"{value:.2f}" if np.isfinite(value) else ""
    if name in ACCURACIES:
        return f"{value:.2f}" if np.isfinite(value) else "diverged"
    if name == "seeds" and row["diverged"]:
        return f"{value} of {value + row['diverged']}"
    return value[:8] if name == "key" else f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def _scale(rows: pd.DataFrame) -> tuple[float, float] | None:
    """Where the bars of all rows begin and end; a lone wide interval may be cut, the means are all inside."""
    means = rows[list(ACCURACIES)].min(axis=1, skipna=True)
    ends = pd.concat([means, rows[list(ACCURACIES)].max(axis=1), rows["low"], rows["high"]]).dropna()
    if ends.empty or means.dropna().empty:
        return None
    low, high = ends.quantile(0.04), ends.quantile(0.96)
    low, high = min(low, means.min()), max(high, rows[list(ACCURACIES)].max(axis=1).max())
    return float(low), float(max(high, low + 1e-9))


def _bar(row: dict[str, Any], metric: str, low: float, high: float) -> str:
    """The interval and the mean on the scale of all rows."""

    def at(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - low) / (high - low)))

    if not np.isfinite(row[metric]):
        return "<td></td>"
    left, right = (at(row[end] if np.isfinite(row[end]) else row[metric]) for end in ("low", "high"))
    return (
        f'<td><span class="kd-range" aria-hidden="true"><i style="left:{left:.1f}%;width:{right - left:.1f}%"></i>'
        f'<b style="left:{at(row[metric]):.1f}%"></b></span></td>'
    )


def export(rows: pd.DataFrame, name: str) -> tuple[Path, str]:
    """Write rows to a csv file of a new name; an existing file is never touched.

    Args:
        rows: with their index.
        name: of the file, without folder and suffix; a number is added when it is taken.

    Returns:
        The file in ``home()/exports``, and a download link as HTML.

    Raises:
        SpecError: for a name that is not a plain file name, or when the disk refuses.
    """
    name = name.strip().removesuffix(".csv")
    if not is_plain(name) or any(c in name for c in ':*?"<>|'):
        raise SpecError(f"name must be a plain file name, but got {name!r}.")
    content = rows.to_csv(lineterminator="\n").encode()
    folder, number = home() / "exports", 1
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / (f"{name}.csv" if number == 1 else f"{name}-{number}.csv")
            try:
                with open(path, "xb") as file:
                    file.write(content)
                break
            except FileExistsError:
                number += 1
    return path, download(rows, path.name)


def download(rows: pd.DataFrame, name: str) -> str:
    """Rows as a csv file to download, as an HTML link: nothing is written.

    Args:
        rows: with their index.
        name: of the file.
    """
    address = base64.b64encode(rows.to_csv(lineterminator="\n").encode()).decode()
    return f'<a download="{escape(name)}" href="data:text/csv;base64,{address}">Download {escape(name)}</a>'
