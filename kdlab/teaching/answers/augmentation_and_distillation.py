"""What is right in lesson 04."""

from __future__ import annotations

from typing import Any

from kdlab import metrics
from kdlab.registry import create
from kdlab.rng import generator
from kdlab.teaching.quiz import Answers, Question

ANSWERS = Answers(
    {
        "order": Question(
            "Under which of these does the teacher's answer move most, on average?",
            ["weak: a small shift and a mirror", "rotation: a quarter turn or two", "all move it alike"],
            "rotation: a quarter turn or two",
            "The next cell has the numbers. A guess at why: the teacher was trained on weak views and has never seen a "
            "shoe that stands on its toe. The control would be a teacher that was trained on turned views.",
        ),
        "label": Question(
            "After 120 epochs of JDA views of 100 images, tested on untouched images: which student is best?",
            [
                "consistent: the label fits the picture",
                "cached: the teacher at its surest",
                "hard: its label is never wrong",
                "all alike",
            ],
            "consistent: the label fits the picture",
            "Even a wrong answer to the view is a function of the pixels that the student sees, so it can be learned: "
            "that is the story. Its mean is the highest of the three. How much of that is decided, the next cells say.",
        ),
        "exhaust": Question(
            "With two weak views and 120 epochs, most of the 162 versions of an image have come up. Does it follow "
            "that a policy with more versions, such as JDA, now pays?",
            ["yes, since the weak views have run out", "no: it is a story that needs a test"],
            "no: it is a story that needs a test",
            "That versions come up again says nothing of what another version would bring. The next cells test it.",
        ),
        "tenth": Question(
            "100 training images instead of 1,000, equally many steps, two weak views. How much accuracy is lost?",
            ["nothing that five seeds can see", "about 2 points", "about 9 points"],
            "about 9 points",
            "Each image comes up ten times as often, and that does not replace the other 900, teacher or no teacher.",
        ),
        "back": Question(
            "On those 100 images, at equal steps, one of the two views is made by JDA instead. What comes back of the "
            "loss?",
            ["nothing", "more than half", "all of it"],
            "more than half",
            "The next cell has the numbers. Why is not settled by them.",
        ),
    }
)


@ANSWERS.exercise("First count the versions: five shifts down, five across, mirrored or not.")
def _versions(a) -> bool:
    return abs(a - 50 * (1 - (1 - 1 / 50) ** 60)) < 0.5


@ANSWERS.exercise("Steps first, then originals, then views.")
def _bill(a) -> bool:
    rows = 120 * (1000 // 64) * 64 * 2
    return tuple(a) == (rows, rows, 1000)


@ANSWERS.exercise("Compare `argmax(1)` of the two answers.")
def _strong(a, trained: Any) -> bool:
    images = trained.splits.val.images
    strong = create("augment", "jda", probability=0.6)
    strange = strong.apply(images, strong.draw(len(images), tuple(images.shape[1:]), generator(0, "strong")))
    share = 1 - metrics.agreement(trained.logits("teacher", strange), trained.logits("teacher", images))
    return abs(a - share) < 0.005


@ANSWERS.exercise("Add the new runs to the table, under `arm` independent, with `pd.concat`.")
def _independent(a, seeds: Any) -> bool:
    return a.contrast.weights == {"independent": 1.0, "cached": -1.0} and a.n == len(seeds)
