"""The uint8 images of a step: its originals, and augmented versions of them made for several steps at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from kdlab.augment.weak import CropFlip
from kdlab.registry import find
from kdlab.rng import generator, stream_seed

BLOCK_STEPS = 8
BLOCK_BYTES = 2**21  # of uint8 images: well inside a processor's cache
DEVICE_BLOCK_STEPS, DEVICE_BLOCK_BYTES = 64, 2**27  # a device starts operations more slowly, and has more room
CROP_FLIP = CropFlip()


def view_stages(part: Any, policy: str, copy: int, prefix: str = "") -> list[tuple[Any, str]]:
    """The augmentations that make a view, in the order of application, each with the name of its stream.

    The policy acts on the raw image, as joint augmentation was published; the weak crop and flip of that copy follow. A
    policy that mixes images (``where="view"``) comes after these; one of ``where="alone"`` goes without.

    Args:
        part: the policy's augmentation.
        policy: its name.
        copy: number of the view.
        prefix: of the names of the streams.
    """
    stages = [(part, f"{prefix}{policy}/{copy}"), (CROP_FLIP, f"{prefix}weak/{copy}")]
    where = find("augment", policy).where
    if where == "alone":
        return stages[:1]
    return stages[::-1] if where == "view" else stages


class StepImages:
    """Originals in the order of training, and augmented versions of them.

    Operations on few small images are mostly overhead, so an augmentation makes a block of steps in one go; the rows
    of each step are drawn from that step's own stream, and no row depends on another.

    Args:
        train: the ImageSet to draw originals from, already subset.
        seed: the cohort's seed.
        replicate: the set of streams (0 unless a null control).
        originals: originals in a step.
        device: where augmentations are applied; draws are always made on the CPU.
        role: first word of the names of the streams (``RunSpec.streams``): a teacher's are not its student's.
    """

    def __init__(
        self, train, seed: int, replicate: int, originals: int, device: str | torch.device = "cpu",
        role: str = "student",
    ):  # fmt: skip
        self.train, self.originals, self.device = train, originals, torch.device(device)
        self.seed = stream_seed(seed, role, replicate)
        self.steps_per_epoch = len(train) // originals
        most = (BLOCK_STEPS, BLOCK_BYTES) if self.device.type == "cpu" else (DEVICE_BLOCK_STEPS, DEVICE_BLOCK_BYTES)
        self.block = min(most[0], max(1, most[1] // (originals * math.prod(train.images.shape[1:]))))
        self._order, self._blocks = (None, None), {}

    def at(self, step: int) -> None:
        """Move to an optimiser step and look up its originals."""
        self.number, (self.epoch, self.step) = step, divmod(step, self.steps_per_epoch)
        if self._order[0] != self.epoch:
            draw = generator(self.seed, "order", self.epoch)
            self._order = (self.epoch, torch.randperm(len(self.train), generator=draw))
            self.train.expect(self._order[1])
        self.index = self._order[1][self.step * self.originals :][: self.originals]

    @property
    def raw(self) -> Tensor:
        """This step's originals, uint8 (originals, C, H, W)."""
        return self.train.batch(self.index)

    def generator(self, name: str) -> torch.Generator:
        """The stream of that name at this step."""
        return generator(self.seed, name, self.epoch, self.step)

    def draw_params(self, part: Any, stream: str, steps: Iterable[int] | None = None) -> dict[str, Tensor]:
        """The parameters that an augmentation draws, on the CPU: what is decided from them keeps no device waiting.

        Args:
            part: the augmentation.
            stream: name of its stream.
            steps: of this epoch, one after another; None takes this step.
        """
        shape = tuple(self.train.images.shape[1:])
        steps = [self.step] if steps is None else steps
        draws = [part.draw(self.originals, shape, generator(self.seed, stream, self.epoch, step)) for step in steps]
        if len(draws) > 1:
            draws = [{field: torch.cat([draw[field] for draw in draws]) for field in draws[0]}]
        return draws[0]

    def beside(self, drawn: Tensor) -> Tensor:
        """What was drawn or looked up on the CPU, on the device; nobody waits for the copy."""
        return drawn.to(self.device, non_blocking=True)

    def given(self, part: Any, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """What an augmentation's ``apply`` gets: foreign ones get their parameters where the images are."""
        if self.device.type == "cpu" or type(part).__module__.startswith("kdlab."):
            return params
        return {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in params.items()}

    def augmented(self, stages: list[tuple[Any, str]], block: int) -> Tensor:
        """This step's originals after some augmentations, uint8 (originals, C, H, W).

        Args:
            stages: augmentations with the names of their streams, in the order of application.
            block: steps that are made in one go.
        """
        first = self.step - self.step % block
        key = tuple((id(part), stream) for part, stream in stages)
        made = self._blocks.get(key)
        if made is None or made[0] != (self.epoch, first):
            steps = range(first, min(first + block, self.steps_per_epoch))
            images = self.train.batch(self._order[1][first * self.originals : steps.stop * self.originals])
            for part, stream in stages:
                images = part.apply(images, self.given(part, self.draw_params(part, stream, steps)))
            made = self._blocks[key] = (self.epoch, first), images
        return made[1][(self.step - first) * self.originals :][: self.originals]
