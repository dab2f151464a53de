"""What is right in lesson 01."""

from __future__ import annotations

from typing import Any

import torch

from kdlab.teaching.quiz import Answers, Question

ANSWERS = Answers(
    {
        "soft": Question(
            "Nobody ever showed the teacher a soft label. What do its answers to new images look like?",
            [
                "one-hot, like its labels",
                "soft, and differently so from image to image",
                "the same soft answer everywhere",
            ],
            "soft, and differently so from image to image",
            "It can only learn by heart what it has been shown. To a new image it has to say something that its "
            "weights make of the pixels, and logits are never infinitely far apart. The next cell compares old and "
            "new images.",
        ),
        "second": Question(
            "Take all images of ankle boots and average the teacher's answers. Which class comes second?",
            ["trousers", "sneakers", "coats", "all other classes alike"],
            "sneakers",
            "No label says so. The likeness is in the pixels, and the teacher took it from there.",
        ),
        "dice": Question(
            "The average of how many throws has ten times less error than a single throw?",
            ["10", "100", "1000"],
            "100",
            "The error of an average falls with the square root of the number of throws. Ten times less error takes a "
            "hundred throws, and a data set has thrown once per image.",
        ),
        "die": Question(
            "How much do real labels surprise the student, compared with what the story allows?",
            ["more", "as much: the teacher is the die", "less"],
            "more",
            "The story gives the teacher credit for knowing how the labels fall. A teacher that claims more than it "
            "keeps does not know it.",
        ),
    }
)


@ANSWERS.exercise("Each term is p times its number of halvings.")
def _bits(a) -> bool:
    return abs(a - 1.75) < 1e-6


@ANSWERS.exercise("Class 6 gets a share as well.")
def _smoothed(a) -> bool:
    wanted = torch.full((10,), 0.01).index_add(0, torch.tensor([6]), torch.tensor([0.9]))
    return torch.allclose(a, wanted)


@ANSWERS.exercise("Every row must sum to 1 and have two different values, no more.")
def _flat(a, answers: torch.Tensor) -> bool:
    top = answers.max(1)
    rest = (1 - top.values)[:, None] / (answers.shape[1] - 1)
    wanted = rest.expand_as(answers).scatter(1, top.indices[:, None], top.values[:, None])
    return torch.allclose(a, wanted, atol=1e-5)


@ANSWERS.exercise("Only the rows on which the first choice is wrong; use `topk`.")
def _third(a, answers: torch.Tensor, val: Any) -> bool:
    wrong = answers.argmax(1) != val.labels
    three = (answers.topk(3).indices == val.labels[:, None]).any(1)[wrong].float().mean()
    return abs(a - float(three)) < 0.005
