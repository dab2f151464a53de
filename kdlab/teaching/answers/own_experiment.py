"""What is right in lesson 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdlab import stats
from kdlab.teaching.quiz import Answers, Question

ANSWERS = Answers(
    {
        "question": Question(
            "Three questions. Which of them can an experiment answer with no?",
            [
                "Is augmentation good for distillation?",
                "Which of these thirty settings is the best?",
                "Does JDA beat two weak views on these images by half a point or more?",
            ],
            "Does JDA beat two weak views on these images by half a point or more?",
            "It names what is compared, with what, on what, and from which size on the difference counts. The first "
            "names nothing; the second always has an answer, a winner, whether or not the settings differ.",
        ),
        "images": Question(
            "All seeds of a study answer the same few val images. What do more seeds do about that?",
            ["nothing: it stays the luck of these images", "they average it away", "they make it worse"],
            "nothing: it stays the luck of these images",
            "Seeds are draws of initial weights, orders and crops. Which images are in val is one draw, made once, and "
            "every seed shares it.",
        ),
        "control": Question(
            "What must the student with JDA be compared with, if the question is whether augmentation pays?",
            ["a student from labels alone", "a distilled student with two weak views", "a distilled student with one"],
            "a distilled student with two weak views",
            "Two views a step are twice the student images and twice the answers of the teacher. Against one view, "
            "JDA would be paid for both: for the augmentation and for the cost.",
        ),
        "fit": Question(
            "The runs are there. What do you look at first?",
            ["the verdict", "the best seed", "whether the runs are fit to give a verdict"],
            "whether the runs are fit to give a verdict",
            "A student that has not converged, a teacher below a linear model or a val set of thirty images make any "
            "verdict worthless, a pleasant one too. It is easier to see before one knows what it would cost.",
        ),
        "undecided": Question(
            "A verdict reads: undecided; 4 seeds can show 1.2 points. What may you write?",
            [
                "the two are equally good",
                "an effect of 1.2 points or more would probably have been seen",
                "the augmentation does not work",
            ],
            "an effect of 1.2 points or more would probably have been seen",
            "That is what a power of 80 % means. Equality would need the test of equivalence, and a margin from the "
            "plan; 'does not work' would need an effect that is shown to be below zero.",
        ),
    }
)


@ANSWERS.exercise("100 points over the number of images must be a tenth of a point or less.")
def _resolution(images: int) -> bool:
    return images == 1000


@ANSWERS.exercise("Five questions were asked, and the smallest p pays for all of them.")
def _holm(p: float) -> bool:
    return abs(p - stats.holm([0.012, 0.4, 0.08, 0.3, 0.65])[0]) < 1e-9


@ANSWERS.exercise("The gain with a teacher minus the gain without: four arms, and weights that sum to 0.")
def _gains(weights: Mapping[str, float]) -> bool:
    return dict(weights) == {"jda": 1, "weak2": -1, "ce jda": -1, "ce weak2": 1}


@ANSWERS.exercise("`stats.seeds_needed` takes the margin and the spread; the answer is for a power of 80 %.")
def _seeds(answer: Sequence[int], margin: float, sd: float) -> bool:
    return list(answer) == [stats.seeds_needed(margin, sd), stats.seeds_needed(margin / 2, sd)]
