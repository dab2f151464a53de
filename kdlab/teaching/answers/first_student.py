"""What is right in lesson 03."""

from __future__ import annotations

from typing import Any

from kdlab.teaching.quiz import Answers, Question

ANSWERS = Answers(
    {
        "loop": Question(
            "100 steps of 64 images are six looks at each of 1,000 training images. Guessing is right on 10 %. Where "
            "will the student be?",
            [
                "at about 10 %: it takes many epochs",
                "clearly above 10 %, and clearly below the shared student",
                "as good as the shared student",
            ],
            "clearly above 10 %, and clearly below the shared student",
            "Six looks are enough to leave chance behind. The shared student has had 120 of each image.",
        ),
        "help": Question(
            "The teacher is better than a student that learns alone. Does it follow that a student who is taught "
            "beats one who is not?",
            ["yes", "no"],
            "no",
            "It is a question for an experiment. The teacher also has its mistakes to pass on, and a student may lack "
            "the room, or the time, for what it is told.",
        ),
        "few": Question(
            "A tenth of the images, as many epochs, one view. What happens to the gain of KD over CE?",
            ["it shrinks: there is less to teach on", "it stays about the same", "it grows to several points"],
            "it grows to several points",
            "With 100 labels a student alone knows little. The teacher's answers are a second source, and one that "
            "does not shrink with the number of labels. How much of the gain is due to that is a guess, as the text "
            "says.",
        ),
        "mechanism": Question(
            "Which students are closer to the teacher's answers at T = 4, on new images?",
            ["those trained with labels alone", "those that were taught", "both alike"],
            "those that were taught",
            "That is what the soft term asks for in every step, and the request carries over to images that were "
            "never part of the training.",
        ),
    }
)


@ANSWERS.exercise("Whole batches per epoch first.")
def _steps(a) -> bool:
    return tuple(a) == (120 * (1000 // 64), 120 * (1000 // 64) * 64)


@ANSWERS.exercise("`student.eval()` first; the soft term has its T squared already.")
def _weighted(a, terms: Any, draw: Any, student: Any) -> bool:
    training = student.training
    student.eval()
    hard, soft = terms(*draw(7))
    student.train(training)
    return abs(float(a) - float(0.1 * hard + 0.9 * soft)) < 0.001


@ANSWERS.exercise("Same seed, same weights, same views.")
def _zero(a) -> bool:
    return abs(a) < 1e-9


@ANSWERS.exercise("Stack both tables with `pd.concat`, give each an `arm`, and compare the arms `dist` and `ce`.")
def _dist(a, seeds: Any) -> bool:
    return a.contrast.weights == {"dist": 1.0, "ce": -1.0} and a.n == len(seeds)
