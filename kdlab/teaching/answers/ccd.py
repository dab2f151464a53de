"""What is right in lesson 06."""

from __future__ import annotations

from typing import Any

import torch

from kdlab.losses.base import Batch
from kdlab.losses.ccd import CCD
from kdlab.models import Outputs
from kdlab.teaching.quiz import Answers, Question

ANSWERS = Answers(
    {
        "zero": Question(
            "A teacher's logits on the two views are unrelated, at right angles. Which weight does the augmented view "
            "get?",
            ["0: it is ignored", "1: as in KD", "2: it counts double"],
            "1: as in KD",
            "cos = 0 gives w = 1. CCD falls below KD only where the logits point away from each other, and comes near "
            "0 only where they are opposite.",
        ),
        "order": Question(
            "We shuffle all rows of the batch, each with its own origin and view. What happens to the library's loss?",
            ["nothing", "it changes a little", "it is refused"],
            "nothing",
            "Pairs are found by origin, not by position, so the order of rows cannot matter.",
        ),
        "mean": Question(
            "KD gives every row the weight 1. Where does the mean of CCD's weights lie, under a trained teacher?",
            ["below 1: it holds doubtful rows back", "near 1: it moves trust around", "above 1: it mostly amplifies"],
            "above 1: it mostly amplifies",
            "Only a negative cosine gives less than 1. The next cells count them, and how often the teacher keeps its "
            "first choice: a cosine is positive on many pairs where it does not.",
        ),
        "offset": Question(
            "Add 5 to all logits of the teacher. What changes?",
            ["soft labels and weights", "soft labels only", "weights only", "nothing"],
            "weights only",
            "The softmax drops the constant, the cosine does not: all logit vectors now lean towards (1, 1, ..., 1), "
            "hence towards each other.",
        ),
        "control": Question(
            "CCD beats KD, and the constant control beats KD by just as much. What has been shown?",
            ["the cosine finds the trustworthy pairs", "a stronger KD term helps here", "nothing"],
            "a stronger KD term helps here",
            "The constant control has no idea which pair is which. What it wins, it wins by the larger mean alone.",
        ),
        "evidence": Question(
            "1,000 images, 120 epochs, five seeds. CCD minus KD, both with JDA: is it above zero?",
            ["supported", "undecided", "contradicted"],
            "undecided",
            "Seeds differ by some tenths of a point here, and so do methods. Compute what you could have seen before "
            "you ask what you have seen.",
        ),
    }
)


def _says(logits: torch.Tensor) -> Outputs:
    return Outputs(logits, (), logits)


@ANSWERS.exercise("An angle of 45 degrees.")
def _by_hand(a) -> bool:
    pair = torch.tensor([[2.0, 0.0, 0.0], [2.0, 2.0, 0.0]])
    two = Batch.of(torch.tensor([0, 0]), origin=torch.tensor([0, 0]), view=torch.tensor([0, 1]))
    return abs(a - float(CCD().weights(_says(pair), two)[1])) < 0.005


@ANSWERS.exercise("The product 2 (4 + c)(1 + c) + (1 + c)^2 must vanish.")
def _offset(c) -> bool:
    one, other = torch.tensor([4.0, 1.0, 1.0]) + c, torch.tensor([1.0, 4.0, 1.0]) + c
    return abs((one * other).sum() / (one.norm() * other.norm())) < 1e-5


@ANSWERS.exercise("For each row, find the row with its origin and view 0.")
def _weights(function: Any) -> bool:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    rows = {"origin": torch.arange(10).repeat(3)[order], "view": torch.arange(3).repeat_interleave(10)[order]}
    logits = torch.randn(30, 7, generator=torch.Generator().manual_seed(0))
    return torch.allclose(function(logits, **rows), CCD().weights(_says(logits), Batch.of(rows["origin"], **rows)))


@ANSWERS.exercise("Take the first choices that are right, and those that are not, and use `ranks`.")
def _sure(a, t_rich: torch.Tensor, label: torch.Tensor) -> bool:
    sure, right = t_rich.softmax(1).amax(1), t_rich.argmax(1) == label
    difference = sure[right][:, None] - sure[~right][None, :]
    return abs(a - float(((difference > 0).float() + 0.5 * (difference == 0).float()).mean())) < 0.005
