"""One step of a cohort on a device, without waiting for it: losses are read once every so many steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from kdlab.training.gpu import reasons
from kdlab.training.gpu.abreast import Abreast, kind
from kdlab.training.gpu.capture import Captured, Recorder, record
from kdlab.training.gpu.stack import network
from kdlab.training.student import Arm
from kdlab.training.views import Views

READ_EVERY = 32  # steps
WARM = 3  # steps before one is captured: libraries choose their kernels and take their memory in them


class DeviceStepper:
    """Steps the arms of a cohort: students of one kind as one network, all of them in one CUDA graph.

    What cannot be captured (a memory, a decision of the host, foreign code) is stepped beside the graph, and told once.
    Arms may have views of their own, those of several seeds say: whose images differ is convolved beside each other.

    Args:
        device: of all of them.
        recorder: records a step; None captures nothing but on a GPU.
        way: how students are one network.
    """

    def __init__(self, device: torch.device, recorder: Recorder | None = None, way=network):
        self.recorder = recorder or (record if device.type == "cuda" else None)
        self.way = way
        self._keys: tuple[str, ...] = ()
        self._unread: list[tuple[list[tuple[Arm, int]], Tensor]] = []  # arms with their steps, and their losses
        self._told: set[str] = set()
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # on which graphs are recorded
        self._started = time.perf_counter()

    def step(self, arms: Iterable[Arm]) -> None:
        """One optimiser step of each arm, all of which stand at the step of their views."""
        arms = list(arms)
        if not self._unread:
            self._started = time.perf_counter()
        if tuple(arm.key for arm in arms) != self._keys:
            self._group(arms)
        for group in (*self._captured, *self._eager):
            group.aim()
        losses = [self._capture()] if self._captured else []
        losses += [group.step() for group in self._eager]
        moved = [arm for group in (*self._captured, *self._eager) for arm in group.arms]
        if moved:
            self._unread.append(([(arm, arm.step) for arm in moved], torch.cat(losses)))
        for arm in moved:
            arm.step += arm.diverged_at is None
        for arm in self._alone:
            arm.train_step()

    def read(self, due: bool) -> bool:
        """Read the losses of the last steps, if it is time: then the host waits for the device.

        Args:
            due: whether the arms' losses are wanted now.

        Returns:
            Whether they have been read.
        """
        if not due and len(self._unread) < READ_EVERY and not self._alone:
            return False
        if self._unread:
            values = iter(torch.cat([losses for _, losses in self._unread]).tolist())
            seconds = (time.perf_counter() - self._started) / len(self._unread)
            for moved, _ in self._unread:
                for arm, step in moved:
                    arm.note(step, next(values), seconds / len(moved))
            self._unread = []
        return True

    def _group(self, arms: Sequence[Arm]) -> None:
        """Which arms step as one network, in the graph or beside it, and which alone."""
        self.read(due=True)  # nothing is at work any more with what is made anew
        self._keys, self._graph, self._warm = tuple(arm.key for arm in arms), None, 0
        self._alone, kinds = [], {}
        self._asked: dict[Views, dict[tuple, None]] = {}  # layouts, and what teachers see, of what is captured
        for arm in arms:
            if reason := reasons.alone(arm):
                self._alone.append(arm)
            else:
                reason = reasons.eager(arm, *arm.inputs()) if self.recorder else ""
                eager = bool(reason) or not self.recorder
                kinds.setdefault((eager, kind(arm)), []).append(arm)
                if not eager:
                    mode = arm.spec.teacher_view if arm.teacher_key else None
                    self._asked.setdefault(arm.views, {})[arm.layout, mode] = None
            self._tell(arm, reason)
        made = [(eager, Abreast(group, self.way, across=not eager)) for (eager, _), group in kinds.items()]
        self._eager, self._captured = ([group for eager, group in made if eager == which] for which in (True, False))

    def _tell(self, arm: Arm, reason: str) -> None:
        if reason and arm.spec.method not in self._told:
            self._told.add(arm.spec.method)
            print(f"kdlab: {arm.spec.method} steps outside of the CUDA graph: {reason}.", file=sys.stderr, flush=True)

    def _work(self) -> Tensor:
        return torch.cat([group.step() for group in self._captured])

    def _capture(self) -> Tensor:
        """The step of what can be captured: a few as they are, then one recorded, then its replays."""
        if self._warm < WARM or self.recorder is None:
            self._warm += 1
            return self._work()
        inputs: dict[tuple, Tensor] = {}
        for number, (views, asked) in enumerate(self._asked.items()):
            for layout, mode in asked:
                inputs |= {(number, name): value for name, value in views.ingredients(layout, mode).items()}
        if self._graph is None:
            try:
                self._graph = Captured(inputs, self._take, self._work, self.recorder)
            except RuntimeError as error:  # the driver's word; nothing was done yet
                print(f"kdlab: no CUDA graph: {error}", file=sys.stderr, flush=True)
                self.recorder = None
                for views in self._asked:
                    views.at(views.number)
                return self._work()
        return self._graph(inputs)

    def _take(self, inputs: dict[tuple, Tensor]) -> None:
        for number, views in enumerate(self._asked):
            views.take({name: value for (of, name), value in inputs.items() if of == number})
