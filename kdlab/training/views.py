"""The views of one step: each is made once, each passes each teacher once, and every arm selects its rows from them."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdlab.augment.mixing import pick
from kdlab.augment.weak import CropFlip
from kdlab.losses.base import Batch
from kdlab.models import Outputs, outputs
from kdlab.rng import generator, stream_seed
from kdlab.spec import create
from kdlab.training.layout import Layout, Name, View, question
from kdlab.training.taught import Taught

BLOCK_BYTES = 2**21  # of uint8 images: well inside a processor's cache


class Views:
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
        taught: teacher outputs kept from other runs; None keeps nothing.

    Attributes:
        students: networks in training by run key, for policies that pick rows by the student's entropy.
        spent: seconds that making views and asking teachers took, and how many of each there were.
    """

    def __init__(
        self, train, seed, replicate, originals, teachers, device="cpu", autocast=False, prepared=None,
        taught: Taught | None = None,
    ):  # fmt: skip
        self.train, self.originals, self.teachers = train, originals, teachers
        self.seed = stream_seed(seed, "replicate", replicate) if replicate else seed
        self.steps_per_epoch = len(train) // originals
        self.device, self.autocast = torch.device(device), autocast
        self.prepared, self.students, self.taught = prepared or {}, {}, taught
        self.spent = {"views": 0.0, "made": 0, "teacher": 0.0, "passes": 0}
        self.weak, self._policies, self._order = CropFlip(), {}, (None, None)
        self._question = functools.cache(question)
        # Operations on few small images are mostly overhead: a block of steps is made in one go.
        self.ahead = min(8, max(1, BLOCK_BYTES // (originals * train.images[0].numel())))
        self._blocks: dict[tuple, tuple] = {}

    def at(self, step: int) -> None:
        """Move to an optimiser step: forget the last step's views, look up this step's originals."""
        self.number, (self.epoch, self.step) = step, divmod(step, self.steps_per_epoch)
        if self._order[0] != self.epoch:
            draw = generator(self.seed, "order", self.epoch)
            self._order = (self.epoch, torch.randperm(len(self.train), generator=draw))
        self.index = self._order[1][self.step * self.originals :][: self.originals]
        self.label = self.train.labels[self.index].to(self.device)
        self.every = torch.arange(self.originals, device=self.device)
        self._views, self._outputs, self._batches, self._joined = {}, {}, {}, {}

    @property
    def raw(self) -> Tensor:
        """This step's originals, uint8 (originals, C, H, W)."""
        return self.train.batch(self.index)

    def _generator(self, name: str) -> torch.Generator:
        return generator(self.seed, name, self.epoch, self.step)

    def view(self, name: Name, stream: str = "") -> View:
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
        late = getattr(part, "facts", {}).get("where") == "view"
        stages = [(self.weak, f"{stream}weak/{copy}")]
        if late:
            images = self._ahead(stages, self.ahead)
            draw = self._drawn(part, f"{stream}{name}/{copy}", [self.step])
            images = part.apply(images, draw)
            return View(self.train.normalise(images), self.every, draw.get("partner"), draw.get("share"))
        # Foreign code is trusted with one step's images only: its rows may depend on each other.
        images = self._ahead([(part, f"{stream}{name}/{copy}"), *stages], 1 if ":" in name else self.ahead)
        return View(self.train.normalise(images), self.every)

    def _ahead(self, stages: list[tuple[Any, str]], ahead: int) -> Tensor:
        """The step's originals after some augmentations, uint8, made together with those of the next steps.

        Args:
            stages: augmentations with the names of their streams, in the order of application.
            ahead: steps in a block; their rows are drawn step by step, and no row depends on another.
        """
        first = self.step - self.step % ahead
        asked = tuple((id(part), name) for part, name in stages)
        made = self._blocks.get(asked)
        if made is None or made[0] != (self.epoch, first):
            steps = range(first, min(first + ahead, self.steps_per_epoch))
            images = self.train.batch(self._order[1][first * self.originals : steps.stop * self.originals])
            for part, name in stages:
                images = part.apply(images, self._drawn(part, name, steps))
            made = self._blocks[asked] = (self.epoch, first), images
        return made[1][(self.step - first) * self.originals :][: self.originals]

    def _drawn(self, part: Any, name: str, steps: Iterable[int]) -> dict[str, Tensor]:
        shape = tuple(self.train.images.shape[1:])
        draws = [part.draw(self.originals, shape, generator(self.seed, name, self.epoch, step)) for step in steps]
        if len(draws) == 1:
            return self._on_device(draws[0])
        return self._on_device({field: torch.cat([draw[field] for draw in draws]) for field in draws[0]})

    def _picked(self, name: Name, stream: str) -> View:
        """The half of two candidates a row that the picker is least sure of."""
        parts = [self._made(name.policy, name.copy, stream + prefix) for prefix in ("", "pick/")]
        logits = torch.cat([self._scores(name.picker, part.x) for part in parts])
        log_p = logits.float().log_softmax(1)
        kept = pick(-(log_p.exp() * log_p).sum(1))
        return View(*(torch.cat(column)[kept] for column in zip(*parts, strict=True)))

    def _scores(self, picker: str, x: Tensor) -> Tensor:
        model = self.students.get(picker) or self.teachers[picker]
        training = model.training
        with torch.no_grad():
            logits = outputs(model.eval(), x).logits
        model.train(training)
        return logits

    def _on_device(self, draw: dict) -> dict:
        if self.device.type == "cpu":
            return draw
        return {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in draw.items()}

    def _slots(self, layout: Layout) -> Iterator[tuple[Tensor | bool, Name, Name]]:
        """For every slot: which rows are augmented (a mask, or True or False for all), its plain and its rich view."""
        for share, plain, rich in layout.slots():
            count = round(share * self.originals)
            chosen = count > 0 if count in (0, self.originals) else (self._rank() < count).to(self.device)
            yield chosen, plain, rich

    def _rank(self) -> Tensor:
        """Which originals are augmented first, the same for every slot and every policy."""
        rank = torch.empty(self.originals, dtype=torch.long)
        rank[torch.randperm(self.originals, generator=self._generator("select"))] = torch.arange(self.originals)
        return rank

    def _rows(self, chosen: Tensor | bool, plain: Name, rich: Name) -> View:
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

    def teach(self, teacher: str, layout: Layout, mode: str, maps: bool = True) -> Outputs:
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

    def _forward(self, teacher: str, name: Name, mode: str, maps: bool) -> Outputs:
        where = ("clean",) if mode == "clean" else (name, mode)
        said = self._outputs.get((teacher, where))
        if said is None or (maps and not said.features):
            question = self._question(teacher, name, mode) if self.taught else None
            said = self.taught.read(question, self.number, self.originals) if question and not maps else None
            if said is None:
                if mode == "clean":
                    x = self.train.normalise(self.raw)
                else:
                    x = self.view(name, "teacher/" if mode == "independent" else "").x
                said = self._taught(self.teachers[teacher], x)
                self.spent["passes"] += 1
                if question:
                    self.taught.write(question, self.number, said)
            self._outputs[teacher, where] = said
        return said if maps else Outputs(said.logits, (), said.embedding)

    def _taught(self, teacher: torch.nn.Module, x: Tensor) -> Outputs:
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return outputs(teacher, x)

    def teacher_pass(self, teacher: str) -> Callable[[], Iterator[tuple[Outputs, Tensor]]]:
        """What ``Context.teacher_pass`` is for a teacher: its Outputs on all clean training images, in order."""

        def run(rows: int = 500):
            for index in torch.arange(len(self.train)).split(rows):
                x = self.train.normalise(self.train.batch(index).to(self.device))
                yield self._taught(self.teachers[teacher], x), self.train.labels[index].to(self.device)

        return run
