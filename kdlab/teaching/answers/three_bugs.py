"""What is right in lesson 08."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kdlab.teaching.quiz import Answers, Question

ANSWERS = Answers(
    {
        "vote": Question(
            "Vote: in which loop is the teacher in train mode?",
            ["patient A", "patient B", "patient C"],
            "patient A",
            "Look for the line that sets modes. In A it sets both networks alike. Why that matters is the next "
            "section.",
        ),
        "mode": Question(
            "The teacher is asked under no_grad, and no optimiser knows its weights. Can its answers have changed?",
            ["no", "yes, a little", "yes, on many images"],
            "yes, on many images",
            "Batch normalisation in train mode renews its running mean and variance in every forward pass. That takes "
            "no gradient. In a few steps they describe the JDA views, and no longer the images that the teacher was "
            "trained on.",
        ),
        "cache": Question(
            "In epoch 1 the stored answers are the teacher's answers to what the student sees. And in epoch 2?",
            ["still all of them", "most of them still fit", "they belong to other views"],
            "they belong to other views",
            "The originals are the same and come in the same order, but their views are new. The student looks at "
            "half a shoe, and is told what the teacher said of a whole one.",
        ),
        "fade": Question(
            "From T = 8 to T = 32, how does patient C's step change?",
            ["it stays", "a quarter is left", "a sixteenth is left"],
            "a sixteenth is left",
            "Four times the temperature. One factor of 1/4 from z / T, and another because the soft labels themselves "
            "move together: 1/16.",
        ),
    }
)


@ANSWERS.exercise("Which line sets the modes, which asks the teacher, which makes the soft term?")
def _diagnoses(a, loops: Mapping[str, Callable], tests: Mapping[str, Callable]) -> bool:
    return a == {who: next(bug for bug, test in tests.items() if test(loop)) for who, loop in loops.items()}


@ANSWERS.exercise("Answers are images x views x epochs; each has 100 numbers of 4 bytes.")
def _gigabytes(a) -> bool:
    return abs(a - 50_000 * 2 * 240 * 100 * 4 / 1e9) < 1


@ANSWERS.exercise(
    "In train mode `num_batches_tracked` grows in every step; a forward hook can read `student.training`."
)
def _fourth(test: Callable, patient_s: Callable, healthy: Callable) -> bool:
    return test(patient_s) and not test(healthy)


@ANSWERS.exercise("0.9 to the n must fall below 0.01.")
def _forgets(n) -> bool:
    return 0.9**n < 0.01 <= 0.9 ** (n - 1)
