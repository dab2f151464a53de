"""Arms of a cohort that take a step abreast: narrow students of one architecture, stacked into one network."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from kdlab.models import Outputs
from kdlab.training.fusion.network import FusedNetwork, bit_identical
from kdlab.training.student import Arm
from kdlab.training.views import Views

FUSED_SIZES = (8, 6, 4, 3, 2)  # students in a stack: numbers that fall into even groups
_identical: dict[tuple, bool] = {}  # whether students of a kind get their own bits; cohorts of one process ask once


def fused_sizes(count: int) -> list[int]:
    """How many arms go into each stack, so that few go alone.

    >>> fused_sizes(9), fused_sizes(5), fused_sizes(1)
    ([6, 3], [3, 2], [1])
    """
    found = []
    while count:
        found.append(next((s for s in FUSED_SIZES if s <= count and count - s != 1), count))
        count -= found[-1]
    return found


class FusedStepper:
    """Steps the arms of a cohort, those that can be stacked together.

    Args:
        views: of the cohort.
    """

    def __init__(self, views: Views):
        self.views = views
        self._stacks: dict[tuple[str, ...], FusedNetwork | None] = {}

    def step(self, arms: Iterable[Arm]) -> None:
        """One optimiser step of each arm, all of which stand at the step of the views."""
        stacks = {}
        for part in self._parts(arms):
            keys = tuple(arm.key for arm in part)
            stack = None
            if len(part) > 1:
                stack = stacks[keys] = self._stacks[keys] if keys in self._stacks else self._stacked(part)
            if stack is None:
                for arm in part:
                    arm.train_step(self.views)
            else:
                self._step(stack, part)
        self._stacks = stacks

    def _parts(self, arms: Iterable[Arm]) -> Iterator[list[Arm]]:
        groups: dict[tuple, list[Arm]] = {}
        for arm in arms:
            alone = arm.fusion_key is None or self.views.device.type != "cpu"
            groups.setdefault((arm.key,) if alone else arm.fusion_key, []).append(arm)
        for together in groups.values():
            for size in fused_sizes(len(together)):
                yield together[:size]
                together = together[size:]

    def _stacked(self, arms: list[Arm]) -> FusedNetwork | None:
        """The arms' students as one network; None where a student would not get its own bits, or nothing is gained."""
        students, x = [arm.student for arm in arms], [arm.inputs(self.views)[0].x for arm in arms]
        kind = arms[0].fusion_key, arms[0].spec.data, x[0].shape, len(arms)
        if kind not in _identical:
            _identical[kind] = bit_identical(students, x)
        stack = FusedNetwork(students, x[0], arms[0].reads_maps) if _identical[kind] else None
        return stack if stack and any(any(layer.group_sizes) for layer in stack.convolutions) else None

    def _step(self, stack: FusedNetwork, arms: list[Arm]) -> None:
        rows = [arm.inputs(self.views) for arm in arms]
        started = time.perf_counter()
        said: list[Outputs] = stack.forward([batch.x for batch, _ in rows])
        shared = time.perf_counter() - started
        losses = []
        for arm, student, (batch, teacher) in zip(arms, said, rows, strict=True):
            losses.append(arm.compute_loss(student, teacher, batch))
        started = time.perf_counter()
        stack.backward()
        shared += time.perf_counter() - started
        for arm, loss, (batch, _) in zip(arms, losses, rows, strict=True):
            if loss is not None:
                arm.optimiser_step(loss, batch)
                arm.seconds += shared / len(arms)
                arm.fused_with += len(arms) - 1
