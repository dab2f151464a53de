"""The lower part of the results browser: the opened run, the images of a confusion, and two students on one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kdlab.widgets.charts.tiles import Tiles, Words
from kdlab.widgets.charts.twin import Cell
from kdlab.widgets.results import images
from kdlab.widgets.results.answers import Answers
from kdlab.widgets.results.run import run_row
from kdlab.widgets.results.selection import Selection
from kdlab.widgets.runs.panels import notice


def run_rows(chosen: Selection, found: Answers) -> list[list[Cell]]:
    """The rows of the chosen run; an error takes the place of what cannot be drawn.

    Args:
        chosen: the selection.
        found: what the run answered.
    """
    if found.lost:
        return [[notice(found.why)]]
    key, row = chosen.run, chosen.table.loc[chosen.run]
    title = Words(f"Run {key[:8]}: {row['arm']}, seed {row['seed']}", bold=True, size=15)
    return [[Tiles([[title]], 300, 600)], run_row(found.curve, found.logits, found.labels, found.classes, found.why)]


def image_rows(
    chosen: Selection, look: images.Look, answer: Callable[[str], Answers], pixels, colours: Mapping[str, str]
) -> list[list[Cell]]:
    """The images of a cell of the confusions, and what the students of both arms say of one.

    Args:
        chosen: the selection.
        look: what is looked at.
        answer: what a run answered, by its key.
        pixels: of val, uint8 (n, C, H, W).
        colours: of the arms, by their letters.
    """
    both = students(chosen, answer)
    said = images.side_by_side(look.image, pixels[look.image], both, colours)
    return [[images.title(look)], [images.gallery(look, answer(chosen.run), pixels)], said]


def students(chosen: Selection, answer: Callable[[str], Answers]) -> dict[str, Answers]:
    """The answers of the opened run and of the other arm's run with its seed, by letter, where both saw one val set.

    Args:
        chosen: the selection.
        answer: what a run answered, by its key.
    """
    found, every = answer(chosen.run), {letter: answer(key) for letter, key in chosen.students().items()}
    if not found.known:
        return {}
    return {letter: one for letter, one in every.items()
            if one.known and one.data == found.data and len(one.labels) == len(found.labels)}  # fmt: skip
