"""``kdlab figures``: train what the perspectives need, and run each notebook as soon as its runs exist."""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from kdlab import data as datasets
from kdlab import lab, perspectives, settings
from kdlab.cli import cluster, looking
from kdlab.cli.distil import check_lengths
from kdlab.errors import SpecError, Unfit, choose
from kdlab.lab.measured import lacking
from kdlab.perspectives.places import folder
from kdlab.report import notebooks, pages
from kdlab.report.overview import draw_overview
from kdlab.spec import RunSpec
from kdlab.stats import health_line


def figures(
    names: Sequence[str] | None,
    profile: str | None,
    given: dict[str, Any],
    parameters: Sequence[str],
    *,
    workers: int | None = None,
    cluster_name: str | None = None,
    only_plan: bool = False,
    until: str | None = None,
    at_most: str | None = None,
) -> bool:
    """Train the union of what the perspectives need, and run each notebook as soon as its runs exist.

    With ``until``, whole seeds are added while looking, and the notebooks are run at the end (``kdlab.cli.looking``).

    Args:
        names: perspectives; None means those of the profile.
        profile: smoke, quick, standard, full or paper.
        given: profile fields to change (data, teacher, student, seeds, epochs, steps, originals, teacher_epochs);
            None leaves one alone.
        parameters: ``key=value`` strings for the notebooks.
        workers: processes; None takes the profile's number, or as many as a cluster has.
        cluster_name: of the Dask cluster that trains (``kdlab.cli.cluster``); None trains by processes of this machine.
        only_plan: describe the work and stop.
        until: ``"decided"`` adds seeds until every claim is.
        at_most: a length of time such as ``2h``, after which none is added; goes with ``until``.

    Returns:
        True when every notebook reached its done marker.
    """
    started = time.monotonic()
    settings.check()
    check_lengths(given)
    limit = looking.time_limit(until, at_most)
    number = cluster.read(cluster_name, workers) if cluster_name else workers
    given = {k: v for k, v in given.items() if v is not None}
    asked = names or perspectives.profile(profile).perspectives or perspectives.NAMES
    asked = [choose("perspective", name, perspectives.NAMES) for name in dict.fromkeys(asked)]
    extra = _parameters(asked, parameters)
    studies, left_out = _studies(asked, profile, {name: given | extra[name] for name in asked}, bool(names))
    names = list(studies)
    for name, study in studies.items():  # a notebook's kernel stands elsewhere
        extra[name] = {key: study.profile.data if key == "data" else value for key, value in extra[name].items()}
    if "data" in given:
        given["data"] = datasets.absolute(given["data"])
    size = studies[names[0]].profile
    stages = _stages(studies, size.whole_seeds)
    lengths = (perspectives.lengths(study.profile) for study in studies.values())
    measured = {name: lacking(study.specs, study.measures) for name, study in studies.items()}
    later = [f"{name}: {words}" for name, words in measured.items() if words]
    said = "\n".join([*dict.fromkeys(filter(None, lengths)), *left_out, *later])
    number = size.workers if number is None and not cluster_name else number
    if only_plan:
        processes = 1 if cluster_name and not number else max(1, settings.workers(number))
        todo = lab.plan(*stages, workers=processes, from_ledger=True)
        more = looking.describe(studies, limit, processes, todo) if limit else ""
        script = cluster.job_script() if cluster_name == "slurm" else ""
        print(todo.describe(), *filter(None, [said, more, script]), sep="\n")
        return True
    notebook_runs = NotebookRuns(size, {name: given | extra[name] for name in names}, started)
    train = partial(lab.run, workers=number, require_teacher=size.requires_teacher, note=said, from_ledger=True)
    with cluster.connected(cluster_name, workers) if cluster_name else contextlib.nullcontext() as executor:
        train = partial(train, executor=executor)
        if limit:
            return _looked(notebook_runs, looking.until_decided(studies, stages, limit, started, train))
        return _planned(notebook_runs, studies, stages, train)


def _studies(
    names: Sequence[str], profile: str | None, given: dict[str, dict[str, Any]], named: bool
) -> tuple[dict[str, perspectives.Study], list[str]]:
    """The studies by name, and a sentence for each perspective that is left out since it has no answer here.

    Args:
        names: perspectives.
        profile: of all.
        given: what each gets.
        named: whether somebody asked for these, none of which is then left out.
    """
    studies, left_out = {}, []
    for name in names:
        try:
            studies[name] = perspectives.study(name, profile, **given[name])
        except Unfit as error:
            if named:
                raise
            left_out.append(f"left out: {error}")
    return studies, left_out


def _planned(
    notebook_runs: NotebookRuns, studies: dict[str, perspectives.Study], stages: list[list[RunSpec]], train
) -> bool:
    """Train the studies at their own seeds, and run each notebook as soon as its runs exist.

    The first is run early at the seeds that are whole, as soon as there are two, the least that has an interval.
    """
    at = {name: {lab.run_key(spec): spec.seed for spec in study.specs} for name, study in studies.items()}
    wanted = {name: keys.keys() for name, keys in at.items()}
    first = next(iter(studies))

    def after(keys: set[str]) -> None:
        notebook_runs.start(name for name in studies if wanted[name] <= keys)
        lacking = {seed for key, seed in at[first].items() if key not in keys}
        seeds = [seed for seed in studies[first].profile.seeds if seed not in lacking]
        if lacking and len(seeds) >= 2:
            notebook_runs.look(first, seeds)

    try:
        train(*stages, after=after)
    except KeyboardInterrupt:
        _say_seeds(studies)
        raise
    finally:
        notebook_runs.wait()
    return notebook_runs.gallery()


def _looked(notebook_runs: NotebookRuns, studies: dict[str, perspectives.Study]) -> bool:
    """Run the notebooks of the studies to which seeds were added while looking, each at its own seeds."""
    for name, study in studies.items():
        notebook_runs.parameters[name] |= {"seeds": list(study.profile.seeds), "design": study.profile.design}
    try:
        notebook_runs.start(studies)
    finally:
        notebook_runs.wait()
    if few := [name for name in notebook_runs.parameters if name not in studies]:
        print(f"not drawn, with fewer than two whole seeds: {', '.join(few)}", file=sys.stderr)
    return notebook_runs.gallery() and not few


def _parameters(names: Sequence[str], parameters: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The ``-p`` parameters of each notebook; every notebook must have them all."""
    extra = {name: notebooks.check(notebooks.NOTEBOOKS / f"{name}.ipynb", parameters) for name in names}
    if reserved := {"profile", "out_dir"} & {key for values in extra.values() for key in values}:
        raise SpecError(f"-p {min(reserved)}=... is for papermill alone; here --profile, and KDLAB_OUT for the folder.")
    return extra


def _stages(studies: dict[str, perspectives.Study], whole_seeds: bool) -> list[list[RunSpec]]:
    """What is trained first: seed after seed, of all notebooks at once or of the first, then of the others.

    Otherwise the first notebook should appear soon; later ones are trained two by two, which shares views and passes.
    """
    names = list(studies)
    stages = [names] if whole_seeds else [names[:1], *(names[i : i + 2] for i in range(1, len(names), 2))]
    return [
        part
        for stage in stages
        for part in perspectives.by_seed([spec for name in stage for spec in studies[name].specs])
    ]


def _say_seeds(studies: dict[str, perspectives.Study]) -> None:
    """After an interruption: how many seeds are whole, from the first on, and how to draw these."""
    size = max((study.profile for study in studies.values()), key=lambda own: len(own.seeds))
    open_ones = (study for study in studies.values() if not study.finished)  # one with fewer seeds may be done
    there = min((len(looking.whole(study)) for study in open_ones), default=0)
    if there >= 2 and size.seeds == tuple(range(len(size.seeds))):
        print(f"{there} of {len(size.seeds)} seeds are whole: the same command with --seeds {there} draws them.")


class NotebookRuns:
    """Runs notebooks in threads while training goes on; each notebook is a kernel of its own.

    Args:
        size: the profile, with its data.
        parameters: of each notebook, by its name.
        started: clock at the start, for the times printed.
    """

    def __init__(self, size: perspectives.Profile, parameters: dict[str, dict[str, Any]], started: float):
        self.profile, self.folder, self.parameters, self.started = size.name, folder(size), parameters, started
        self.pool = futures.ThreadPoolExecutor(2)
        self.outcomes: dict[str, futures.Future[notebooks.Outcome]] = {}
        self.looks: dict[str, futures.Future[notebooks.Outcome]] = {}
        self.lock = threading.Lock()

    def start(self, names: Iterable[str]) -> None:
        """Run the notebooks that have not been started."""
        for name in names:
            if name not in self.outcomes:
                self.outcomes[name] = self.pool.submit(self._run, name)

    def look(self, name: str, seeds: list[int]) -> None:
        """Run a notebook at some of its seeds, once; ``start`` replaces what that draws."""
        if name not in self.looks:
            self.looks[name] = self.pool.submit(self._run, name, seeds)

    def _run(self, name: str, seeds: list[int] | None = None) -> notebooks.Outcome:
        if seeds is None and name in self.looks:
            self.looks[name].result()  # two that write the same files take their turns
        more = {} if seeds is None else {"seeds": seeds}
        outcome = notebooks.run_notebook(name, self.profile, self.folder, self.parameters[name] | more)
        minutes, seconds = divmod(round(time.monotonic() - self.started), 60)
        with self.lock:
            said = f"FAILED: {outcome.error}" if outcome.error else self._verdict(name)
            at = "" if seeds is None else f" at {len(seeds)} seeds"
            print(f"\n[{minutes:02d}:{seconds:02d}] {name}{at}: {said}", flush=True)
            pages.gallery(self.folder)
        return outcome

    def _verdict(self, name: str) -> str:
        path = self.folder / "figures" / f"{name}.verdict.json"
        if not path.exists():
            return "done"
        document = json.loads(path.read_text())
        return f"{health_line(document['health'])}\n  {document['overall']}"

    def wait(self) -> None:
        """Wait for all notebooks."""
        self.pool.shutdown(wait=True)

    def gallery(self) -> bool:
        """Write the lessons' pages and the gallery, and print where; True when no notebook failed."""
        pages.lessons(self.folder)
        draw_overview(self.folder / "figures")
        page = pages.gallery(self.folder)
        failed = [name for name, outcome in self.outcomes.items() if outcome.result().error]
        print(f"\ngallery: {page}   ({time.monotonic() - self.started:.0f} s in all)")
        if failed:
            print(f"failed: {', '.join(failed)}; see {self.folder / 'notebooks'}", file=sys.stderr)
        return not failed
