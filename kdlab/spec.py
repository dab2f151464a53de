"""RunSpec: everything that decides a result, frozen and checked before anything trains.

A teacher is a RunSpec whose own teacher is None, or a Checkpoint: there is no second kind of run. ``spec`` checks types
and ranges; names are checked against the registry when a sweep is planned.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdlab import data as datasets
from kdlab.errors import SpecError, check_integer, check_number, choose
from kdlab.paths import absolute

UNITS = ("epochs", "steps", "student_images")
TEACHER_VIEWS = ("same", "clean", "independent")
HARD_LABELS = ("all", "plain")
SCHEDULES = ("cosine", "step", "constant")
PRECISIONS = ("float32", "bfloat16")
ROLES = ("student", "teacher")
MOST_VIEWS = 100  # of an original in a step: each is listed by name and share
CURVE_POINTS = 4  # evaluations on val during a run, the last one included
TURNS = 4  # rows per original of methods that make their own views, all quarter turns


def _kind(argument: str, value: Any, kind: type, word: str) -> None:
    if not isinstance(value, kind):
        raise SpecError(f"{argument} must be {word}, but got {value!r}.")


class Options(dict):
    """Options by name: a dict that can be hashed, since it cannot be changed. Lists and tuples of equals are equal."""

    def _refuse(self, *given: Any, **named: Any) -> Any:
        raise TypeError("the options of a spec cannot be changed; make another spec by replace().")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __hash__(self) -> int:
        return hash(_frozen(self))

    def __eq__(self, other: object) -> bool:
        return _frozen(self) == _frozen(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __reduce__(self) -> tuple:
        return Options, (dict(self),)


def _frozen(value: Any) -> Any:
    """A value of an option, hashable; True is not 1, since it makes another key."""
    if isinstance(value, Mapping):
        return "mapping", *sorted((name, _frozen(one)) for name, one in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return (bool, value) if isinstance(value, bool) else value


@dataclass(frozen=True)
class Budget:
    """How long a student trains: an amount in one of three units, and the originals in a step.

    Args:
        amount: how many units, > 0.
        unit: ``"epochs"`` of the run's own training set, ``"steps"`` of the optimiser, or ``"student_images"``
            (rows the student sees, augmented ones counted).
        originals_per_step: distinct images drawn from the training set in a step, before views multiply them.
    """

    amount: float
    unit: str = "epochs"
    originals_per_step: int = 64

    def __post_init__(self):
        check_number("budget.amount", self.amount, 0, open_low=True)
        choose("budget.unit", self.unit, UNITS)
        check_integer("budget.originals_per_step", self.originals_per_step, 1)

    def steps(self, train_size: int, views: int) -> int:
        """Optimiser steps this budget buys; short last batches are dropped, so an epoch has floor(N / B) steps.

        Args:
            train_size: number of training images N.
            views: rows per original that the student sees.

        Raises:
            SpecError: when the training set is smaller than one step's originals.
        """
        per_epoch = train_size // self.originals_per_step
        if per_epoch == 0:
            raise SpecError(
                f"the training subset has {train_size} images, fewer than budget.originals_per_step="
                f"{self.originals_per_step}; take a larger fraction, or fewer originals a step (--originals)."
            )
        exact = {
            "epochs": self.amount * per_epoch,
            "steps": self.amount,
            "student_images": self.amount / (self.originals_per_step * views),
        }[self.unit]
        return max(1, round(exact))


@dataclass(frozen=True)
class Optimiser:
    """SGD and its schedule on progress, the share of the training that is done, in [0, 1].

    Step k of T, counted from 0, begins at progress k / T and takes the rate at its middle, (k + 1/2) / T: the first
    step of a warm-up over W steps has 1 / (2 W) of the peak, the last one 1 - 1 / (2 W), and no step has the rate 0. A
    milestone m counts from the first step whose middle is at m or later.

    Args:
        lr: peak learning rate, > 0.
        momentum: in [0, 1].
        nesterov: Nesterov's form of momentum.
        weight_decay: L2 coefficient, >= 0.
        schedule: ``"cosine"`` to zero, ``"step"`` (times 0.1 at each milestone) or ``"constant"``.
        milestones: shares of progress in (0, 1) where ``"step"`` decays.
        warmup: share of progress over which the rate rises linearly from 0.
        rho: radius of sharpness-aware minimisation (SAM), >= 0; 0 is plain SGD. Each step takes the gradient at weights
            moved by rho along the batch's own gradient, which costs a second pass over the same rows: they are counted
            once, so that a run of SAM has taken twice the passes that its ``student_images`` say.
        adaptive: whether rho is in units of the weights (ASAM); without rho it does not matter.
    """

    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    milestones: tuple[float, ...] = ()
    warmup: float = 0.05
    rho: float = 0.0
    adaptive: bool = False

    def __post_init__(self):
        check_number("optimiser.lr", self.lr, 0, open_low=True)
        check_number("optimiser.momentum", self.momentum, 0, 1)
        check_number("optimiser.weight_decay", self.weight_decay, 0)
        check_number("optimiser.warmup", self.warmup, 0, 1)
        check_number("optimiser.rho", self.rho, 0)
        _kind("optimiser.nesterov", self.nesterov, bool, "True or False")
        _kind("optimiser.adaptive", self.adaptive, bool, "True or False")
        choose("optimiser.schedule", self.schedule, SCHEDULES)
        for milestone in self.milestones:
            check_number("optimiser.milestones", milestone, 0, 1)
        object.__setattr__(self, "milestones", tuple(float(m) for m in self.milestones))

    def rate(self, progress: float) -> float:
        """Learning rate at a progress in [0, 1]; training asks for the middle of each step."""
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        if self.schedule == "step":
            return self.lr * 0.1 ** sum(progress >= m for m in self.milestones)
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


@dataclass(frozen=True)
class Checkpoint:
    """A teacher from a file of weights (safetensors, or a torch file read with ``weights_only=True``).

    Args:
        path: the file; it becomes absolute.
        sha256: its digest, which stands in the key; a file that does not match is refused.
        arch: the model's registered name, or ``module:Class``.
        options: the model's own options, such as ``taps`` for a foreign one.
        weights: which of several sets of weights in the file, such as ``"ema"``; empty takes the only or the usual one.
        classes: the data's class names in the order of the file's classifier; empty takes the data's own order.
    """

    path: str
    sha256: str
    arch: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    classes: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "path", str(absolute(self.path)))
        object.__setattr__(self, "options", Options(self.options))
        object.__setattr__(self, "classes", tuple(self.classes))


@dataclass(frozen=True)
class RunSpec:
    """One training run, complete.

    Args:
        data: a data set's name (``kdlab.data.load``); the folder in ``folder:PATH`` becomes absolute.
        sizes: (train, val, test) images to keep, balanced and nested, or None for all.
        fraction: share of the training set, stratified and nested, in (0, 1]; which images depends on the seed.
        model: the network that is trained: a registered name or ``module:Class``.
        model_options: its options; a foreign model names the layers to read by ``taps`` and ``embedding``.
        teacher: RunSpec, Checkpoint or None.
        method: the distillation objective; ``"ce"`` needs no teacher.
        method_options: its options.
        augmentation: the policy applied to the augmented rows; the weak crop and flip follow on every row.
        augmentation_options: its options.
        views: rows per original in a step, >= 1.
        ratio: share of all rows that are augmented, in [0, 1]. With two views 0 is ``weak2``, 1/2 is joint
            augmentation as published, 1 augments both rows of every original.
        hard_labels: ``"all"`` rows carry their hard label (a mixed one where images are mixed), or only the ``"plain"``
            ones, so that augmented rows teach by the teacher's answer alone.
        teacher_view: what the teacher sees: the ``same`` view as the student, the ``clean`` original, or an
            ``independent`` view of the same policy.
        budget: how long.
        optimiser: SGD and schedule.
        seed: varies initial weights, order, augmentation and subset.
        replicate: another set of streams for the same seed, for null controls.
        precision: of the student's training, ``"float32"`` or ``"bfloat16"`` (autocast); it is evaluated in float32.
        teacher_precision: of the teacher's forward passes, likewise.
        role: ``"student"`` or ``"teacher"``. Runs of one role and seed share every random draw, which is what pairs
            them; a teacher shares none with its student, except the few-shot subset. A spec that is given as a teacher
            becomes one (``spec.teacher.role == "teacher"``), so ask for ``spec.teacher``, not for what it was made of.
    """

    data: str = "fashion"
    sizes: tuple[int, int, int] | None = None
    fraction: float = 1.0
    model: str = "resnet8_s2_w8"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    teacher: RunSpec | Checkpoint | None = None
    method: str = "ce"
    method_options: Mapping[str, Any] = field(default_factory=dict)
    augmentation: str = "weak"
    augmentation_options: Mapping[str, Any] = field(default_factory=dict)
    views: int = 1
    ratio: float = 0.0
    hard_labels: str = "all"
    teacher_view: str = "same"
    budget: Budget = Budget(24)
    optimiser: Optimiser = Optimiser()
    seed: int = 0
    replicate: int = 0
    precision: str = "float32"
    teacher_precision: str = "float32"
    role: str = "student"

    def __post_init__(self):
        for name in ("data", "model", "method", "augmentation"):
            _kind(name, getattr(self, name), str, "a name")
        object.__setattr__(self, "data", datasets.absolute(self.data))
        _kind("budget", self.budget, Budget, "a Budget")
        _kind("optimiser", self.optimiser, Optimiser, "an Optimiser")
        _kind("teacher", self.teacher, RunSpec | Checkpoint | None, "a RunSpec, a Checkpoint or None")
        check_integer("seed", self.seed, 0)
        check_integer("replicate", self.replicate, 0)
        check_integer("views", self.views, 1)
        if self.views > MOST_VIEWS:
            raise SpecError(f"views must be at most {MOST_VIEWS}, but got {self.views!r}.")
        check_number("ratio", self.ratio, 0, 1)
        check_number("fraction", self.fraction, 0, 1, open_low=True)
        choose("hard_labels", self.hard_labels, HARD_LABELS)
        choose("teacher_view", self.teacher_view, TEACHER_VIEWS)
        choose("precision", self.precision, PRECISIONS)
        choose("teacher_precision", self.teacher_precision, PRECISIONS)
        choose("role", self.role, ROLES)
        if isinstance(self.teacher, RunSpec) and self.teacher.role != "teacher":
            object.__setattr__(self, "teacher", self.teacher.replace(role="teacher"))
        if self.sizes is not None:
            if not isinstance(self.sizes, list | tuple) or len(self.sizes) != 3:
                raise SpecError(f"sizes must be (train, val, test), but got {self.sizes!r}.")
            for name, size in zip(("train", "val", "test"), self.sizes, strict=True):
                check_integer(f"sizes: {name}", size, 1)
            object.__setattr__(self, "sizes", tuple(self.sizes))
        for options in ("model_options", "method_options", "augmentation_options"):
            _kind(options, getattr(self, options), Mapping, "a mapping of option names to values")
            object.__setattr__(self, options, Options(sorted(getattr(self, options).items())))

    @property
    def streams(self) -> str:
        """First word of the names of the run's random streams: ``student``, ``teacher``, or ``preparation/N``.

        A teacher that itself has a teacher, N of them one above the other, prepares what its student reads, or is an
        assistant between the two; its draws are neither those of its own teacher nor those of its student.
        """
        above, depth = self.teacher, 0
        while above is not None:
            above, depth = getattr(above, "teacher", None), depth + 1
        return f"preparation/{depth}" if depth and self.role == "teacher" else self.role

    def replace(self, **changes: Any) -> RunSpec:
        """A copy with some fields changed; unknown fields are refused with the nearest name."""
        for name in changes:
            choose("field of RunSpec", name, [f.name for f in dataclasses.fields(self)])
        return dataclasses.replace(self, **changes)

    def at_seed(self, seed: int) -> RunSpec:
        """The same run and the same teacher's recipe at another seed: run seed s uses teacher seed s."""
        teacher = self.teacher.at_seed(seed) if isinstance(self.teacher, RunSpec) else self.teacher
        return self.replace(seed=seed, teacher=teacher)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values; ``from_dict`` brings the spec back."""
        plain = dataclasses.asdict(self) | {"teacher": None}
        for name in ("rho", "adaptive"):  # plain SGD is written as it was before there was SAM
            if not plain["optimiser"][name]:
                del plain["optimiser"][name]
        if isinstance(self.teacher, RunSpec):
            plain["teacher"] = self.teacher.to_dict()
        elif self.teacher is not None:
            plain["teacher"] = dataclasses.asdict(self.teacher)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunSpec:
        """The spec that ``to_dict`` wrote.

        Raises:
            SpecError: naming the field that is missing, unknown or wrong.
        """
        _kind("a spec", plain, Mapping, "an object of fields")
        values = dict(plain)
        for name in values:
            choose("field of RunSpec", name, [f.name for f in dataclasses.fields(cls)])
        values["budget"] = _read("budget", Budget, values.get("budget"))
        values["optimiser"] = _read("optimiser", Optimiser, values.get("optimiser"))
        if teacher := values.get("teacher"):
            _kind("teacher", teacher, Mapping, "an object of fields")
            is_file = "sha256" in teacher
            values["teacher"] = _read("teacher", Checkpoint, teacher) if is_file else cls.from_dict(teacher)
        return cls(**values)


def _read(argument: str, kind: type, plain: Any) -> Any:
    """A part of a spec from the object that ``to_dict`` made of it."""
    _kind(argument, plain, Mapping, "an object of fields")
    fields = dataclasses.fields(kind)
    for name in plain:
        choose(f"field of {argument}", name, [f.name for f in fields])
    if lacking := [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in plain]:
        raise SpecError(f"{argument} lacks {', '.join(lacking)}: {dict(plain)!r}.")
    return kind(**plain)


def sweep(base: RunSpec, **axes: Any) -> list[RunSpec]:
    """Every combination of the given values, the last axis fastest; runs with one teacher share the teacher's spec.

    >>> [s.seed for s in sweep(RunSpec(), ratio=[0.0, 0.5], seed=[0, 1])]
    [0, 1, 0, 1]

    Args:
        base: the spec that supplies all other fields.
        **axes: field name to list of values; ``seed`` moves the teacher's seed too.
    """
    specs = []

    @functools.cache
    def at_seed(teacher: RunSpec | Checkpoint | None, seed: int) -> RunSpec | Checkpoint | None:
        return teacher.at_seed(seed) if isinstance(teacher, RunSpec) else teacher

    for values in itertools.product(*axes.values()):
        changes = dict(zip(axes, values, strict=True))
        seed, teacher = changes.pop("seed", None), changes.get("teacher", base.teacher)
        if seed is not None:
            check_integer("seed", seed)
            changes |= {"seed": seed, "teacher": at_seed(teacher, seed)}
        specs.append(base.replace(**changes))
    return specs
