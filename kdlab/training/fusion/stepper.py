"""One step of a cohort: narrow students of one architecture as a fused network, the others one by one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from kdlab.training.fusion.network import FusedNetwork, bit_identical
from kdlab.training.student import Arm
from kdlab.training.views import Views

FUSED_SIZES = (8, 6, 4, 3, 2)  # students in a fused network: numbers that fall into even groups
_identical: dict[tuple, bool] = {}  # whether students of a kind keep their bits when fused; tried once a process


def fused_sizes(count: int) -> list[int]:
    """How many of ``count`` arms go into each fused network, so that few train alone.

    >>> fused_sizes(9), fused_sizes(5), fused_sizes(1)
    ([6, 3], [3, 2], [1])
    """
    found = []
    while count:
        found.append(next((s for s in FUSED_SIZES if s <= count and count - s != 1), count))
        count -= found[-1]
    return found


class FusedStepper:
    """Steps the arms of a cohort, fusing those of equal ``fusion_key``.

    Args:
        views: of the cohort.
    """

    def __init__(self, views: Views):
        self.views = views
        self._networks: dict[tuple[str, ...], FusedNetwork | None] = {}

    def step(self, arms: Iterable[Arm]) -> None:
        """One optimiser step of each arm, all of which stand at the step of the views."""
        networks = {}
        for group in self._groups(arms):
            keys = tuple(arm.key for arm in group)
            network = None
            if len(group) > 1:
                network = networks[keys] = self._networks[keys] if keys in self._networks else self._fused(group)
            if network is None:
                for arm in group:
                    arm.train_step()
            else:
                self._step(network, group)
        self._networks = networks

    def read(self, due: bool) -> bool:
        """Whether the arms' losses are known: here always, as soon as a step is taken."""
        return True

    def _groups(self, arms: Iterable[Arm]) -> Iterator[list[Arm]]:
        fusible: dict[tuple, list[Arm]] = {}
        for arm in arms:
            alone = arm.fusion_key is None or self.views.device.type != "cpu"
            fusible.setdefault((arm.key,) if alone else arm.fusion_key, []).append(arm)
        for group in fusible.values():
            for size in fused_sizes(len(group)):
                yield group[:size]
                group = group[size:]

    def _fused(self, arms: list[Arm]) -> FusedNetwork | None:
        """The arms' students as one network; None where a student would not keep its bits, or nothing is gained."""
        students, x = [arm.student for arm in arms], [arm.inputs()[0].x for arm in arms]
        kind = arms[0].fusion_key, arms[0].spec.data, x[0].shape, len(arms)
        if kind not in _identical:
            _identical[kind] = bit_identical(students, x)
        network = FusedNetwork(students, x[0], arms[0].reads_maps) if _identical[kind] else None
        return network if network and any(any(layer.group_sizes) for layer in network.convolutions) else None

    def _step(self, network: FusedNetwork, arms: list[Arm]) -> None:
        inputs = [arm.inputs() for arm in arms]
        started = time.perf_counter()
        student_outputs = network.forward([batch.x for batch, _ in inputs])
        shared = time.perf_counter() - started
        finite = [
            arm.compute_loss(own, teacher_outputs, batch)
            for arm, own, (batch, teacher_outputs) in zip(arms, student_outputs, inputs, strict=True)
        ]
        started = time.perf_counter()
        network.backward()
        shared += time.perf_counter() - started
        for arm, (batch, _), sound in zip(arms, inputs, finite, strict=True):
            if sound:
                arm.optimiser_step(batch)
                arm.seconds += shared / len(arms)
                arm.fused_with += len(arms) - 1
