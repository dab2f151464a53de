"""The views of one step: each is made once, each passes each teacher once, and every arm selects its rows from them."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from kdlab.augment.mixing import entropy, pick
from kdlab.augment.weak import CropFlip
from kdlab.losses.base import Batch
from kdlab.models import Outputs, outputs
from kdlab.registry import create, find
from kdlab.rng import global_stream
from kdlab.training.images import StepImages
from kdlab.training.layout import Layout, View, ViewName, stream_key
from kdlab.training.teacher_cache import TeacherCache


class Views(StepImages):
    """Makes and keeps the views of the current step.

    Args:
        train: the ImageSet to draw originals from, already subset.
        seed: the cohort's seed.
        replicate: the set of streams (0 unless a null control).
        originals: originals in a step.
        teachers: frozen networks by teacher key, in eval mode.
        device: where views are applied; draws are always made on the CPU.
        autocast: run teachers in bfloat16.
        prepared: what the methods that prepared the teachers have learned, by teacher key.
        teacher_cache: teacher outputs kept from other runs; None keeps nothing.
        role: first word of the names of the streams (``RunSpec.streams``).

    Attributes:
        students: networks in training by run key, for policies that pick rows by the student's entropy.
        spent: seconds that making views and asking teachers took, and how many of each there were.
    """

    def __init__(
        self, train, seed, replicate, originals, teachers, device="cpu", autocast=False, prepared=None,
        teacher_cache: TeacherCache | None = None, role: str = "student",
    ):  # fmt: skip
        super().__init__(train, seed, replicate, originals, device, role)
        self.teachers, self.autocast = teachers, autocast
        self.prepared, self.students, self.teacher_cache = prepared or {}, {}, teacher_cache
        self.spent = {"views": 0.0, "made": 0, "teacher": 0.0, "passes": 0}
        self.weak, self._policies = CropFlip(), {}
        self._question = functools.cache(stream_key)

    def at(self, step: int) -> None:
        """Move to an optimiser step: forget the last step's views, look up this step's originals."""
        super().at(step)
        self.label = self.train.labels[self.index].to(self.device)
        self.every = torch.arange(self.originals, device=self.device)
        self._views, self._outputs, self._batches, self._joined = {}, {}, {}, {}

    def view(self, name: ViewName, stream: str = "") -> View:
        """Rows of one view, made once a step.

        Args:
            name: which view.
            stream: prefix of the names of its draws; another prefix gives an independent view.
        """
        if (name, stream) not in self._views:
            if name.turn:
                whole = self.view(name._replace(turn=0), stream)
                made = whole._replace(x=torch.rot90(whole.x, name.turn, (2, 3)))
            elif name.picker:
                made = self._picked(name, stream)
            else:
                made = self._made(name.policy, name.copy, stream)
            self._views[name, stream] = made
            self.spent["made"] += 1
        return self._views[name, stream]

    def _made(self, policy: tuple, copy: int, stream: str) -> View:
        """The policy on the raw image, then the weak crop and flip of that copy; policies that mix come after these."""
        name, options = policy
        if policy not in self._policies:
            self._policies[policy] = create("augment", name, **dict(options))
        part = self._policies[policy]
        late = find("augment", name).where == "view"
        stages = [(self.weak, f"{stream}weak/{copy}")]
        if late:
            draw = self.draw_params(part, f"{stream}{name}/{copy}")
            images = part.apply(self.augmented(stages, self.block), draw)
            return View(self.train.normalise(images), self.every, draw.get("partner"), draw.get("share"))
        # Foreign code is trusted with one step's images only: its rows may depend on each other.
        block = 1 if ":" in name else self.block
        images = self.augmented([(part, f"{stream}{name}/{copy}"), *stages], block)
        return View(self.train.normalise(images), self.every)

    def _picked(self, name: ViewName, stream: str) -> View:
        """The half of two candidates a row that the picker is least sure of."""
        parts = [self._made(name.policy, name.copy, stream + prefix) for prefix in ("", "pick/")]
        logits = torch.cat([self._scores(name.picker, part.x) for part in parts])
        kept = pick(entropy(logits))
        return View(*(torch.cat(column)[kept] for column in zip(*parts, strict=True)))

    def _scores(self, picker: str, x: Tensor) -> Tensor:
        model = self.students.get(picker) or self.teachers[picker]
        training = model.training
        with torch.no_grad():
            logits = outputs(model.eval(), x).logits
        model.train(training)
        return logits

    def _slots(self, layout: Layout) -> Iterator[tuple[Tensor | bool, ViewName, ViewName]]:
        """For every slot: which rows are augmented (a mask, or True or False for all), its plain and its rich view."""
        for share, plain, rich in layout.slots():
            count = round(share * self.originals)
            chosen = count > 0 if count in (0, self.originals) else (self._rank() < count).to(self.device)
            yield chosen, plain, rich

    def _rank(self) -> Tensor:
        """Which originals are augmented first, the same for every slot and every policy."""
        rank = torch.empty(self.originals, dtype=torch.long)
        rank[torch.randperm(self.originals, generator=self.generator("select"))] = torch.arange(self.originals)
        return rank

    def _rows(self, chosen: Tensor | bool, plain: ViewName, rich: ViewName) -> View:
        """A slot's rows: those of the rich view where chosen, of the plain one elsewhere."""
        if isinstance(chosen, bool):
            return self.view(rich if chosen else plain)
        a, b = self.view(plain), self.view(rich)
        mixed = (None, None)
        if b.partner is not None:
            mixed = torch.where(chosen, b.partner, b.rows), torch.where(chosen, b.share, torch.ones_like(b.share))
        return View(torch.where(chosen.view(-1, 1, 1, 1), b.x, a.x), self.every, *mixed)

    def batch(self, layout: Layout, progress: float) -> Batch:
        """The rows that students of a layout see in this step, slot after slot; ``origin`` tells the pairs."""
        if layout not in self._batches:
            with self._clock("views"):
                self._batches[layout] = self._assembled(layout)
        return replace(self._batches[layout], progress=progress)

    def _assembled(self, layout: Layout) -> Batch:
        slots = list(self._slots(layout))
        views = [self._rows(*slot) for slot in slots]
        rows = torch.cat([v.rows for v in views])
        number = torch.arange(len(slots), device=self.device).repeat_interleave(self.originals)
        augmented = torch.cat([torch.zeros_like(self.every, dtype=torch.bool) | chosen for chosen, _, _ in slots])
        return Batch.of(
            x=torch.cat([v.x for v in views]),
            label=self.label[rows],
            index=self.index.to(self.device)[rows],
            origin=rows,
            view=number,
            variant=number if layout.turns else torch.zeros_like(number),
            augmented=augmented,
            hard_weight=(~augmented).float() if layout.hard_labels == "plain" else None,
            epoch=self.epoch,
            step=self.step,
            **self._mixture(views),
        )

    @contextlib.contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.spent[what] += time.perf_counter() - started

    def _mixture(self, views: list[View]) -> dict[str, Tensor]:
        """Partner classes and shares of all rows, where any view is mixed."""
        if all(v.partner is None for v in views):
            return {}
        partner = torch.cat([v.rows if v.partner is None else v.partner for v in views])
        ones = torch.ones(self.originals, device=self.device)
        return {
            "partner": self.label[partner],
            "share": torch.cat([ones if v.share is None else v.share for v in views]),
        }

    def teacher_outputs(self, teacher: str, layout: Layout, mode: str, maps: bool = True) -> Outputs:
        """The teacher's outputs on the rows of a layout.

        Args:
            teacher: key of the teacher.
            layout: whose rows.
            mode: ``same`` view as the student, ``clean`` original, or ``independent`` view of the same policy.
            maps: whether stage maps are wanted too; without them the outputs of an earlier run may serve.
        """
        asked = teacher, layout, mode, maps
        if asked not in self._joined:
            with self._clock("teacher"):
                parts = []
                for chosen, plain, rich in self._slots(layout):
                    if isinstance(chosen, bool):
                        parts.append(self._forward(teacher, rich if chosen else plain, mode, maps))
                    else:
                        pair = (self._forward(teacher, name, mode, maps) for name in (plain, rich))
                        parts.append(next(pair).where(chosen, next(pair)))
                self._joined[asked] = Outputs.cat(parts)
        return self._joined[asked]

    def _forward(self, teacher: str, name: ViewName, mode: str, maps: bool) -> Outputs:
        where = ("clean",) if mode == "clean" else (name, mode)
        said = self._outputs.get((teacher, where))
        if said is None or (maps and not said.features):
            stream_key = self._question(teacher, name, mode) if self.teacher_cache else None
            said = self.teacher_cache.read(stream_key, self.number, self.originals) if stream_key and not maps else None
            if said is None:
                if mode == "clean":
                    x = self.train.normalise(self.raw)
                else:
                    x = self.view(name, "teacher/" if mode == "independent" else "").x
                said = self._run_teacher(teacher, x, repr(name), mode, self.number)
                self.spent["passes"] += 1
                if stream_key:
                    self.teacher_cache.write(stream_key, self.number, said)
            self._outputs[teacher, where] = said
        return said if maps else Outputs(said.logits, (), said.embedding)

    def _run_teacher(self, teacher: str, x: Tensor, *names: str | int) -> Outputs:
        """What a teacher says; one that draws, though it is in eval mode, draws from a stream of those names."""
        model = self.teachers[teacher]
        ours = type(getattr(model, "model", model)).__module__.startswith("kdlab.")
        own = contextlib.nullcontext() if ours else global_stream(self.seed, teacher, *names, device=str(self.device))
        with own, torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return outputs(model, x)

    def teacher_pass(self, teacher: str) -> Callable[[], Iterator[tuple[Outputs, Tensor]]]:
        """What ``Context.teacher_pass`` is for a teacher: its Outputs on all clean training images, in order."""

        def run(rows: int = 500):
            for index in torch.arange(len(self.train)).split(rows):
                x = self.train.normalise(self.train.batch(index).to(self.device))
                yield self._run_teacher(teacher, x, "pass", int(index[0])), self.train.labels[index].to(self.device)

        return run
