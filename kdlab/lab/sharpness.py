"""The measure ``sharpness``: the curvature of five losses at a finished student's weights, and a slice through one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlab import data
from kdlab.errors import SpecError
from kdlab.lab.asking import JDA
from kdlab.lab.keys import run_key, teacher_key
from kdlab.lab.networks import predicts_alone, splits_of, stored_network, teacher_network
from kdlab.lab.store import Store
from kdlab.metrics import neighbourhood, sharpness
from kdlab.metrics.sharpness import Objective
from kdlab.models import outputs
from kdlab.spec import Checkpoint, RunSpec
from kdlab.training.runtime import one_thread
from kdlab.training.student import Arm
from kdlab.training.views import Views

ROWS = 64  # images of a shard, as a step has them
SHARDS = 4  # at most, the same images for all students of a seed; one for each 256 training images
TERMS = ("clean", "views", "kd_clean", "kd_views")
RHO, ADAPTIVE_RHO = 0.05, 0.5  # radii of m-sharpness: of the weights' length, and of relative changes
TOLERANCE = 1e-2  # of an eigenvalue, relative
PROBES = 16  # of a trace
SLICE = np.linspace(-1, 1, 11).tolist()  # in lengths of the filters


def measured(spec: RunSpec, store: Store) -> dict[str, float]:
    """How sharp losses are at a finished student's weights, in eval mode and float32.

    The losses, each on the same images for all students of a seed: *clean* is cross-entropy on training images as they
    are (256 of them; of fewer than a thousand about a quarter), *views* on one jointly augmented view of each;
    *kd_clean* and *kd_views* are ``T^2 KL(teacher || student)``, T = 4, on the same two; *own* is the loss that the
    student was trained on, on its own kind of views of half as many originals. These are the journal's L_ce, L_A, L_kd
    and L_T, and what the student saw of them.

    Args:
        spec: of the run, whose method has no weights of its own.
        store: where student and teacher are.

    Returns:
        For each loss ``LOSS.loss`` in nats, ``LOSS.eigenvalue``, the largest one of its Hessian, its base-2 logarithm
        ``LOSS.log2_eigenvalue``, and ``LOSS.rise`` and ``LOSS.adaptive_rise``, the m-sharpness of shards of 64
        originals in nats. For *clean* and *own* also ``adaptive_eigenvalue`` and its logarithm; for *clean* both traces
        and their standard errors, and ``slice.N``, the loss along a random direction of the filters' lengths.
        Without a teacher the losses that need one are left out. NaN for a logarithm of a value that is not positive.

    Raises:
        SpecError: for a method that learns weights or predicts by others, or a network that cannot be loaded.
    """
    if not predicts_alone(spec.method):
        raise SpecError(f"sharpness is measured of a student's logits, but {spec.method!r} predicts by others.")
    splits, digest, key = splits_of(spec), data.fingerprint(spec.data), run_key(spec)
    with one_thread():
        student = stored_network(key, spec, splits, store)
        own = _own(spec, key, student, splits, store)
        student.requires_grad_(True)
        clean, views, labels = _images(spec.data, spec.sizes, digest, spec.fraction, spec.seed)
        size = min(ROWS, len(clean))
        losses: dict[str, Objective] = {}
        for name, x in (("clean", clean), ("views", views)):
            losses[name] = Objective.of(student, x, sharpness.cross_entropy(labels), size=size)
            if spec.teacher is not None:
                told = _told(store.root, spec.teacher, name, spec.data, spec.sizes, digest, spec.fraction, spec.seed)
                losses[f"kd_{name}"] = Objective.of(student, x, sharpness.distillation(told), size=size)
        losses["own"] = own
        found: dict[str, float] = {}
        for name, loss in losses.items():
            found |= {f"{name}.{what}": value for what, value in _numbers(loss, name in ("clean", "own")).items()}
        return found | _more(losses["clean"])


def _shards(images: int) -> tuple[int, int]:
    """How many shards, and of how many images, a number of training images is looked at by."""
    return min(SHARDS, max(1, round(images / (SHARDS * ROWS)))), min(ROWS, images)


def _numbers(loss: Objective, adaptive: bool) -> dict[str, float]:
    found = {"loss": loss.value()}
    for by, prefix in ((False, ""), (True, "adaptive_"))[: 1 + adaptive]:
        value = sharpness.largest_eigenvalue(loss, adaptive=by, tolerance=TOLERANCE).value
        found |= {f"{prefix}eigenvalue": value, f"{prefix}log2_eigenvalue": math.log2(value) if value > 0 else math.nan}
    rise = functools.partial(neighbourhood.m_sharpness, loss)
    return found | {"rise": rise(RHO), "adaptive_rise": rise(ADAPTIVE_RHO, adaptive=True)}


def _more(clean: Objective) -> dict[str, float]:
    found = {}
    for by, prefix in ((False, ""), (True, "adaptive_")):
        value, error = sharpness.trace(clean, probes=PROBES, adaptive=by)
        found |= {f"clean.{prefix}trace": value, f"clean.{prefix}trace_error": error}
    heights = neighbourhood.loss_slice(clean, [neighbourhood.filter_direction(clean.parameters)], SLICE)
    return found | {f"slice.{number}": float(height) for number, height in enumerate(heights)}


@functools.lru_cache(maxsize=1)
def _images(name: str, sizes, digest: str, fraction: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The seed's images as they are and under JDA, normalised, and their labels."""
    train = splits_of(RunSpec(data=name, sizes=sizes)).train.subset(fraction, seed)
    shards, size = _shards(len(train))
    views = Views(train, seed, 0, shards * size, {}, role="sharpness")
    views.at(0)
    batch = views.batch(JDA, 0.0)
    return views.clean(), batch.x, batch.label


@functools.lru_cache(maxsize=2)
def _told(root: Path, teacher: RunSpec | Checkpoint, which: str, name: str, sizes, *rest: Any) -> Tensor:
    """The teacher's logits on ``_images``, kept for the next student of it."""
    splits = splits_of(RunSpec(data=name, sizes=sizes))
    clean, views, _ = _images(name, sizes, *rest)
    with torch.no_grad():
        return teacher_network(teacher, teacher_key(teacher), splits, Store(root))(clean if which == "clean" else views)


def _own(spec: RunSpec, key: str, student: nn.Module, splits: data.Splits, store: Store) -> Objective:
    """The loss that a student was trained on, on views of a few steps: its method, its layout, its teacher."""
    taught, teachers = teacher_key(spec.teacher) if spec.teacher else None, {}
    if taught:
        teachers[taught] = teacher_network(spec.teacher, taught, splits, store)
    train = splits.train.subset(spec.fraction, spec.seed)
    shards, size = _shards(len(train))
    steps = -(-shards // 2)
    views = Views(train, spec.seed, 0, size, teachers, role="sharpness")
    arm = Arm(key, spec, taught, steps).build(views, len(train.classes), train.images.shape[1])
    if any(True for _ in arm.method.parameters()):
        raise SpecError(f"sharpness is of a student's weights alone, but {spec.method!r} has weights of its own.")

    def shard(step: int) -> Callable[[], Tensor]:
        views.at(step)
        batch, told = arm.inputs()
        return lambda: sum(arm.method(outputs(student, batch.x), told, batch).values())  # type: ignore[return-value]

    return Objective(list(student.parameters()), [shard(step) for step in range(steps)])
