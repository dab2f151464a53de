"""Trained networks: loaded from the store or from a teacher's checkpoint, described, and scored before they teach."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdlab import data
from kdlab.errors import SpecError, from_json
from kdlab.foreign import weightfile
from kdlab.lab.planned import PlannedRun
from kdlab.lab.store import Store
from kdlab.lab.teachers import keep, known, measure, refused
from kdlab.lab.validation import class_names
from kdlab.registry import find
from kdlab.spec import Checkpoint, RunSpec

CLOSE = 0.05  # of means and deviations in [0, 1], as far as two sets may differ and nobody needs to know


def splits_of(spec: RunSpec) -> data.Splits:
    """The data of a run; those of the last one are kept, which mostly are the next one's too."""
    return _splits(spec.data, spec.sizes, data.fingerprint(spec.data))


@functools.lru_cache(maxsize=1)
def _splits(name: str, sizes: tuple[int, int, int] | None, fingerprint: str) -> data.Splits:
    return data.load(name, sizes=sizes)


def stored_network(key: str, spec: RunSpec, splits: data.Splits, store: Store):
    """The network of a finished run, in eval mode and without gradients.

    Args:
        key: of the run.
        spec: that it was trained by.
        splits: its data, which tell the numbers of classes and channels.
        store: where it is.
    """
    from kdlab.models import build
    from kdlab.models.matching import load_weights

    numbers = len(splits.train.classes), splits.train.images.shape[1]
    model = build(spec.model, *numbers, seed=0, **spec.model_options)
    load_weights(model, store.weights(key), spec.model)
    return model.eval().requires_grad_(False)


def predicts_alone(method: str) -> bool:
    """Whether a run of a method predicts by its student's logits alone, and not by ``Method.predict`` of its own."""
    from kdlab.losses.base import Method

    entry = find("losses", method)
    made = getattr(importlib.import_module(entry.module), entry.target)
    return getattr(made, "predict", Method.predict) is Method.predict


def teacher_network(teacher: RunSpec | Checkpoint, key: str, splits: data.Splits, store: Store):
    """The frozen network of a teacher, in eval mode.

    Raises:
        SpecError: when a checkpoint's file is missing, is another file than its digest says, or does not fit.
    """
    if isinstance(teacher, RunSpec):
        return stored_network(key, teacher, splits, store)
    import torch

    from kdlab.models import load_teacher
    from kdlab.models.heads import in_order

    weightfile.check_checkpoint(teacher)
    numbers = len(splits.train.classes), splits.train.images.shape[1]
    model = load_teacher(teacher.arch, teacher.path, *numbers, **{**teacher.options, "weights": teacher.weights})
    x = splits.val.normalise(splits.val.batch(torch.arange(len(splits.val))[:8])).cpu()
    return in_order(model, teacher.classes, splits.val.classes, x)


def describe_checkpoints(runs: Iterable[PlannedRun]) -> list[str]:
    """Read each teacher's file of weights once, so that what cannot be used is refused before the plan is shown.

    Args:
        runs: what is to be trained; those without a checkpoint are passed over.

    Returns:
        A sentence for each file: whose weights it holds, and which of them are taken.

    Raises:
        SpecError: for a file that is none of weights, or whose weights do not fit the data.
    """
    checkpoints = {(run.teacher_key, run.spec.data): run for run in runs if run.checkpoint}
    lines = []
    for run in checkpoints.values():
        from kdlab.models.checkpoints import describe

        there = data.facts(run.spec.data)
        lines.append(describe(run.checkpoint, there["classes"], there["channels"]) + _other_rule(run.spec))
    return lines


def _other_rule(spec: RunSpec) -> str:
    """A sentence where a teacher's file was trained on images normalised by other numbers than its student's are."""
    held = weightfile.metadata(Path(spec.teacher.path))
    if "mean" not in held or "std" not in held:
        return ""
    train = splits_of(spec).train
    ours = [*train.mean, *train.std]
    try:
        theirs = [float(value) for name in ("mean", "std") for value in from_json(held[name])]
    except (ValueError, TypeError):  # another program's words by the same names
        return ""
    if len(theirs) == len(ours) and all(abs(a - b) < CLOSE for a, b in zip(theirs, ours, strict=True)):
        return ""
    words = (", ".join(f"{value:.2f}" for value in values) for values in (theirs, ours))
    return " It was trained on images of mean and deviation {}; here it sees them normalised by {}.".format(*words)


def score(run: PlannedRun, store: Store) -> dict[str, Any]:
    """The score of a run's teacher on the run's val images (``teachers.measure``), found once and stored.

    Args:
        run: of the student.
        store: where the teacher's run is, and scores are stored.

    Raises:
        SpecError: when the teacher cannot be loaded.
    """
    if (found := known(run, store)) is not None:
        return found
    from kdlab.training import device, predict
    from kdlab.training.runtime import one_thread

    where = device()
    splits = splits_of(run.spec)
    model = teacher_network(run.spec.teacher, run.teacher_key, splits, store).to(where)
    with one_thread():
        logits = predict(model, splits.val.to(where))
    found = measure(logits, splits.val.labels.cpu().numpy(), splits.val.classes)
    bad = next((name for name, values in model.state_dict().items() if not values.isfinite().all()), None)
    if found["broken"] and bad:
        found["broken"] += f" (its weight {bad!r} holds numbers that are not)"
    keep(run, store, found)
    return found


def check_checkpoints(runs: Iterable[PlannedRun], store: Store) -> None:
    """Refuse checkpoints that should not teach: changed, of other classes, broken, or not above chance.

    Args:
        runs: what is to be trained; those without a checkpoint are passed over.
        store: where scores are stored.

    Raises:
        SpecError: for the first such file, with the reason.
    """
    checkpoints = {(run.teacher_key, run.spec.data, run.spec.sizes): run for run in runs if run.checkpoint}
    for run in checkpoints.values():
        from kdlab.models.heads import check_names

        weightfile.check_checkpoint(run.checkpoint)
        check_names(run.checkpoint, class_names(run.spec.data), run.spec.data)
        if problem := refused(run.checkpoint, run.spec.data, score(run, store)):
            raise SpecError(problem)
