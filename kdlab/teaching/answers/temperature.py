"""What is right in lesson 02."""

from __future__ import annotations

import math

import pandas as pd
import torch

from kdlab.teaching.quiz import Answers, Question

ANSWERS = Answers(
    {
        "limit": Question(
            "And if T grows without bound?",
            ["the first class gets everything", "all classes get the same", "the order of the classes turns round"],
            "all classes get the same",
            "All z / T go to zero, and the softmax of equal numbers is uniform. For T towards 0 the first class gets "
            "everything. The order of the classes never changes, whatever T is.",
        ),
        "double": Question(
            "At T = 16 the pull has a certain length. You set T = 32 and change nothing else. What is left of it?",
            ["all of it", "about a half", "about a quarter", "about a sixteenth"],
            "about a quarter",
            "Twice T, two factors of 1/T: a half of a half. Multiply the loss by T squared, and the two cancel.",
        ),
    }
)


@ANSWERS.exercise("With two classes p = 1 / (1 + exp(-4 / T)). Solve for T.")
def _dial(a) -> bool:
    return abs(1 / (1 + math.exp(-4 / a)) - 0.75) < 1e-3


@ANSWERS.exercise("The weight has to do what T squared would do.")
def _repaired(a) -> bool:
    return a == 8**2


@ANSWERS.exercise("More heat, more bits.")
def _two_bits(a, t: torch.Tensor) -> bool:
    p = (t / a).softmax(1)
    return abs(float(-(p * p.log2()).sum(1).mean()) - 2) < 0.05


@ANSWERS.exercise("Six rows are wanted: three temperatures, each with two seeds.")
def _temperatures(a: pd.DataFrame) -> bool:
    return list(a.groupby("seed").size()) == [3, 3]
