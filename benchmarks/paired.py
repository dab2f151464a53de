"""Two ways of doing the same work, timed in turn in one process: what a noisy machine does to one it does to the other.

Both are callables that return seconds; ``timed`` makes one of any function:
report("the new one", ratios(timed(old), timed(new)), bar=15).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

REPEATS = 7


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """A callable that does the work and returns the seconds it took, for ``pairs`` and ``ratios``."""

    def seconds() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return seconds


def pairs(first: Callable[[], float], second: Callable[[], float], repeats: int = REPEATS) -> list[tuple[float, float]]:
    """Seconds of both, pair by pair: first then second, second then first, and so on.

    One pair before them is not counted: it pays for what is made or loaded at first use.
    """
    first(), second()
    measured = []
    for repeat in range(repeats):
        if repeat % 2:
            b = second()
            measured.append((first(), b))
        else:
            measured.append((first(), second()))
    return measured


def spread(measured: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Median, lowest and highest of first / second over the pairs."""
    quotients = [a / b for a, b in measured]
    return statistics.median(quotients), min(quotients), max(quotients)


def ratios(
    first: Callable[[], float], second: Callable[[], float], repeats: int = REPEATS
) -> tuple[float, float, float]:
    """How many times as long the first takes as the second.

    Args:
        first: does its work and returns its seconds (or any other cost).
        second: the same.
        repeats: pairs that count.

    Returns:
        Median, lowest and highest of first / second, taken pair by pair.
    """
    return spread(pairs(first, second, repeats))


def report(name: str, found: tuple[float, float, float], bar: float | None = None, at_least: bool = True) -> None:
    """Print one line: the ratio with its range and, where there is a bar, whether the median meets it."""
    median, low, high = found
    line = f"{name:34s} {median:7.2f} x [{low:.2f}, {high:.2f}]"
    if bar is not None:
        met = median >= bar if at_least else median <= bar
        line += f"   bar: at {'least' if at_least else 'most'} {bar:g} x, {'met' if met else 'MISSED'}"
    print(line, flush=True)
