"""How good a teacher is on its student's val images, and whether it may teach. Scored once, before any student trains.

::

    out/runs/.teachers/<name>.json     scores of teachers that have no run on the student's own data
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kdlab import data, metrics
from kdlab.errors import SpecError
from kdlab.lab.planned import PlannedRun
from kdlab.lab.store import Store
from kdlab.spec import Checkpoint, RunSpec

FOLDER = ".teachers"
REVISION = 1  # of what a score is made of
LEVEL = 0.01
MEASURES = ("val_accuracy", "val_nll", "val_ece")


# ---- scores ----------------------------------------------------------------------------------------------------------


def measure(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str], broken: str = "") -> dict[str, Any]:
    """A teacher's score from its answers to the val images.

    Args:
        logits: (N, K).
        labels: int (N,).
        classes: the K class names.
        broken: why its answers mean nothing, if that is known already.

    Returns:
        ``val_accuracy`` in percent, ``val_nll`` in nats, ``val_ece`` in [0, 1] (all NaN where it is broken), ``right``
        and ``images`` (counts), ``chance`` (the largest class's share), ``broken`` (a clause or ``""``) and ``order``:
        class names in the order in which its head seems to have them, where another order than ours is plain to see.
    """
    if not broken and not np.isfinite(logits).all():
        broken = "gives outputs that are not finite"
    counts = np.bincount(labels, minlength=len(classes))
    chance = float(counts.max() / len(labels))
    score: dict[str, Any] = {"images": len(labels), "chance": chance, "broken": broken, "order": []}
    if broken:
        return score | dict.fromkeys(MEASURES, math.nan) | {"right": 0}
    right = int((logits.argmax(1) == labels).sum())
    return score | {
        "val_accuracy": 100 * metrics.accuracy(logits, labels),
        "val_nll": metrics.nll(logits, labels),
        "val_ece": metrics.calibration_error(logits, labels),
        "right": right,
        "order": _order(logits, labels, classes, score["chance"]),
    }


def _order(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str], chance: float) -> list[str]:
    """The order of a head, where most images of every class get one answer that no other class gets, beyond luck."""
    from scipy.optimize import linear_sum_assignment

    counts = metrics.confusion(logits, labels)
    label, column = linear_sum_assignment(counts, maximize=True)
    orders = math.exp(min(700.0, math.lgamma(len(classes) + 1)))  # K!, of which the best was taken
    p = metrics.chance_p(int(counts[label, column].sum()), len(labels), chance)
    plain = p * orders < LEVEL and (2 * counts[label, column] > counts.sum(1)[label]).all()
    return [classes[k] for k in label[np.argsort(column)]] if plain and (label != column).any() else []


def weakness(score: Mapping[str, Any]) -> str:
    """Why a teacher of this score must not teach, as a clause with it as the subject; ``""`` when it may.

    It may when it is above chance at 1 % (one-sided binomial test against the largest class's share), or right on every
    image where val is too small for any teacher to pass that test.
    """
    if score["broken"]:
        return score["broken"]
    right, images, chance = score["right"], score["images"], score["chance"]
    p = metrics.chance_p(right, images, chance)
    if p < LEVEL or right == images:
        return ""
    return (
        f"is right on {right} of {images} val images ({100 * right / images:.1f} %), which is not above chance "
        f"({100 * chance:.1f} %, the largest class's share; one-sided binomial p = {p:.2g}, needed below {LEVEL:g})"
    )


def columns(score: Mapping[str, Any] | None) -> dict[str, float]:
    """The score as columns of the student's row; NaN without a teacher."""
    return {f"teacher_{name}": math.nan if score is None else score[name] for name in MEASURES}


# ---- where scores are known from -------------------------------------------------------------------------------------


def own_run(run: PlannedRun) -> bool:
    """Whether the teacher's own run was scored on the student's val images, as it answers when it teaches.

    A method that has an inference of its own (SimKD's borrowed classifier) leaves that behind when its student teaches.
    """
    if run.teacher is None or ":" in run.teacher.method.name:
        return False
    spec, above = run.spec, run.teacher.spec
    same = (above.data, above.sizes) == (spec.data, spec.sizes) or _val(above) == _val(spec)
    return same and "inference" not in run.teacher.needs


def _val(spec: RunSpec) -> list[Any]:
    """What decides the val images and how they are normalised."""
    return [data.fingerprint(spec.data), data.sizes(spec.data, spec.sizes)]


def known(run: PlannedRun, store: Store) -> dict[str, Any] | None:
    """The score of a run's teacher where it was found before; loads no torch.

    Args:
        run: of the student.
        store: with the teacher's run, or with its stored score.
    """
    if own_run(run):
        result = store.read(run.teacher_key, "result")
        labels, classes = _labels(run.spec.data, data.fingerprint(run.spec.data))
        logits = store.logits(run.teacher_key)["val"]
        broken = f"diverged at step {result['diverged_at']}" if result["diverged"] else ""
        return measure(logits, labels[: len(logits)], classes, broken)
    return store.get(_place(run))


def keep(run: PlannedRun, store: Store, score: Mapping[str, Any]) -> None:
    """Write a score beside the runs, at once or not at all.

    Raises:
        SpecError: when the disk refuses.
    """
    store.put(_place(run), dict(score))


def _place(run: PlannedRun) -> str:
    text = json.dumps([REVISION, run.teacher_key, *_val(run.spec)])
    return f"{FOLDER}/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@functools.lru_cache(maxsize=8)
def _labels(name: str, fingerprint: str) -> tuple[np.ndarray, tuple[str, ...]]:
    source = data.describe(name)
    return source.labels["val"], tuple(source.classes)


# ---- who may not teach -----------------------------------------------------------------------------------------------


class PoorTeacher(SpecError):
    """Teachers that were trained and are not above chance; everything but their students is in the store.

    Attributes:
        table: rows of these teachers and of the asked-for runs that were finished, as ``lab.table`` makes them.
    """

    table: Any = None


@dataclass
class Gate:
    """Admits the students of teachers that are above chance, and records the others.

    Args:
        score: of a run's teacher, which is in the store.
        required: False admits all.

    Attributes:
        poor: what is wrong, by key of the teacher and name of the data.
        held: keys of the runs that are not trained since a teacher, or a teacher's teacher, is poor.
    """

    score: Callable[[PlannedRun], Mapping[str, Any]]
    required: bool = True
    poor: dict[tuple[str, str], str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    def __post_init__(self):
        self._seen: dict[tuple, str] = {}

    def admit(self, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
        """The runs of a cohort that may train.

        Args:
            runs: whose teachers are finished or held back themselves.
        """
        runs = list(runs)
        if self.required:
            self.held |= {run.key for run in runs if run.teacher and self._poor(run)}
        return [run for run in runs if run.key not in self.held]

    def _poor(self, run: PlannedRun) -> bool:
        if run.teacher_key in self.held:
            return True
        spec = run.spec
        if (asked := (run.teacher_key, spec.data, spec.sizes)) not in self._seen:
            self._seen[asked] = why = weakness(self.score(run))
            if why:
                who = f"the teacher {run.teacher_model} (run {run.teacher_key[:8]}, seed {run.teacher.spec.seed})"
                self.poor[run.teacher_key, spec.data] = f"on {spec.data!r} {who} {why}"
        return bool(self._seen[asked])

    def verdict(self) -> str:
        """What happened and what to do, in words."""
        (_, where), said = next(iter(self.poor.items()))
        more = f"; {len(self.poor) - 1} more of the teachers are no better" if len(self.poor) > 1 else ""
        runs = "the run that learns from it was" if len(self.held) == 1 else f"{len(self.held)} runs were"
        return (
            f"{said}{more}: {runs} not trained. Give the teacher more epochs (--teacher-epochs), take fewer classes, "
            f"or look at the data: `kdlab data {shlex.quote(where)}`."
        )


def refused(teacher: Checkpoint, data_name: str, score: Mapping[str, Any]) -> str:
    """Why a checkpoint is refused, as a sentence; ``""`` when it may teach."""
    why = weakness(score)
    if not why:
        return ""
    from kdlab.models.heads import advice

    said = f"on {data_name!r} the teacher's checkpoint {teacher.path} {why}"
    if score["order"]:
        return f"{said}; its classes seem to stand in another order: {advice(score['order'])} if that is so."
    return said + "."
