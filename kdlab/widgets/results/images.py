"""The val images behind a cell of the confusions, and two students side by side on one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from kdlab import metrics
from kdlab.errors import SpecError, choose
from kdlab.widgets.charts.chart import Axis, Panel, bars, names
from kdlab.widgets.charts.colours import CHANGED
from kdlab.widgets.charts.tiles import Images, Item, Tiles, Words
from kdlab.widgets.charts.twin import Cell
from kdlab.widgets.results.answers import Answers

SHOWN, SIDE, LARGE = 12, 64, 150  # images of a cell, and CSS pixels of an image there and alone
OFFERED = 300  # cells in the menu
CLASSES = 12  # shown for one image


class Look(NamedTuple):
    """What is looked at in a run's answers.

    Args:
        cells: of the confusions, as (text, value), mistakes first and the most frequent of them first.
        cell: value of the one that is looked into, ``"Shirt > Coat"``: labelled a shirt, taken for a coat.
        rows: numbers of its val images, the surest answer first.
        image: number of one val image.
    """

    cells: Sequence[tuple[str, str]]
    cell: str
    rows: np.ndarray
    image: int

    def options(self, answers: Answers) -> list[tuple[str, int]]:
        """The images to choose from, as (text, value)."""
        rows = dict.fromkeys([*map(int, self.rows[:SHOWN]), self.image])
        return [(image_name(row, answers), row) for row in rows]


def cell_name(label: str, prediction: str) -> str:
    """``Shirt > Coat``."""
    return f"{label} > {prediction}"


def cell_text(count: int, label: str, prediction: str, right: bool) -> str:
    """``12 Shirt taken for Coat``, ``170 Shirt recognised``: a cell in the menu."""
    return f"{count} {label} " + ("recognised" if right else f"taken for {prediction}")


def image_name(row: int, answers: Answers) -> str:
    """``val image 17, Shirt``."""
    return f"val image {row}, {answers.classes[answers.labels[row]]}"


def look_into(answers: Answers, cell: str | None, image: int | None) -> Look:
    """What is looked at: what is asked for, else the most frequent mistake and its surest image.

    Args:
        answers: with logits.
        cell: its value, or None.
        image: its number, or None.

    Raises:
        SpecError: for a cell of other classes, or an image that val has not.
    """
    counts = metrics.confusion(answers.logits, answers.labels)
    order = sorted(zip(*np.nonzero(counts), strict=True), key=lambda at: (at[0] == at[1], -counts[at], at))
    menu = {cell_name(*(answers.classes[k] for k in at)): at for at in order}
    texts = [(cell_text(counts[at], *(answers.classes[k] for k in at), at[0] == at[1]), name)
             for name, at in menu.items()]  # fmt: skip
    if cell is None:
        cell = next(iter(menu))
    elif cell not in menu:
        every = {cell_name(a, b): (i, j) for i, a in enumerate(answers.classes) for j, b in enumerate(answers.classes)}
        choose("cell", cell, every)
        menu[cell] = every[cell]
        texts.append((cell_text(0, *(answers.classes[k] for k in menu[cell]), menu[cell][0] == menu[cell][1]), cell))
    label, taken = menu[cell]
    inside = np.flatnonzero((answers.labels == label) & (answers.logits.argmax(1) == taken))
    sure = softmax(answers.logits[inside].astype(float), 1)[:, taken]
    rows = inside[np.argsort(-sure, kind="stable")]
    if image is None:
        image = int(rows[0]) if len(rows) else 0
    elif not 0 <= image < len(answers.labels):
        raise SpecError(f"image must be one of the {len(answers.labels):,} val images, 0 to "
                        f"{len(answers.labels) - 1}, but got {image}.")  # fmt: skip
    kept = [option for n, option in enumerate(texts) if n < OFFERED or option[1] == cell]
    return Look(kept, cell, rows, image)


def title(look: Look) -> Tiles:
    """What the images of a cell are, and how many there are."""
    label, _, prediction = look.cell.partition(" > ")
    what = cell_text(len(look.rows), label, prediction, label == prediction)
    most = f"; the {SHOWN} of which it is surest" if len(look.rows) > SHOWN else ""
    return Tiles([[Words(f"Val images: {what}{most}", bold=True, size=15)]], 300, 600)


def gallery(look: Look, answers: Answers, images: np.ndarray) -> Tiles:
    """The images of a cell, the surest answers first; the chosen one has a frame.

    Args:
        look: what is looked at.
        answers: of the run.
        images: of val, uint8 (n, C, H, W).
    """
    shares, tiles = softmax(answers.logits.astype(float), 1), []
    for row in map(int, look.rows[:SHOWN]):
        frame = CHANGED if row == look.image else ""
        opens = [image_name(row, answers)]
        sure = f"{100 * shares[row].max():.0f} % sure"
        tiles.append([Images([images[row]], SIDE, frame, menu="image", opens=opens), Words(sure)])
    return Tiles(tiles or [[Words("There is none.")]], 78, 300)


def side_by_side(row: int, image: np.ndarray, answers: Mapping[str, Answers], colours: Mapping[str, str]) -> list[Cell]:
    """One image, and what one or two students say of it.

    Args:
        row: number of the image in val.
        image: uint8 (C, H, W).
        answers: by the name of the student, all of one data set.
        colours: by the name of the student.
    """
    first = next(iter(answers.values()))
    shares = {name: softmax(a.logits[row].astype(float)) for name, a in answers.items()}
    label = int(first.labels[row])
    largest = np.max([*shares.values()], axis=0)
    kept = {label, *np.argsort(-largest, kind="stable")[:CLASSES]}
    kept = sorted(sorted(kept, key=lambda k: (k != label, -largest[k]))[:CLASSES])
    words = [first.classes[k] for k in kept]
    said: list[Item] = [Words(f"Val image {row}, labelled {first.classes[label]}", bold=True, size=14)]
    said.append(Images([image], LARGE))
    for name, share in shares.items():
        best = int(share.argmax())
        right = "right" if best == label else "wrong"
        said.append(Words(f"{name}: {first.classes[best]}, {100 * share[best]:.0f} % sure, {right}", colours[name]))
    rows = [(name, [float(share[k]) for k in kept], colours[name]) for name, share in shares.items()]
    axis = names(words, bold=kept.index(label))
    panel = Panel("What they say of it (the label is bold)", Axis(0, 1, "probability"), axis,
                  bars(rows, words), 60 + 26 * len(words), 380)  # fmt: skip
    return [Tiles([said], 200, 220), panel]


def together_text(students: Mapping[str, Answers]) -> str:
    """How often two students agree on val, and who is right where they do not, as an HTML fragment; else empty.

    Args:
        students: by letter, all of one val set.
    """
    if len(students) < 2:
        return ""
    (a, one), (b, other) = sorted(students.items())
    said, labels = (one.logits.argmax(1), other.logits.argmax(1)), one.labels
    apart = said[0] != said[1]
    alone = [int((apart & (answer == labels)).sum()) for answer in said]
    return (
        f"<p>The students {a} and {b} of this seed agree on {100 * (1 - apart.mean()):.1f} % of the val images; of the "
        f"other {apart.sum():,}, {a} alone is right on {alone[0]:,} and {b} alone on {alone[1]:,}.</p>"
    )
