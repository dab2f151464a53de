"""What a device's arithmetic reaches at best: a product of large matrices, and a copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from kdlab.training.runtime import one_thread

SIDE = {"cpu": 768, "cuda": 8192}  # of the matrices
NUMBERS = {"cpu": 2**24, "cuda": 2**28}  # copied
TRIES = 5


class Ceilings(NamedTuple):
    """Multiply-adds a second in a product of large matrices, float32 numbers copied in a second."""

    multiply_adds: float
    numbers: float


def wait(where: str) -> None:
    """Wait until a device has done what it was given."""
    if where.startswith("cuda"):
        torch.cuda.synchronize(where)
    elif where == "mps":
        torch.mps.synchronize()


def ceilings(where: str, precision: str = "float32") -> Ceilings:
    """Measure them, which takes about a tenth of a second; on one thread of a CPU, with TensorFloat-32 on a GPU.

    Args:
        where: the device.
        precision: of the matrices, ``"float32"`` or ``"bfloat16"``.
    """
    kind = where.partition(":")[0]
    side, numbers = SIDE.get(kind, SIDE["cpu"]), NUMBERS.get(kind, NUMBERS["cpu"])
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True  # as cuDNN's convolutions have it
    try:
        with one_thread():
            a = torch.rand(side, side, device=where).to(getattr(torch, precision))
            product = _best(where, lambda: a @ a)
            x = torch.rand(numbers, device=where)
            y = torch.empty_like(x)
            return Ceilings(side**3 / product, numbers / _best(where, lambda: y.copy_(x)))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _best(where: str, work: Callable[[], object]) -> float:
    """Seconds of some work, the fastest of a few tries after one that does not count."""
    clock = time.thread_time if where == "cpu" else time.perf_counter  # others may be at work on the same core
    seen = []
    for _ in range(TRIES + 1):
        wait(where)
        started = clock()
        work()
        wait(where)
        seen.append(clock() - started)
    return min(seen[1:])
