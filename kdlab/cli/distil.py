"""``kdlab run``: one distillation at some seeds, without a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from kdlab import data as datasets
from kdlab import lab, perspectives, settings
from kdlab.errors import SpecError, check_integer
from kdlab.foreign import split_options, weightfile
from kdlab.lab.checkpoint import checkpoint
from kdlab.lab.networks import describe_checkpoints
from kdlab.lab.query import show
from kdlab.lab.teachers import PoorTeacher
from kdlab.perspectives import recipes
from kdlab.perspectives.notebook_parameters import MOST_SEEDS
from kdlab.registry import catalogue
from kdlab.spec import Checkpoint, RunSpec


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
    check_integer("seeds", seeds, 1, MOST_SEEDS)
    check_lengths(given)
    size, spec = _resolved(method, profile, given)
    specs = [spec.at_seed(s) for s in range(seed, seed + seeds)]
    specs = [*(s.teacher for s in specs if isinstance(s.teacher, RunSpec)), *specs]
    workers, said = size.workers if workers is None else workers, perspectives.lengths(size)
    if only_plan:
        todo = lab.plan(specs, workers=settings.workers(workers))
        print(todo.describe(), *describe_checkpoints(todo.todo), *filter(None, [said]), sep="\n  ")
        return None
    try:
        return lab.run(specs, workers=workers, require_teacher=size.requires_teacher, note=said)
    except PoorTeacher as error:
        print(show(error.table))
        raise


def _resolved(method: str, profile: str | None, given: Mapping[str, Any]) -> tuple[perspectives.Profile, RunSpec]:
    """The profile with what was given, and the spec of the first seed."""
    size = perspectives.profile(profile)
    name = datasets.absolute(given["data"]) if given["data"] else size.data
    file = taught_by_file(given["teacher"], given["arch"], given.get("teacher_classes"), name)
    size = size.replace(
        data=given["data"], student=given["student"], teacher=None if file else given["teacher"],
        fractions=(*size.fractions, given["fraction"]), originals=given["originals"], epochs=given["epochs"],
        teacher_epochs=given["teacher_epochs"],
    )  # fmt: skip
    spec = recipes.method(size, method, {}).replace(fraction=given["fraction"])
    if ":" in method and spec.teacher is None:
        spec = spec.replace(teacher=recipes.teacher(size))  # foreign code may not say what it needs
    spec = _taught_by(file, spec)
    if given["ratio"] and given["augmentation"] == "weak":
        raise SpecError(f"--ratio {given['ratio']:g} needs an --augmentation other than weak.")
    spec = recipes.with_views(spec, size, given["augmentation"], given["views"], given["ratio"])
    epochs, steps = given["epochs"], given["steps"]
    if epochs is not None and steps is not None:
        raise SpecError(f"--epochs and --steps exclude each other, but got {epochs:g} and {steps}.")
    if epochs is not None:
        spec = spec.replace(budget=size.budget)
    if steps is not None:
        spec = spec.replace(budget=replace(size.budget, amount=steps, unit="steps"))
    return size, spec


def _taught_by(file: Checkpoint | None, spec: RunSpec) -> RunSpec:
    """The spec with the file's network in the place of its teacher's, prepared as that one would be."""
    if file is None or not isinstance(spec.teacher, RunSpec):
        return spec
    prepared = spec.teacher.replace(model=file.arch, model_options=file.options, teacher=file)
    return spec.replace(teacher=prepared if spec.teacher.teacher is not None else file)


def taught_by_file(teacher: str | None, arch: str | None, order: str | None, name: str) -> Checkpoint | None:
    """The file of weights that ``--teacher`` names, with its classes; None where it names a model to train.

    Args:
        teacher, arch, order: ``--teacher``, ``--arch``, ``--teacher-classes``.
        name: the data set.

    Raises:
        SpecError: for a file that is none of weights, or an order of classes without a file.
    """
    file = _checkpoint(teacher, arch)
    if order and not file:
        raise SpecError(f"--teacher-classes {order!r} is for a teacher from a file: --teacher FILE --arch MODEL.")
    if order:
        from kdlab.models.heads import order_of

        file = replace(file, classes=order_of(order, file.path, name))
    return file


def check_lengths(given: Mapping[str, Any]) -> None:
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
    name, options = split_options(arch) if arch else (None, None)
    return checkpoint("--teacher", teacher, name, options or None)
