"""Questions of the lessons: predict before you look, and check an answer; with the style sheet of the explorers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from kdlab.errors import choose
from kdlab.perspectives.notebook_parameters import check_kernel
from kdlab.widgets.explorer import is_interactive
from kdlab.widgets.page import head


def predict(question: str, choices: Sequence[str], answer: str, why: str, interactive: bool | None = None) -> Any:
    """A question to answer before the next cell is run, and the answer behind a button.

    Args:
        question: in plain words.
        choices: possible answers.
        answer: the right one of them.
        why: the reason, in plain words.
        interactive: False shows question, answer and reason at once; None leaves it to ``$KDLAB_INTERACTIVE``.

    Returns:
        A widget, or Markdown.

    Raises:
        SpecError: when the answer is not among the choices.
    """
    check_kernel()
    choose("answer", answer, choices)
    if not is_interactive(interactive):
        from IPython.display import Markdown

        listed = " · ".join(f"*{c}*" for c in choices)
        return Markdown(
            f"**Predict.** {question} ({listed})\n\n"
            f"<details><summary>Reveal</summary>\n\n**{answer}.** {why}\n\n</details>"
        )
    import ipywidgets as w

    from kdlab.widgets.board import Board

    message = w.HTML()
    pick = w.ToggleButtons(options=list(choices), value=None, style={"button_width": "auto"}, tooltips=list(choices))
    reveal = w.Button(description="Reveal", disabled=True, tooltip="Choose an answer first")

    def answered(_):
        reveal.disabled = False

    def show(_):
        verdict = "Right" if pick.value == answer else f"You said {pick.value}. It is {answer}"
        message.value = f'<p class="kd-message" role="status"><b>{escape(verdict)}.</b> {escape(why)}</p>'

    pick.observe(answered, "value")
    reveal.on_click(show)
    top = w.HTML(head(f"<p><b>Predict.</b> {escape(question)}</p>"))
    asked = escape(question)
    box = Board([top, pick, reveal, message], "Predict", lambda: f"<p>{asked}</p>")
    box.add_class("kdlab")
    box.add_class("kd-predict")
    return box


def check(name: str, answer: Any, right: Callable[[Any], bool], hint: str) -> bool:
    """Say whether an exercise's answer is right.

    Args:
        name: of the exercise.
        answer: what the reader has put in; None means not answered yet.
        right: tells whether an answer is right; an exception in it means no.
        hint: what to say of a wrong answer.

    Returns:
        True for a right answer.
    """
    check_kernel()
    if answer is None:
        print(f"{name}: not answered yet")
        return False
    try:
        good = bool(right(answer))
    except Exception as error:  # whatever was put in: a wrong answer must not end in a traceback
        good, hint = False, f"{hint} ({type(error).__name__}: {error})"
    print(f"{name}: {'right' if good else 'not yet. ' + hint}")
    return good
