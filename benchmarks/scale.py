"""How costs grow: training by arms, seeds and images, memory by finished arms, plans and tables by runs.

    python benchmarks/scale.py

Prints tables, each with its least-squares line and the largest distance from it, as a share of the measured value.
Training is CPU seconds of everything that ``kdlab.lab.run`` does in this process, medians over repeats; the networks
are tiny. Plans and tables are seconds by the clock, plans once. Everything is written to a temporary folder, removed at
the end. About three minutes on one core; memory is read from /proc, so on Linux alone.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import concurrent.futures as futures
import gc
import hashlib
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kdlab import lab
from kdlab.lab.store import Store
from kdlab.spec import Budget, Optimiser, RunSpec, sweep

REPEATS = 3
ARMS = (1, 2, 4, 8, 12)
SEEDS = (1, 2, 3, 4, 5, 6)
IMAGES = (640, 1280, 1920, 2560, 3840)
FINISHED = (4, 8, 16, 32)
PLANNED = {5: (25_000, 50_000, 100_000), 1: (12_500, 25_000, 50_000)}  # students, by arms a seed
STORED = (1_000, 5_000, 10_000)
TEACHER = RunSpec(sizes=(640, 200, 500), model="resnet8_s2_w4", budget=Budget(16, "steps", 32))
STUDENT = TEACHER.replace(method="kd", teacher=TEACHER, views=2, augmentation="jda", ratio=0.5)


def main() -> None:
    """Measure everything, a table at a time."""
    with tempfile.TemporaryDirectory() as folder:
        stored = Store(Path(folder) / "stored")
        cpu_seconds([STUDENT], stored)  # torch is imported, the data is read, the teacher is there
        show("arms", "CPU s", ARMS, against_arms(stored))
        show("seeds", "CPU s", SEEDS, against(lambda n: [STUDENT.at_seed(seed) for seed in range(n)], SEEDS))
        show("images", "CPU s", IMAGES, against(lambda n: [of_images(n)], IMAGES))
        context = multiprocessing.get_context("spawn")  # a process of its own, where nothing else has been
        with futures.ProcessPoolExecutor(1, mp_context=context) as executor:
            now, peak = zip(*executor.submit(memory, folder).result(), strict=True)
        show("finished arms", "MiB resident", FINISHED, now)
        show("finished arms", "MiB at most", FINISHED, peak)
        for arms, numbers in PLANNED.items():
            show(f"specs, {arms} a seed", "s to plan", numbers, [plan_seconds(n, arms) for n in numbers])
        listed, read = zip(*(table_seconds(n, stored, Path(folder) / f"runs{n}") for n in STORED), strict=True)
        show("stored runs", "s for the keys", STORED, listed)
        show("stored runs", "s for the table", STORED, read)


def show(what: str, unit: str, numbers: Sequence[int], values: Sequence[float]) -> None:
    """Print measured values beside their least-squares line.

    Args:
        what: the quantity that grows.
        unit: what was measured.
        numbers: how many of it.
        values: what each took.
    """
    slope, start = np.polyfit(numbers, values, 1)
    print(f"\n{what:>18s} {unit:>16s} {'line':>10s}")
    for number, value in zip(numbers, values, strict=True):
        print(f"{number:18,d} {value:16.3f} {start + slope * number:10.3f}")
    off = max(abs(start + slope * n - value) / value for n, value in zip(numbers, values, strict=True))
    print(f"{'line:':>18s} {start:.3g} + {slope:.3g} x {what}; largest residual {100 * off:.1f} %", flush=True)


def cpu_seconds(specs: list[RunSpec], store: Store) -> float:
    """CPU seconds of this process for everything that a run of some specs does."""
    gc.collect()  # the last run's garbage is not this one's cost
    started = time.process_time()
    lab.run(specs, workers=0, progress=False, require_teacher=False, store=store)
    return time.process_time() - started


def medians(rounds: list[list[float]]) -> list[float]:
    """The median of each column."""
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def against_arms(stored: Store) -> list[float]:
    """CPU seconds of one cohort by its number of students; they differ in learning rate, their teacher is stored."""

    def once(arms: int) -> float:
        specs = [STUDENT.replace(optimiser=Optimiser(lr=0.1 - 0.005 * arm)) for arm in range(arms)]
        with tempfile.TemporaryDirectory() as folder:
            key = lab.run_key(TEACHER)
            shutil.copytree(stored.root / key, Path(folder) / key)
            return cpu_seconds(specs, Store(Path(folder)))

    return medians([[once(arms) for arms in ARMS] for _ in range(REPEATS)])


def against(specs: Callable[[int], list[RunSpec]], numbers: Sequence[int]) -> list[float]:
    """CPU seconds of runs and their teachers, each time in an empty store."""

    def once(number: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return cpu_seconds(specs(number), Store(Path(folder)))

    return medians([[once(number) for number in numbers] for _ in range(REPEATS)])


def of_images(images: int) -> RunSpec:
    """An epoch on so many training images, without a teacher."""
    return STUDENT.replace(sizes=(images, 200, 500), budget=Budget(1, "epochs", 32), teacher=None, method="ce")


def memory(folder: str) -> list[tuple[float, float]]:
    """MiB that this process holds, and held at most, after so many arms: a student and its teacher, seed after seed.

    As many arms as are measured in all are trained before the first look, so that what grows only once has grown.
    """
    store, held = Store(Path(folder) / "memory"), []
    for seed in range(FINISHED[-1]):
        cpu_seconds([STUDENT.at_seed(seed)], store)
        if 2 * (seed + 1) - FINISHED[-1] in FINISHED:
            held.append(mebibytes())
    return held


def mebibytes() -> tuple[float, float]:
    """Memory that this process holds now, and held at most (Linux)."""
    gc.collect()
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def plan_seconds(students: int, arms: int) -> float:
    """Seconds to plan so many students and their teachers, one teacher a seed."""
    ratios = [0.1 * (arm + 1) for arm in range(arms)]
    specs = sweep(STUDENT, ratio=ratios, seed=range(students // arms))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        todo = lab.plan(specs, store=Store(Path(folder)))
        seconds = time.perf_counter() - started
    assert len(todo.missing) == students + students // arms
    return seconds


def table_seconds(runs: int, stored: Store, root: Path) -> tuple[float, float]:
    """Seconds to list so many stored runs and to read their table, medians; they are copies of one under other keys."""
    files = list((stored.root / lab.run_key(STUDENT)).glob("*.json"))
    for number in range(runs):
        folder = root / hashlib.sha256(str(number).encode()).hexdigest()[:16]
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / file.name)
    store, rounds = Store(root), []
    for _ in range(REPEATS):
        marks = [time.perf_counter()]
        for rows in (store.keys, lambda: lab.table(store=store)):
            assert len(rows()) == runs
            marks.append(time.perf_counter())
        rounds.append([marks[1] - marks[0], marks[2] - marks[1]])
    return tuple(medians(rounds))


if __name__ == "__main__":
    main()
