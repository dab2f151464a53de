"""What the temperature does to soft labels, to the distance between them, and to its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy.special import log_softmax

from kdlab.errors import check_integer, check_number
from kdlab.widgets import canvas
from kdlab.widgets.canvas import PLAIN, STUDENT, TEACHER, Sheet
from kdlab.widgets.drawing import Drawing, table
from kdlab.widgets.pair import PairExplorer

LOWEST, HIGHEST = 0.5, 20.0
GRID = np.geomspace(LOWEST, HIGHEST, 60)
SHOWN = 10  # classes


class Softened(NamedTuple):
    """Teacher and student at one temperature.

    Attributes:
        teacher, student: probabilities (K,).
        entropy: of the teacher's, in nats.
        student_entropy: of the student's, in nats.
        kl: KL(teacher || student), in nats.
        gradient: norm of the gradient of ``kl`` by the student's logits.
    """

    teacher: np.ndarray
    student: np.ndarray
    entropy: float
    student_entropy: float
    kl: float
    gradient: float


def soften(teacher: np.ndarray, student: np.ndarray, temperature: float) -> Softened:
    """Soft labels ``p(T) = softmax(z / T)``, their entropy, ``KL(p_t || p_s)`` and ``|p_s - p_t| / T``, its gradient.

    Args:
        teacher: logits (K,).
        student: logits (K,).
        temperature: T > 0.

    Raises:
        SpecError: for a temperature that is not positive.
    """
    check_number("temperature", temperature, open_low=True)
    t, s = (log_softmax(np.asarray(z, dtype=float) / temperature) for z in (teacher, student))
    p, q = np.exp(t), np.exp(s)
    gradient = float(np.linalg.norm(q - p) / temperature)
    return Softened(p, q, float(-p @ t), float(-q @ s), float(p @ (t - s)), gradient)


def curves(teacher: np.ndarray, student: np.ndarray) -> tuple[Image.Image, list[Callable]]:
    """Gradient norms with and without T squared, and entropies, over T.

    Args:
        teacher: logits (K,).
        student: logits (K,).

    Returns:
        The picture, and for each of its two panels a function from (T, value) to pixels from its upper left corner.
    """
    along = [soften(teacher, student, t) for t in GRID]
    raw, most = np.array([point.gradient for point in along]), np.log(len(teacher))
    with canvas.drawing():
        figure = canvas.chart(410, 380)
        top = canvas.axes(figure, 60, 256, 300, 118, "Gradient at the student's logits")
        top.loglog(GRID, raw, color=PLAIN, ls="--", label="of KL")
        top.loglog(GRID, raw * GRID**2, color=TEACHER, label="of T² KL")
        below = canvas.axes(figure, 60, 58, 300, 124, "Entropy (nats)")
        below.semilogx(GRID, [p.entropy for p in along], color=TEACHER, label="teacher")
        below.semilogx(GRID, [p.student_entropy for p in along], color=STUDENT, ls="--", label="student")
        below.axhline(most, color=PLAIN, lw=0.7, ls=":")
        below.text(LOWEST, most, " uniform", va="bottom", color=canvas.readable(PLAIN))
        below.set(ylim=(0, 1.25 * most), xlabel="temperature T")
        for ax, corner in ((top, "lower left"), (below, "lower right")):
            ax.set_xticks([0.5, 1, 2, 4, 8, 20], ["0.5", "1", "2", "4", "8", "20"])
            ax.minorticks_off()
            ax.grid()
            ax.legend(loc=corner)
        picture = canvas.pixels(figure)
    return picture, [canvas.placer(figure, ax) for ax in (top, below)]


class TemperatureExplorer(PairExplorer):
    """One image, two networks, and a temperature to turn.

    Args:
        trained: teacher, student and data; None opens the default one.
        **settings: ``image`` (number of a val image) and ``temperature`` (T in [0.5, 20]).

    Raises:
        SpecError: for an unknown setting, or an image or temperature out of range.
    """

    TITLE = "Temperature explorer"
    QUESTION = "A soft label at T = 1 hides what the teacher knows. What does a higher T show, and who pays for it?"
    DEFAULTS = {"image": 0, "temperature": 4.0}

    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        """Teacher's and student's logits (K,) on the chosen image."""
        image = self.trained.splits.val.images[self.settings["image"]][None]
        return tuple(self.trained.logits(who, image)[0].double().numpy() for who in ("teacher", "student"))

    def draw(self) -> Drawing:
        number, temperature, val = self.settings["image"], self.settings["temperature"], self.trained.splits.val
        check_integer("image", number, 0, len(val) - 1)
        check_number("temperature", temperature, LOWEST, HIGHEST)
        teacher, student = self.logits()
        now = soften(teacher, student, temperature)
        truth, order = int(val.labels[number]), np.argsort(-teacher)[:SHOWN]
        name = self.trained.classes[truth]
        sheet = Sheet(410)
        sheet.write(18, 20, name, 16, bold=True)
        sheet.paste(val.images[number].numpy(), 18, 46, 190)
        place = list(order).index(truth) if truth in order else None
        sheet.bars(
            330, 62, 290, 290, f"Soft labels at T = {temperature:.1f}",
            [("teacher", now.teacher[order], TEACHER), ("student", now.student[order], STUDENT)],
            [self.trained.classes[k] for k in order], label="probability", truth=place,
        )  # fmt: skip
        self._curves(sheet, teacher, student, temperature, now)
        alt = f"A {name}, soft labels of teacher and student at T = {temperature:.1f}, gradient and entropy over T"
        rows = ((self.trained.classes[k], float(now.teacher[k]), float(now.student[k])) for k in order)
        numbers = table(("class", "teacher", "student"), rows)
        return Drawing(sheet.png(), alt, self._caption(teacher, student, now), numbers=numbers)

    def _curves(self, sheet: Sheet, teacher, student, temperature: float, now: Softened) -> None:
        """Gradient norms and entropies over T, drawn once an image, with dots where T is now."""
        picture, places = self.cached(self.settings["image"], lambda: curves(teacher, student))
        sheet.stick(picture, 660, 0)
        values = (now.gradient, now.gradient * temperature**2, now.entropy, now.student_entropy)
        for value, place in zip(values, (places[0], places[0], places[1], places[1]), strict=True):
            x, y = place(temperature, value)
            sheet.dot(660 + x, y)

    def _caption(self, teacher: np.ndarray, student: np.ndarray, now: Softened) -> str:
        t = self.settings["temperature"]
        cold = soften(teacher, student, 1.0)
        kept = now.gradient / cold.gradient if cold.gradient else float("nan")
        pull = "the pull of the soft labels stays comparable with that of the hard label"
        if not 1 / 3 < t**2 * kept < 3:  # a sure teacher's soft label is nearly hard at T = 1
            pull = "on this image the soft label says little at T = 1, and what it says shows as T rises"
        return (
            f"<b>T = {t:.1f}.</b> Entropy of the teacher's soft label {now.entropy:.2f} nats (at T = 1: "
            f"{cold.entropy:.2f}), KL(teacher ‖ student) {now.kl:.3f} nats, times T² {t**2 * now.kl:.3f}.<br>"
            f"<b>Why T² is there:</b> a factor of 1/T comes from the softmax's argument, and the soft labels grow "
            f"alike as 1/T. So the gradient of KL is {kept:.2f} times that at T = 1, while that of T² KL is "
            f"{t**2 * kept:.2f} times: {pull}."
        )

    def controls(self) -> dict[str, Any]:
        last = len(self.trained.splits.val) - 1
        scale = {"base": 10, "min": np.log10(LOWEST), "max": np.log10(HIGHEST), "step": 0.01, "readout_format": ".1f"}

        def following() -> None:
            self.set(image=(self.settings["image"] + 1) % (last + 1))

        return {
            "temperature": self.field("FloatLogSlider", "temperature", "temperature T", "420px", **scale),
            "image": self.field("BoundedIntText", "image", width="140px", min=0, max=last),
            "other": self.button("Next image", following, "Show the next image of val", "arrow-right"),
            "reset": self.button("T = 4", lambda: self.set(temperature=4.0), "Back to the usual temperature"),
        }
