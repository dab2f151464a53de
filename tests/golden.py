"""What every registered method and augmentation computes over fifty steps, held in golden.json.

A part whose numbers change needs a new revision, or finished runs would pass for something they are not.
``make golden`` computes and adds the digests of new parts; that the others hold is what ``test_golden.py`` asks.

Made to give the same numbers on every processor: training in float64 from weights that need no logarithm, and pixels
that are only summed.
"""

import json
import math
from collections.abc import Container, Mapping
from pathlib import Path

import torch

from kdlab.data import load
from kdlab.losses import Context
from kdlab.models import build
from kdlab.registry import catalogue, create
from kdlab.rng import generator
from kdlab.spec import RunSpec
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


LAYOUTS = {"": Layout("invert", (), 2, 0.5)} | {turns: Layout("weak", (), 4, 0.0, turns) for turns in ("shared", "own")}


class Lesson:
    """One method, its student and their optimiser.

    Args:
        name: of the method.
        source: views, at any step.
        teacher: the frozen network in float64.
    """

    def __init__(self, name, source, teacher):
        info = catalogue("losses")[name]
        self.layout, self.teacher = LAYOUTS[info.turns], teacher
        prepares = info.stage == "teacher"
        self.student = teacher if prepares else spread(build(RunSpec.model, 10, 1, seed=0), 0)
        self.method = self.set_up(name, source)
        learned = [*self.student.parameters(), *self.method.parameters()]
        self.optimiser = torch.optim.SGD([p for p in learned if p.requires_grad], 0.01, 0.9)

    def set_up(self, name, source):
        """The method in float64 after ``setup``, its weights spread, on what its preparing method would leave."""
        method, prepared = create("losses", name), None
        if preparing := catalogue("losses")[name].prepared:
            prepared = self.set_up(preparing[0], source).state_dict()
        x = source.batch(self.layout, 0.0).x.double()[:2]
        train = source.train

        def teacher_pass():
            for index in torch.arange(len(train)).split(160):
                x = train.normalise(train.batch(index)).double()
                yield self.teacher.outputs(x), train.labels[index]

        with torch.no_grad():
            training = self.student.training
            example = self.student.eval().outputs(x)
            self.student.train(training)
            method.setup(
                example, self.teacher.outputs(x),
                Context(10, len(train), generator(0, "method"), 0, train.labels, self.student, self.teacher,
                        teacher_pass, prepared),
            )  # fmt: skip
        return spread(method, 2)

    def step(self, batch, x, taught) -> float:
        """Train one step; returns the loss.

        Args:
            batch: of the layout.
            x: its images in float64.
            taught: the teacher's outputs on them.
        """
        loss = sum(self.method(self.student.outputs(x), taught, batch).values())
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.method.after_step(batch)
        return loss.item()


def parts(kind: str) -> dict[str, str]:
    """``kind/name@revision`` of all that is registered of a kind, with its name."""
    return {f"{kind}/{name}@{entry.revision}": name for name, entry in catalogue(kind).items()}


def everything() -> list[str]:
    """The parts of both kinds."""
    return [*parts("losses"), *parts("augment")]


def methods(wanted: Container[str]) -> dict[str, list[float]]:
    """The total loss at every tenth of fifty steps of SGD, on pairs of a weak and an inverted view, or on turns."""
    source = views()
    source.at(0)
    teacher = spread(build("resnet8_s2_w8", 10, 1, seed=0), 1).eval().requires_grad_(False)
    lessons = {part: Lesson(name, source, teacher) for part, name in parts("losses").items() if part in wanted}
    losses = {part: [] for part in lessons}
    for step in range(STEPS):
        source.at(step)
        asked = {}  # batches and what the teacher says of them, once for all methods of a layout
        for layout in LAYOUTS.values():
            batch = source.batch(layout, step / STEPS)
            with torch.no_grad():
                asked[layout] = batch, (x := batch.x.double()), teacher.outputs(x)
        for part, lesson in lessons.items():
            losses[part].append(lesson.step(*asked[lesson.layout]))
    return {part: values[9::10] for part, values in losses.items()}


def augmentations(wanted: Container[str]) -> dict[str, list[float]]:
    """The mean pixel over fifty steps, and its means weighted by row and by column, to see what moves."""
    source, ramp = views(), torch.arange(28, dtype=torch.float64) / 27
    sums = {}
    for step in range(STEPS):
        source.at(step)
        for part, name in parts("augment").items():
            if part not in wanted:
                continue
            policy = create("augment", name)
            draw = policy.draw(ORIGINALS, (1, 28, 28), generator(0, name, 0, step))
            pixels = policy.apply(source.raw, draw).double().mean((0, 1))
            moments = torch.stack([pixels.mean(), (pixels * ramp[:, None]).mean(), (pixels * ramp).mean()])
            sums[part] = sums.get(part, 0) + moments / STEPS
    return {part: total.tolist() for part, total in sums.items()}


def digests(wanted: Container[str]) -> dict[str, list[float]]:
    """Eight digits of the numbers of each wanted part."""
    found = methods(wanted) | augmentations(wanted)
    return {part: [float(f"{value:.8g}") for value in values] for part, values in found.items()}


def changed(saved: Mapping[str, list[float]], now: Mapping[str, list[float]]) -> list[str]:
    """The parts whose numbers are others than those saved, and those whose revision fell."""
    revisions = dict(part.rsplit("@", 1) for part in saved)

    def same(part: str) -> bool:
        if part in saved:
            return all(map(lambda a, b: math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-12), saved[part], now[part]))
        name, revision = part.rsplit("@", 1)
        return int(revision) > int(revisions.get(name, 0))

    return [part for part in now if not same(part)]


def write(now: Mapping[str, list[float]], path: Path = PATH) -> list[str]:
    """Keep what is saved, add what is new, drop what is gone or has a newer revision.

    Returns:
        The parts that are new.

    Raises:
        SystemExit: when numbers changed without a raised revision; the file stays as it is.
    """
    saved = json.loads(path.read_text())
    if wrong := changed(saved, now):
        raise SystemExit(f"other numbers under an old revision, raise it in @register: {', '.join(wrong)}")
    path.write_text(json.dumps({part: saved.get(part, numbers) for part, numbers in now.items()}, indent=1) + "\n")
    return [part for part in now if part not in saved]


if __name__ == "__main__":
    known = json.loads(PATH.read_text())
    known |= digests([part for part in everything() if part not in known])
    print("new digests:", ", ".join(write({part: known[part] for part in everything()})) or "none")
