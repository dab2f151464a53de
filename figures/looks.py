"""What looking costs: a look after every seed from 3 to 200, by the t-test and by the sequential t-test, in simulation.

    .venv/bin/python figures/looks.py

Writes ``figures/looks.csv``. A study is 200 paired differences with a given mean and SD 1, and it ends when p is below
5 % for the first time. Where the mean is 0 the share of studies that ended is the error, else the power. Columns:

- ``differences``: ``normal``, as both tests assume; ``heavy``, Student's t with 5 degrees of freedom; ``skewed``,
  exponential;
- ``effect``: their mean, in SD;
- ``test``: ``sequential t``; ``t, repeated``, the t-test misused; ``t, fixed``, one look at that number alone;
- ``by_10`` ... ``by_200``: percent of studies that had ended by (``t, fixed``: that end at) so many seeds;
- ``median_seeds``: by which half of the studies had ended; empty where fewer do, and for a fixed number.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from kdlab.stats import log_e_values

SEED, STUDIES, FIRST, LAST = 15, 20_000, 3, 200
BY = (10, 20, 34, 50, 100, 200)  # 34 and 10 seeds give the t-test 80 % power for 0.5 and 1 SD
PART = 2000  # studies at a time
DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "heavy": lambda random, shape: random.standard_t(5, size=shape) * np.sqrt(3 / 5),
    "skewed": lambda random, shape: random.exponential(size=shape) - 1,
}
CASES = (("normal", 0.0), ("normal", 0.5), ("normal", 1.0), ("heavy", 0.0), ("skewed", 0.0))
ALPHA = 0.05


def t_rejects(differences: np.ndarray) -> np.ndarray:
    """Whether the two-sided t-test of zero is significant after each seed, (studies, seeds)."""
    n = np.arange(1, differences.shape[1] + 1)
    mean = differences.cumsum(1) / n
    squares = (differences**2).cumsum(1) - n * mean**2
    critical = np.append(np.inf, special.stdtrit(n[1:] - 1, 1 - ALPHA / 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(mean) * np.sqrt(n * (n - 1) / squares) > critical


def simulated(draw: str, effect: float, studies: int = STUDIES, seed: int = SEED, last: int = LAST) -> pd.DataFrame:
    """The rows of one case.

    Args:
        draw: one of ``DRAWS``.
        effect: mean of the differences, in SD.
        studies: how many to simulate.
        seed: of the generator.
        last: seeds of a study.
    """
    random, seeds = np.random.default_rng(seed), np.arange(1, last + 1)
    ended = {"sequential t": [], "t, repeated": [], "t, fixed": []}
    for start in range(0, studies, PART):
        differences = DRAWS[draw](random, (min(PART, studies - start), last)) + effect
        once = t_rejects(differences)
        looks = {"sequential t": log_e_values(differences) >= np.log(1 / ALPHA), "t, repeated": once}
        for test, rejects in looks.items():
            ended[test].append(np.logical_or.accumulate(rejects & (seeds >= FIRST), axis=1))
        ended["t, fixed"].append(once)
    rows = []
    for test, parts in ended.items():
        share = np.concatenate(parts).mean(0)
        row = {"differences": draw, "effect": effect, "test": test}
        row |= {f"by_{n}": round(100 * share[n - 1], 1) for n in BY if n <= last}
        half = share >= 0.5
        rows.append(row | {"median_seeds": int(seeds[half][0]) if half.any() and test != "t, fixed" else None})
    return pd.DataFrame(rows).astype({"median_seeds": "Int64"})


if __name__ == "__main__":
    table = pd.concat([simulated(*case) for case in CASES], ignore_index=True)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(table.to_string(index=False))
