"""The questions of a lesson: predict before you look, check an answer, see the score.

What is right stands in ``kdlab.teaching.answers``, a module a lesson, and nowhere in a lesson's own cells, which ask a
question by its name and check an exercise by its number.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from kdlab.errors import choose
from kdlab.perspectives.notebook_parameters import check_kernel
from kdlab.widgets.explorer import is_interactive
from kdlab.widgets.page import head


@dataclass(frozen=True)
class Question:
    """Something to predict.

    Args:
        text: in plain words.
        choices: possible answers.
        right: the right one of them.
        why: the reason, in plain words.

    Raises:
        SpecError: when the right answer is not among the choices.
    """

    text: str
    choices: Sequence[str]
    right: str
    why: str

    def __post_init__(self):
        choose("right", self.right, self.choices)


@dataclass
class Answers:
    """What is right in a lesson.

    Args:
        questions: by name.
        exercises: for each, in order, what tells whether an answer is right, and a hint.
    """

    questions: Mapping[str, Question]
    exercises: list[tuple[Callable[..., Any], str]] = field(default_factory=list)

    def exercise(self, hint: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator of the next exercise's check: called with the answer and what the lesson hands over by name.

        Args:
            hint: what to say of a wrong answer.
        """

        def add(check: Callable[..., Any]) -> Callable[..., Any]:
            self.exercises.append((check, hint))
            return check

        return add


class Quiz:
    """The questions and exercises of one lesson, and how many of them were answered rightly so far.

    Args:
        lesson: the notebook's name without its number, such as ``"soft_targets"``.
        interactive: False shows questions as text; None leaves it to ``$KDLAB_INTERACTIVE``.
    """

    def __init__(self, lesson: str, interactive: bool | None = None):
        check_kernel()
        self.lesson, self.interactive = lesson, interactive
        self.answers: Answers = importlib.import_module(f"kdlab.teaching.answers.{lesson}").ANSWERS
        self.predicted: dict[str, bool] = {}
        self.solved: set[int] = set()

    def predict(self, name: str) -> Any:
        """A question to answer before the next cell is run, and the answer behind a button.

        Args:
            name: of the question.

        Returns:
            A widget, or Markdown that hides the answer.
        """
        question = self.answers.questions[choose("question", name, self.answers.questions)]
        return self._asked(name, question) if is_interactive(self.interactive) else _told(question)

    def check(self, number: int, answer: Any, **known: Any) -> bool:
        """Say whether an exercise's answer is right.

        Args:
            number: of the exercise, from 1.
            answer: what the reader has put in; None means not answered yet.
            **known: what the check needs of the lesson.

        Returns:
            True for a right answer.
        """
        right, hint = self.answers.exercises[number - 1]
        if answer is None:
            print(f"Exercise {number}: not answered yet")
            return False
        try:
            good = bool(right(answer, **known))
        except Exception as error:  # whatever was put in: a wrong answer must not end in a traceback
            good, hint = False, f"{hint} ({type(error).__name__}: {error})"
        print(f"Exercise {number}: {'right' if good else 'not yet. ' + hint}")
        (self.solved.add if good else self.solved.discard)(number)
        return good

    def score(self) -> None:
        """Print how far the reader has come."""
        asked, exercises = self.answers.questions, self.answers.exercises
        made = f"{len(self.predicted)} of {len(asked)} made, {sum(self.predicted.values())} of them right"
        print(f"Predictions: {made}. Exercises: {len(self.solved)} of {len(exercises)} solved.")

    def reveal(self) -> Any:
        """All predictions of the lesson with their answers, for whoever teaches it, as Markdown."""
        from IPython.display import Markdown

        asked = self.answers.questions.values()
        return Markdown("\n\n".join(f"{q.text}\n\n**{q.right}.** {q.why}" for q in asked))

    def _asked(self, name: str, question: Question) -> Any:
        import ipywidgets as w

        from kdlab.widgets.board import Board

        text, choices = escape(question.text), list(question.choices)
        message = w.HTML()
        pick = w.ToggleButtons(options=choices, value=None, style={"button_width": "auto"}, tooltips=choices)
        reveal = w.Button(description="Reveal", disabled=True, tooltip="Choose an answer first")

        def answered(_):
            reveal.disabled = False

        def show(_):
            good = pick.value == question.right
            self.predicted.setdefault(name, good)  # the first answer counts
            verdict = "Right" if good else f"You said {pick.value}. It is {question.right}"
            so_far = f"{sum(self.predicted.values())} of {len(self.predicted)} right so far"
            said = f"<b>{escape(verdict)}.</b> {escape(question.why)} <small>({so_far})</small>"
            message.value = f'<p class="kd-message" role="status">{said}</p>'

        pick.observe(answered, "value")
        reveal.on_click(show)
        top = w.HTML(head(f"<p><b>Predict.</b> {text}</p>"))
        box = Board([top, pick, reveal, message], "Predict", lambda: f"<p>{text}</p>")
        box.add_class("kdlab")
        box.add_class("kd-predict")
        return box


def _told(question: Question) -> Any:
    """The question without a kernel: the answer is there, folded away."""
    from IPython.display import Markdown

    listed = " · ".join(f"*{choice}*" for choice in question.choices)
    answer = f"<p><strong>{escape(question.right)}.</strong> {escape(question.why)}</p>"
    # On one line: what cleans a page's Markdown would close a block at its end, and leave the answer outside.
    folded = f"<details><summary>Reveal</summary>{answer}</details>"
    return Markdown(f"**Predict.** {question.text} ({listed})\n\n{folded}")
