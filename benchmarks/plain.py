"""kdlab against a straightforward loop on one CPU core: KD with JDA on two views, student images a CPU second.

    python benchmarks/plain.py [least] [tiny] [wrn] [--repeats 5]

The loop: Pillow images in a data set, torch's loader and SGD, teacher and one student in float32. kdlab: the loop that
it trains with, K students of one cohort under one teacher; a number of students, then the precision of both networks:

    least   resnet8_s2_w16 to resnet8_s2_w4, 28 x 28 grey, 64 originals a step
    tiny    resnet8_s2_w32 to resnet8_s2_w8, 28 x 28 grey, 64 originals a step
    wrn     wrn_40_2 to wrn_16_2, 32 x 32 colour, 64 originals a step

Prints kdlab's student images over the loop's: median [lowest, highest] of rounds in which all take their turn. Neither
side evaluates. ``ONEDNN_MAX_CPU_ISA=AVX2`` shows a processor without instructions for bfloat16.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from arms import TEACHER, arm, frozen
from images import colour
from paired import report
from pillow_jda import Pairs, pillow, pillow_weak, to_pil
from torch.utils.data import DataLoader, StackDataset, TensorDataset

from kdlab import data
from kdlab.augment import POLICIES
from kdlab.data.sets import Splits
from kdlab.models import build
from kdlab.training import Arm, Stopped, Views, train
from kdlab.training.runtime import keep_memory, one_thread

ORIGINALS, TEMPERATURE = 64, 4.0
# Teacher, student, steps of the loop and of kdlab, and the bars by number of students and precision.
CASES = {
    "least": ("resnet8_s2_w16", "resnet8_s2_w4", 12, 32, {(1, "float32"): 3, (8, "float32"): 7}),
    "tiny": ("resnet8_s2_w32", "resnet8_s2_w8", 12, 32, {(1, "float32"): 3, (8, "float32"): 7}),
    "wrn": ("wrn_40_2", "wrn_16_2", 2, 2, {(1, "float32"): 1.3, (4, "float32"): 1.6, (4, "bfloat16"): 3}),
}


def splits_of(case: str) -> Splits:
    """Fashion-MNIST as it is, or made 32 x 32 and colour."""
    grey = data.load("fashion", sizes=(6000, 100, 100))
    return Splits(*(colour(part) for part in grey)) if case == "wrn" else grey


def plain_steps(splits: Splits, teacher: str, student: str, device: str = "cpu", loaders: int = 0) -> Iterator[None]:
    """Train one student for ever, a step at a time, as anyone would write it."""
    probability, steps = POLICIES["cifar100"]
    weak = pillow_weak(splits.train.mean, splits.train.std, splits.train.images.shape[-1])
    pictures = Pairs([to_pil(image) for image in splits.train.images], pillow, steps, probability, weak)
    rows = StackDataset(pictures, TensorDataset(splits.train.labels))
    loader = DataLoader(
        rows, ORIGINALS, shuffle=True, drop_last=True, num_workers=loaders, persistent_workers=loaders > 0
    )
    taught = frozen(teacher, splits, device)
    network = build(student, len(splits.train.classes), splits.train.images.shape[1], seed=1).to(device)
    optimiser = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    while True:
        for views, (label,) in loader:
            x, y = torch.cat(list(views)).to(device), label.repeat(2).to(device)
            with torch.no_grad():
                teacher_logits = taught(x)
            logits = network(x)
            log_q, p = (logits / TEMPERATURE).log_softmax(1), (teacher_logits / TEMPERATURE).softmax(1)
            optimiser.zero_grad()
            (F.cross_entropy(logits, y) + TEMPERATURE**2 * F.kl_div(log_q, p, reduction="batchmean")).backward()
            optimiser.step()
            yield


def plain(splits: Splits, teacher: str, student: str, steps: int) -> Callable[[], float]:
    """Measures CPU seconds a student image of the loop."""
    running = plain_steps(splits, teacher, student)
    next(running)

    def seconds() -> float:
        started = time.process_time()
        for _ in range(steps):
            next(running)
        return (time.process_time() - started) / (steps * 2 * ORIGINALS)

    return seconds


def cohort(splits: Splits, teacher: str, student: str, steps: int, count: int, precision: str) -> Callable[[], float]:
    """Measures CPU seconds a student image of ``count`` students; the first half of the steps warms up."""
    taught, warm = frozen(teacher, splits), max(2, steps // 4)

    def seconds() -> float:
        views = Views(splits.train, 0, 0, ORIGINALS, {TEACHER: taught}, precision=precision)
        marks: list[float] = []

        def beat(waiting: list[Arm]) -> bool:
            marks.append(time.process_time())
            return len(marks) == warm + steps

        nothing = lambda *given: None  # noqa: E731
        arms = [arm(str(k), student, 10**6, ORIGINALS, precision=precision) for k in range(count)]  # never evaluated
        with contextlib.suppress(Stopped):
            train(arms, splits, views, restore=nothing, save=nothing, finish=nothing, beat=beat)
        return (marks[-1] - marks[warm - 1]) / (steps * count * 2 * ORIGINALS)

    return seconds


def show(case: str, repeats: int) -> None:
    """Print a case's ratios."""
    teacher, student, plain_count, steps, bars = CASES[case]
    splits = splits_of(case)
    print(f"{case}: {teacher} teaches {student}, {ORIGINALS} originals a step in two views", flush=True)
    works = [plain(splits, teacher, student, plain_count)]
    works += [cohort(splits, teacher, student, steps, *which) for which in bars]
    rounds = [[work() for work in works] for _ in range(repeats + 1)][1:]
    for number, (which, bar) in enumerate(bars.items(), 1):
        found = [each[0] / each[number] for each in rounds]
        report(f"  {which[0]} students, {which[1]}", (statistics.median(found), min(found), max(found)), bar)


def main() -> None:
    """Measure the cases that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", default=[*CASES], help=f"of {', '.join(CASES)}")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with one_thread():
        torch.manual_seed(0)
        keep_memory()
        for case in given.cases:
            show(case, given.repeats)


if __name__ == "__main__":
    main()
