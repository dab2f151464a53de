"""Advice from the map of ``when_it_pays``: what joint augmentation gained with images, passes and a teacher alike."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kdlab import plotting, stats
from kdlab.errors import SpecError, check_integer, check_number
from kdlab.paths import CHECKOUT, absolute, home
from kdlab.perspectives import when_it_pays
from kdlab.perspectives.places import described
from kdlab.perspectives.profiles import Profile, profile

FILE = "when_it_pays-gain.json"
NEAREST = 3  # cells that are shown
FAR = 1.0  # doublings of images or passes, beyond which the map says nothing
SAID = {
    "supported": "At the nearest cell of the map JDA gained over two plain weak views:",
    "contradicted": "At the nearest cell of the map JDA lost to two plain weak views:",
    "negligible": "At the nearest cell of the map JDA and two plain weak views were within half a point of each other:",
    "undecided": "At the nearest cell of the map its seeds do not tell whether JDA gained over two plain weak views:",
}
WIDTH = 100


@dataclass(frozen=True)
class Neighbour:
    """A cell of the map beside a point.

    Args:
        cell: training images and passes.
        verdict: JDA minus weak2 there.
        away: how far the point is, in doublings: the larger one of images and of passes.
    """

    cell: tuple[int, int]
    verdict: stats.Verdict
    away: float

    @property
    def line(self) -> str:
        """``"1,000 images x 120 passes: +0.62 points [+0.3, +0.9], supported"``."""
        v, (images, passes) = self.verdict, self.cell
        bounds = f" [{v.low:+.2f}, {v.high:+.2f}]" if v.bounded else ""
        effect = f"{v.effect:+.2f} points{bounds}".replace("-", "\u2212")
        return f"{images:,} images x {passes} passes: {effect}, {v.outcome}"


def map_file(folder: Path | str | None = None) -> Path:
    """The json file of the map: of a folder, else the published one, else that of ``out/standard`` or ``out/quick``.

    Raises:
        SpecError: where there is none.
    """
    if folder is not None:
        places = [absolute(folder)]
    else:
        places = [CHECKOUT / "figures", *(home() / depth / "figures" for depth in ("standard", "quick"))]
    for place in places:
        if (place / FILE).exists():
            return place / FILE
    raise SpecError(
        f"there is no map yet: {FILE} is not in {', '.join(repr(str(place)) for place in places)}; `kdlab figures "
        "when_it_pays --profile standard` trains and draws one in hours, --profile quick a small one."
    )


def read_map(path: Path) -> tuple[pd.DataFrame, Profile]:
    """The runs of a drawn map, and the profile that names its cells.

    Args:
        path: from ``map_file``.

    Raises:
        SpecError: for a file that is not that of a map.
    """
    try:
        table, record = plotting.load(path)
        meta: Mapping[str, Any] = record["meta"]
        if meta["perspective"] != "when_it_pays":
            raise KeyError(meta["perspective"])
        return table, profile(meta["profile"], **meta["overrides"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{str(path)!r} cannot be read as a map: {error!r}; draw it anew.") from error


def teacher_like(size: Profile, images: int, saw: float) -> str:
    """Which of the map's teachers is nearer, in the logarithm of the images seen: ``"own"`` or ``"strong"``."""
    strong = max(math.log2(size.map.strong[0] / images), 1.0)
    return when_it_pays.OWN if math.log2(saw / images) < strong / 2 else when_it_pays.STRONG


def neighbours(table: pd.DataFrame, size: Profile, images: int, epochs: float, teacher: str) -> list[Neighbour]:
    """All cells under one teacher, the nearest to a point first.

    Args:
        table, size: from ``read_map``.
        images: training images of the student, >= 1.
        epochs: passes over them, > 0.
        teacher: ``"own"`` or ``"strong"``.
    """
    found = []
    for cell, verdict in when_it_pays.gains(table, size)[teacher].items():
        steps = math.log2(cell[0] / images), math.log2(cell[1] / epochs)
        found.append((math.hypot(*steps), Neighbour(cell, verdict, max(map(abs, steps)))))
    return [neighbour for _, neighbour in sorted(found, key=lambda one: (one[0], one[1].cell))]


def advise(images: int, epochs: float, teacher_saw: float | None = None, folder: Path | str | None = None) -> str:
    """What the map says of a plan to distil, in words.

    Args:
        images: training images of the student, >= 1.
        epochs: passes over them, > 0.
        teacher_saw: images that the teacher was trained on; None: the student's own.
        folder: that holds the figures of a map; None finds one (``map_file``).

    Raises:
        SpecError: for numbers out of range, or without a map.
    """
    check_integer("images", images, 1)
    check_number("epochs", epochs, 0, open_low=True)
    saw = images if teacher_saw is None else teacher_saw
    check_number("teacher_saw", saw, 0, open_low=True)
    if saw < images:
        raise SpecError(
            f"teacher_saw must be at least the student's images ({images:,}), since the map has no teacher that saw "
            f"less, but got {saw:,g}."
        )
    path = map_file(folder)
    table, size = read_map(path)
    teacher = teacher_like(size, images, saw)
    near = neighbours(table, size, images, epochs, teacher)
    other = next(t for t in when_it_pays.PANELS if t != teacher)
    lines = [
        f"{images:,} images x {epochs:g} passes, a teacher that saw {saw:,g} images: nearest to the map's "
        f"{_called(size, teacher)}.",
        "",
        _judgement(near[0]),
        *(f"  {one.line}" for one in near[:NEAREST]),
        f"  under the {_called(size, other)}: {neighbours(table, size, images, epochs, other)[0].line}",
        "",
        f"Effects are JDA minus two weak views of the same cost; a student sees twice the rows of one view. This is "
        f"the map of {described(size.data)} with {size.student} under {size.teacher}, {len(size.seeds)} seeds: other "
        "data and networks may differ. `kdlab figures joint_augmentation --data folder:PATH` asks your own.",
    ]
    if size.name == "smoke":
        lines.append("It is a smoke run's map: evidence of nothing.")
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent=" " * 4 * line.startswith(" ")) for line in lines)


def brief(images: int, epochs: float, known: bool = True) -> str:
    """The nearest cell of the map under the teacher of one's own images, in a sentence; empty where there is no map.

    Args:
        images: training images of the student, >= 1.
        epochs: passes over them, > 0.
        known: False for a teacher that may have seen other images: the nearest cell under the strong teacher is told,
            too.
    """
    try:
        table, size = read_map(map_file())
    except SpecError:
        return ""
    nearest = neighbours(table, size, images, epochs, when_it_pays.OWN)[0]
    far = ", more than a factor of two away" if nearest.away > FAR else ""
    line = f"On the map of {described(size.data)} the nearest cell{far}, JDA \u2212 weak2: {nearest.line}"
    if known:
        return f"{line}."
    strong = neighbours(table, size, images, epochs, when_it_pays.STRONG)[0]
    own, other = _called(size, when_it_pays.OWN), _called(size, when_it_pays.STRONG)
    return f"{line}, under a {own}; {strong.line}, under a {other}. What the teacher of the file saw is not known here."


def _called(size: Profile, teacher: str) -> str:
    """How the map's teacher is called in a sentence."""
    seen = {when_it_pays.OWN: "the student's own images", when_it_pays.STRONG: f"{size.map.strong[0]:,} images"}
    return f"teacher of {seen[teacher]}"


def _judgement(nearest: Neighbour) -> str:
    """The sentence above the cells."""
    if nearest.away > FAR:
        images, passes = nearest.cell
        return (
            f"The map has no such place: its nearest cell, {images:,} images x {passes} passes, is more than a factor "
            "of two away. Take what follows as no advice:"
        )
    return SAID[nearest.verdict.outcome]
