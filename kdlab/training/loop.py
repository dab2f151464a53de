"""The cohort loop: arms with the same data, subset, seed and originals per step, trained in lockstep.

Every distinct view of a step is made once and passes each teacher once; an arm is a selection of rows from them. What
is random comes from counters, so a run's result does not depend on who else is in the cohort, and a run that was
stopped goes on as if it had not been.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kdlab import metrics, settings
from kdlab.errors import SpecError
from kdlab.rng import global_stream
from kdlab.training.fusion.stepper import Abreast
from kdlab.training.student import Arm
from kdlab.training.views import Views

CURVE_POINTS = 4


class Stopped(Exception):
    """Training was asked to stop; checkpoints of all arms are on disk."""


@dataclass(frozen=True)
class Result:
    """What a finished run leaves: numbers, logits, weights."""

    numbers: dict[str, Any]
    curve: list[dict[str, float]]
    logits: dict[str, np.ndarray]
    student: dict[str, torch.Tensor]
    method: dict[str, torch.Tensor]


def device() -> str:
    """``$KDLAB_DEVICE``, else the first of cuda and cpu that is there.

    Raises:
        SpecError: when the variable names no device, or one that torch does not find.
    """
    said = os.environ.get("KDLAB_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    settings.device(said)
    kind, _, number = said.partition(":")
    found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(number or 0) >= found:
        what = f"only {found} of the kind" if found else f"no {kind} device"
        raise SpecError(f"KDLAB_DEVICE is {said!r}, but torch finds {what} here; unset it to take what there is.")
    return said


def keep_memory() -> None:
    """Ask the C library not to hand a step's temporaries back to the system after every step.

    Fetching the same pages anew in each step costs a tiny student a fifth of its time. Where there is no such switch
    (it is glibc's), nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        trim, mmap = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
        mallopt(trim, 1 << 30)
        mallopt(mmap, 1 << 30) or mallopt(mmap, 1 << 25)  # older ones take 32 MiB at most


@contextlib.contextmanager
def one_thread():
    """Train on one torch thread: tiny networks are no faster on two, and sums keep their order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def deterministic(where: str):
    """Where ``$KDLAB_DETERMINISTIC`` is 1, have a GPU give the same bits twice, with slower kernels; a CPU does anyway.

    Args:
        where: the device that trains.
    """
    if not where.startswith("cuda") or os.environ.get("KDLAB_DETERMINISTIC", "0") != "1":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


@contextlib.contextmanager
def interrupts_held():
    """Hold Ctrl-C back until the arms stand between two steps: a network saved in mid-step cannot go on bit for bit.

    Only signals that would raise KeyboardInterrupt are held, so a worker told to ignore them goes on ignoring them.

    Yields:
        A function that tells whether Ctrl-C came. A second one does not wait.
    """
    came = []

    def hold(number, frame):
        if came:
            raise KeyboardInterrupt
        came.append(number)

    main = threading.current_thread() is threading.main_thread()
    raising = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is signal.default_int_handler]
    for number in raising if main else ():
        signal.signal(number, hold)
    try:
        yield lambda: bool(came)
    finally:
        for number in raising if main else ():
            signal.signal(number, signal.default_int_handler)


def predict(model: torch.nn.Module, images, predictor=None, rows: int = 500) -> np.ndarray:
    """Logits of a whole ImageSet, in eval mode and without gradients.

    Args:
        model: the network; its training mode is restored afterwards.
        images: an ImageSet.
        predictor: ``method.predict`` where inference differs from calling the model.
        rows: images in a forward pass.

    Returns:
        float32 array (N, K).
    """
    where = next(model.parameters()).device
    training = model.training
    model.eval()
    parts = []
    with global_stream(0, "predict", device=str(where)), torch.no_grad():  # a foreign model may draw even in eval mode
        for start in range(0, len(images), rows):
            index = torch.arange(start, min(start + rows, len(images)))
            x = images.normalise(images.batch(index).to(where))
            parts.append((predictor(model, x) if predictor else model(x)).float().cpu())
    model.train(training)
    return torch.cat(parts).numpy()


def train(
    arms: list[Arm],
    splits,
    views: Views,
    *,
    restore: Callable[[Arm], None],
    save: Callable[[Arm], None],
    finish: Callable[[Arm, Result], None],
    beat: Callable[[list[Arm]], bool],
) -> None:
    """Train a cohort to the end.

    Args:
        arms: runs that share ``views``; not built yet.
        splits: train, val and test sets; val is measured along the way, test once at the end.
        views: the maker of views on the cohort's subset.
        restore: loads an arm's checkpoint, if there is one.
        save: writes an arm's checkpoint.
        finish: takes an arm's result as soon as it has one.
        beat: called about every step; returns True when training should stop.

    Raises:
        Stopped: when ``beat`` asked for it; all unfinished arms have been saved.
        KeyboardInterrupt: on Ctrl-C, likewise.
    """
    shape = splits.train.images.shape[1]
    keep_memory()
    with one_thread(), deterministic(str(views.device)):
        for arm in arms:
            restore(arm.build(views, len(splits.train.classes), shape))
        waiting, stopping, abreast = list(arms), False, Abreast(views)
        with interrupts_held() as interrupted:
            while waiting and not stopping:
                step = min(arm.step for arm in waiting)
                views.at(step)
                moved = [arm for arm in waiting if arm.step == step]
                abreast.step(moved)
                for arm in moved:
                    _look(arm, splits)
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


def _look(arm: Arm, splits) -> None:
    """Measure an arm on val, if it is time."""
    every = max(1, arm.total // CURVE_POINTS)
    if arm.active and arm.step % every == 0 and arm.total - arm.step >= every // 2:
        logits = _evaluate(arm, splits.val)
        arm.record(val_accuracy=100 * metrics.accuracy(logits, splits.val.labels.numpy()))


def _evaluate(arm: Arm, images) -> np.ndarray:
    started = time.perf_counter()
    logits = predict(arm.student, images, arm.method.predict)
    arm.evaluation += time.perf_counter() - started
    arm.looked_at += len(images)
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
        }
    arm.record(val_accuracy=numbers["val_accuracy"])
    return Result(numbers, arm.curve, logits, arm.student.state_dict(), arm.method.state_dict())
