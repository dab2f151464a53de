"""Validation of specs: names, options, needs of the method, views, teacher; says why one cannot run. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdlab import data
from kdlab.errors import SpecError, choose
from kdlab.foreign import LISTED, TAPPING, join_options
from kdlab.lab.keys import steps
from kdlab.memo import memoised
from kdlab.registry import AugmentationInfo, MethodInfo, check_options, find, needs, parts_of
from kdlab.spec import TURNS, Checkpoint, RunSpec

COUNTS = {"classes": "classes", "rows": "rows a step", "originals": "originals a step"}
# What a method may read of a network besides its logits, and how it is called.
SHOWN = {"features": "stage maps", "embedding": "embedding", "final": "map before pooling"}


@memoised
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
    _check_counts(spec, method)
    _check_shown(spec, method)
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


@memoised
def class_names(name: str) -> tuple[str, ...]:
    """The class names of a data set, without torch."""
    return tuple(data.describe(name).classes)


def _check_data(own: str, of_teacher: str) -> None:
    """Refuse a teacher whose data have other classes or channels than the student's."""
    for fact in ("classes", "channels"):
        mine, other = data.facts(own)[fact], data.facts(of_teacher)[fact]
        if mine != other:
            raise SpecError(f"the teacher's data {of_teacher!r} has {other} {fact}, the student's {own!r} has {mine}.")
    mine, other = class_names(own), class_names(of_teacher)
    if mine != other:
        first = next(k for k, names in enumerate(zip(mine, other, strict=True)) if len(set(names)) > 1)
        raise SpecError(
            f"class {first} of the teacher's data {of_teacher!r} is {other[first]!r}, of the student's {own!r} it is "
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


def notes(spec: RunSpec, method: MethodInfo) -> list[str]:
    """What a reader of a run's results must know: its method's terms that have no gradient there."""
    return [
        f"method {spec.method!r}: its term {term} has no gradient with {_counted(spec)[what]} {COUNTS[what]}; it takes "
        f"{least} or more."
        for part in parts_of(method, spec.method_options)
        for term, (what, least) in _idle(spec, part).items()
    ]


def _counted(spec: RunSpec) -> dict[str, int]:
    originals = spec.budget.originals_per_step
    return {"classes": data.facts(spec.data)["classes"], "rows": originals * spec.views, "originals": originals}


def _idle(spec: RunSpec, method: MethodInfo) -> dict[str, tuple[str, int]]:
    """The method's terms that have no gradient here, each with what there is too little of, and the least of it."""
    terms, there = method.least.items(), _counted(spec)
    limits = [(term, what, least) for term, limit in terms for what, least in limit.items()]
    return {term: (what, least) for term, what, least in limits if there[what] < least}


def _check_counts(spec: RunSpec, method: MethodInfo) -> None:
    there = _counted(spec)
    if there["rows"] == 1 and ":" not in spec.model:
        raise SpecError(
            f"{spec.model!r} has BatchNorm, which compares rows, but a step has one row (budget.originals_per_step=1, "
            f"views=1); take more originals a step."
        )
    for part in parts_of(method, spec.method_options):
        idle = _idle(spec, part)
        if idle and idle.keys() == part.least.keys():
            what, least = next(iter(idle.values()))
            raise SpecError(
                f"method {spec.method!r} needs {least} {COUNTS[what]} or more, but there are {there[what]}: with fewer "
                f"it teaches nothing of its own."
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


def _check_shown(spec: RunSpec, method: MethodInfo) -> None:
    """Refuse networks that are not ours and that do not run on these data or do not show what the method reads."""
    needed = [part for part in SHOWN if part in needs(method, spec.method_options)]
    of_teacher = method.of_teacher
    networks = [("student", spec.model, spec.model_options, [part for part in needed if part not in of_teacher])]
    if isinstance(spec.teacher, RunSpec):
        networks.append(("teacher", spec.teacher.model, spec.teacher.model_options, needed))
    elif spec.teacher is not None:
        networks.append(("teacher", spec.teacher.arch, spec.teacher.options, needed))
    for who, name, options, parts in networks:
        if ":" in name:
            learns = who == "student" or isinstance(spec.teacher, RunSpec)
            from kdlab.models.trial import trial  # foreign code has imported torch already

            tried = trial(name, options, data.facts(spec.data)["classes"], data.shape(spec.data), learns)
            if missing := [part for part in parts if part not in tried.shows]:
                raise SpecError(_unshown(spec.method, who, name, dict(options), missing[0], tried))


def _unshown(method: str, who: str, name: str, options: dict[str, Any], part: str, tried: Any) -> str:
    """What to do about a part of a network that a method reads and the network does not show."""
    said = (
        f"method {method!r} reads the {SHOWN[part]} of the {who}, which {join_options(name, options)!r} does not show"
    )
    if part == "final" and tried.shows:
        return (
            f"{said}: its last tap must give the map whose mean over positions a linear layer turns into the logits, "
            f"and embedding= must be left out."
        )
    if not tried.proposed:
        return f"{said}, and none of its layers gives a map."
    example, more = (
        join_options(name, options | {"taps": tried.proposed}),
        ", ..." if len(tried.layers) > LISTED else "",
    )
    return (
        f"{said}: name the layers to read, as in {example!r}. Its layers with maps are "
        f"{', '.join(tried.layers[:LISTED])}{more}."
    )


def _check_views(spec: RunSpec, method: MethodInfo, policy: AugmentationInfo) -> None:
    needed, mixes = needs(method, spec.method_options), policy.mixes and spec.ratio > 0
    if "pairs" in needed and spec.views < 2:
        raise SpecError(
            f"method {spec.method!r} compares two views of one image, but views={spec.views}; use views=2 or more."
        )
    if "turns" in needed and (spec.views, spec.ratio) != (TURNS, 0):
        raise SpecError(
            f"method {spec.method!r} makes its own views, all four quarter turns of each original: it takes "
            f"views={TURNS} and ratio=0, but got views={spec.views} and ratio={spec.ratio:g}."
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
    if spec.ratio > 0 and policy.picks:
        if spec.views * spec.ratio % 1:
            raise SpecError(
                f"{spec.augmentation!r} picks rows of whole views: views x ratio must be a whole number, but got "
                f"{spec.views} x {spec.ratio:g}."
            )
        if spec.teacher is None and dict(policy.options | spec.augmentation_options)["by"] == "teacher":
            raise SpecError(f"{spec.augmentation!r} picks by the teacher, but the spec has none; use by='student'.")


def _check_teacher(spec: RunSpec, method: MethodInfo) -> None:
    if "teacher" in needs(method, spec.method_options) and spec.teacher is None:
        raise SpecError(f"method {spec.method!r} needs a teacher, but the spec has none.")
    preparing = method.prepared
    if preparing and not (isinstance(spec.teacher, RunSpec) and spec.teacher.method in preparing):
        raise SpecError(
            f"method {spec.method!r} reads parts of the teacher that {' or '.join(map(repr, preparing))} trains: its "
            f"teacher must be a RunSpec with that method."
        )
    if method.stage == "teacher":
        arch = spec.teacher.model if isinstance(spec.teacher, RunSpec) else spec.teacher.arch
        own = spec.teacher.model_options if isinstance(spec.teacher, RunSpec) else spec.teacher.options
        if (spec.model, dict(spec.model_options)) != (arch, dict(own)):
            raise SpecError(
                f"method {spec.method!r} prepares its teacher, so model must be the teacher's "
                f"{join_options(arch, dict(own))!r}, but got {join_options(spec.model, dict(spec.model_options))!r}."
            )
