"""The measure ``fidelity``: how far a student says what its teacher says, on images of four kinds."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlab import data
from kdlab.errors import SpecError
from kdlab.lab.asking import IMAGES, JDA, ROWS, Answers, answers, changed
from kdlab.lab.keys import run_key, teacher_key
from kdlab.lab.networks import predicts_alone, splits_of, stored_network, teacher_network
from kdlab.lab.store import Store
from kdlab.metrics.corruptions import CORRUPTIONS
from kdlab.metrics.fidelity import fidelity
from kdlab.models.frozen import frozen
from kdlab.spec import Checkpoint, RunSpec
from kdlab.training.runtime import one_thread
from kdlab.training.views import Views

SETS = ("train", "augmented", "test", "shifted")
STRENGTH = 3  # of each corruption


class Images(NamedTuple):
    """Normalised images (N, C, H, W) and their labels (N,)."""

    x: Tensor
    labels: np.ndarray


def measured(spec: RunSpec, store: Store) -> dict[str, float]:
    """The fidelity of a finished student to its own teacher.

    Args:
        spec: of the run, which has a teacher, and whose predictions are the student's logits.
        store: where both networks are.

    Returns:
        For each of ``SETS``: ``SET.agreement``, ``SET.accuracy`` and ``SET.teacher_accuracy`` in percent, ``SET.kl``
        from teacher to student in nats, ``SET.cka`` of the embeddings; of the images that the teacher has wrong
        ``SET.agreement_wrong`` and ``SET.accuracy_wrong``, of the others ``SET.agreement_right``, in percent, NaN
        without any. *train* are the run's own images as they are, *augmented* one jointly augmented view of each, the
        same for all runs of a seed; *test* is the test set, *shifted* its first ``IMAGES`` images under each of the 15
        corruptions at strength ``STRENGTH``.

    Raises:
        SpecError: for a run without a teacher, or a network that cannot be loaded.
    """
    if spec.teacher is None:
        raise SpecError(f"fidelity is a student's to its teacher, but run {run_key(spec)} ({spec.method}) has none.")
    if not predicts_alone(spec.method):
        raise SpecError(f"fidelity compares logits of the student, but {spec.method!r} predicts by others.")
    splits, digest = splits_of(spec), data.fingerprint(spec.data)
    with one_thread():
        places = (spec.data, spec.sizes, digest, spec.fraction, spec.seed)
        theirs, sets = _teacher(store.root, spec.teacher, *places), _sets(*places)
        student = frozen(stored_network(run_key(spec), spec, splits, store), sets["train"].x[:ROWS])
        found: dict[str, float] = {}
        for name, (x, labels) in sets.items():
            found |= _numbers(name, answers(student, x), theirs[name], labels)
    return found


def _numbers(name: str, student: Answers, teacher: Answers, labels: np.ndarray) -> dict[str, float]:
    by = fidelity(student.logits, teacher.logits, labels, student.embedding, teacher.embedding)
    every, right, wrong = by["all"], by["teacher_right"], by["teacher_wrong"]
    shares = {
        "agreement": every["agreement"], "accuracy": every["student_accuracy"],
        "teacher_accuracy": every["teacher_accuracy"], "agreement_right": right["agreement"],
        "agreement_wrong": wrong["agreement"], "accuracy_wrong": wrong["student_accuracy"],
    }  # fmt: skip
    numbers = {what: 100 * share for what, share in shares.items()} | {"kl": every["kl"], "cka": every["cka"]}
    return {f"{name}.{what}": value for what, value in numbers.items()}


@functools.lru_cache(maxsize=2)
def _teacher(root: Path, teacher: RunSpec | Checkpoint, *places) -> dict[str, Answers]:
    """What a teacher says of all sets, kept for the next student of it."""
    splits = splits_of(RunSpec(data=places[0], sizes=places[1]))
    sets = _sets(*places)
    model = frozen(teacher_network(teacher, teacher_key(teacher), splits, Store(root)), sets["train"].x[:ROWS])
    return {name: answers(model, x) for name, (x, _) in sets.items()}


@functools.lru_cache(maxsize=1)
def _sets(name: str, sizes: tuple[int, int, int] | None, digest: str, fraction: float, seed: int) -> dict[str, Images]:
    splits = splits_of(RunSpec(data=name, sizes=sizes))
    train = splits.train.subset(fraction, seed)
    views = Views(train, seed, 0, len(train), {}, role="fidelity")
    views.at(0)
    batch = views.batch(JDA, 0.0)
    return {
        "train": _whole(train),
        "augmented": Images(batch.x, batch.label.numpy()),
        "test": _whole(splits.test),
        "shifted": _shifted(name, sizes, digest),
    }  # fmt: skip


def _whole(images) -> Images:
    return Images(images.normalise(images.batch(torch.arange(len(images)))), images.labels.numpy())


@functools.lru_cache(maxsize=1)
def _shifted(name: str, sizes: tuple[int, int, int] | None, digest: str) -> Images:
    test = splits_of(RunSpec(data=name, sizes=sizes)).test
    made = [test.normalise(changed(name, sizes, digest, corruption, STRENGTH)) for corruption in CORRUPTIONS]
    return Images(torch.cat(made), np.tile(test.labels[:IMAGES].numpy(), len(made)))
