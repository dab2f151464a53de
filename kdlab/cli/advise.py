"""``kdlab advise``: what the map says of a plan, or which augmentation to distil with on one's own images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdlab import data as datasets
from kdlab import lab, settings
from kdlab.cli.distil import check_lengths, taught_by_file
from kdlab.errors import SpecError
from kdlab.lab.networks import describe_checkpoints
from kdlab.perspectives import advice, own_images


def of_map(images: int | None, epochs: float | None, teacher_saw: float | None, figures: Path | None) -> str:
    """What the map says; see ``kdlab.perspectives.advice.advise``.

    Raises:
        SpecError: without images and epochs, for numbers out of range, or without a map.
    """
    for name, value in (("--images", images), ("--epochs", epochs)):
        if value is None:
            asked = "`kdlab advise --images 1500 --epochs 80` or `kdlab advise folder:PATH`"
            raise SpecError(f"{name} is missing: ask as in {asked}.")
    return advice.advise(images, epochs, teacher_saw, figures)


def of_images(name: str, given: Mapping[str, Any], *, workers: int | None, only_plan: bool, out: Path | None) -> str:
    """Train what the question takes, and answer it in words; the folder to keep is written.

    Args:
        name: ``folder:PATH`` or any data set.
        given: teacher, arch, teacher_classes, student, augmentations (comma-separated), seeds, epochs; None leaves one.
        workers: processes.
        only_plan: say what would be trained, and stop.
        out: folder to write; None takes ``own/<data>`` in the output folder.

    Raises:
        SpecError: for what cannot run, before anything trains.
    """
    settings.check()
    check_lengths(given)
    name = datasets.absolute(name)
    file = taught_by_file(given["teacher"], given["arch"], given["teacher_classes"], name)
    options = {key: given[key] for key in ("student", "seeds", "epochs") if given[key] is not None}
    if file or given["teacher"]:
        options["teacher"] = file or given["teacher"]
    if given["augmentations"]:
        options["augmentations"] = tuple(filter(None, (part.strip() for part in given["augmentations"].split(","))))
    study = own_images.own_images(name, **options)
    if only_plan:
        todo = lab.plan(study.specs, workers=settings.workers(workers))
        b = study.profile.budget
        length = f"{b.amount:g} epochs of a student, {b.originals_per_step} originals a step; --epochs sets others"
        return "\n  ".join([todo.describe(fit=True), *describe_checkpoints(todo.todo), length])
    lab.run(study.specs, workers=workers)
    table = study.table()
    place = own_images.keep(study, table, own_images.command(name, given), out)
    return f"{own_images.answer(study, table).text}\n\nkept in {place}"
