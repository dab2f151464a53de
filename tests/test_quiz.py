"""The questions of lessons: what they say, what they hide and how they count."""

import importlib
import pkgutil

import pytest

import kdlab.teaching.answers
from kdlab.errors import SpecError
from kdlab.teaching import Quiz
from kdlab.teaching.quiz import Answers, Question

DOWN = Question("Up or down?", ["up", "down"], "down", "It falls.")


@pytest.fixture
def quiz(monkeypatch):
    """A quiz of one question and one exercise."""
    made = Answers({"fall": DOWN})
    made.exercise("Count again.")(lambda a, more=0: a + more == 1)
    quiz = Quiz("first_student", interactive=False)
    quiz.answers = made
    return quiz


def test_a_prediction_waits_for_an_answer_and_counts_the_first(quiz, capsys):
    quiz.interactive = True
    _, pick, reveal, message = quiz.predict("fall").children
    assert reveal.disabled and not message.value and not pick.value
    pick.value = "up"
    assert not reveal.disabled and not message.value, "what is right comes only when asked for"
    reveal.click()
    assert "You said up. It is down." in message.value and "It falls." in message.value
    pick.value = "down"
    reveal.click()
    assert "Right." in message.value and "0 of 1 right so far" in message.value, "the first answer counts"
    quiz.score()
    assert capsys.readouterr().out == "Predictions: 1 of 1 made, 0 of them right. Exercises: 0 of 1 solved.\n"


def test_without_a_kernel_the_answer_is_folded_away(quiz):
    shown, folded = quiz.predict("fall").data.split("<details>")
    assert shown == "**Predict.** Up or down? (*up* · *down*)\n\n" and "<strong>down.</strong> It falls." in folded
    assert "**down.** It falls." in quiz.reveal().data


def test_checks_say_what_is_missing_and_count(quiz, capsys):
    assert not quiz.check(1, None) and not quiz.check(1, 2) and not quiz.check(1, "x")
    assert quiz.check(1, 1) and quiz.check(1, 0, more=1)
    first, second, third, *right = capsys.readouterr().out.splitlines()
    assert first == "Exercise 1: not answered yet" and second == "Exercise 1: not yet. Count again."
    assert third.startswith("Exercise 1: not yet. Count again. (TypeError: ") and right == ["Exercise 1: right"] * 2
    quiz.score()
    assert "Exercises: 1 of 1 solved." in capsys.readouterr().out
    quiz.check(1, 2)
    quiz.score()
    assert "Exercises: 0 of 1 solved." in capsys.readouterr().out, "a right answer that was spoilt"


def test_wrong_names_and_answers_are_refused(quiz):
    with pytest.raises(SpecError, match="'fall'"):
        quiz.predict("fell")
    with pytest.raises(SpecError, match="sideways"):
        Question("?", ["up"], "sideways", "")


@pytest.mark.parametrize("lesson", [found.name for found in pkgutil.iter_modules(kdlab.teaching.answers.__path__)])
def test_right_answers_have_no_place_of_their_own(lesson):
    """Whoever always takes the first choice, or the last, is not always right."""
    answers = importlib.import_module(f"kdlab.teaching.answers.{lesson}").ANSWERS
    places = {question.choices.index(question.right) for question in answers.questions.values()}
    assert len(places) > 1
