"""Everything that a GPU is to reach, each beside its bar: one script, under eight minutes, numbers into a file.

    python benchmarks/gpu.py [part ...] [--minutes 7] [--json out/gpu.json]

    sound      pixels of every augmentation on the device are those of the CPU (interpolating ones within a grey level),
               losses of a few steps those of the CPU's within 2 %, a captured step's those of an eager one, two
               deterministic runs equal bit for bit
    wide       resnet32x4 to resnet8x4, K = 4, against a straightforward loop (bar 10): Pillow in a loader with all
               cores, float32 teacher, one student, on the same GPU; kdlab has bfloat16 for both networks
    small      resnet8_s2_w32 to resnet8_s2_w8, K = 64, likewise (bar 100)
    ways       vmap against grouped convolutions, captured: resnet8_s2_w8 and wrn_16_2, K = 4 and 64
    standard   minutes of the profile on fashion and cifar10, evaluation left out (bar 5 each): the plan's cohorts, at
               the rates measured here
    paper      wrn_40_2 to wrn_16_2, two views, 64 + 64 rows: epochs a minute of 45,000 images for K = 1 and 8, and the
               days of the whole profile that follow

Beside a rate stands the share of the card's ceilings: multiply-adds of a large bfloat16 product, numbers copied. Ratios
are medians of pairs measured in turn. Images are the bundled ones, as 32 x 32 colour where networks are for those;
weights are random, which costs the same. What does not fit into the minutes is left out and said. Without a GPU nothing
is measured; ``--device cpu --steps 1`` shows that a part works and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from arms import TEACHER, arm, frozen, train_timed
from on_device import ROWS, Bench, splits_of
from paired import pairs, spread
from plain import ORIGINALS, plain_steps

from kdlab import lab, perspectives
from kdlab.data.sets import Splits
from kdlab.lab.store import Store
from kdlab.paths import home
from kdlab.registry import catalogue, create
from kdlab.rng import generator
from kdlab.training import Views
from kdlab.training.ceilings import wait
from kdlab.training.gpu.stack import Grouped, Vmapped
from kdlab.training.gpu.stepper import DeviceStepper

FULL, EPOCH = 240, 45_000 // ORIGINALS
WIDE, SMALL, PAPER = ("resnet32x4", "resnet8x4"), ("resnet8_s2_w32", "resnet8_s2_w8"), ("wrn_40_2", "wrn_16_2")
INTERPOLATING = {"shearX", "shearY", "jda"}


def against_loop(bench: Bench, name: str, kind: str, pair: tuple[str, str], students: int, bar: float) -> None:
    """Student images a second of a cohort over those of the straightforward loop."""
    splits = splits_of(kind)
    running = plain_steps(splits, *pair, bench.device, bench.given.loaders)

    def plain() -> float:
        started = time.perf_counter()
        for _ in range(bench.given.steps):
            next(running)
        wait(bench.device)
        return (time.perf_counter() - started) / (bench.given.steps * ROWS)

    def cohort() -> float:
        return bench.step_seconds(splits, pair, students) / (students * ROWS)

    measured = pairs(plain, cohort, bench.given.repeats)
    for who, seconds in zip(("straightforward loop", "kdlab"), zip(*measured, strict=True), strict=True):
        bench.note(f"{name}: {who}", 1 / statistics.median(seconds), unit="student images/s")
    bench.note(f"{name}: times as fast, K = {students}", spread(measured)[0], bar)
    step = statistics.median(seconds for _, seconds in measured) * students * ROWS
    bench.share(name, pair, students, splits.train.images.shape[-1] ** 2, step)
    running.close()


def wide(bench: Bench) -> None:
    """The part of this name."""
    against_loop(bench, "wide", "colour", WIDE, bench.given.students or 4, 10)


def small(bench: Bench) -> None:
    """The part of this name."""
    against_loop(bench, "small", "grey", SMALL, bench.given.students or 64, 100)


def ways(bench: Bench) -> None:
    """The part of this name."""
    for kind, pair in (("grey", SMALL), ("colour", PAPER)):
        for students in (bench.given.students,) if bench.given.students else (4, 64):
            seconds = {}
            for way in (Vmapped, Grouped):
                name = f"ways: {pair[1]}, K = {students}, {way.__name__.lower()}"
                if bench.left(name, 20):
                    seconds[way] = bench.step_seconds(splits_of(kind), pair, students, way)
                    bench.note(name, 1000 * seconds[way], unit="ms a step")
            if len(seconds) == 2:
                ratio = seconds[Vmapped] / seconds[Grouped]
                bench.note(f"ways: {pair[1]}, K = {students}, grouped over vmap", ratio, unit="times as fast")


def standard(bench: Bench) -> None:
    """The part of this name."""
    with tempfile.TemporaryDirectory() as empty:
        specs = [perspectives.study(name, "standard").specs for name in perspectives.NAMES]
        planned = lab.plan(*specs, store=Store(Path(empty)))
    many = bench.given.students or 64
    for name, kind in (("fashion", "grey"), ("cifar10", "colour")):
        splits, lines = splits_of(kind), {}
        for model in {run.spec.model for run in planned.todo}:
            one, all_of = (bench.step_seconds(splits, (SMALL[0], model), k) for k in (1, many))
            lines[model] = one, (all_of - one) / (many - 1 or 1)
        minutes = 0.0
        for cohort in planned.cohorts:
            models = Counter(run.spec.model for run in cohort.runs.values())
            longest = max(run.steps for run in cohort.runs.values())
            minutes += longest * sum(lines[m][0] + (k - 1) * lines[m][1] for m, k in models.items()) / 60
        bench.note(
            f"standard on {name}: {len(planned.todo)} runs in {len(planned.cohorts)} cohorts",
            minutes,
            5,
            False,
            "minutes",
        )


def paper(bench: Bench) -> None:
    """The part of this name."""
    seconds = {}
    for students in (1, 8):
        seconds[students] = bench.step_seconds(splits_of("colour"), PAPER, students)
        bench.note(f"paper: epochs a minute, K = {students}", 60 / (seconds[students] * EPOCH))
        bench.share(f"paper, K = {students}", PAPER, students, 32**2, seconds[students])
    size = perspectives.profile("paper")
    days = FULL * EPOCH * seconds[8] / 8 / 86400
    bench.note(f"paper: one student's {FULL} epochs, eight abreast", 24 * days, unit="hours")
    bench.note("paper: a hundred arms at the profile's seeds", 100 * len(size.seeds) * days, unit="days")


def sound(bench: Bench) -> None:
    """The part of this name."""
    images = splits_of("colour").train.images[:64]
    worst = {}
    for name in catalogue("augment"):
        part = create("augment", name)
        params = part.draw(len(images), tuple(images.shape[1:]), generator(0, name))
        there = part.apply(images.to(bench.device), params).cpu()
        worst[name] = (there.int() - part.apply(images, params).int()).abs().max().item()
    off = {name: levels for name, levels in worst.items() if levels > (name in INTERPOLATING)}
    bench.note("sound: augmentations with other pixels than the CPU's", len(off), 0, False, str(off or ""))
    here, there = few_losses("cpu"), few_losses(bench.device)
    apart = max(abs(a / b - 1) for a, b in zip(here, there, strict=True))
    bench.note("sound: losses of eight steps apart from the CPU's", apart, 0.02, False)
    eager = few_losses(bench.device, captured=False)
    apart = max(abs(a / b - 1) for a, b in zip(there, eager, strict=True))
    bench.note("sound: losses of captured steps apart from eager ones", apart, 0.01, False)
    os.environ["KDLAB_DETERMINISTIC"] = "1"
    try:
        first, second = (weights(bench) for _ in range(2))
    finally:
        del os.environ["KDLAB_DETERMINISTIC"]
    same = all(torch.equal(v, second[key][name]) for key, state in first.items() for name, v in state.items())
    bench.note("sound: two deterministic runs end with the same bits", int(same), 1)


def few_losses(where: str, captured: bool = True) -> list[float]:
    """Losses of two students in eight steps."""
    given = argparse.Namespace(device=where, steps=1, minutes=1)
    views, arms = Bench(given).arms(splits_of("grey"), SMALL, 2, "float32")
    taken = DeviceStepper(views.device)
    if not captured:
        taken.recorder = None
    for step in range(8):
        views.at(step)
        taken.step(arms)
    taken.read(due=True)
    return [loss for one in arms for loss in one.losses]


def weights(bench: Bench) -> dict:
    """The weights that a cohort of four ends with, by key."""
    splits, steps = splits_of("grey"), 8
    on = Splits(*(part.to(bench.device) for part in splits))
    teachers = {TEACHER: frozen(SMALL[0], splits, bench.device)}
    views = Views(on.train, 0, 0, ORIGINALS, teachers, bench.device)
    return train_timed([arm(str(k), SMALL[1], steps, ORIGINALS) for k in range(4)], on, views)[1]


# In the order of their worth, should the minutes not suffice.
PARTS: dict[str, tuple[Callable[[Bench], None], float]] = {
    "sound": (sound, 30), "wide": (wide, 60), "small": (small, 60), "paper": (paper, 30), "ways": (ways, 60),
    "standard": (standard, 60),
}  # fmt: skip


def main() -> None:
    """Measure the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=[*PARTS], help=f"of {', '.join(PARTS)}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=40, help="of a measurement, after warming up")
    parser.add_argument("--students", type=int, help="instead of each part's own number")
    parser.add_argument("--loaders", type=int, default=os.cpu_count() or 1, help="processes of the loop's loader")
    parser.add_argument("--repeats", type=int, default=3, help="pairs")
    parser.add_argument("--minutes", type=float, default=7.0, help="after which no part is begun")
    parser.add_argument("--json", type=Path, help="out/gpu.json if not given")
    given = parser.parse_args()
    given.json = given.json or home() / "gpu.json"
    given.json.parent.mkdir(parents=True, exist_ok=True)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"no GPU here: nothing measured; not seen: {', '.join(given.parts)}")
        given.json.write_text(json.dumps({"device": None, "not_seen": given.parts}, indent=1) + "\n")
        return
    torch.backends.cudnn.benchmark = True  # as training has it
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, before the deterministic runs begin
    bench, name = Bench(given), torch.cuda.get_device_name() if given.device.startswith("cuda") else given.device
    os.environ["KDLAB_DEVICE"] = given.device
    print(f"{name}, torch {torch.__version__}, {os.cpu_count()} cores")
    for part in given.parts:
        if bench.left(part, PARTS[part][1]):
            try:
                PARTS[part][0](bench)
            except RuntimeError as error:  # what one part lacks, another may have
                traceback.print_exc()
                bench.note(part, f"failed: {type(error).__name__}: {str(error)[:300]}")
        given.json.write_text(
            json.dumps({"device": name, "torch": torch.__version__, "found": bench.found}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
