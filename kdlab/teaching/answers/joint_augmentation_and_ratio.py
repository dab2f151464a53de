"""What is right in lesson 05."""

from __future__ import annotations

import math

import torch

from kdlab.augment.joint import POLICIES
from kdlab.augment.operations import SCALES
from kdlab.registry import create
from kdlab.rng import generator
from kdlab.teaching.quiz import Answers, Question
from kdlab.training import layout

ANSWERS = Answers(
    {
        "fire": Question(
            "Which is likelier for one image: that no operation at all fires, or that eight or more fire?",
            ["none", "eight or more", "about equal"],
            "eight or more",
            "None has probability 0.7 to the 14th, under one in a hundred; eight or more has about three in a hundred.",
        ),
        "escape": Question(
            "We apply the chain to real images and count those with no changed pixel. Where will the count lie?",
            ["below 1.98 %", "at 1.98 %", "above 1.98 %"],
            "above 1.98 %",
            "Some operation must be idle on some images only. Which one? The next cell asks every operation in turn.",
        ),
        "eyes": Question(
            "Turn p from 0 to 1. What happens to the share of images on which the teacher keeps its first choice?",
            ["it stays high until p is near 1", "it falls early and steadily", "it falls and rises again"],
            "it falls early and steadily",
            "Each further operation takes some images away. At p = 1 every image is inverted, shifted, sheared and "
            "turned at once, which no garment in the training set ever was.",
        ),
        "slots": Question(
            "Two slots per original, ratio 0.75. Which rows are augmented?",
            [
                "three quarters of each slot",
                "all second slots, half of the first",
                "all first slots, half of the second",
            ],
            "all second slots, half of the first",
            "The second slot fills first, up to ratio 1/2. What lies above it spills over into the first slot.",
        ),
        "sweep": Question(
            "Look down one column, then along one row. Which differences are larger?",
            ["between seeds, down a column", "between shares, along a row", "about alike"],
            "about alike",
            "Luck moves a run about as much as the dial does. Whoever shows one seed can show any curve.",
        ),
        "curse": Question(
            "The best share on two seeds loses something when three fresh seeds judge it. Its lead over share 0 will",
            ["stay as it was", "shrink", "grow"],
            "shrink",
            "It was chosen for being high, and part of being high was luck. Fresh seeds do not share that luck. This "
            "is the winner's curse.",
        ),
    }
)


@ANSWERS.exercise("How many of the 25 do something?")
def _imagenet(a) -> bool:
    thrown = create("augment", "jda", policy="imagenet").draw(200_000, (3, 32, 32), generator(0, "exercise"))["fired"]
    works = [not SCALES[name].does_nothing(level) for name, level in POLICIES["imagenet"][1]]
    return abs(a - float((~thrown[:, works].any(1)).float().mean())) < 5e-4


@ANSWERS.exercise("(1 - p) to the 12th is the share that escapes.")
def _half_weak(a) -> bool:
    return abs((1 - a) ** 12 - 0.5) < 0.005


@ANSWERS.exercise("0.6 of four slots are 2.4 slots. Which fills last?")
def _slots(a) -> bool:
    return all(math.isclose(x, y) for x, y in zip(a, layout.slot_shares(4, 0.6), strict=True))


@ANSWERS.exercise("Solarize inverts the bright pixels. Which are bright before, and which after the inversion?")
def _order(a, images: torch.Tensor) -> bool:
    def sun(x):
        return torch.where(x >= 143, 255 - x, x)

    return abs(a - float((sun(255 - images) != 255 - sun(images)).flatten(1).any(1).float().mean())) < 1e-3
