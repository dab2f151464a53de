"""One student in training: its network, method, optimiser and the costs it has run up."""

from __future__ import annotations

import contextlib
import math
import time
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
from kdlab.training.views import Views

LATEST = 20  # steps of which ``progress`` tells the mean loss


@dataclass
class Arm:
    """A spec in training.

    Args:
        key: the run's key in the store.
        spec: what to train.
        teacher_key: of the teacher, or None.
        total_steps: optimiser steps in all.

    Attributes:
        seconds: of its steps; where students are stepped together, their network's time is shared evenly.
        fused_with: with how many others it took its steps, added up over these.
    """

    key: str
    spec: RunSpec
    teacher_key: str | None
    total_steps: int
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
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

    def build(self, views: Views, num_classes: int, in_channels: int) -> Arm:
        """Make student and method; initial weights depend on the seed alone.

        Where the method prepares a teacher, the network is the frozen teacher itself and only the method learns.
        """
        spec = self.spec
        self.student = build(spec.model, num_classes, in_channels, seed=views.seed, **spec.model_options)
        if self.prepares:
            self.student.load_state_dict(views.teachers[self.teacher_key].state_dict())
            self.student.requires_grad_(False)
        self.student.to(views.device)
        views.students[self.key] = self.student
        views.at(0)
        x = views.view(ViewName(WEAK, 0)).x[:2]
        with self._own_stream(views, "setup"):
            self.method = create("losses", spec.method, **spec.method_options)
            with torch.no_grad():
                student = outputs(self.student.eval(), x)
                teacher = outputs(views.teachers[self.teacher_key], x) if self.teacher_key else None
            self.method.setup(student, teacher, self._context(views, num_classes))
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

    def _context(self, views: Views, num_classes: int) -> Context:
        taught = self.teacher_key is not None
        return Context(
            num_classes,
            len(views.train),
            generator(views.seed, "method"),
            views.seed,
            views.train.labels.to(views.device),
            self.student,
            views.teachers[self.teacher_key] if taught else None,
            views.teacher_pass(self.teacher_key) if taught else None,
            views.prepared.get(self.teacher_key),
        )

    @property
    def active(self) -> bool:
        """Whether there are steps left; a diverged arm has none."""
        return self.step < self.total_steps and self.diverged_at is None

    def inputs(self, views: Views) -> tuple[Batch, Outputs | None]:
        """What the student sees in the step of the moment, and what the teacher says to it."""
        batch = views.batch(self.layout, self.step / self.total_steps)
        if not self.teacher_key:
            return batch, None
        return batch, views.teacher_outputs(self.teacher_key, self.layout, self.spec.teacher_view, self.reads_maps)

    def train_step(self, views: Views) -> None:
        """One optimiser step on the views of the moment."""
        batch, teacher = self.inputs(views)
        started = time.perf_counter()  # views and teacher are shared by the cohort: not this arm's seconds
        with self._own_stream(views, self.step):
            with torch.autocast(views.device.type, torch.bfloat16, enabled=self.spec.precision == "bfloat16"):
                student = outputs(self.student, batch.x)
            self.seconds += time.perf_counter() - started
            loss = self.compute_loss(student, teacher, batch)
            if loss is not None:
                self.optimiser_step(loss, batch)

    def compute_loss(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> float | None:
        """The loss, whose gradients are left where they belong.

        Returns:
            None for a loss that is not finite, which ends the arm but not its cohort.
        """
        started = time.perf_counter()
        loss = sum(self.method(student, teacher, batch).values())
        value = loss.item()
        if math.isfinite(value):
            for parameter in self.parameters:
                parameter.grad = None
            loss.backward()
        else:
            self.diverged_at = self.step
        self.seconds += time.perf_counter() - started
        return None if self.diverged_at is not None else value

    def optimiser_step(self, loss: float, batch: Batch) -> None:
        """Take the step that the gradients ask for."""
        started = time.perf_counter()
        self._descend(self.spec.optimiser.rate((self.step + 0.5) / self.total_steps))  # at the middle of the step
        self.method.after_step(batch)
        self._running = getattr(self, "_running", [])
        self._running.append(loss)
        self.step += 1
        self.seconds += time.perf_counter() - started

    @torch.no_grad()
    def _descend(self, rate: float) -> None:
        """One step of SGD, by torch's functional form: making a torch.optim.SGD imports the compiler first, 8 s."""
        o = self.spec.optimiser
        moved = [(p, p.grad, m) for p, m in zip(self.parameters, self.momentum, strict=True) if p.grad is not None]
        parameters, gradients, momentum = map(list, zip(*moved, strict=True))
        sgd(
            parameters, gradients, momentum if o.momentum else [None] * len(moved), fused=True,
            lr=rate, momentum=o.momentum, nesterov=o.nesterov and o.momentum > 0, weight_decay=o.weight_decay,
            dampening=0, maximize=False,
        )  # fmt: skip

    def record(self, **measures: float) -> None:
        """Add a point to the curve: the mean training loss since the last point, and what was measured on val."""
        losses, self._running = getattr(self, "_running", []), []
        mean = sum(losses) / len(losses) if losses else math.nan
        self.curve.append({"step": self.step, "train_loss": mean} | measures)

    def progress(self) -> dict[str, Any]:
        """Where the run stands, for those who watch: step, the mean of the latest training losses, and the curve."""
        latest = getattr(self, "_running", [])[-LATEST:]
        loss = sum(latest) / len(latest) if latest else None
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
        """Seconds of evaluation, images evaluated and ``fused_with``, under their names in stored runs."""
        return {
            "evaluation": self.evaluation_seconds, "looked_at": self.evaluated_images, "abreast": self.fused_with
        }  # fmt: skip

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything needed to go on bit for bit: tensors, and plain values beside them."""
        tensors = {f"student/{k}": v for k, v in self.student.state_dict().items()}
        tensors |= {f"method/{k}": v for k, v in self.method.state_dict().items()}
        tensors |= {f"momentum/{number}": buffer for number, buffer in enumerate(self.momentum)}
        plain = {
            "step": self.step, "curve": self.curve, "seconds": self.seconds, "diverged_at": self.diverged_at,
            "running": getattr(self, "_running", []),
        }  # fmt: skip
        return {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}, plain | self.cost()

    def load_state(self, tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> Arm:
        """Take up where ``state`` was taken."""

        def part(name):
            return {k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(name + "/")}

        self.student.load_state_dict(part("student"))
        self.method.load_state_dict(part("method"))
        for number, buffer in part("momentum").items():
            self.momentum[int(number)].copy_(buffer)
        self.step, self.curve, self.seconds = plain["step"], plain["curve"], plain["seconds"]
        self.evaluation_seconds, self.evaluated_images = plain.get("evaluation", 0.0), plain.get("looked_at", 0)
        self.fused_with = plain.get("abreast", 0)
        self.diverged_at, self._running = plain["diverged_at"], plain["running"]
        return self
