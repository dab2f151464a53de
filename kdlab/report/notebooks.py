"""Run the notebooks in batch, and publish what they made: executed notebooks, figures, gallery.

papermill executes. What it records is no proof of success (after a kernel's death it calls every cell completed):
a batch run is done when its own marker, ``NAME.done.json``, says so, and that is written last.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kdlab import __version__
from kdlab.errors import SpecError, choose, plain
from kdlab.lab import datasheet, ledger, merging, sources
from kdlab.lab.store import Store
from kdlab.paths import CHECKOUT, settle, write_file
from kdlab.perspectives import places
from kdlab.perspectives import profile as find_profile
from kdlab.perspectives.notebook_parameters import literal
from kdlab.report.documents import load_verdicts
from kdlab.report.notebook_page import html
from kdlab.report.overview import draw_overview
from kdlab.report.pages import anchor, gallery, lessons, unfinished

NOTEBOOKS = CHECKOUT / "notebooks" / "perspectives"
PUBLISHED = ("png", "svg", "csv", "json")


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook in batch: ``error`` is empty exactly when its done marker was written."""

    name: str
    profile: str
    seconds: float
    parameters: dict[str, Any]
    error: str = ""
    kdlab: str = __version__


def parameters(notebook: Path) -> dict[str, Any]:
    """The names and default values in the cell tagged ``parameters``.

    Read from the source text, so that a mistake is refused before papermill, a kernel or torch is started.

    Args:
        notebook: path of an ``.ipynb`` whose parameters cell assigns literals only.

    Raises:
        SpecError: when the notebook is missing or has not exactly one such cell.
    """
    if not notebook.is_file():
        choose("notebook", notebook.stem, sorted(path.stem for path in notebook.parent.glob("*.ipynb")))
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise SpecError(f"{notebook.name} must have exactly one cell tagged 'parameters', but has {len(tagged)}.")
    body = ast.parse("".join(tagged[0]["source"])).body
    return {node.targets[0].id: ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)}


def check(notebook: Path, given: Iterable[str]) -> dict[str, Any]:
    """Turn ``key=value`` strings into parameters of a notebook.

    A value is read as a Python literal (``3``, ``0.5``, ``[0, 1]``, ``true``), else as a plain string.

    Args:
        notebook: path of the notebook that will receive them.
        given: strings as typed after ``-p``.

    Raises:
        SpecError: for a string without ``=`` and for an unknown name, with the nearest one.
    """
    known = parameters(notebook)
    checked = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise SpecError(f"-p must look like key=value, but got {pair!r}.")
        checked[choose(f"parameter of {notebook.stem}", name, known)] = literal(text)
    return checked


def run_notebook(
    name: str, profile: str, folder: Path, given: dict[str, Any] | None = None, notebooks: Path = NOTEBOOKS
) -> Outcome:
    """Execute one notebook into ``folder/notebooks/``, with its HTML page and its done marker.

    A notebook that fails is kept as far as it came, without a marker; the gallery shows it as failed.

    Args:
        name: the notebook's name without suffix.
        profile: what its ``profile`` parameter is set to.
        folder: the profile's folder; figures go to ``folder/figures``.
        given: further parameters, already checked.
        notebooks: folder of the templates.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the kernel has been stopped.
    """
    plain(name)
    template, executed = notebooks / f"{name}.ipynb", folder.resolve() / "notebooks" / f"{name}.ipynb"
    values = {"profile": profile, "out_dir": str(folder.resolve() / "figures")}
    values = {key: value for key, value in values.items() if key in parameters(template)} | (given or {})
    executed.parent.mkdir(parents=True, exist_ok=True)
    marker, page = executed.with_suffix(".done.json"), executed.with_suffix(".html")
    for earlier in (marker, page):
        earlier.unlink(missing_ok=True)
    started = time.monotonic()
    error = _execute(template, executed, values)
    outcome = Outcome(name, profile, round(time.monotonic() - started, 1), values, error)
    if executed.is_file():
        write_file(page, html(executed, error))
    if not error:
        write_file(marker, json.dumps(asdict(outcome), indent=1))
    return outcome


def _execute(template: Path, executed: Path, values: dict[str, Any]) -> str:
    """Run papermill; the empty string, or what went wrong in one line."""
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # a stale kernel of the user's must not win over ours
    import papermill

    settle()  # the kernel stands in the notebook's folder
    try:
        with event_loop():
            papermill.execute_notebook(
                str(template),
                str(executed),
                parameters=values,
                kernel_name="python3",
                cwd=str(template.parent),
                progress_bar=False,
                extra_arguments=["--IPKernelApp.log_level=50"],
            )
    except Exception as error:  # whatever broke in the notebook, the other notebooks still run
        return str(error).strip().splitlines()[-1]
    return ""


@contextlib.contextmanager
def event_loop() -> Iterator[None]:
    """A loop for papermill, closed after it; papermill would make one and leave it, and its sockets, open.

    Where a loop is running, as in a notebook, papermill finds its own way, and nothing happens here.
    """
    from jupyter_core.utils import ensure_event_loop  # papermill's kernel client takes its loop from there

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = ensure_event_loop()
        try:
            yield
        finally:
            loop.close()
    else:
        yield


def publish(profile: str = "quick", target: Path | None = None, data: str | None = None) -> Path:
    """Replace a committed set of figures by a finished profile's, with its notebooks, the gallery and the lessons.

    The profile's own data are published in the target itself, any other in a folder of its name below it; what stands
    in the other's place stays. So does what the profile does not make (scripts and their tables, such as
    ``regime.csv``; ``tuning.csv`` where nothing was tuned), and the ledger, to which the runs behind the figures and
    their teachers are added.

    Args:
        profile: whose figures to publish.
        target: folder of the published sets; None takes the checkout's ``figures/``.
        data: data set that the profile was given; None means its own.

    Raises:
        SpecError: when there is nothing to publish, a notebook has not finished, or a run behind a figure is neither
            in the store nor in the ledger.
    """
    size = find_profile(profile, data=data)
    source, place, target = places.folder(size), places.other_data(size), target or CHECKOUT / "figures"
    again = f"`make figures PROFILE={profile}{f' DATA={data}' if data else ''}`"
    if not load_verdicts(source / "figures"):
        raise SpecError(f"Nothing to publish for profile {source.name!r}. Run {again} first.")
    if failed := unfinished(source / "notebooks"):
        raise SpecError(f"Not published: {', '.join(failed)} did not finish. Run {again} again.")
    draw_overview(source / "figures")
    fresh, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    for path in _staying(target, place):
        shutil.copytree(path, fresh / path.name) if path.is_dir() else shutil.copy(path, fresh)
    _fill(fresh / place, source, target / place, place)
    _keep_rows(fresh / place, fresh / "ledger", profile)
    lessons(fresh)
    gallery(fresh, figures=fresh)
    if target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def _staying(target: Path, place: str) -> list[Path]:
    """What stands in the published folder and is not of the set that is replaced."""
    if place:
        return [path for path in target.glob("*") if path.name != place]
    return [path for path in target.glob("*") if path.name == "ledger" or any(path.glob("*.verdict.json"))]


def _fill(own: Path, source: Path, before: Path, place: str) -> None:
    """The figures and notebooks of one set, and what there was that no notebook makes."""
    (own / "notebooks").mkdir(parents=True)
    for path in source.glob("figures/*"):
        if path.suffix[1:] in PUBLISHED:
            shutil.copy(path, own)
    for page in source.glob("notebooks/*.html"):
        text = page.read_text(encoding="utf-8")
        if place:  # gallery and lessons are those of all sets, a folder above
            text = text.replace('href="../index.html#', f'href="../../index.html#{anchor(place, "")}')
            text = text.replace('href="teaching/', 'href="../../notebooks/teaching/')
        write_file(own / "notebooks" / page.name, text)
    # Scripts and their tables; a figure's table has its json beside it.
    by_scripts = [p for p in before.glob("*") if p.suffix == ".py" or (p.suffix == ".csv" and _alone(p))]
    for path in [*by_scripts, source / "tuning.csv"]:
        if path.exists():  # the profile's own table replaces an earlier one
            shutil.copy(path, own)


def _alone(path: Path) -> bool:
    return not path.with_suffix(".json").exists()


def _keep_rows(own: Path, rows_of_all: Path, profile: str) -> None:
    """Add the runs behind a set of figures to the ledger beside it.

    Raises:
        SpecError: when a run is in neither store nor ledger, or disagrees with its row.
    """
    shown = [pd.read_csv(path, dtype=str) for path in sorted(own.glob("*-*.csv"))]
    shown = [table[["key", "environment", "teacher_key", "data"]] for table in shown if "teacher_key" in table]
    if not shown:
        return
    runs, store = pd.concat(shown).drop_duplicates(), Store()
    for name, own in runs.groupby("data"):
        found = [sources.found(run.key, store, run.environment) for run in own.itertuples()]
        made = [run.key for run, row in zip(own.itertuples(), found, strict=True) if row is None]
        made += [key for key in own["teacher_key"].dropna().unique() if store.has(key) and key not in made]
        rows, lost = merging.rows_of(store, made)
        if lost:
            raise SpecError(f"Not published: run {min(lost)} cannot be written to the ledger: {lost[min(lost)]}")
        path = rows_of_all / f"{profile}-{datasheet.file_name(name)}{ledger.SUFFIX}"
        ledger.add(path, [*filter(None, found), *rows])
