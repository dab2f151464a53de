"""Profiles: how large every perspective is. One question, five sizes: smoke, quick, standard, full, paper.

``quick`` and ``standard`` are two depths of one regime (data, networks, budgets): ``standard`` has more seeds and arms,
and every run of ``quick`` is one of its runs.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from kdlab.data import absolute, train_size
from kdlab.errors import SpecError, choose
from kdlab.perspectives import budgets
from kdlab.perspectives.notebook_parameters import LENGTHS, seeds
from kdlab.registry import catalogue
from kdlab.spec import Budget, Optimiser
from kdlab.stats.judging import DESIGNS

PROFILE = "KDLAB_PROFILE"

# The regime of quick and standard, by the rule of figures/regime.py: on val, at other seeds.
DATA, SIZES = "fashion", (1000, 2000, 10000)  # train, val, test images
STUDENT, TEACHER = "resnet8_s2_w8", "resnet8_s2_w32"
EPOCHS, ORIGINALS, RATE = 120, 64, 0.1  # of student and teacher; a step; at its peak
PRECISION, TEACHER_PRECISION = "float32", "float32"
QUICK_SEEDS, STANDARD_SEEDS = 4, 12

OPERATIONS = (
    "shearX", "shearY", "translateX", "translateY", "rotate", "color", "contrast",
    "sharpness", "brightness", "posterize", "solarize", "autocontrast", "equalize", "invert",
)  # fmt: skip
METHODS = ("kd", "ccd", "dkd", "dist", "lskd", "mlld", "ctkd", "fitnet", "at", "sp", "pkt", "crd")


@dataclass(frozen=True)
class Map:
    """The cells of the map of when joint augmentation pays: training images by passes over them.

    Args:
        images: training images of a student, ascending; which ones depends on the seed.
        passes: epochs of a student, ascending.
        least, most: optimiser steps of a student that the map has; cells with fewer or more are left out.
        beyond: cells that are trained although they have more steps: (images, passes) each.
        teacher_steps: of a teacher that has only its student's images.
        strong: images and epochs of the strong teacher, of which each seed has one.
        middle: the cell (images, passes) at which students of other widths are trained, and the null control.
        students: these other students.
    """

    images: tuple[int, ...] = (500, 1000, 2000, 4000)
    passes: tuple[int, ...] = (15, 30, 60, 120, 240)
    least: int = 400
    most: int = 1900
    beyond: tuple[tuple[int, int], ...] = ((1000, 240),)
    teacher_steps: int = 1800
    strong: tuple[int, int] = (12000, 30)
    middle: tuple[int, int] = (1000, 60)
    students: tuple[str, ...] = ("resnet8_s2_w4", "resnet8_s2_w16")


@dataclass(frozen=True)
class Profile:
    """The sizes and grids that all perspectives of a run share.

    Args:
        name: smoke, quick, standard, full or paper.
        data: name of the data set; the folder in ``folder:PATH`` becomes absolute.
        sizes: (train, val, test) images, or None for all.
        student: the student's model: a name, and options after a question mark (``kdlab.foreign.split_options``).
        teacher: the teacher's model.
        seeds: run seeds; each has its own teacher.
        design: ``"fixed"``, the number of seeds was decided before anyone looked, or ``"sequential"``, they were added
            while looking; it chooses the test.
        budget, teacher_budget: of a student and of a teacher, in epochs.
        optimiser, teacher_optimiser: of students and of teachers.
        policy: the joint augmentation's policy.
        operations: single augmentations beside JDA.
        shares: shares of augmented rows in the ratio sweep.
        copies: augmented copies per original.
        fractions: few-shot fractions at equal epochs.
        step_fractions: few-shot fractions at equal steps.
        methods: rows of the compatibility grid, the reference first; empty takes every registered one.
        one_view: methods of the grid that are trained on one view as well, where they can be; empty takes all.
        policies: augmented columns of the compatibility grid.
        equal_images: also run what is compared at equal student images: copies in the ratio sweep, and methods on one
            weak view of as many images as two views have.
        matched: also run the compute-matched controls: a student with twice the originals a step and twice the
            epochs, a teacher on two weak views.
        precision, teacher_precision: of what is trained, and of the teacher's forward passes.
        map: the cells of ``when_it_pays``.
        perspectives: what ``kdlab figures`` runs when none is named, in their order; empty takes all there are.
        whole_seeds: train one seed of all perspectives after another, so that an interruption leaves whole seeds;
            else one perspective after another, so that the first figure comes early.
        workers: processes; 0 trains where the notebook runs, None takes one per core.
    """

    name: str
    data: str
    sizes: tuple[int, int, int] | None
    student: str
    teacher: str
    seeds: tuple[int, ...]
    budget: Budget
    teacher_budget: Budget
    optimiser: Optimiser = Optimiser()
    teacher_optimiser: Optimiser = Optimiser()
    policy: str = "cifar100"
    operations: tuple[str, ...] = ("rotation", "translateY", "invert")
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    copies: tuple[int, ...] = (0, 1, 3)
    fractions: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    step_fractions: tuple[float, ...] = (0.1, 0.25)
    methods: tuple[str, ...] = METHODS
    one_view: tuple[str, ...] = ("kd", "ccd", "dkd", "dist", "mlld", "fitnet", "sp")
    policies: tuple[str, ...] = ("jda",)
    equal_images: bool = True
    matched: bool = False
    precision: str = "float32"
    teacher_precision: str = "float32"
    map: Map = Map()
    perspectives: tuple[str, ...] = ()
    whole_seeds: bool = False
    workers: int | None = None
    design: str = "fixed"

    def __post_init__(self):
        choose("design", self.design, DESIGNS)
        object.__setattr__(self, "data", absolute(self.data))

    @property
    def regime(self) -> str:
        """The profile whose tuned weights these runs have: its own, and for standard those of quick."""
        return "quick" if self.name == "standard" else self.name

    @property
    def requires_teacher(self) -> bool:
        """Whether a teacher must be above chance before it teaches; those of the smoke profile learn too little."""
        return self.name != "smoke"

    @property
    def grid(self) -> tuple[str, ...]:
        """The methods of the compatibility grid, by name."""
        known = catalogue("losses").items()
        every = [name for name, info in known if "teacher" in info.needs and info.stage != "teacher"]
        return self.methods or ("kd", *(n for n in every if n != "kd"))

    def replace(self, **changes) -> Profile:
        """A copy with some fields changed; None leaves a field alone.

        A folder of images is taken whole, and its budgets are scaled to it (``kdlab.perspectives.budgets``).

        Args:
            **changes: fields, and what changes both budgets or one: ``epochs`` or ``steps`` of a student,
                ``teacher_epochs``, ``originals`` a step of both.

        Raises:
            SpecError: for an unknown field or seeds that are not distinct non-negative integers.
        """
        changes = {k: v for k, v in changes.items() if v is not None}
        for field, value in changes.items():
            choose("profile field", field, [*(f.name for f in dataclasses.fields(self)), *LENGTHS])
            if isinstance(getattr(self, field, None), str) and not isinstance(value, str):
                raise SpecError(f"{field} must be a name, but got {value!r}.")
        if "seeds" in changes:
            changes["seeds"] = seeds(changes["seeds"])
        if str(changes.get("data", "")).startswith("folder:"):
            changes = {"sizes": None} | changes
        lengths = {name: changes.pop(name) for name in LENGTHS if name in changes}
        return budgets.fitted(dataclasses.replace(self, **changes), self if "data" in changes else None, lengths)


_STANDARD = Profile(
    name="standard",
    data=DATA,
    sizes=SIZES,
    student=STUDENT,
    teacher=TEACHER,
    seeds=tuple(range(STANDARD_SEEDS)),
    budget=Budget(EPOCHS, originals_per_step=ORIGINALS),
    teacher_budget=Budget(EPOCHS, originals_per_step=ORIGINALS),
    optimiser=Optimiser(lr=RATE),
    teacher_optimiser=Optimiser(lr=RATE),
    precision=PRECISION,
    teacher_precision=TEACHER_PRECISION,
    whole_seeds=True,
)
# What no contrast needs is left out, but for what a figure would be empty without.
_QUICK = dataclasses.replace(
    _STANDARD, name="quick", seeds=tuple(range(QUICK_SEEDS)), whole_seeds=False,
    operations=("rotation",), copies=(0, 1), fractions=(0.1, 1.0), step_fractions=(0.1,),
    methods=("kd", "ccd", "dkd", "dist", "fitnet", "sp"), one_view=("kd",), equal_images=False,
    # Somebody waits for quick: a new perspective makes it no longer, and is run there by its name.
    perspectives=("joint_augmentation", "teacher_augmentation", "ratio_sweep", "few_shot", "compatibility"),
    map=Map(
        images=(500, 1000, 2000), passes=(15, 60, 240), beyond=(), students=("resnet8_s2_w16",)
    ),
)  # fmt: skip
# The grids of full and paper.
_DENSE: dict[str, Any] = {
    "operations": ("rotation", *OPERATIONS),
    "shares": (0.0, 0.125, 0.25, 0.5, 0.75, 0.875, 1.0),
    "copies": (0, 1, 2, 3, 4),
    "matched": True,
}

PROFILES = {
    "smoke": Profile(
        name="smoke",
        data=DATA,
        sizes=(320, 200, 200),
        student="resnet8_s2_w4",
        teacher="resnet8_s2_w8",
        seeds=(0, 1),
        budget=Budget(2, originals_per_step=30),
        teacher_budget=Budget(4, originals_per_step=30),
        shares=(0.0, 0.5, 1.0),
        copies=(0, 1),
        fractions=(0.1, 1.0),
        step_fractions=(0.1,),
        methods=("kd", "ccd", "dkd", "fitnet", "sp", "crd"),
        map=Map(
            images=(60, 120),
            passes=(2, 4),
            least=3,
            most=10,
            beyond=((120, 4),),
            teacher_steps=20,
            strong=(320, 4),
            middle=(60, 2),
            students=("resnet8_s2_w8",),
        ),
        workers=0,
    ),
    "quick": _QUICK,
    "standard": _STANDARD,
    "full": Profile(
        name="full",
        data="fashion-mnist",
        sizes=None,
        student="resnet20",
        teacher="resnet56",
        seeds=(0, 1, 2, 3, 4, 5),
        budget=Budget(60),
        teacher_budget=Budget(60),
        **_DENSE,
        fractions=(0.05, 0.1, 0.25, 0.5, 1.0),
        step_fractions=(0.05, 0.1, 0.25, 0.5),
        methods=(),
        one_view=(),
        policies=("rotation", "jda", "cutmix", "randaugment"),
    ),
    "paper": Profile(
        name="paper",
        data="cifar100",
        sizes=None,
        student="wrn_16_2",
        teacher="wrn_40_2",
        seeds=(0, 1, 2, 3, 4, 5),
        budget=Budget(240, originals_per_step=128),
        teacher_budget=Budget(240, originals_per_step=128),
        optimiser=Optimiser(0.1, 0.9, True, 1e-4, "step", (0.625, 0.75, 0.875), 0.0),
        teacher_optimiser=Optimiser(0.1, 0.9, True, 5e-4, "step", (0.625, 0.75, 0.875), 0.0),
        **_DENSE,
        fractions=(0.25, 0.5, 0.75, 1.0),
        step_fractions=(0.25, 0.5),
    ),
}


def profile(name: str | None = None, **overrides) -> Profile:
    """A profile by name; None means ``$KDLAB_PROFILE``, else quick.

    Args:
        name: smoke, quick, standard, full or paper.
        **overrides: fields to change, as in ``Profile.replace``; None leaves a field alone.

    Raises:
        SpecError: for an unknown profile or field.
    """
    source = "profile" if name else PROFILE
    name = name or os.environ.get(PROFILE) or "quick"
    return PROFILES[choose(source, name, PROFILES)].replace(**overrides)


def lengths(size: Profile) -> str:
    """What to know of a profile that is not as it is named: data that its regime was not chosen for, other lengths.

    Args:
        size: the profile as it will train.
    """
    named = PROFILES[size.name]
    pairs = {
        "originals a step": (size.budget.originals_per_step, named.budget.originals_per_step),
        "epochs of a student": (size.budget.amount, named.budget.amount),
        "epochs of a teacher": (size.teacher_budget.amount, named.teacher_budget.amount),
    }
    other = size.regime == "quick" and size.data != DATA
    known = f"the networks and lengths of {size.name} were chosen for {DATA!r}, not for {size.data!r}." * other
    if all(now == before for now, before in pairs.values()):
        return known
    images = f" for {train_size(size.data, size.sizes):,} training images"
    changes = ", ".join(f"{now:g} {what} ({before:g} in {size.name})" for what, (now, before) in pairs.items())
    changed = f"lengths{images}: {changes}; --originals, --epochs or --steps, --teacher-epochs set others."
    return "\n".join(filter(None, (known, changed)))
