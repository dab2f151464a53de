"""What training a cohort in lockstep saves: K students under one teacher in one process on one thread.

    python benchmarks/cohort.py             # a tiny pair, K = 1, 2, 4, 8, 16
    python benchmarks/cohort.py --large     # resnet32x4 to resnet8x4 on 32 x 32 colour images as well: ten minutes

Three things are printed, all from the same run of the same loop that ``kdlab`` trains with:

- the parts of a step: making the views, the teacher on them, forward and backward of a student on a ready batch (bare),
  and the student's whole step (loss, bookkeeping and optimiser included), with the ratio of whole to bare;
- for each K the time of a cohort's step over views + teacher + K whole steps, the parts measured on their own;
- for each K the speed-up over K separate runs, each with views and a teacher of its own.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from arms import TEACHER, arm, frozen, train_timed
from images import colour
from paired import ratios

from kdlab import data
from kdlab.data.sets import Splits
from kdlab.models import build, outputs
from kdlab.training import Views
from kdlab.training.runtime import keep_memory, one_thread

COHORTS = (1, 2, 4, 8, 16)
PAIRS = {
    "tiny": ("resnet8_s2_w16", "resnet8_s2_w4", 64, 25),
    "large": ("resnet32x4", "resnet8x4", 16, 3),
}
METHODS = ("kd", "ccd", "dkd", "dist", "ce")


def splits(name: str) -> Splits:
    """Fashion-MNIST as it is for the tiny pair, as 32 x 32 colour images for the large one."""
    grey = data.load("fashion", sizes=(6000, 10, 10))
    return grey if name == "tiny" else Splits(*(colour(part) for part in grey))


class Bench:
    """A pair of networks with everything a cohort needs.

    Args:
        name: key of ``PAIRS``.
    """

    def __init__(self, name: str):
        teacher, self.student, self.originals, self.steps = PAIRS[name]
        self.splits = splits(name)
        self.classes, self.channels = len(self.splits.train.classes), self.splits.train.images.shape[1]
        self.teacher = frozen(teacher, self.splits)

    def views(self) -> Views:
        """New views, without any made yet."""
        return Views(self.splits.train, 0, 0, self.originals, {TEACHER: self.teacher})

    def cohort(self, k: int) -> float:
        """Mean seconds of a step of k students without evaluation; views are made for eight steps at once."""
        arms = [arm(str(number), self.student, self.steps, self.originals) for number in range(k)]
        marks, _ = train_timed(arms, self.splits, self.views())
        return (marks[-1] - marks[0]) / (len(marks) - 1)

    def parts(self, method: str = "kd") -> dict[str, float]:
        """Mean seconds of the views, the teacher, a bare student and a whole student's step."""
        views = self.views()
        one = arm("0", self.student, self.steps + 1, self.originals, method).build(views, self.classes, self.channels)
        bare = build(self.student, self.classes, self.channels, seed=1).train()
        seen = {part: [] for part in ("views", "teacher", "bare", "step")}
        for step in range(self.steps):
            clock = [time.perf_counter()]
            views.at(step)
            batch = views.batch(one.layout, 0.0)
            clock.append(time.perf_counter())
            if one.teacher_key:
                views.teacher_outputs(TEACHER, one.layout, "same")
            clock.append(time.perf_counter())
            for parameter in bare.parameters():
                parameter.grad = None
            F.cross_entropy(outputs(bare, batch.x).logits, batch.label).backward()
            clock.append(time.perf_counter())
            one.train_step()
            clock.append(time.perf_counter())
            for part, start, end in zip(seen, clock, clock[1:], strict=False):
                seen[part].append(end - start)
        return {part: statistics.mean(times[1:]) for part, times in seen.items()}


def show(name: str, repeats: int) -> None:
    """Print the three results for one pair."""
    bench = Bench(name)
    print(f"\n{name}: {PAIRS[name][0]} teaches {PAIRS[name][1]}, {bench.originals} originals a step, two views")
    for method in METHODS if name == "tiny" else ("kd",):
        runs = [bench.parts(method) for _ in range(repeats)]
        views, teacher, bare, step = (1000 * statistics.median(r[p] for r in runs) for p in runs[0])
        over = statistics.median(r["step"] / r["bare"] for r in runs)
        print(f"  {method:5s} views {views:7.2f}  teacher {teacher:7.2f}  bare student {bare:7.2f}  "
              f"whole step {step:7.2f} ms: {over:.3f} of bare (bar 1.10)")  # fmt: skip
    print("   K   ms a step   of views + teacher + K steps (bar 1.10)   speed-up over K runs")
    for k in COHORTS:
        seen = []

        def cohort(k=k, seen=seen) -> float:
            seen.append(bench.cohort(k))
            return seen[-1]

        def added(k=k) -> float:
            parts = bench.parts()
            return parts["views"] + parts["teacher"] + k * parts["step"]

        middle, low, high = ratios(cohort, added, repeats)
        gain, *_ = ratios(lambda k=k: k * bench.cohort(1), cohort, repeats)
        print(f"  {k:2d} {1000 * statistics.median(seen):10.1f}   {middle:18.3f} [{low:.3f}, {high:.3f}] {gain:22.2f}")


def main() -> None:
    """Measure the tiny pair, and the large one when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="resnet32x4 to resnet8x4 as well")
    parser.add_argument("--repeats", type=int, default=5, help="paired repeats (default 5)")
    given = parser.parse_args()
    with one_thread():
        torch.manual_seed(0)
        keep_memory()  # as training does
        show("tiny", given.repeats)
        if given.large:
            show("large", 1)


if __name__ == "__main__":
    main()
