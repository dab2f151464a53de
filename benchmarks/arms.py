"""Students of joint augmentation under one frozen teacher, and the seconds of their cohort's steps."""

import time
from collections.abc import Callable

from torch import nn

from kdlab.data.sets import Splits
from kdlab.models import build
from kdlab.spec import Budget, RunSpec
from kdlab.training import Arm, Views, train

TEACHER = "t"


def frozen(name: str, splits: Splits, device: str = "cpu") -> nn.Module:
    """An untrained network for the classes and channels of some data, in eval mode and without gradients."""
    network = build(name, len(splits.train.classes), splits.train.images.shape[1], seed=0)
    return network.eval().requires_grad_(False).to(device)


def arm(key: str, model: str, steps: int, originals: int, method: str = "kd", precision: str = "float32") -> Arm:
    """A student that sees a plain and an augmented view of every original."""
    spec = RunSpec(
        model=model, method=method, augmentation="jda", views=2, ratio=0.5, precision=precision,
        budget=Budget(steps, "steps", originals),
    )  # fmt: skip
    return Arm(key, spec, None if method == "ce" else TEACHER, steps)


def train_timed(
    arms: list[Arm], splits: Splits, views: Views, wait: Callable[[], None] = lambda: None
) -> tuple[list[float], dict]:
    """Train a cohort.

    Args:
        arms: the students.
        splits: the data.
        views: of the cohort.
        wait: called after every step, before the clock is read.

    Returns:
        Seconds by the clock after every step but the last, evaluation left out; the students' weights by key.
    """
    marks, weights = [], {}

    def beat(waiting: list[Arm]) -> bool:
        wait()
        marks.append(time.perf_counter() - sum(arm.evaluation_seconds for arm in arms))
        return False

    nothing = lambda arm: None  # noqa: E731
    finish = lambda arm, result: weights.update({arm.key: result.student})  # noqa: E731
    train(arms, splits, views, restore=nothing, save=nothing, finish=finish, beat=beat)
    return marks, weights
