"""The cohort loop: arms with the same data, subset, seed and originals per step, trained in lockstep.

Every distinct view of a step is made once and passes each teacher once; an arm is a selection of rows from them. Random
draws come from counters, so a run's result does not depend on the other runs of its cohort, nor on being interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kdlab import metrics
from kdlab.models.frozen import frozen
from kdlab.rng import global_stream
from kdlab.spec import CURVE_POINTS
from kdlab.training.fusion.stepper import FusedStepper
from kdlab.training.gpu.stepper import DeviceStepper
from kdlab.training.runtime import deterministic, evaluating, interrupts_held, keep_memory, one_thread
from kdlab.training.student import Arm
from kdlab.training.views import Views


class Stopped(Exception):
    """Training was asked to stop; checkpoints of all arms are on disk."""


@dataclass(frozen=True)
class Result:
    """A finished run: final numbers, training curve, logits of val and test, weights of student and method."""

    numbers: dict[str, Any]
    curve: list[dict[str, float]]
    logits: dict[str, np.ndarray]
    student: dict[str, torch.Tensor]
    method: dict[str, torch.Tensor]


def predict(model: torch.nn.Module, images, predictor=None, rows: int | None = None) -> np.ndarray:
    """Logits of a whole ImageSet, in eval mode and without gradients.

    Args:
        model: the network; its training mode is restored afterwards.
        images: an ImageSet.
        predictor: ``method.predict`` where inference differs from calling the model.
        rows: images in a forward pass; None takes 500, on a GPU 5,000.

    Returns:
        float32 array (N, K).
    """
    where, parts, quick = next(model.parameters()).device, [], None
    rows = rows or (5000 if where.type == "cuda" else 500)
    with global_stream(0, "predict", device=str(where)), evaluating(model):  # a foreign model may draw in eval mode
        images.expect(torch.arange(len(images)))
        for start in range(0, len(images), rows):
            index = torch.arange(start, min(start + rows, len(images)))
            x = images.normalise(images.batch(index).to(where))
            quick = quick or frozen(model, x)
            parts.append((predictor(quick, x) if predictor else quick(x)).float())
    return torch.cat(parts).cpu().numpy()  # where this is a GPU, it is waited for once


def train(
    arms: list[Arm],
    splits,
    views: Views | Mapping[str, Views],
    *,
    restore: Callable[[Arm], None],
    save: Callable[[Arm], None],
    finish: Callable[[Arm, Result], None],
    beat: Callable[[list[Arm]], bool],
) -> None:
    """Train a cohort to the end.

    Args:
        arms: runs with as many originals a step; not built yet.
        splits: train, val and test sets; val is measured along the way, test once at the end.
        views: the maker of views on the subset that all arms share; on a GPU each arm may have others, by its key.
        restore: loads an arm's checkpoint, if there is one.
        save: writes an arm's checkpoint.
        finish: takes an arm's result as soon as it has one.
        beat: called about every step, on a GPU every 32; returns True when training should stop.

    Raises:
        Stopped: when ``beat`` asked for it; all unfinished arms have been saved.
        KeyboardInterrupt: on Ctrl-C, likewise.
    """
    shape = splits.train.images.shape[1]
    keep_memory()
    of = {arm.key: views[arm.key] if isinstance(views, Mapping) else views for arm in arms}
    every = list(dict.fromkeys(of.values()))
    with one_thread(), deterministic(str(every[0].device)):
        for arm in arms:
            restore(arm.build(of[arm.key], len(splits.train.classes), shape))
        waiting, stopping, stepper = list(arms), False, stepper_of(every)
        with interrupts_held() as interrupted:
            while waiting and not stopping:
                step = min(arm.step for arm in waiting)
                moved = [arm for arm in waiting if arm.step == step]
                for one in dict.fromkeys(arm.views for arm in moved):
                    one.at(step)
                stepper.step(moved)
                if not stepper.read(interrupted() or any(map(_due, moved))):
                    continue
                for arm in moved:
                    _validate(arm, splits)
                for arm in [a for a in waiting if not a.active]:
                    finish(arm, _result(arm, splits))
                    waiting.remove(arm)
                stopping = interrupted() or (waiting and beat(waiting))
            for arm in waiting:
                save(arm)
        if interrupted():
            raise KeyboardInterrupt
        if waiting:
            raise Stopped(f"stopped at step {step}; {len(waiting)} unfinished runs keep their checkpoints")


def stepper_of(views: Sequence[Views]) -> FusedStepper | DeviceStepper:
    """What takes the steps of a cohort: on a GPU without waiting for any, elsewhere with the bits of separate steps.

    Args:
        views: of its arms, each once; several on a GPU alone.
    """
    if views[0].device.type == "cuda":
        return DeviceStepper(views[0].device)
    (shared,) = views
    return FusedStepper(shared)


def _due(arm: Arm) -> bool:
    """Whether an arm has come to a point of its curve, or to its end."""
    every = max(1, arm.total_steps // CURVE_POINTS)
    return not arm.active or (arm.step % every == 0 and arm.total_steps - arm.step >= every // 2)


def _validate(arm: Arm, splits) -> None:
    """Add a point to an arm's curve, CURVE_POINTS times in a run; the last one is the result's."""
    if arm.active and _due(arm):
        logits = _evaluate(arm, splits.val)
        arm.record(val_accuracy=100 * metrics.accuracy(logits, splits.val.labels.numpy()))


def _evaluate(arm: Arm, images) -> np.ndarray:
    started = time.perf_counter()
    logits = predict(arm.student, images, arm.method.predict)
    arm.evaluation_seconds += time.perf_counter() - started
    arm.evaluated_images += len(images)
    return logits


def _result(arm: Arm, splits) -> Result:
    """Score a run at its last step. The last epoch is what is reported, never the best one."""
    logits = {split: _evaluate(arm, getattr(splits, split)) for split in ("val", "test")}
    if arm.diverged_at is None and not all(np.isfinite(values).all() for values in logits.values()):
        arm.diverged_at = arm.step  # the last step broke it, after its loss was looked at
    diverged = arm.diverged_at is not None
    numbers = {
        "steps": arm.step,
        "student_images": arm.student_images,
        "teacher_forwards": arm.teacher_forwards,
        "seconds": round(arm.seconds, 3),
        "diverged": diverged,
        "diverged_at": arm.diverged_at,
        "parameters": sum(p.numel() for p in arm.student.parameters()),
        "method_parameters": sum(p.numel() for p in arm.method.parameters() if p.requires_grad),
    }
    for split, values in logits.items():
        labels = getattr(splits, split).labels.numpy()
        numbers |= {
            f"{split}_accuracy": float("nan") if diverged else 100 * metrics.accuracy(values, labels),
            f"{split}_nll": float("nan") if diverged else metrics.nll(values, labels),
            f"{split}_ece": float("nan") if diverged else metrics.calibration_error(values, labels),
            f"{split}_entropy": float("nan") if diverged else metrics.entropy(values),
        }
    arm.record(val_accuracy=numbers["val_accuracy"])
    return Result(numbers, arm.curve, logits, arm.student.state_dict(), arm.method.state_dict())
