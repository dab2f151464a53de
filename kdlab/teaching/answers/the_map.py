"""What is right in lesson 09."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kdlab.teaching.quiz import Answers, Question

ANSWERS = Answers(
    {
        "cost": Question(
            "A step sees 64 originals. Which of these students takes about as many steps as 500 images x 120 passes?",
            ["1,000 images x 120 passes", "2,000 images x 30 passes", "4,000 images x 30 passes"],
            "2,000 images x 30 passes",
            "Steps are images times passes over 64: four times the images cost as much at a quarter of the passes. On "
            "a map with logarithmic axes places of equal cost lie on straight lines.",
        ),
        "diagonal": Question(
            "Along such a line, from few images and many passes to many images and few: the accuracy of a student that "
            "learns from labels",
            ["rises all along", "rises, then levels off", "falls"],
            "rises, then levels off",
            "Where images are few, a new one is worth more than an old one again. Once there are enough for so few "
            "steps, others are worth no more than the same ones: what is short there is steps.",
        ),
        "short": Question(
            "Double the passes, or double the images: either doubles the steps. Where is doubling the passes worth "
            "nearly as much?",
            ["where images are few and passes many", "where images are many and passes few", "everywhere alike"],
            "where images are many and passes few",
            "There the student has not yet taken what its images hold: it is short of steps, and to see them again "
            "helps nearly as much as to see others.",
        ),
        "teacher": Question(
            "Under which teacher is KD worth more points over labels, on average over the map?",
            ["the one that saw the student's own images", "the one that saw 12,000 images", "both alike"],
            "the one that saw 12,000 images",
            "It knows what is not in the student's images, and its answers carry some of it. Whether that leaves more "
            "for augmentation to do, or less, is the next question.",
        ),
        "chance": Question(
            "Two maps of 12 cells, each tested at 5 % by itself. If JDA did nothing at all, how many cells would look "
            "decided on average?",
            ["none", "about one", "about five"],
            "about one",
            "24 times 5 % is 1.2. A map that is read cell by cell finds something in pure noise. That is why the cells "
            "are corrected together, and why the claims were written down first.",
        ),
        "slope": Question(
            "Which of these do a few seeds know best?",
            ["JDA's gain in one cell", "the difference of two cells", "the mean of a teacher's cells"],
            "the mean of a teacher's cells",
            "The luck of single runs averages out over a dozen cells, and adds up in a difference of two.",
        ),
    }
)


@ANSWERS.exercise("Whole steps an epoch: images // 64; an epoch is one pass.")
def _steps(steps: int) -> bool:
    return steps == 3000 // 64 * 40


@ANSWERS.exercise("Divide what doubling the passes brings by what doubling the images brings, at the cell asked for.")
def _share(value: float, worth: dict[tuple[int, int], float]) -> bool:
    return math.isclose(value, worth[1000, 60], abs_tol=0.005)


@ANSWERS.exercise(
    "Along each axis count doublings, the absolute log2 of the ratio; the straight distance of the two is the smallest."
)
def _nearest(cell: Sequence[int], cells: Sequence[tuple[int, int]]) -> bool:
    def away(one: tuple[int, int]) -> float:
        return math.hypot(math.log2(one[0] / 1500), math.log2(one[1] / 80))

    return tuple(cell) == min(cells, key=away)


@ANSWERS.exercise("Weights of arms that sum to 0: JDA minus weak2 in the one cell, minus the same in the other.")
def _contrast(weights: dict[str, float]) -> bool:
    few, many = "500 x 240, own teacher", "500 x 60, own teacher"
    return dict(weights) == {f"jda, {few}": 1, f"weak2, {few}": -1, f"jda, {many}": -1, f"weak2, {many}": 1}
