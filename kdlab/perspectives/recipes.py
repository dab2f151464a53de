"""Recipes: the specs that perspectives are made of; equal specs of two perspectives are one run."""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdlab.errors import SpecError
from kdlab.foreign import split_options
from kdlab.lab.keys import steps
from kdlab.lab.unfinished import writing
from kdlab.perspectives.profiles import Profile
from kdlab.registry import check_options, needs, preparations
from kdlab.spec import TURNS, Budget, RunSpec

TUNED = Path(__file__).with_name("tuned.csv")


def network(text: str) -> dict[str, Any]:
    """The fields of a RunSpec that say which network it trains.

    Args:
        text: a model as a profile names it, options and all: ``mymodels:TinyNet?taps=layer1,layer2``.
    """
    name, options = split_options(text)
    return {"model": name, "model_options": options}


def teacher(profile: Profile, *, joint: bool = False) -> RunSpec:
    """The teacher: trained on weak views, or with ``joint`` on weak and jointly augmented views, CE on all rows."""
    spec = RunSpec(
        data=profile.data,
        sizes=profile.sizes,
        **network(profile.teacher),
        budget=profile.teacher_budget,
        optimiser=profile.teacher_optimiser,
        precision=profile.precision,
        teacher_precision=profile.teacher_precision,
        role="teacher",
    )
    return augmented(spec, profile) if joint else spec


def ce(profile: Profile, **changes) -> RunSpec:
    """A student without a teacher, one weak view of each original."""
    spec = RunSpec(
        data=profile.data,
        sizes=profile.sizes,
        **network(profile.student),
        budget=profile.budget,
        optimiser=profile.optimiser,
        precision=profile.precision,
        teacher_precision=profile.teacher_precision,
    )
    return spec.replace(**changes)


def kd(profile: Profile, method: str = "kd", *, joint_teacher: bool = False, **changes) -> RunSpec:
    """A distilled student, one weak view of each original."""
    return ce(profile, method=method, teacher=teacher(profile, joint=joint_teacher), **changes)


@functools.cache
def tuned(regime: str) -> dict[str, dict[str, float]]:
    """The weights that ``kdlab tune --keep`` chose for a profile: method to option to value.

    Methods that are not in the file, and those whose default was chosen, are left out. Read once a process.

    Args:
        regime: smoke, quick (which is standard's too), full or paper.
    """
    rows = [row for row in _choices() if row["profile"] == regime and float(row["factor"]) != 1]
    return {row["method"]: {row["option"]: float(row["weight"])} for row in rows}


def keep_tuned(regime: str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write choices to the file that ``tuned`` reads; rows of other methods stay as they are.

    Args:
        regime: of the profile that they were made in.
        rows: method, option, factor and weight of each choice; the default is a choice too.

    Returns:
        The file.
    """
    choices = {(row["profile"], row["method"]): row for row in _choices()}
    choices |= {(regime, row["method"]): {"profile": regime} | dict(row) for row in rows}
    with writing(TUNED), TUNED.open("w", encoding="utf-8", newline="") as file:
        columns = ("profile", "method", "option", "factor", "weight")
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(choices[key] for key in sorted(choices))
    tuned.cache_clear()
    return TUNED


def _choices() -> list[dict[str, str]]:
    if not TUNED.exists():
        return []
    with TUNED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def method(profile: Profile, name: str, options: Mapping[str, Any] | None = None) -> RunSpec:
    """Any registered method as it runs without augmentation: with the views, the teacher and the weight it needs.

    A student sees one weak view of each original, to which ``weak2`` and ``augmented`` apply; a method that compares
    pairs of views can only run with those. A method that makes its own views has the four quarter turns of each
    original, and nothing else applies to it. What a method reads of its teacher is prepared first, by the usual
    preparing method. A method that prepares a teacher trains on the teacher's network and budget.

    Args:
        profile: sizes and budgets.
        name: registered name or ``module:Class``.
        options: the method's options; None takes the tuned ones of the profile.

    Raises:
        SpecError: for an unknown method or option.
    """
    options = tuned(profile.regime).get(name, {}) if options is None else options
    entry = check_options("losses", name, dict(options))
    preparing, needed = name in preparations(), needs(entry, options)
    spec = (teacher if preparing else ce)(profile).replace(method=name, method_options=options)
    if "teacher" in needed:
        prepared = entry.prepared
        spec = spec.replace(teacher=method(profile, prepared[0]) if prepared else teacher(profile))
    if "turns" in needed:
        return spec.replace(views=TURNS)
    return weak2(spec) if preparing and "pairs" in needed else spec


def weak2(spec: RunSpec) -> RunSpec:
    """Two independent weak views of each original: the control of equal cost."""
    return spec.replace(views=2, augmentation="weak", augmentation_options={}, ratio=0.0)


def matched(spec: RunSpec) -> RunSpec:
    """The authors' compute-matched control: one view of twice the distinct originals a step, for twice the epochs."""
    b = spec.budget
    longer = dataclasses.replace(b, amount=2 * b.amount, originals_per_step=2 * b.originals_per_step)
    return spec.replace(budget=longer)


def augmented(spec: RunSpec, profile: Profile, policy: str = "jda", *, views: int = 2, ratio: float = 0.5) -> RunSpec:
    """A weak view and an augmented one, or any other number of views and share of augmented rows.

    Args:
        spec: the run to augment.
        profile: names the policy of joint augmentation.
        policy: ``"jda"`` or any registered augmentation.
        views: rows per original.
        ratio: share of augmented rows, in [0, 1].
    """
    options = {"policy": profile.policy} if policy == "jda" else {}
    return spec.replace(views=views, augmentation=policy, augmentation_options=options, ratio=ratio)


def with_views(
    spec: RunSpec, profile: Profile, policy: str = "weak", views: int | None = None, ratio: float | None = None
) -> RunSpec:
    """A run with a policy, and the usual number of views and share of augmented rows where none is given.

    Args:
        spec: the run, on its method's own views.
        profile: names the policy of joint augmentation.
        policy: ``"weak"``, ``"jda"`` or any registered augmentation.
        views: rows per original; None means 2 with a policy, else the method's own.
        ratio: share of augmented rows, in [0, 1]; None means one weak row of each original and the others augmented.

    Raises:
        SpecError: for a ratio without a policy, or numbers out of range.
    """
    rich = policy != "weak"
    if ratio and not rich:
        raise SpecError(f"ratio {ratio:g} needs an augmentation other than weak.")
    spec = spec.replace(
        views=(2 if rich else spec.views) if views is None else views
    )  # refuses what cannot be divided by
    if not rich:
        return spec.replace(augmentation="weak", augmentation_options={}, ratio=0.0)
    share = (spec.views - 1) / spec.views or 1.0
    return augmented(spec, profile, policy, views=spec.views, ratio=share if ratio is None else ratio)


def equal_images(profile: Profile) -> Budget:
    """A budget in student images: those that a two-view student sees in the profile's epochs on the whole set."""
    b = profile.budget
    return Budget(steps(ce(profile)) * b.originals_per_step * 2, "student_images", b.originals_per_step)


def equal_steps(profile: Profile) -> Budget:
    """A budget in steps: those of the profile's epochs on the whole training set."""
    return Budget(steps(ce(profile)), "steps", profile.budget.originals_per_step)
