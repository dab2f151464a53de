"""How long the runs of a profile train, and how a folder of images changes that.

**The rule for folders.** A profile's numbers are meant for its own data. On a folder of N training images (after val
was carved), where the profile has a budget of E epochs at B originals a step:

- *originals a step*: the largest even number that is at most B, at most N / 4 and at most the images in the smallest
  subset that the profile trains on (few-shot), and at least 2. So the whole set has four steps an epoch or more, the
  smallest subset one or more, and half of a step's originals is a whole number.
- *epochs*: E, or more where E would make fewer optimiser steps than on the profile's own data: then as many whole
  epochs as make at least those steps, but no more than 10 E.

So a folder with as many images as the profile's own data, or more, trains as the profile says, a smaller one takes
about as many steps as these, and a tiny one is not passed over without end. Lengths given by hand (``epochs``,
``steps``, ``originals``, ``teacher_epochs``) are taken as they are. Other data keep the profile's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdlab.data import train_size
from kdlab.errors import SpecError
from kdlab.perspectives.notebook_parameters import whole
from kdlab.spec import Budget

if TYPE_CHECKING:
    from kdlab.perspectives.profiles import Profile

MOST = 10  # times the profile's epochs
LEAST_STEPS = 4  # an epoch of the whole set
WHOLE = {"fashion": 12000, "fashion-mnist": 54000, "cifar10": 45000, "cifar100": 45000}  # training images, val carved


def originals(most: int, images: int, smallest: int | None = None) -> int:
    """Originals a step for a set of images: the first half of the rule.

    Args:
        most: the profile's.
        images: training images N.
        smallest: images in the smallest subset; None means N.

    Returns:
        An even number of at least 2 (``most`` itself where nothing bounds it).
    """
    fits = min(images // LEAST_STEPS, images if smallest is None else smallest)
    return most if most <= fits else max(2, fits - fits % 2)


def epochs(amount: float, steps: int, per_epoch: int) -> float:
    """Epochs that make at least so many steps: the second half of the rule.

    Args:
        amount: the profile's epochs E.
        steps: optimiser steps of E epochs on the profile's own data.
        per_epoch: steps an epoch on these data.
    """
    return max(amount, min(MOST * amount, math.ceil(steps / per_epoch)))


def fitted(profile: Profile, before: Profile | None, given: Mapping[str, Any]) -> Profile:
    """The profile with the lengths that were given, and the others scaled where it got a folder as data.

    Args:
        profile: with its data set.
        before: what it was before it got its data, whose steps count; None where that did not just happen.
        given: some of ``LENGTHS``.

    Raises:
        SpecError: for a length out of range, or both epochs and steps.
    """
    if "epochs" in given and "steps" in given:
        raise SpecError(f"epochs and steps exclude each other, but got {given['epochs']!r} and {given['steps']!r}.")
    student, teacher = profile.budget, profile.teacher_budget
    if "originals" in given:
        some = whole("originals", given["originals"])
        student, teacher = (replace(b, originals_per_step=some) for b in (student, teacher))
    own = ("epochs" in given or "steps" in given) and "teacher_epochs" in given and "originals" in given
    if before and profile.data.startswith("folder:") and not own:  # nothing is read that is not needed
        images, planned = train_size(profile.data, profile.sizes), _images(before)
        if "originals" not in given:
            few = train_size(profile.data, profile.sizes, min(*profile.fractions, *profile.step_fractions, 1.0))
            some = originals(student.originals_per_step, images, few)
            student, teacher = (replace(b, originals_per_step=some) for b in (student, teacher))
        student = _longer(student, images, before.budget, planned)
        teacher = _longer(teacher, images, before.teacher_budget, planned)
    if "epochs" in given:
        student = Budget(given["epochs"], "epochs", student.originals_per_step)
    if "teacher_epochs" in given:
        teacher = Budget(given["teacher_epochs"], "epochs", teacher.originals_per_step)
    if "steps" in given:
        per_epoch = Budget(1, "epochs", student.originals_per_step).steps(train_size(profile.data, profile.sizes), 1)
        student = Budget(whole("steps", given["steps"]) / per_epoch, "epochs", student.originals_per_step)
    return replace(profile, budget=student, teacher_budget=teacher)


def _images(profile: Profile) -> int:
    """Training images that a profile's budgets are meant for, without reading data that may not be here."""
    if profile.sizes:
        return profile.sizes[0]
    return WHOLE[profile.data] if profile.data in WHOLE else train_size(profile.data)


def _longer(budget: Budget, images: int, meant: Budget, planned: int) -> Budget:
    per_epoch = max(1, images // budget.originals_per_step)
    return replace(budget, amount=epochs(meant.amount, meant.steps(planned, 1), per_epoch))
