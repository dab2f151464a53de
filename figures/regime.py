"""How the regime of the quick and standard profiles is chosen: by a rule, on val, that does not look at the claims.

    .venv/bin/python figures/regime.py [--data cifar10] [--workers 2]

A candidate is a number of training images, originals a step, a peak rate, a student, a teacher and a number of epochs E
of both; the teacher is trained on the student's images, as in the papers. Seeds from 100 on, none of which any
perspective compares on. The rule takes the cheapest candidate whose teacher is above the linear model on the same
images, and for which

1. CE gains under 1 point of val accuracy from E to 2 E epochs: the student has converged;
2. the teacher leads CE by 2 points or more;
3. KD - CE is above zero by its 95 % interval (paired t over seeds);
4. images are what is short: CE with twice the images at equal steps gains more than CE with equal images at twice the
   steps;
5. the SD of the paired difference KD - CE is so small that twelve seeds give 95 % intervals of +-0.4; on CIFAR-10 that
   24 seeds give +-0.7, and as many as it takes will be the seeds of its ``standard``.

(1), (2), (4) and the linear model are judged with three seeds; survivors, cheapest first, are judged by (3) and (5)
with six; on CIFAR-10 (3) then with as many as (5) asks for, if that is more. If nothing passes, the rule is loosened in
this order: a lead of 1 point; then without (4); then (1) at 2 points. (3), (5) and the linear model are never dropped.
The cost of a candidate is counted, not timed: multiply-adds of a student on two weak views of each original under its
teacher, and a fortieth of its teacher's training.

Nothing is trained for a bar after one that a candidate misses, nor for what is dearer than the one that is taken. The
choice is the same, and what was not needed is empty in the table (fashion's was made in full). The table is written
after every candidate and runs go into the store, so that a search that was interrupted goes on: what stands in the
table is not trained again, unless another environment is to train what a candidate still lacks; then all of it is.

(5) was first meant as: two KD runs that differ in a replicate number alone differ by an SD of at most 0.4. No candidate
comes near (0.6 to 1.7): such runs share no random draw, so that their difference carries the noise of both, and on the
2,000 images of val the sampling noise of a paired difference alone is sqrt(share of discordant images / 2000), 0.6 at
the 7 % that were seen. What is compared in a perspective shares every draw that both have, as KD and CE do here. The SD
of replicates stands in the table beside it. (3) and (5) are judged on the 2,000 images of val and the last 4,000
training images, on which no candidate trains; for CIFAR-10, which has more, on val and 8,000 others, as many as test.

(5) was eight seeds on CIFAR-10, an SD of 0.84, until the first survivor was judged (2,000 images, 240 epochs): its SD
is 1.4, with which six seeds could not have told a gain of a point from none. What a wider network or more images would
make of it is not known; the number of seeds is what can be had, so the SD sets it. What is known of KD - CE by then is
its mean over six seeds, on val and unseen training images, and nothing of any claim.

No augmentation but the weak one, no CCD, no test accuracy enters any of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from kdlab import data, lab, models
from kdlab.lab import baseline
from kdlab.lab.environment import environment
from kdlab.lab.networks import splits_of, stored_network
from kdlab.lab.store import Store
from kdlab.spec import Budget, Optimiser, RunSpec
from kdlab.training import predict

HERE = Path(__file__)
VAL, TEST = 2000, 10000
FEW, MANY = (100, 101, 102), (100, 101, 102, 103, 104, 105)
FIRST = "ce", "ce_2E", "ce_2N", "teacher_val"
SECOND = "kd_minus_ce", "low", "high", "sd", "sd_replicates", "seeds"
WHICH = ("images", "originals", "lr", "epochs", "student", "teacher")
COLUMNS = [*WHICH, "cost", *FIRST, "linear", "gain_2E", "gain_2N", "lead", *SECOND, "environment", "chosen"]
TEACHES = 40  # runs of one seed that share a teacher


@dataclass(frozen=True)
class Search:
    """What is tried on a data set.

    Args:
        settings: images, originals a step, peak rate, epochs: what decides how far a student is trained.
        pairs: widths of student and teacher, each tried with all settings.
        more: settings with their widths.
        unseen: the training images between these places are in no candidate's training set.
        half: the points that a 95 % interval may reach to either side.
        most: seeds in which (5) must be reached.
        as_needed: whether (3) is judged with as many seeds as (5) asks for, or with six.
    """

    settings: tuple[tuple[int, int, float, int], ...]
    pairs: tuple[tuple[int, int], ...]
    more: tuple[tuple[int, int, float, int, int, int], ...]
    unseen: tuple[int, int]
    half: float
    most: int
    as_needed: bool


SEARCHES = {
    "fashion": Search(
        settings=(
            (500, 32, 0.1, 120), (500, 32, 0.1, 240), (500, 64, 0.1, 240),
            (1000, 32, 0.1, 60), (1000, 32, 0.1, 120), (1000, 64, 0.1, 120), (1000, 64, 0.2, 120), (1000, 64, 0.1, 240),
            (2000, 32, 0.1, 60), (2000, 64, 0.1, 60), (2000, 64, 0.1, 120),
            (4000, 64, 0.1, 30), (4000, 64, 0.1, 60),
        ),
        pairs=((4, 16), (4, 32), (8, 32)), more=((1000, 32, 0.1, 120, 16, 64),), unseen=(8000, 12000),
        half=0.4, most=12, as_needed=False,
    ),
    "cifar10": Search(
        settings=(
            (2000, 64, 0.1, 60), (2000, 64, 0.1, 120), (2000, 64, 0.1, 240),
            (3000, 64, 0.1, 60), (3000, 64, 0.1, 120), (5000, 64, 0.1, 30), (5000, 64, 0.1, 60), (5000, 64, 0.1, 120),
        ),
        pairs=((8, 32), (16, 32)), unseen=(10000, 18000), half=0.7, most=24, as_needed=True,
        more=(
            (2000, 32, 0.1, 120, 16, 32), (2000, 64, 0.2, 120, 16, 32),
            (2000, 64, 0.1, 60, 16, 64), (2000, 64, 0.1, 120, 16, 64),
        ),
    ),
}  # fmt: skip
# Bars of the rule, strictest first: (gain from E to 2 E, lead of the teacher, whether images must be what is short).
BARS = (
    ("all", 1.0, 2.0, True),
    ("a lead of 1 point", 1.0, 1.0, True),
    ("a lead of 1 point, without (4)", 1.0, 1.0, False),
    ("a lead of 1 point, without (4), (1) at 2 points", 2.0, 1.0, False),
)


@dataclass(frozen=True)
class Candidate:
    """One regime: student and teacher are widths of resnet8_s2, both are trained for ``epochs`` on ``images``."""

    data: str
    images: int
    originals: int
    lr: float
    epochs: int
    student: int
    teacher: int

    def ce(self, seed: int, *, width: int | None = None, images: int = 1, epochs: float = 1, **changes) -> RunSpec:
        """CE on one weak view of each original; ``images`` and ``epochs`` are multiples of the candidate's."""
        return RunSpec(
            data=self.data,
            sizes=(images * self.images, VAL, TEST),
            model=f"resnet8_s2_w{width or self.student}",
            budget=Budget(epochs * self.epochs, originals_per_step=self.originals),
            optimiser=Optimiser(lr=self.lr),
            seed=seed,
        ).replace(**changes)

    def kd(self, seed: int, replicate: int = 0) -> RunSpec:
        """KD under the teacher; replicates share it."""
        return self.ce(seed, method="kd", teacher=self.teaches(seed), replicate=replicate)

    def teaches(self, seed: int) -> RunSpec:
        """The teacher."""
        return self.ce(seed, width=self.teacher, role="teacher")

    def first(self, seed: int) -> dict[str, RunSpec]:
        """What (1), (2), (4) and the linear model are judged on, by role."""
        return {
            "ce": self.ce(seed),
            "ce_2E": self.ce(seed, epochs=2),
            "ce_2N": self.ce(seed, images=2, epochs=0.5),
            "teacher_val": self.teaches(seed),
        }

    def second(self, seed: int) -> dict[str, RunSpec]:
        """What (3) and (5) are judged on."""
        return {"ce": self.ce(seed), "kd": self.kd(seed), "kd_again": self.kd(seed, 1)}

    def cost(self) -> float:
        """Multiply-adds (in 1e12) of one student on two views, with its share of the teacher."""
        student, teacher = macs(self.student, self.data), macs(self.teacher, self.data)
        rows = self.epochs * (self.images // self.originals) * self.originals
        return rows * (2 * (3 * student + teacher) + 3 * teacher / TEACHES) / 1e12


@functools.cache
def macs(width: int, name: str) -> int:
    """Multiply-adds of one image of a data set through resnet8_s2 of a width: a stem of stride 2, a block a stage."""
    channels, height, side = data.describe(name).shape
    network = models.build(f"resnet8_s2_w{width}", 10, channels, seed=0)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, channels, height, side))
    return counter.get_total_flops() // 2


def candidates(name: str) -> list[Candidate]:
    """All of a data set, cheapest first."""
    tried = SEARCHES[name]
    every = [(*setting, *pair) for setting in tried.settings for pair in tried.pairs] + [*tried.more]
    return sorted((Candidate(name, *fields) for fields in every), key=Candidate.cost)


class Judged:
    """What is known of a candidate; a number is trained for when it is first asked for.

    Args:
        candidate: the regime.
        workers: processes that train; None is one per core.
        known: its row of an earlier table.
    """

    def __init__(self, candidate: Candidate, workers: int | None = None, known: Mapping[str, Any] | None = None):
        self.candidate, self.workers = candidate, workers
        self.row: dict[str, Any] = dataclasses.asdict(candidate) | {"cost": candidate.cost()}
        self.row |= {k: v for k, v in (known or {}).items() if k in (*FIRST, *SECOND, "environment") and v == v}

    def _here(self) -> None:
        """Some numbers are about to be trained: what another environment has trained of a candidate does not count."""
        here = environment()["digest"]
        if self.row.get("environment", here) != here:
            for field in (*FIRST, *SECOND):
                self.row.pop(field, None)
        self.row["environment"] = here

    def val(self, role: str) -> float:
        """Mean val accuracy in percent of a role of ``Candidate.first`` over three seeds."""
        if role not in self.row:
            self._here()
            table = lab.run([self.candidate.first(seed)[role] for seed in FEW], workers=self.workers)
            self.row[role] = table["val_accuracy"].mean()
        return self.row[role]

    def passes(self, gain: float, lead: float, short: bool) -> bool:
        """Whether (1), (2), (4) and the linear model hold, asked in this order."""
        c, row = self.candidate, self.row
        row["gain_2E"] = self.val("ce_2E") - self.val("ce")
        if row["gain_2E"] >= gain:
            return False
        row["linear"] = baseline.linear(c.data, (c.images, VAL, TEST))["val_accuracy"]
        row["lead"] = self.val("teacher_val") - self.val("ce")
        if row["lead"] < lead or self.val("teacher_val") <= row["linear"]:
            return False
        if short:
            row["gain_2N"] = self.val("ce_2N") - self.val("ce")
        return not short or row["gain_2N"] > row["gain_2E"]

    def holds(self) -> bool:
        """Whether (3) and (5) hold."""
        tried = SEARCHES[self.candidate.data]
        if "low" not in self.row:
            self._second(MANY)
        needed = seeds_for(self.row["sd"], tried.half)
        if needed > tried.most:
            return False
        if tried.as_needed and self.row.get("seeds", len(MANY)) < needed:
            self._second(range(MANY[0], MANY[0] + needed))
        return self.row["low"] > 0

    def _second(self, seeds: Sequence[int]) -> None:
        """Train and judge what (3) and (5) need."""
        self._here()
        lab.run([spec for seed in seeds for spec in self.candidate.second(seed).values()], workers=self.workers)
        self.row |= judge_second(self.candidate, seeds)


def seeds_for(sd: float, half: float) -> int:
    """The least number of seeds, two at least, whose 95 % interval reaches no further than ``half`` to either side."""
    return next(n for n in itertools.count(2) if stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n) <= half)


def unseen(c: Candidate) -> list:
    """Val and training images that no candidate has, normalised as the candidate's own."""
    whole, own = data.load(c.data), data.load(c.data, sizes=(c.images, VAL, TEST))
    rest = whole.train.take(torch.arange(*SEARCHES[c.data].unseen))
    return [dataclasses.replace(images, mean=own.train.mean, std=own.train.std) for images in (own.val, rest)]


def accuracy(spec: RunSpec, images: Sequence) -> float:
    """Accuracy in percent of a finished run's network on several sets together."""
    network = stored_network(lab.run_key(spec), spec, splits_of(spec), Store())
    right = [predict(network, part).argmax(1) == part.labels.numpy() for part in images]
    return 100 * np.concatenate(right).mean()


def judge_second(c: Candidate, seeds: Sequence[int] = MANY) -> dict[str, float]:
    """Numbers of (3) and (5): KD - CE, its 95 % interval and SD, and the SD of a difference of replicates."""
    images = unseen(c)
    runs = pd.DataFrame([{k: accuracy(spec, images) for k, spec in c.second(seed).items()} for seed in seeds])
    gain = runs["kd"] - runs["ce"]
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / math.sqrt(len(gain))
    return {
        "kd_minus_ce": gain.mean(),
        "low": gain.mean() - half,
        "high": gain.mean() + half,
        "sd": gain.std(ddof=1),
        "sd_replicates": (runs["kd_again"] - runs["kd"]).std(ddof=1),
        "seeds": len(seeds),
    }


def search(name: str, workers: int | None = None) -> pd.DataFrame:
    """Train, judge, choose: one row a candidate, cheapest first; the chosen one says by which bars."""
    place = target(name)
    known = pd.read_csv(place).set_index([*WHICH]).to_dict("index") if place.exists() else {}
    every = [Judged(c, workers, known.get(tuple(getattr(c, field) for field in WHICH))) for c in candidates(name)]
    for words, *bars in BARS:
        for one in every:
            if chosen := one.passes(*bars) and one.holds():
                one.row["chosen"] = f"cheapest that passes: {words}"
            _table(every).round(3).to_csv(place, index=False)
            print(_table(every).round(2).to_string(), flush=True)
            if chosen:
                return _table(every)
    return _table(every)


def target(name: str) -> Path:
    """Where a data set's table stands."""
    return HERE.with_suffix(".csv") if name == "fashion" else HERE.with_name(f"regime-{name}.csv")


def _table(judged: Sequence[Judged]) -> pd.DataFrame:
    """A row a candidate; what was not needed is empty."""
    return pd.DataFrame([one.row for one in judged]).reindex(columns=COLUMNS)


def main() -> None:
    """Search, print and write, after every candidate, regime.csv, or regime-cifar10.csv, beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="fashion", choices=[*SEARCHES])
    parser.add_argument("--workers", type=int, default=None, help="processes; one per core")
    given = parser.parse_args()
    search(given.data, given.workers)


if __name__ == "__main__":
    main()
