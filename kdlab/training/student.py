"""One student in training: its network, method and optimiser, its step, its costs and its checkpoint."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.sgd import sgd

from kdlab.losses.base import Batch, Context
from kdlab.models import Outputs, build, outputs
from kdlab.registry import create, find
from kdlab.rng import generator, global_stream
from kdlab.spec import RunSpec
from kdlab.training.layout import WEAK, Layout, ViewName, fusion_key, reads_maps
from kdlab.training.sam import ascended
from kdlab.training.views import Views

# Names in checkpoints to fields of an Arm, and those of them that are the run's cost document.
SAVED = {
    "step": "step", "curve": "curve", "seconds": "seconds", "diverged_at": "diverged_at",
    "evaluation": "evaluation_seconds", "looked_at": "evaluated_images", "abreast": "fused_with", "running": "losses",
}  # fmt: skip
COST = ("evaluation", "looked_at", "abreast")


@dataclass
class Arm:
    """A spec in training.

    Args:
        key: the run's key in the store.
        spec: what to train.
        teacher_key: of the teacher, or None.
        total_steps: optimiser steps in all.

    Attributes:
        step: optimiser steps taken.
        curve: points on the training curve (``record``).
        losses: training losses since the last of these points.
        seconds: of its steps, without views and teacher; students of a fused network share its time evenly.
        evaluation_seconds: of its evaluation on val and test.
        evaluated_images: images in these.
        diverged_at: the step at which a loss was not finite, or None.
        fused_with: other students in its fused network, added up over its steps.
        views: those it was built for.
    """

    key: str
    spec: RunSpec
    teacher_key: str | None
    total_steps: int
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    evaluated_images: int = 0
    diverged_at: int | None = None
    fused_with: int = 0

    def __post_init__(self):
        self.layout = Layout.of(self.spec, self.key, self.teacher_key)
        self.reads_maps, self.fusion_key = reads_maps(self.spec), fusion_key(self.spec)
        self.prepares = find("losses", self.spec.method).stage == "teacher"
        # Ours draw from generators that they name; what others draw from the global ones must be this run's own.
        self.foreign = ":" in self.spec.model or ":" in self.spec.method
        # On a CPU a step of 8 channels or more takes up to a quarter less so; fused ones lie channel by channel.
        self.channels_last = ":" not in self.spec.model and not find("models", self.spec.model).narrow

    def build(self, views: Views, num_classes: int, in_channels: int) -> Arm:
        """Make student and method; initial weights depend on the seed alone.

        Where the method prepares a teacher, the network is the frozen teacher itself and only the method is trained.
        """
        self.views = views
        spec, teacher = self.spec, views.teachers[self.teacher_key] if self.teacher_key else None
        self.student = build(spec.model, num_classes, in_channels, seed=views.seed, **spec.model_options)
        if self.prepares:
            self.student.load_state_dict(teacher.state_dict())
            self.student.requires_grad_(False)
        self.student.to(views.device)
        if self.channels_last and views.device.type == "cpu":
            self.student.to(memory_format=torch.channels_last)
        views.students[self.key] = self.student
        views.at(0)
        x = views.view(ViewName(WEAK, 0)).x[:2]
        context = Context(
            num_classes, len(views.train), generator(views.seed, "method"), views.seed,
            views.train.labels.to(views.device), self.student, teacher,
            views.teacher_pass(self.teacher_key) if self.teacher_key else None, views.prepared.get(self.teacher_key),
        )  # fmt: skip
        with self._own_stream(views, "setup"):
            self.method = create("losses", spec.method, **spec.method_options)
            with torch.no_grad():
                example = outputs(self.student.eval(), x)
                teacher_example = outputs(teacher, x) if teacher else None
            self.method.setup(example, teacher_example, context)
        self.method.to(views.device)
        self.student.train(not self.prepares), self.method.train()
        self.parameters = [p for part in (self.student, self.method) for p in part.parameters() if p.requires_grad]
        self.momentum = [torch.zeros_like(p) for p in self.parameters]
        return self

    def _own_stream(self, views: Views, *names: str | int):
        """Where foreign code draws from the global generators, a stream that belongs to this moment of this run."""
        if not self.foreign:
            return contextlib.nullcontext()
        return global_stream(views.seed, "model", *names, device=str(views.device))

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Add the seconds of what runs inside to the arm's."""
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started

    @property
    def active(self) -> bool:
        """Whether there are steps left; a diverged arm has none."""
        return self.step < self.total_steps and self.diverged_at is None

    def inputs(self) -> tuple[Batch, Outputs | None]:
        """The student's batch in the current step, and the teacher's outputs on it; both are shared by the cohort."""
        batch = self.views.batch(self.layout, self.step / self.total_steps)
        if not self.teacher_key:
            return batch, None
        return batch, self.views.teacher_outputs(self.teacher_key, self.layout, self.spec.teacher_view, self.reads_maps)

    def train_step(self) -> None:
        """One optimiser step on the current views; with SAM on the gradient at the weights moved by rho."""
        batch, teacher_outputs = self.inputs()
        with self._own_stream(self.views, self.step):
            sound = self._pass(batch, teacher_outputs)
            if sound and self.spec.optimiser.rho:
                with ascended(self.student, self.method, self.spec.optimiser):
                    sound = self._pass(batch, teacher_outputs)
                if sound:
                    self.losses.pop()  # the curve shows the loss at the weights themselves
            if sound:
                self.optimiser_step(batch)

    def _pass(self, batch: Batch, teacher_outputs: Outputs | None) -> bool:
        """The student's forward pass and the loss's backward one; whether the loss is finite."""
        with self.timed(), torch.autocast(batch.x.device.type, torch.bfloat16, self.spec.precision == "bfloat16"):
            student_outputs = outputs(self.student, batch.x)
        return self.compute_loss(student_outputs, teacher_outputs, batch)

    def compute_loss(self, student_outputs: Outputs, teacher_outputs: Outputs | None, batch: Batch) -> bool:
        """The method's loss and its backward pass.

        Returns:
            Whether the loss is finite; where it is not, this arm has diverged and the others of the cohort go on.
        """
        with self.timed():
            loss = sum(self.method(student_outputs, teacher_outputs, batch).values())
            value = loss.item()
            if not math.isfinite(value):
                self.diverged_at = self.step
                return False
            for parameter in self.parameters:
                parameter.grad = None
            loss.backward()
            self.losses.append(value)
            return True

    def optimiser_step(self, batch: Batch) -> None:
        """One step of SGD on the gradients, at the learning rate of the middle of the step."""
        with self.timed():
            self._sgd_step(self.spec.optimiser.rate((self.step + 0.5) / self.total_steps))
            self.method.after_step(batch)
            self.step += 1

    @torch.no_grad()
    def _sgd_step(self, rate: float) -> None:
        """SGD by torch's functional form: making a torch.optim.SGD imports the compiler first, 8 s."""
        o = self.spec.optimiser
        moved = [(p, p.grad, m) for p, m in zip(self.parameters, self.momentum, strict=True) if p.grad is not None]
        parameters, gradients, momentum = map(list, zip(*moved, strict=True))
        sgd(
            parameters, gradients, momentum if o.momentum else [None] * len(moved), fused=True,
            lr=rate, momentum=o.momentum, nesterov=o.nesterov and o.momentum > 0, weight_decay=o.weight_decay,
            dampening=0, maximize=False,
        )  # fmt: skip

    def note(self, step: int, loss: float, seconds: float) -> None:
        """Take down a step that a device took, which tells its loss some steps later.

        Args:
            step: which one, from 0.
            loss: where it is not finite, the arm has diverged there and later ones do not count.
            seconds: that it took, views and teacher included.
        """
        if self.diverged_at is not None:
            return
        self.seconds += seconds
        if math.isfinite(loss):
            self.losses.append(loss)
        else:
            self.diverged_at = self.step = step

    def record(self, **measures: float) -> None:
        """Add a point to the curve: the mean training loss since the last point, and what was measured on val."""
        self.curve.append({"step": self.step, "train_loss": _mean(self.losses)} | measures)
        self.losses = []

    def progress(self) -> dict[str, Any]:
        """Where the run stands, for a display: step, the curve, and the mean training loss since its last point."""
        loss = _mean(self.losses) if self.losses else None
        return {"step": self.step, "train_loss": loss, "curve": self.curve}

    @property
    def student_images(self) -> int:
        """Rows the student has seen."""
        return self.step * self.spec.budget.originals_per_step * self.spec.views

    @property
    def teacher_forwards(self) -> int:
        """Rows the teacher has seen for this arm: one a student's row (a clean view serves all views of an original),
        and two candidates for each row that it picked."""
        if self.teacher_key is None:
            return 0
        views = 1 if self.spec.teacher_view == "clean" else self.spec.views
        picked = self.layout.picker == self.teacher_key
        candidates = 2 * self.spec.views * self.spec.ratio if picked else 0
        return round(self.step * self.spec.budget.originals_per_step * (views + candidates))

    def cost(self) -> dict[str, float]:
        """What the run spent beside its steps, under the names of stored cost documents."""
        return {name: getattr(self, SAVED[name]) for name in COST}

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything needed to go on bit for bit: tensors, and plain values beside them."""
        tensors = {f"student/{k}": v for k, v in self.student.state_dict().items()}
        tensors |= {f"method/{k}": v for k, v in self.method.state_dict().items()}
        tensors |= {f"momentum/{number}": buffer for number, buffer in enumerate(self.momentum)}
        tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        return tensors, {name: getattr(self, attribute) for name, attribute in SAVED.items()}

    def load_state(self, tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> Arm:
        """Take up where ``state`` was taken."""

        def part(name):
            return {k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(name + "/")}

        self.student.load_state_dict(part("student"))
        self.method.load_state_dict(part("method"))
        for number, buffer in part("momentum").items():
            self.momentum[int(number)].copy_(buffer)
        for name, attribute in SAVED.items():
            setattr(self, attribute, plain[name])
        return self


def _mean(losses: list[float]) -> float:
    return sum(losses) / len(losses) if losses else math.nan
