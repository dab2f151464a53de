"""What the commands do: all figures in one go, one distillation, the store's table, comparison, check-up."""

from __future__ import annotations

import concurrent.futures as futures
import json
import math
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from kdlab import data as datasets
from kdlab import lab, perspectives, settings, stats
from kdlab.cli import tables
from kdlab.errors import SpecError, choose
from kdlab.foreign import split, weightfile
from kdlab.lab.checkpoint import checkpoint
from kdlab.lab.damage import Damaged
from kdlab.lab.query import find_key, show
from kdlab.lab.store import Store
from kdlab.lab.teachers import PoorTeacher
from kdlab.lab.worker import TAUGHT, read
from kdlab.paths import home
from kdlab.perspectives import recipes
from kdlab.registry import catalogue
from kdlab.report import notebooks, pages
from kdlab.spec import Checkpoint, RunSpec


def figures(
    names: Sequence[str] | None,
    profile: str | None,
    given: dict[str, Any],
    parameters: Sequence[str],
    *,
    workers: int | None = None,
    only_plan: bool = False,
) -> bool:
    """Train the union of what the perspectives need, and run each notebook as soon as its runs exist.

    Args:
        names: perspectives; None means all of them.
        profile: smoke, quick, full or paper.
        given: profile fields to change (data, teacher, student, seeds, epochs, steps, originals, teacher_epochs);
            None leaves one alone.
        parameters: ``key=value`` strings for the notebooks.
        workers: processes; None takes the profile's number.
        only_plan: describe the work and stop.

    Returns:
        True when every notebook reached its done marker.
    """
    settings.check()
    started = time.monotonic()
    _check_lengths(given)
    given = {k: v for k, v in given.items() if v is not None}
    names = [choose("perspective", n, perspectives.NAMES) for n in dict.fromkeys(names or perspectives.NAMES)]
    extra = {name: notebooks.check(notebooks.NOTEBOOKS / f"{name}.ipynb", parameters) for name in names}
    if reserved := {"profile", "out_dir"} & {key for values in extra.values() for key in values}:
        raise SpecError(f"-p {min(reserved)}=... is for papermill alone; here --profile, and KDLAB_OUT for the folder.")
    studies = {name: perspectives.study(name, profile, **given | extra[name]) for name in names}
    size = studies[names[0]].profile
    for name, study in studies.items():  # a notebook's kernel stands elsewhere
        extra[name] = {key: study.profile.data if key == "data" else value for key, value in extra[name].items()}
    if "data" in given:
        given["data"] = datasets.absolute(given["data"])
    said = "\n".join(dict.fromkeys(filter(None, (perspectives.lengths(s.profile) for s in studies.values()))))
    workers = size.workers if workers is None else workers
    groups = _stages(studies)
    if only_plan:
        todo = lab.plan(*groups, workers=workers or os.cpu_count() or 1)
        print(todo.describe(), *filter(None, [said]), sep="\n")
        return True
    folder = home() / size.name
    wanted = {name: {lab.run_key(s) for s in study.specs} for name, study in studies.items()}
    press = Press(size.name, folder, given, extra, started)
    try:
        lab.run(
            *groups, workers=workers, require_teacher=size.requires_teacher, said=said,
            after=lambda keys: press.start(n for n in names if wanted[n] <= keys),
        )  # fmt: skip
    finally:
        outcomes = press.finish()
    pages.lessons(folder)
    page = pages.gallery(folder)
    failed = [o.name for o in outcomes if o.error]
    print(f"\ngallery: {page}   ({time.monotonic() - started:.0f} s in all)")
    if failed:
        print(f"failed: {', '.join(failed)}; see {folder / 'notebooks'}", file=sys.stderr)
    return not failed


def _stages(studies: dict[str, perspectives.Study]) -> list[list[RunSpec]]:
    """The first notebook should appear soon; later ones are trained two by two, which shares views and passes."""
    names = list(studies)
    stages = [names[:1], *(names[i : i + 2] for i in range(1, len(names), 2))]
    return [[spec for name in stage for spec in studies[name].specs] for stage in stages]


class Press:
    """Runs notebooks in threads while training goes on; each notebook is a kernel of its own.

    Args:
        profile: name of the profile.
        folder: where notebooks and figures go.
        given: parameters that all notebooks get.
        extra: further parameters by notebook.
        started: clock at the start, for the times printed.
    """

    def __init__(self, profile: str, folder: Path, given: dict, extra: dict[str, dict], started: float):
        self.profile, self.folder, self.given, self.extra, self.started = profile, folder, given, extra, started
        self.pool = futures.ThreadPoolExecutor(2)
        self.jobs: dict[str, futures.Future] = {}
        self.lock = threading.Lock()

    def start(self, names) -> None:
        """Run the notebooks that have not been started."""
        for name in names:
            if name not in self.jobs:
                self.jobs[name] = self.pool.submit(self._print, name)

    def _print(self, name: str) -> notebooks.Outcome:
        outcome = notebooks.run_notebook(name, self.profile, self.folder, self.given | self.extra[name])
        minutes, seconds = divmod(round(time.monotonic() - self.started), 60)
        with self.lock:
            said = f"FAILED: {outcome.error}" if outcome.error else self._verdict(name)
            print(f"\n[{minutes:02d}:{seconds:02d}] {name}: {said}", flush=True)
            pages.gallery(self.folder)
        return outcome

    def _verdict(self, name: str) -> str:
        path = self.folder / "figures" / f"{name}.verdict.json"
        return json.loads(path.read_text())["overall"] if path.exists() else "done"

    def finish(self) -> list[notebooks.Outcome]:
        """Wait for all notebooks."""
        self.pool.shutdown(wait=True)
        return [job.result() for job in self.jobs.values()]


def distil(
    method: str,
    profile: str | None,
    *,
    seed: int,
    seeds: int,
    workers: int | None,
    only_plan: bool = False,
    **given: Any,
) -> pd.DataFrame | None:
    """Train one student (and its teacher) at some seeds.

    Args:
        method: registered name or ``module:Class``.
        profile: supplies everything that is not given.
        seed: the first seed.
        seeds: how many seeds, >= 1.
        workers: processes.
        only_plan: describe the work and stop.
        **given: data, teacher (model name or checkpoint file), arch, teacher_classes (how the file's classes map to the
            data's, see ``kdlab.models.heads.order_of``), student, augmentation, views, ratio, fraction; epochs or steps
            of the student, teacher_epochs, originals a step of both; None leaves the profile's.

    Returns:
        One row per run, teachers first; None after a plan.

    Raises:
        SpecError: for what cannot run.
        PoorTeacher: when a teacher is not above chance, after its row has been printed.
    """
    settings.check()
    if seeds < 1:
        raise SpecError(f"seeds must be an integer of at least 1, but got {seeds}.")
    _check_lengths(given)
    teacher, arch, order = given.pop("teacher"), given.pop("arch"), given.pop("teacher_classes", None)
    file = _checkpoint(teacher, arch)
    if order and not file:
        raise SpecError(f"--teacher-classes {order!r} is for a teacher from a file: --teacher FILE --arch MODEL.")
    size = perspectives.profile(profile)
    size = size.replace(
        data=given["data"], student=given["student"], teacher=None if file else teacher,
        fractions=(*size.fractions, given["fraction"]), originals=given["originals"], epochs=given["epochs"],
        teacher_epochs=given["teacher_epochs"],
    )  # fmt: skip
    spec = recipes.method(size, method, {}).replace(fraction=given["fraction"])
    if ":" in method and spec.teacher is None:
        spec = spec.replace(teacher=recipes.teacher(size))  # foreign code may not say what it needs
    if file and isinstance(spec.teacher, RunSpec):
        if order:
            from kdlab.models.heads import order_of

            file = replace(file, classes=order_of(order, file.path, size.data))
        first = spec.teacher.replace(model=file.arch, model_options=file.options, teacher=file)
        spec = spec.replace(teacher=first if spec.teacher.teacher is not None else file)
    if given["ratio"] and given["augmentation"] == "weak":
        raise SpecError(f"--ratio {given['ratio']:g} needs an --augmentation other than weak.")
    spec = recipes.viewed(spec, size, given["augmentation"], given["views"], given["ratio"])
    if given["epochs"] is not None and given["steps"] is not None:
        raise SpecError(f"--epochs and --steps exclude each other, but got {given['epochs']:g} and {given['steps']}.")
    if given["epochs"] is not None:
        spec = spec.replace(budget=size.budget)
    if given["steps"] is not None:
        spec = spec.replace(budget=replace(size.budget, amount=given["steps"], unit="steps"))
    specs = [spec.at_seed(s) for s in range(seed, seed + seeds)]
    teachers = [s.teacher for s in specs if isinstance(s.teacher, RunSpec)]
    workers, said = size.workers if workers is None else workers, perspectives.lengths(size)
    if only_plan:
        todo = lab.plan([*teachers, *specs], workers=workers or os.cpu_count() or 1)
        told = read(todo.specs[k] for k in todo.missing)
        print(todo.describe(), *filter(None, [*told, said]), sep="\n  ")
        return None
    try:
        return lab.run([*teachers, *specs], workers=workers, require_teacher=size.requires_teacher, said=said)
    except PoorTeacher as error:
        print(show(error.table))
        raise


def _check_lengths(given: Mapping[str, Any]) -> None:
    """Refuse a length that is none by the name of the option that was typed."""
    for name in ("epochs", "teacher_epochs", "steps", "originals"):
        if (value := given.get(name)) is not None and not 0 < value < math.inf:
            raise SpecError(f"--{name.replace('_', '-')} must be a number above 0, but got {value:g}.")


def _checkpoint(teacher: str | None, arch: str | None) -> Checkpoint | None:
    """The file that ``--teacher`` names; None where it names a model to train."""
    if arch is not None and not teacher:
        raise SpecError(f"--teacher must be a file of weights when --arch is given, but got {teacher!r}.")
    if arch is None and not (teacher and teacher not in catalogue("models") and weightfile.means_file(teacher)):
        return None
    name, options = split(arch) if arch else (None, None)
    return checkpoint("--teacher", teacher, name, options or None)


def compare(first: str, second: str) -> str:
    """The fields in which two runs differ, and their paired test over common seeds.

    Args:
        first: key, or its beginning.
        second: the run it is compared with.
    """
    store = Store()
    everything = lab.table(store=store)  # sets aside what cannot be read
    keys, found = [find_key(k) for k in (first, second)], {}
    for key in everything.index:
        try:
            found[key] = RunSpec.from_dict(store.read(key, "spec")["spec"])
        except SpecError:  # of another version
            if key in keys:
                raise
    specs = [found[key] for key in keys]
    plain = [_flat(s.to_dict()) for s in specs]
    lines = ["the specs differ in:"]
    names = sorted({*plain[0], *plain[1]})
    lines += [f"  {n}: {plain[0].get(n)} | {plain[1].get(n)}" for n in names if plain[0].get(n) != plain[1].get(n)]
    rows = []
    for label, spec in zip(("first", "second"), specs, strict=True):
        same = [key for key, other in found.items() if _seedless(other) == _seedless(spec)]
        rows.append(everything.loc[same].assign(arm=label))
    table = pd.concat(rows)
    common = set(table[table.arm == "first"].seed) & set(table[table.arm == "second"].seed)
    if len(common) < 2:
        return "\n".join([*lines, f"only {len(common)} common seed(s): no interval. `kdlab run --seeds N` adds some."])
    return "\n".join([*lines, stats.paired(table, "first", "second").reason])


def _flat(plain: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in plain.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _seedless(spec: RunSpec) -> dict:
    return spec.at_seed(0).to_dict()


def doctor() -> str:
    """Versions, device, data, disk, and the runs in the store."""
    import torch

    from kdlab.training import device
    from kdlab.training.teacher_cache import limit

    def told(ask) -> str:
        try:
            return ask()
        except SpecError:
            return "(see environment)"

    store = Store()
    keys = store.keys()
    bad = {key: files for key in keys if (files := store.damaged(key))}
    for key, files in bad.items():
        store.set_aside(Damaged(key, ", ".join(files), "no longer match their checksums"))
    free = shutil.disk_usage(next(p for p in (home(), *home().parents) if p.exists())).free / 2**30
    names = ("kdlab", "torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib", "papermill", "jupyterlab")
    lines = [f"python {platform.python_version()} on {platform.system()} {platform.machine()}"]
    lines.append("  ".join(f"{name} {version(name)}" for name in names))
    lines += [f"environment: {fault}" for fault in settings.faults()]
    threads = f"torch threads in a run: 1 (of {torch.get_num_threads()})"
    lines.append(f"device {told(device)}, {os.cpu_count()} cores, {threads}")
    lines += [tables.data_line(name) for name in datasets.READERS]
    lines.append(f"output {home()}: {free:.1f} GiB free, {'writable' if _writable(home()) else 'NOT WRITABLE'}")
    lines.append(f"store: {len(keys) - len(bad)} finished runs, {len(bad)} damaged and set aside")
    lines += [f"  damaged {key}: {', '.join(files)}" for key, files in bad.items()]
    kept = sum(path.stat().st_blocks * 512 for path in (store.root / TAUGHT).glob("*"))
    most = told(lambda: f"{limit() / 1e9:g} GB")
    lines.append(f"kept teacher outputs: {kept / 1e9:.2f} of at most {most} (KDLAB_TEACHER_GB)")
    seen = sum(path.stat().st_size for path in (home() / "data").glob("*.pixels"))
    lines.append(f"kept images of folders: {seen / 1e9:.2f} GB in {home() / 'data'}, made again when deleted")
    parts = ", ".join(f"{len(catalogue(kind))} {kind}" for kind in ("models", "augment", "losses"))
    return "\n".join([*lines, f"registered: {parts}"])


def _writable(folder: Path) -> bool:
    return os.access(next(p for p in (folder, *folder.parents) if p.exists()), os.W_OK)
