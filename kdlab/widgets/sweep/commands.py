"""The command that would make a run which is not there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from kdlab import data, perspectives
from kdlab.errors import SpecError
from kdlab.foreign import join_options
from kdlab.lab.keys import run_key, steps
from kdlab.perspectives import PROFILES, recipes
from kdlab.spec import Checkpoint, RunSpec


def command(spec: RunSpec, seeds: Sequence[int], like: str | None = None) -> str:
    """The shell command, or the line of Python, that trains a spec at some seeds.

    Args:
        spec: what is missing.
        seeds: of the runs to make.
        like: key of a stored run that the spec was made from; only Python can say what ``kdlab run`` has no option for.

    Returns:
        Empty where neither can say it.
    """
    try:
        for name in PROFILES:
            if line := _in_profile(spec, name):
                first, count = min(seeds), max(seeds) - min(seeds) + 1
                return f"{line}{f' --seed {first}' if first else ''} --seeds {count}"
    except SpecError:  # the data or a foreign part are not here
        pass
    if like is None:
        return ""
    b = spec.budget
    budget = f"Budget({b.amount:g}, {b.unit!r}, {b.originals_per_step})"
    return (
        f'spec = RunSpec.from_dict(Store().read("{like}", "spec")["spec"]).replace(ratio={spec.ratio:g}, '
        f"fraction={spec.fraction:g}, budget={budget}); lab.run([spec.at_seed(s) for s in {list(map(int, seeds))}])"
    )


def _in_profile(spec: RunSpec, name: str) -> str:
    """``kdlab run ...`` in a profile, where that makes exactly this run; else empty."""
    teacher = spec.teacher
    if isinstance(teacher, Checkpoint):
        return ""
    while teacher is not None and isinstance(teacher.teacher, RunSpec):
        teacher = teacher.teacher  # a prepared one has learnt from the teacher that is named
    size = perspectives.profile(
        name, data=spec.data, student=join_options(spec.model, spec.model_options),
        teacher=None if teacher is None else join_options(teacher.model, teacher.model_options),
    )  # fmt: skip
    augmentation = spec.augmentation if spec.ratio > 0 else "weak"
    ratio = None if augmentation == "weak" else spec.ratio
    made = recipes.with_views(recipes.method(size, spec.method, {}), size, augmentation, spec.views, ratio)
    made, epochs = made.replace(fraction=spec.fraction).at_seed(spec.seed), ""
    if steps(made) != steps(spec):
        size_of_one = data.train_size(made.data, made.sizes, made.fraction) // made.budget.originals_per_step
        epochs = f"{steps(spec) / max(1, size_of_one):.6g}"
        made = made.replace(budget=replace(made.budget, amount=float(epochs), unit="epochs"))
    if run_key(made) != run_key(spec):
        return ""
    base, words = PROFILES[name], ["kdlab run", spec.method, f"--profile {name}"]
    for option, value, default in (
        ("data", spec.data, base.data), ("student", size.student, base.student),
        ("teacher", size.teacher, base.teacher),
    ):  # fmt: skip
        words += [f"--{option} {shlex.quote(value)}"] if value != default else []
    words += [f"--augmentation {augmentation}"] if augmentation != "weak" else []
    words += [f"--views {spec.views}"] + ([f"--ratio {spec.ratio:g}"] if augmentation != "weak" else [])
    words += [f"--fraction {spec.fraction:g}"] if spec.fraction != 1 else []
    return " ".join([*words, *([f"--epochs {epochs}"] if epochs else [])])
