"""What every registered method and augmentation computes over fifty steps, held in golden.json.

A part whose numbers change needs a new revision, or finished runs would pass for something they are not.
``python tests/golden.py`` writes the file anew.

Made to give the same numbers on every processor: training in float64 from weights that need no logarithm, and pixels
that are only summed.
"""

import itertools
import json
from pathlib import Path

import torch

from kdlab.data import load
from kdlab.losses import Context
from kdlab.models import build
from kdlab.rng import generator
from kdlab.spec import RunSpec, catalogue, create
from kdlab.training import Layout, Views

PATH = Path(__file__).with_name("golden.json")
STEPS, ORIGINALS = 50, 8


def views() -> Views:
    """Views of real images, without a teacher."""
    return Views(load("fashion", sizes=(320, 10, 10)).train, 0, 0, ORIGINALS, {})


def spread(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module in float64, its weights uniform in +-1 / sqrt(inputs): the same on every machine."""
    draw = generator(seed, "golden")
    with torch.no_grad():
        for weight in module.double().parameters():
            if weight.dim() > 1:
                uniform = torch.rand(weight.shape, generator=draw, dtype=torch.float64)
                weight.copy_((2 * uniform - 1) / weight[0].numel() ** 0.5)
    return module


def methods() -> dict[str, list[float]]:
    """The total loss at every tenth of fifty steps of SGD, on pairs of a weak and an inverted view."""
    source, layout = views(), Layout("invert", (), 2, 0.5)
    names = {f"losses/{name}@{entry.revision}": name for name, entry in catalogue("losses").items()}
    teacher = spread(build("resnet8_s2_w8", 10, 1, seed=0), 1).eval().requires_grad_(False)
    arms, losses = {}, {part: [] for part in names}
    for step in range(STEPS):
        source.at(step)
        batch = source.batch(layout, step / STEPS)
        taught = teacher.outputs(batch.x.double())
        for part, name in names.items():
            if part not in arms:
                student, method = spread(build(RunSpec.model, 10, 1, seed=0), 0), create("losses", name)
                example = student.outputs(batch.x.double())
                method.setup(example.detach(), taught, Context(10, 320, generator(0, "method")))
                spread(method, 2)
                parameters = itertools.chain(student.parameters(), method.parameters())
                arms[part] = student, method, torch.optim.SGD(parameters, 0.01, 0.9)
            student, method, optimiser = arms[part]
            loss = sum(method(student.outputs(batch.x.double()), taught, batch).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            method.after_step(batch)
            losses[part].append(loss.item())
    return {part: values[9::10] for part, values in losses.items()}


def augmentations() -> dict[str, list[float]]:
    """The mean pixel over fifty steps, and its means weighted by row and by column, to see what moves."""
    source, ramp = views(), torch.arange(28, dtype=torch.float64) / 27
    sums = {}
    for step in range(STEPS):
        source.at(step)
        for name, entry in catalogue("augment").items():
            policy = create("augment", name)
            draw = policy.draw(ORIGINALS, (1, 28, 28), generator(0, name, 0, step))
            pixels = policy.apply(source.raw, draw).double().mean((0, 1))
            moments = torch.stack([pixels.mean(), (pixels * ramp[:, None]).mean(), (pixels * ramp).mean()])
            part = f"augment/{name}@{entry.revision}"
            sums[part] = sums.get(part, 0) + moments / STEPS
    return {part: total.tolist() for part, total in sums.items()}


def digests() -> dict[str, list[float]]:
    """Eight digits of every part's numbers, by ``kind/name@revision``."""
    found = methods() | augmentations()
    return {part: [float(f"{value:.8g}") for value in values] for part, values in found.items()}


if __name__ == "__main__":
    PATH.write_text(json.dumps(digests(), indent=1) + "\n")
