"""Claim (g): a map of when joint augmentation pays: with many passes over few images, under a teacher of the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from kdlab import data, plotting, stats
from kdlab.errors import Unfit
from kdlab.perspectives import recipes
from kdlab.perspectives.joint_augmentation import NULL_MARGIN
from kdlab.perspectives.profiles import Profile
from kdlab.plotting.look import INK
from kdlab.spec import Budget, RunSpec
from kdlab.stats import Contrast

TITLE = "When augmentation pays"
QUESTION = "With how many images, how many passes over them, and which teacher does joint augmentation help?"
CLAIM = (
    "What JDA gains over two weak views grows with the passes over the same images, falls with the images at the same "
    "passes, and is larger under a teacher that has seen no more than its student than under one that has seen it all."
)
REFUTED_BY = (
    "A gain that does not grow with passes at fixed images; that does not fall with images at fixed passes; or that is "
    "no larger under the teacher of the student's own images than under the strong one."
)
FORMULA = (
    "KD: CE + T² KL(teacher || student), T = 4, mean over all rows. The gain is JDA minus two weak views of the same "
    "images: equal steps, equal student images, the same teacher."
)
FIGURES = {
    "gain": "JDA minus weak2 over training images and passes over them, under a teacher of the student's own images "
    "and under a strong one. A cell holds the effect, its outcome (above zero, below, ≈0: within half a point, ?: "
    "undecided; bold where decided), corrected for all cells of the figure, and its paired 95 % interval. Hatched: not "
    "trained, with the reason. Dashed lines: equal steps, so equal cost. Star: where the other notebooks are; ring: "
    "half the images of the few-shot notebook.",
    "kd": "KD minus CE, both on one weak view, over the same cells: what distillation itself is worth there.",
    "widths": "JDA minus weak2 for students of other widths at one cell of the map, under both teachers.",
}
OWN, STRONG = "own", "strong"
PANELS = {OWN: "Teacher of the student's own images", STRONG: "Strong teacher"}
FEW, MANY, ABSENT = "too few steps", "too long", "too few images"
BASES = ("kd", "weak2", "jda")
OUTCOMES = {"supported": ">0", "contradicted": "<0", "negligible": "≈0", "undecided": "?"}
FOURFOLD = 2.0  # doublings between the ends of a claim's comparison
SEEDS = 6  # of the profile's, where none are asked for
Cell = tuple[int, int]


def arm(base: str, cell: Cell, teacher: str | None = None, student: str = "") -> str:
    """Name of an arm: ``"jda, 1000 x 120, strong teacher"``; ``"ce, 1000 x 120"`` has none."""
    under = f", {teacher} teacher" if teacher else ""
    return f"{base}, {cell[0]} x {cell[1]}{under}" + (f", {student}" if student else "")


def cost(profile: Profile, cell: Cell) -> int:
    """Optimiser steps of a student that makes so many passes over so many images."""
    images, passes = cell
    return images // profile.budget.originals_per_step * passes


def left_out(profile: Profile, cell: Cell) -> str | None:
    """Why a cell of the grid is not trained, in words; None when it is."""
    there, steps = data.train_size(profile.data, _sizes(profile)), cost(profile, cell)
    if cell[0] > there:
        return ABSENT
    if steps < profile.map.least:
        return FEW
    return MANY if steps > profile.map.most and cell not in profile.map.beyond else None


def cells(profile: Profile) -> list[Cell]:
    """The cells (images, passes) that are trained.

    Raises:
        Unfit: when they do not let a comparison at fixed images and one at fixed passes be made.
    """
    grid = product(profile.map.images, profile.map.passes)
    kept = [cell for cell in grid if left_out(profile, cell) is None]
    if any(len({cell[axis] for cell in kept}) < 2 for axis in (0, 1)) or profile.map.middle not in kept:
        raise Unfit(
            f"when_it_pays needs {max(profile.map.images):,} training images for its map, but {profile.data!r} has "
            f"{data.train_size(profile.data, _sizes(profile)):,}."
        )
    return kept


def _sizes(profile: Profile) -> tuple[int, int, int] | None:
    """As many training images as the strong teacher sees; val and test of the profile."""
    return None if profile.sizes is None else (profile.map.strong[0], *profile.sizes[1:])


def teachers(profile: Profile, images: int) -> dict[str, RunSpec]:
    """The two teachers of students on so many images."""
    size = profile.replace(sizes=_sizes(profile))
    there, own = data.train_size(profile.data, _sizes(profile)), recipes.teacher(size)
    originals = profile.teacher_budget.originals_per_step
    steps = Budget(profile.map.teacher_steps, "steps", originals)
    strong = Budget(profile.map.strong[1], originals_per_step=originals)
    return {OWN: own.replace(fraction=images / there, budget=steps), STRONG: own.replace(budget=strong)}


def students(profile: Profile, cell: Cell, student: str = "") -> dict[str, RunSpec]:
    """CE of a cell, and KD, weak2 and JDA under both of its teachers."""
    size = profile.replace(sizes=_sizes(profile), student=student or profile.student)
    there = data.train_size(profile.data, _sizes(profile))
    budget = Budget(cell[1], originals_per_step=profile.budget.originals_per_step)
    plain = recipes.ce(size).replace(fraction=cell[0] / there, budget=budget)
    made = {arm("ce", cell, student=student): plain}
    for under, teacher in teachers(profile, cell[0]).items():
        kd = recipes.kd(size).replace(fraction=plain.fraction, budget=budget, teacher=teacher)
        by = {"kd": kd, "weak2": recipes.weak2(kd), "jda": recipes.augmented(kd, size)}
        made |= {arm(base, cell, under, student): by[base] for base in BASES}
    return made


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Every cell's students, those of other widths at the middle, and there KD under other streams."""
    made = {name: spec for cell in cells(profile) for name, spec in students(profile, cell).items()}
    middle = profile.map.middle
    for student in profile.map.students:
        wide = students(profile, middle, student)
        made |= {name: spec for name, spec in wide.items() if not name.startswith(("ce", "kd"))}
    return made | {"kd again": made[arm("kd", middle, OWN)].replace(replicate=1)}


def gain(cell: Cell, teacher: str, by: float = 1.0) -> dict[str, float]:
    """JDA minus weak2 in a cell, as weights of arms.

    Args:
        cell: images and passes.
        teacher: ``OWN`` or ``STRONG``.
        by: factor.
    """
    return {arm("jda", cell, teacher): by, arm("weak2", cell, teacher): -by}


def slope(profile: Profile, axis: int) -> dict[Cell, float]:
    """The weights of cells that give a gain's change over a fourfold step along one axis, the other axis held fixed.

    Ordinary least squares of the cells' gains on log2 of that axis, with a level of its own for each value of the
    other axis: w = 2 x / sum(x²), where x is log2 of the cell's value minus its mean over the cells of the same level.

    Args:
        profile: names the cells.
        axis: 0 for images, 1 for passes.
    """
    there = cells(profile)
    levels: dict[int, list[float]] = {}
    for cell in there:
        levels.setdefault(cell[1 - axis], []).append(math.log2(cell[axis]))
    x = {cell: math.log2(cell[axis]) - float(np.mean(levels[cell[1 - axis]])) for cell in there}
    total = sum(value**2 for value in x.values())
    return {cell: FOURFOLD * value / total for cell, value in x.items() if abs(value) > 1e-12}


def contrasts(profile: Profile) -> list[Contrast]:
    """Passes, images and teachers; distillation as positive control, other streams as null control."""
    there = cells(profile)
    by_passes = [gain(cell, OWN, weight) for cell, weight in slope(profile, 1).items()]
    by_images = [gain(cell, OWN, -weight) for cell, weight in slope(profile, 0).items()]
    by_teacher = [gain(cell, OWN, 1 / len(there)) | gain(cell, STRONG, -1 / len(there)) for cell in there]
    kd = [{arm("kd", c, OWN): 1 / len(there), arm("ce", c): -1 / len(there)} for c in there]
    return [
        Contrast("gain at four times the passes − gain", _joined(by_passes), text="linear in log passes, images fixed",
                 subject="JDA's gain at four times the passes", reference="its gain (same images)"),
        Contrast("gain under own − gain under strong", _joined(by_teacher), text="mean over the cells of the map",
                 subject="JDA's gain under the teacher of the same images", reference="its gain under the strong one"),
        Contrast("gain at a quarter of the images − gain", _joined(by_images), reference="its gain (same passes)",
                 text="linear in log images, passes fixed", subject="JDA's gain at a quarter of the images"),
        Contrast("KD − CE", _joined(kd), role="positive control", reference="labels alone",
                 text="distillation works at all here: mean over the cells, teacher of the same images"),
        Contrast(
            "KD − KD under other streams", {arm("kd", profile.map.middle, OWN): 1, "kd again": -1},
            expects="equivalent", margin=NULL_MARGIN, role="null control",
            text="one run against itself: nothing should be found",
        ),
    ]  # fmt: skip


def _joined(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: weight for part in parts for name, weight in part.items()}


def lengths(profile: Profile) -> tuple[int, str]:
    """Training images of the strong teacher, and the networks with how long they train, for captions."""
    p, grid = profile, profile.map
    there = data.train_size(p.data, _sizes(p))
    own, strong = f"{grid.teacher_steps:,} steps", f"{grid.strong[1]:g} epochs of all {there:,}"
    return there, (
        f"Teacher {p.teacher} ({own} on its student's images; the strong one {strong}), student {p.student} "
        f"({p.budget.originals_per_step} originals a step); subsets of images are stratified and nested and differ "
        "between seeds."
    )


def gains(table: pd.DataFrame, profile: Profile) -> dict[str, dict[Cell, stats.Verdict]]:
    """JDA − weak2 of every cell, by teacher; outcomes corrected for the cells of both teachers.

    Args:
        table: from the study.
        profile: names the cells.
    """
    return _judged(table, profile, gain)


def _judged(
    table: pd.DataFrame, profile: Profile, weights: Callable[[Cell, str], dict[str, float]]
) -> dict[str, dict[Cell, stats.Verdict]]:
    there = list(product(PANELS, cells(profile)))
    listed = [Contrast(f"{c[0]} x {c[1]}, {t} teacher", weights(c, t)) for t, c in there]
    found: dict[str, dict[Cell, stats.Verdict]] = {teacher: {} for teacher in PANELS}
    for (teacher, cell), verdict in zip(there, stats.decide(table, listed, design=profile.design), strict=True):
        found[teacher][cell] = verdict
    return found


def figures(table, verdicts, profile: Profile) -> dict:
    """The two maps, and the gain over students' widths."""
    kd = _judged(table, profile, lambda cell, teacher: {arm("kd", cell, teacher): 1, arm("ce", cell): -1})
    return {
        "gain": _map(gains(table, profile), profile, "JDA \u2212 weak2 (points)"),
        "kd": _map(kd, profile, "KD \u2212 CE (points)"),
        "widths": _widths(table, profile),
    }


def _map(found: Mapping[str, Mapping[Cell, stats.Verdict]], profile: Profile, label: str):
    """A panel for each teacher, on one scale of colours."""
    grid = profile.map
    figure = plotting.figure(0.75 + 0.5 * len(grid.images), plotting.PAGE)
    most = max(0.5, *(abs(v.effect) for panel in found.values() for v in panel.values() if v.n))
    reasons = {cell: left_out(profile, cell) for cell in product(grid.images, grid.passes)}
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (teacher, panel) in zip(axes, found.items(), strict=True):
        colours = plotting.surface(
            ax, {c: v.effect for c, v in panel.items()}, {c: _words(v) for c, v in panel.items()},
            {c: reason for c, reason in reasons.items() if reason}, rows=grid.images, columns=grid.passes, limit=most,
            bold=[c for c, v in panel.items() if v.outcome != "undecided"],
        )  # fmt: skip
        ax.set_title(PANELS[teacher])
        ax.set_xlabel("passes over the images")
        _equal_steps(ax, profile)
        _others(ax, profile)
    axes[0].set_ylabel("training images")
    figure.colorbar(colours, ax=axes, label=label, fraction=0.03, pad=0.01)
    return figure


def _words(verdict: stats.Verdict) -> str:
    """``"+0.62 (>0)\\n[+0.3, +0.9]"``: the effect, its outcome and its interval."""
    bounds = f"\n[{verdict.low:+.1f}, {verdict.high:+.1f}]" if verdict.bounded else ""
    return f"{verdict.effect:+.2f} ({OUTCOMES[verdict.outcome]}){bounds}".replace("-", "\u2212")


def _equal_steps(ax, profile: Profile) -> None:
    """A dashed line through the cells of equal steps, for each number of steps that begins a diagonal of the map."""
    grid = profile.map
    passes = np.geomspace(grid.passes[0] / 1.4, grid.passes[-1] * 1.4, 200)
    for steps in sorted({cost(profile, (grid.images[0], p)) for p in grid.passes} - {0}):
        if grid.least <= steps <= grid.most:
            images = steps * profile.budget.originals_per_step / passes
            ax.plot(plotting.place(grid.passes, passes), plotting.place(grid.images, images), color=INK, lw=0.6,
                    ls="--", alpha=0.6, zorder=3, scalex=False, scaley=False)  # fmt: skip


def _others(ax, profile: Profile) -> None:
    """Where the other notebooks are, in the corner of a cell: a star; half the images of the few-shot one: a ring."""
    grid, whole = profile.map, data.train_size(profile.data, profile.sizes)
    for share, marker, fill in ((1.0, "*", INK), (0.5, "o", "none")):
        y, x = plotting.place(grid.images, whole * share), plotting.place(grid.passes, profile.budget.amount)
        ax.plot(x + 0.38, y + 0.36, marker=marker, ms=5, ls="", mew=0.7, mec=INK, mfc=fill, zorder=6,
                scalex=False, scaley=False)  # fmt: skip


def _widths(table: pd.DataFrame, profile: Profile):
    """JDA − weak2 over the students of the middle cell."""
    figure, middle = plotting.figure(), profile.map.middle
    rows = []
    for student in sorted({profile.student, *profile.map.students}, key=_width):
        extra = "" if student == profile.student else student
        for teacher, title in PANELS.items():
            weights = {arm("jda", middle, teacher, extra): 1, arm("weak2", middle, teacher, extra): -1}
            values = stats.paired_differences(table, weights)[0]
            rows += [{"student": student, "by": title, "seed": seed, "gain": one} for seed, one in values.items()]
    ax = figure.subplots()
    plotting.line_with_interval(
        ax, pd.DataFrame(rows), "student", value="gain", by="by", zero=True,
        xlabel=f"student, at {middle[0]:,} images and {middle[1]} passes", ylabel="JDA \u2212 weak2 (points)",
    )  # fmt: skip
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _width(name: str) -> tuple[int, str]:
    """The number at the end of a network's name."""
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits or 0), name
