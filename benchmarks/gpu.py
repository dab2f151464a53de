"""A cohort on one GPU against a straightforward PyTorch loop on the same GPU and the same networks.

    python benchmarks/gpu.py [--teacher resnet32x4 --student resnet8x4 --students 4 --steps 60]

The loop: Pillow images in a data set, a loader with 8 workers, teacher and one student in float32, the loss of KD,
torch's SGD. kdlab: images and teacher on the device, bfloat16 for both networks, K students under one teacher. Both see
the same number of rows a step. Prints student images a second of both and their ratio (the target is 10), the
device's name, and whether two runs of one spec with ``KDLAB_DETERMINISTIC=1`` end with the same bits.

It runs on a CPU as well (``--device cpu``), which shows that it works and nothing else.
"""

import argparse
import os
import time
from functools import partial

import torch
from arms import TEACHER, arm, frozen, train_timed
from images import colour
from paired import pairs, report, spread
from plain import ORIGINALS, plain_steps

from kdlab import data
from kdlab.data.sets import Splits
from kdlab.training import Views

BAR = 10


def wait(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def plain_loop(splits: Splits, given) -> float:
    """Seconds for a student image of the straightforward loop."""
    running, warm = plain_steps(splits, given.teacher, given.student, given.device, given.loaders), given.steps // 4
    for _ in range(warm):  # loaders and kernels warm up
        next(running)
    wait(given.device)
    started = time.perf_counter()
    for _ in range(given.steps - warm):
        next(running)
    wait(given.device)
    return (time.perf_counter() - started) / ((given.steps - warm) * 2 * ORIGINALS)


def cohort(splits: Splits, given) -> tuple[float, dict]:
    """Seconds for a student image of a cohort, and the weights that it ends with."""
    students = [
        arm(str(k), given.student, given.steps, ORIGINALS, precision=given.precision) for k in range(given.students)
    ]
    on = Splits(*(part.to(given.device) for part in splits))
    teachers = {TEACHER: frozen(given.teacher, splits, given.device)}
    views = Views(on.train, 0, 0, ORIGINALS, teachers, given.device, precision=given.precision)
    marks, weights = train_timed(students, on, views, partial(wait, given.device))
    warm = given.steps // 4
    rows = (len(marks) - 1 - warm) * given.students * 2 * ORIGINALS
    return (marks[-1] - marks[warm]) / rows, weights


def main() -> None:
    """Time both and compare two runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--teacher", default="resnet32x4")
    parser.add_argument("--student", default="resnet8x4")
    parser.add_argument("--students", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--loaders", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    print(torch.cuda.get_device_name() if given.device.startswith("cuda") else "CPU")
    splits = Splits(*(colour(part) for part in data.load("fashion", sizes=(6000, 100, 100))))
    measured = pairs(lambda: plain_loop(splits, given), lambda: cohort(splits, given)[0], given.repeats)
    for name, seconds in zip(("straightforward loop", "kdlab"), zip(*measured, strict=True), strict=True):
        print(f"{name:22s} {1 / sorted(seconds)[len(seconds) // 2]:10.0f} student images/s")
    report(f"{given.students} students", spread(measured), BAR)
    os.environ["KDLAB_DETERMINISTIC"] = "1"
    first, second = (cohort(splits, given)[1] for _ in range(2))
    same = all(torch.equal(v, second[key][name]) for key, state in first.items() for name, v in state.items())
    print(f"two runs end with the same bits: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
