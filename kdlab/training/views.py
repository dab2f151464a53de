"""The views of one step and the teachers' outputs on them: each is made once, whichever arms read it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.augment.mixing import entropy, pick
from kdlab.losses.base import Batch
from kdlab.models import Outputs, outputs
from kdlab.models.frozen import frozen
from kdlab.registry import create
from kdlab.rng import global_stream
from kdlab.training.batches import View, assemble
from kdlab.training.images import StepImages, view_stages
from kdlab.training.layout import Layout, ViewName, stream_key
from kdlab.training.runtime import evaluating
from kdlab.training.teacher_cache import TeacherCache

PREFIX = {"independent": "teacher/"}  # of the names of the streams of a teacher's own views, by mode


class Views(StepImages):
    """Views, batches and teacher outputs of the current step; ``at`` moves to another one.

    Args:
        train: the ImageSet to draw originals from, already subset.
        seed: the cohort's seed.
        replicate: the set of streams (0 unless a null control).
        originals: originals in a step.
        teachers: frozen networks by teacher key, in eval mode.
        device: where views are applied; draws are always made on the CPU.
        precision: of the teachers' forward passes.
        prepared: weights of the methods that prepared the teachers, by teacher key.
        teacher_cache: teacher outputs stored by earlier runs; None stores nothing.
        role: first word of the names of the streams (``RunSpec.streams``).

    Attributes:
        students: networks in training by run key, for policies that pick rows by the student's entropy.
        spent: seconds for views and for teacher forwards, and how many of each there were.
    """

    def __init__(
        self, train, seed, replicate, originals, teachers, device="cpu", precision="float32", prepared=None,
        teacher_cache: TeacherCache | None = None, role: str = "student",
    ):  # fmt: skip
        super().__init__(train, seed, replicate, originals, device, role)
        self.teachers, self.precision, self.teacher_cache = teachers, precision, teacher_cache
        self._frozen: dict[str, nn.Module] = {}
        self.prepared, self.students, self._policies = prepared or {}, {}, {}
        self.spent = {"views": 0.0, "made": 0, "teacher": 0.0, "passes": 0}
        self._stream_key = functools.cache(stream_key)

    @property
    def streams(self) -> tuple[int, int, int]:
        """What tells the views of a cohort apart: seed of the streams, training images, originals a step."""
        return self.seed, len(self.train), self.originals

    def at(self, step: int) -> None:
        """Move to an optimiser step: forget the last step's views, look up this step's originals."""
        super().at(step)
        self.label, self.place = (self.beside(drawn) for drawn in (self.train.labels[self.index], self.index))
        self.every, self.rank = torch.arange(self.originals, device=self.device), None
        self._views, self._view_outputs, self._joined, self._clean = {}, {}, {}, None

    def view(self, name: ViewName, prefix: str = "") -> View:
        """Rows of one view, made once a step.

        Args:
            name: which view.
            prefix: of the names of its streams; another prefix gives an independent view.
        """
        if (name, prefix) not in self._views:
            if name.turn:
                whole = self.view(name._replace(turn=0), prefix)
                made = whole._replace(x=torch.rot90(whole.x, name.turn, (2, 3)))
            elif name.picker:
                made = self._pick(name, prefix)
            else:
                made = self._make(name, prefix)
            self._views[name, prefix] = made
            self.spent["made"] += 1
        return self._views[name, prefix]

    def _make(self, name: ViewName, prefix: str) -> View:
        policy, options = name.policy
        if name.policy not in self._policies:
            self._policies[name.policy] = create("augment", policy, **dict(options))
        part = self._policies[name.policy]
        stages = view_stages(part, policy, name.copy, prefix)
        last, stream = stages[-1]
        # Foreign code sees one step's images only, since its rows may depend on each other.
        images = self.augmented(stages[:-1] if last is part else stages, 1 if ":" in policy else self.block)
        params = {}
        if last is part:  # mixes rows of one step, or is all there is
            params = self.draw_params(part, stream)
            images = part.apply(images, self.given(part, params))
        mixture = (self.beside(params[name]) if name in params else None for name in ("partner", "share"))
        return View(self.train.normalise(images), self.every, *mixture)

    def _pick(self, name: ViewName, prefix: str) -> View:
        """Of two candidates for each row the half on which the picker's entropy is largest."""
        parts = [self._make(name, prefix + candidate) for candidate in ("", "pick/")]
        model = self.students.get(name.picker) or self._frozen_teacher(name.picker, parts[0].x)
        with evaluating(model):
            picked = pick(entropy(torch.cat([outputs(model, part.x).logits for part in parts])))
        return View(*(torch.cat(column)[picked] for column in zip(*parts, strict=True)))

    def clean(self) -> Tensor:
        """This step's originals as a network sees them."""
        if self._clean is None:
            self._clean = self.train.normalise(self.raw)
        return self._clean

    def ingredients(self, layout: Layout, mode: str | None) -> dict[tuple, Tensor]:
        """The tensors of this step from which the batch of a layout and a teacher's outputs on it follow, by name.

        Args:
            layout: whose rows.
            mode: what the teacher sees, as in ``teacher_outputs``; None without one.
        """
        found: dict[tuple, Tensor] = {("label",): self.label, ("place",): self.place, ("rank",): self.ranks()}
        if mode == "clean":
            found["clean",] = self.clean()
        for name, prefix in itertools.product(layout.view_names(), {"", PREFIX.get(mode or "", "")}):
            for field, value in self.view(name, prefix)._asdict().items():
                if value is not None:
                    found["view", name, prefix, field] = value
        return found

    def take(self, ingredients: dict[tuple, Tensor]) -> None:
        """Go on in this step with these tensors in place of its own; what was joined from its own is forgotten."""
        self._views, self._view_outputs, self._joined = {}, {}, {}
        self.label, self.place, self.rank = (ingredients[name,] for name in ("label", "place", "rank"))
        self._clean = ingredients.get(("clean",), self._clean)
        for name, prefix in {key[1:3] for key in ingredients if key[0] == "view"}:
            fields = {field: ingredients.get(("view", name, prefix, field)) for field in View._fields}
            self._views[name, prefix] = View(**fields)

    def batch(self, layout: Layout, progress: float) -> Batch:
        """The rows that students of a layout see in this step, slot after slot; equal ``origin`` marks a pair."""

        def joined() -> Batch:
            augmented, views = zip(*self._slots(layout, self.view), strict=True)
            return assemble(views, augmented, layout, self.label, self.place, epoch=self.epoch, step=self.step)

        return replace(self._once("views", layout, joined), progress=progress)

    def teacher_outputs(self, teacher_key: str, layout: Layout, mode: str, maps: bool = True) -> Outputs:
        """The teacher's outputs on the rows of a layout.

        Args:
            teacher_key: which teacher.
            layout: whose rows.
            mode: ``same`` view as the student, ``clean`` original, or ``independent`` view of the same policy.
            maps: whether stage maps are wanted too; without them the teacher cache may serve.
        """

        def joined() -> Outputs:
            get = functools.partial(self._outputs_on, teacher_key, mode, maps)
            return Outputs.cat([part for _, part in self._slots(layout, get)])

        return self._once("teacher", (teacher_key, layout, mode, maps), joined)

    def _once(self, clock: str, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, made and timed once a step."""
        if key not in self._joined:
            started = time.perf_counter()
            self._joined[key] = make()
            if self.device.type == "cpu":  # elsewhere this would be how long it took to ask for them
                self.spent[clock] += time.perf_counter() - started
        return self._joined[key]

    def _slots(self, layout: Layout, get: Callable[[ViewName], Any]) -> Iterator[tuple[Tensor | bool, Any]]:
        """For every slot: which rows are augmented (a mask, or True or False for all), and its rows of what ``get``
        gives for a view."""
        for share, plain, augmented in layout.slots():
            count = round(share * self.originals)
            if count in (0, self.originals):
                yield count > 0, get(augmented if count else plain)
            else:
                mask = self.ranks() < count
                yield mask, get(plain).where(mask, get(augmented))

    def ranks(self) -> Tensor:
        """Which originals are augmented first, the same for every slot and every policy."""
        if self.rank is None:
            rank = torch.empty(self.originals, dtype=torch.long)
            rank[torch.randperm(self.originals, generator=self.generator("select"))] = torch.arange(self.originals)
            self.rank = self.beside(rank)
        return self.rank

    def _outputs_on(self, teacher_key: str, mode: str, maps: bool, name: ViewName) -> Outputs:
        """The teacher's outputs on one view: of this step, else of the teacher cache, else of a forward pass."""
        key = (teacher_key, "clean") if mode == "clean" else (teacher_key, mode, name)
        found = self._view_outputs.get(key)
        if found is None or (maps and not found.features):
            stream = self._stream_key(teacher_key, name, mode) if self.teacher_cache else None
            found = self.teacher_cache.read(stream, self.number, self.originals) if stream and not maps else None
            if found is None:
                x = self.clean() if mode == "clean" else self.view(name, PREFIX.get(mode, "")).x
                text = repr(name).removeprefix("View")  # "Name(policy=..., copy=...)": names of streams do not move
                found = self._run_teacher(teacher_key, x, text, mode, self.number)
                self.spent["passes"] += 1
                if stream:
                    self.teacher_cache.write(stream, self.number, found)
            self._view_outputs[key] = found
        return found if maps else Outputs(found.logits, (), found.embedding)

    def _run_teacher(self, teacher_key: str, x: Tensor, *names: str | int) -> Outputs:
        """A forward pass; a foreign network that draws, though in eval mode, draws from a stream of those names."""
        model = self.teachers[teacher_key]
        ours = type(getattr(model, "model", model)).__module__.startswith("kdlab.")
        draws = global_stream(self.seed, teacher_key, *names, device=str(self.device))
        with contextlib.nullcontext() if ours else draws, torch.no_grad():
            return outputs(self._frozen_teacher(teacher_key, x), x)

    def _frozen_teacher(self, teacher_key: str, x: Tensor) -> nn.Module:
        if teacher_key not in self._frozen:
            self._frozen[teacher_key] = frozen(self.teachers[teacher_key], x, self.precision)
        return self._frozen[teacher_key]

    def teacher_pass(self, teacher_key: str) -> Callable[[], Iterator[tuple[Outputs, Tensor]]]:
        """What ``Context.teacher_pass`` is for a teacher: its Outputs on all clean training images, in order."""

        def run(rows: int = 500):
            for index in torch.arange(len(self.train)).split(rows):
                x = self.train.normalise(self.train.batch(index).to(self.device))
                yield self._run_teacher(teacher_key, x, "pass", int(index[0])), self.train.labels[index].to(self.device)

        return run
