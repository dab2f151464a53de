"""The views of one step: each is made once, each passes each teacher once, and every arm selects its rows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from kdlab.augment.weak import CropFlip
from kdlab.losses.base import Batch
from kdlab.models import Outputs, outputs
from kdlab.rng import generator, stream_seed
from kdlab.spec import RunSpec, create


def slot_shares(views: int, ratio: float) -> list[float]:
    """Share of augmented rows in each of an original's row slots, so that ``ratio`` of all rows are augmented.

    Slots fill one after another, the first slot last: with two views a ratio of 1/2 augments the whole second slot
    (joint augmentation), and above 1/2 some originals have both rows augmented. A larger ratio keeps every row that a
    smaller one augments.

    >>> slot_shares(2, 0.25), slot_shares(2, 0.75), slot_shares(4, 0.75)
    ([0.0, 0.5], [0.5, 1.0], [0.0, 1.0, 1.0, 1.0])
    """
    amount = ratio * views
    shares = [0.0] * views
    for filled, slot in enumerate([*range(1, views), 0]):
        shares[slot] = min(1.0, max(0.0, amount - filled))
    return shares


@dataclass(frozen=True)
class Layout:
    """What decides the rows of a step: arms of one layout share their batch and their teacher's outputs."""

    augmentation: str
    options: tuple
    views: int
    ratio: float

    @classmethod
    def of(cls, spec: RunSpec) -> Layout:
        """The layout of a spec; without augmented rows the policy does not matter."""
        if spec.ratio == 0 or spec.augmentation == "weak":
            return cls("weak", (), spec.views, 0.0)
        return cls(spec.augmentation, tuple(spec.augmentation_options.items()), spec.views, spec.ratio)


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
    """

    def __init__(self, train, seed, replicate, originals, teachers, device="cpu", autocast=False):
        self.train, self.originals, self.teachers = train, originals, teachers
        self.seed = stream_seed(seed, "replicate", replicate) if replicate else seed
        self.steps_per_epoch = len(train) // originals
        self.device, self.autocast = torch.device(device), autocast
        self.weak, self._policies, self._order = CropFlip(), {}, (None, None)

    def at(self, step: int) -> None:
        """Move to an optimiser step: forget the last step's views, look up this step's originals."""
        self.epoch, self.step = divmod(step, self.steps_per_epoch)
        if self._order[0] != self.epoch:
            draw = generator(self.seed, "order", self.epoch)
            self._order = (self.epoch, torch.randperm(len(self.train), generator=draw))
        start = self.step * self.originals
        self.index = self._order[1][start : start + self.originals]
        self.raw = self.train.batch(self.index)
        self.label = self.train.labels[self.index].to(self.device)
        self._pixels, self._outputs, self._batches, self._joined = {}, {}, {}, {}

    def _generator(self, name: str) -> torch.Generator:
        return generator(self.seed, name, self.epoch, self.step)

    def pixels(self, policy: tuple, copy: int, stream: str = "") -> torch.Tensor:
        """Normalised float rows of one view: the policy on the raw image, then the weak crop and flip of that copy."""
        if (policy, copy, stream) not in self._pixels:
            name, options = policy
            images = self.raw
            shape = tuple(images.shape[1:])
            if policy not in self._policies:
                self._policies[policy] = create("augment", name, **dict(options))
            draw = self._policies[policy].draw(len(images), shape, self._generator(f"{stream}{name}/{copy}"))
            images = self._policies[policy].apply(images, self._on_device(draw))
            draw = self.weak.draw(len(images), shape, self._generator(f"{stream}weak/{copy}"))
            images = self.weak.apply(images, self._on_device(draw))
            self._pixels[policy, copy, stream] = self.train.normalise(images)
        return self._pixels[policy, copy, stream]

    def _on_device(self, draw: dict) -> dict:
        if self.device.type == "cpu":
            return draw
        return {k: v.to(self.device) if isinstance(v, torch.Tensor) else v for k, v in draw.items()}

    def _slots(self, layout: Layout):
        """For every slot: the mask of augmented rows (None = no row, True = all rows) and the two policies."""
        rank = torch.empty(self.originals, dtype=torch.long)
        draw = self._generator("select")
        rank[torch.randperm(self.originals, generator=draw)] = torch.arange(self.originals)
        for slot, share in enumerate(slot_shares(layout.views, layout.ratio)):
            count = round(share * self.originals)
            whole = None if count == 0 else True if count == self.originals else (rank < count).to(self.device)
            yield slot, whole, (layout.augmentation, layout.options), ("weak", ())

    def batch(self, layout: Layout, progress: float) -> Batch:
        """The rows that students of a layout see in this step, slot after slot; ``origin`` tells the pairs."""
        if layout not in self._batches:
            rows, augmented, on = [], [], self.device
            for slot, mask, policy, weak in self._slots(layout):
                if mask is None or mask is True:
                    rows.append(self.pixels(weak if mask is None else policy, slot))
                    augmented.append(torch.full((self.originals,), mask is True, device=on))
                else:
                    chosen = mask.view(-1, 1, 1, 1)
                    rows.append(torch.where(chosen, self.pixels(policy, slot), self.pixels(weak, slot)))
                    augmented.append(mask)
            every = torch.arange(self.originals, device=on)
            self._batches[layout] = Batch.of(
                x=torch.cat(rows),
                label=self.label.repeat(layout.views),
                index=self.index.to(on).repeat(layout.views),
                origin=every.repeat(layout.views),
                view=torch.arange(layout.views, device=on).repeat_interleave(self.originals),
                augmented=torch.cat(augmented),
                epoch=self.epoch,
                step=self.step,
            )
        return replace(self._batches[layout], progress=progress)

    def teach(self, teacher: str, layout: Layout, mode: str) -> Outputs:
        """The teacher's outputs on the rows of a layout.

        Args:
            teacher: key of the teacher.
            layout: whose rows.
            mode: ``same`` view as the student, ``clean`` original, or ``independent`` view of the same policy.
        """
        if (teacher, layout, mode) not in self._joined:
            parts = []
            for slot, mask, policy, weak in self._slots(layout):
                plain = self._forward(teacher, weak, slot, mode) if mask is not True else None
                rich = self._forward(teacher, policy, slot, mode) if mask is not None else None
                parts.append(plain if rich is None else rich if plain is None else plain.where(mask, rich))
            self._joined[teacher, layout, mode] = Outputs.cat(parts)
        return self._joined[teacher, layout, mode]

    def _forward(self, teacher: str, policy: tuple, slot: int, mode: str) -> Outputs:
        where = ("clean",) if mode == "clean" else (policy, slot, mode)
        if (teacher, where) not in self._outputs:
            if mode == "clean":
                x = self.train.normalise(self.raw)
            else:
                x = self.pixels(policy, slot, "teacher/" if mode == "independent" else "")
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                self._outputs[teacher, where] = outputs(self.teachers[teacher], x)
        return self._outputs[teacher, where]
