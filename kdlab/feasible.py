"""Whether a spec can run, and if not why: names, options, needs of the method, views, teacher. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdlab import data
from kdlab.identity import steps
from kdlab.once import by_identity, by_value
from kdlab.registry import TAPPING, Entry
from kdlab.spec import Checkpoint, RunSpec, SpecError, check_options, choose, find


@by_identity
def check(spec: RunSpec) -> None:
    """Refuse a spec that cannot run: unknown names and options, unmet needs, classes that do not match.

    Raises:
        SpecError: naming what is wrong and what would be right.
    """
    _check_model(spec.model, spec.model_options)
    policy = check_options("augment", spec.augmentation, dict(spec.augmentation_options))
    method = check_options("losses", spec.method, dict(spec.method_options))
    _check_views(spec, method, policy)
    if isinstance(spec.teacher, Checkpoint):
        _check_model(spec.teacher.arch, spec.teacher.options)
        _check_order(spec.teacher, spec.data)
    elif spec.teacher is not None and spec.teacher.data != spec.data:
        _check_data(spec.data, spec.teacher.data)
    _check_teacher(spec, method)
    there = data.facts(spec.data)
    for split, size in zip(data.SPLITS, spec.sizes or (), strict=False):
        if size > there[split]:
            raise SpecError(f"sizes: {split} must be between 1 and {there[split]}, but got {size}.")
    steps(spec)


def refusal(spec: RunSpec) -> str | None:
    """Why a spec cannot run, in words; None when it can. For grids, whose impossible cells are hatched."""
    try:
        check(spec)
    except SpecError as error:
        return str(error)
    return None


@by_value
def class_names(name: str) -> tuple[str, ...]:
    """The class names of a data set, without torch."""
    return tuple(data.describe(name).classes)


def _check_data(own: str, taught: str) -> None:
    """Refuse a teacher whose data have other classes or channels than the student's."""
    for fact in ("classes", "channels"):
        mine, other = data.facts(own)[fact], data.facts(taught)[fact]
        if mine != other:
            raise SpecError(f"the teacher's data {taught!r} has {other} {fact}, the student's {own!r} has {mine}.")
    mine, other = class_names(own), class_names(taught)
    if mine != other:
        first = next(k for k, names in enumerate(zip(mine, other, strict=True)) if len(set(names)) > 1)
        raise SpecError(
            f"class {first} of the teacher's data {taught!r} is {other[first]!r}, of the student's {own!r} it is "
            f"{mine[first]!r}: name the classes alike, or give the teacher's weights as a checkpoint and map its "
            "classes by --teacher-classes."
        )


def _check_order(teacher: Checkpoint, name: str) -> None:
    """Refuse an order of classes that is not one of the data's own."""
    names = class_names(name) if teacher.classes else ()
    for given in teacher.classes:
        choose(f"--teacher-classes for {name!r}", given, names)
    if len(set(teacher.classes)) != len(names) or len(teacher.classes) != len(names):
        raise SpecError(
            f"--teacher-classes must name each of the {len(names)} classes of {name!r} once ({', '.join(names)}), but "
            f"got {', '.join(teacher.classes)}."
        )


def _check_model(name: str, options: Mapping[str, Any]) -> None:
    taps = {k: v for k, v in options.items() if k in TAPPING}
    rest = {k: v for k, v in options.items() if k not in TAPPING}
    if ":" in name:
        find("models", name)  # what a foreign builder takes, it says itself
    else:
        check_options("models", name, rest)
        if taps:
            raise SpecError(f"model_options: {name!r} shows its stages by itself; leave out {', '.join(taps)}.")


def needs(method: Entry, options: Mapping[str, Any]) -> set[str]:
    """What a method needs, with what the method it wraps needs."""
    own = set(method.facts.get("needs", ()))
    if wraps := method.facts.get("wraps"):
        own |= set(check_options("losses", dict(method.options | options)[wraps], {}).facts.get("needs", ()))
    return own


def reads_maps(spec: RunSpec) -> bool:
    """Whether the method reads more of the teacher than logits and embedding; foreign ones may."""
    method = find("losses", spec.method)
    return ":" in spec.method or bool({"features", "final"} & needs(method, spec.method_options))


def _check_views(spec: RunSpec, method: Entry, policy: Entry) -> None:
    needed, mixes = needs(method, spec.method_options), policy.facts.get("mixes") and spec.ratio > 0
    if "pairs" in needed and spec.views < 2:
        raise SpecError(
            f"method {spec.method!r} compares two views of one image, but views={spec.views}; use views=2 or more."
        )
    if "turns" in needed and (spec.views, spec.ratio) != (4, 0):
        raise SpecError(
            f"method {spec.method!r} makes its own views, all four quarter turns of each original: it takes views=4 "
            f"and ratio=0, but got views={spec.views} and ratio={spec.ratio:g}."
        )
    if "turns" in needed and spec.teacher is not None and spec.teacher_view != "same":
        raise SpecError(
            f"method {spec.method!r} compares turns with turns: the teacher must see the same views, but got "
            f"teacher_view={spec.teacher_view!r}."
        )
    if mixes and "labels" in needed:
        raise SpecError(
            f"method {spec.method!r} needs one class a row, but {spec.augmentation!r} gives mixed images two."
        )
    if mixes and spec.teacher is not None and spec.teacher_view != "same":
        raise SpecError(
            f"{spec.augmentation!r} mixes images: the teacher must see the same mixed view, but got "
            f"teacher_view={spec.teacher_view!r}."
        )
    if spec.ratio > 0 and policy.facts.get("picks"):
        if spec.views * spec.ratio % 1:
            raise SpecError(
                f"{spec.augmentation!r} picks rows of whole views: views x ratio must be a whole number, but got "
                f"{spec.views} x {spec.ratio:g}."
            )
        if spec.teacher is None and dict(policy.options | spec.augmentation_options)["by"] == "teacher":
            raise SpecError(f"{spec.augmentation!r} picks by the teacher, but the spec has none; use by='student'.")


def _check_teacher(spec: RunSpec, method: Entry) -> None:
    if "teacher" in needs(method, spec.method_options) and spec.teacher is None:
        raise SpecError(f"method {spec.method!r} needs a teacher, but the spec has none.")
    preparing = method.facts.get("prepared", ())
    if preparing and not (isinstance(spec.teacher, RunSpec) and spec.teacher.method in preparing):
        raise SpecError(
            f"method {spec.method!r} reads parts of the teacher that {' or '.join(map(repr, preparing))} trains: its "
            f"teacher must be a RunSpec with that method."
        )
    if method.facts.get("stage") == "teacher":
        arch = spec.teacher.model if isinstance(spec.teacher, RunSpec) else spec.teacher.arch
        if spec.model != arch:
            raise SpecError(
                f"method {spec.method!r} prepares its teacher, so model must be the teacher's {arch!r}, but got "
                f"{spec.model!r}."
            )
