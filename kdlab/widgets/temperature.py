"""What the temperature does to soft labels, to the distance between them, and to its gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from kdlab.registry import SpecError
from kdlab.widgets import canvas
from kdlab.widgets.canvas import PLAIN, STUDENT, TEACHER
from kdlab.widgets.explorer import Drawing, Explorer
from kdlab.widgets.room import Room
from kdlab.widgets.room import room as open_room

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
    if not temperature > 0:
        raise SpecError(f"temperature must be a positive number, but got {temperature!r}.")
    t, s = (log_softmax(np.asarray(z, dtype=float) / temperature) for z in (teacher, student))
    p, q = np.exp(t), np.exp(s)
    gradient = float(np.linalg.norm(q - p) / temperature)
    return Softened(p, q, float(-p @ t), float(-q @ s), float(p @ (t - s)), gradient)


class TemperatureExplorer(Explorer):
    """One image, two networks, and a temperature to turn.

    Args:
        room: teacher, student and data; None opens the default one.
        **settings: ``image`` (number of a val image) and ``temperature`` (T in [0.5, 20]).

    Raises:
        SpecError: for an unknown setting, or an image or temperature out of range.
    """

    TITLE = "Temperature explorer"
    QUESTION = "A soft label at T = 1 hides what the teacher knows. What does a higher T show, and who pays for it?"
    DEFAULTS = {"image": 0, "temperature": 4.0}

    def __init__(self, room: Room | None = None, **settings: Any):
        super().__init__(**settings)
        self.room = room or open_room()

    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        """Teacher's and student's logits (K,) on the chosen image."""
        image = self.room.splits.val.images[self.settings["image"]][None]
        return tuple(self.room.logits(who, image)[0].double().numpy() for who in ("teacher", "student"))

    def draw(self) -> Drawing:
        number, temperature, val = self.settings["image"], self.settings["temperature"], self.room.splits.val
        if number not in range(len(val)):
            raise SpecError(f"image must be an integer from 0 to {len(val) - 1}, but got {number!r}.")
        if not LOWEST <= temperature <= HIGHEST:
            raise SpecError(f"temperature must be in [{LOWEST:g}, {HIGHEST:g}], but got {temperature!r}.")
        teacher, student = self.logits()
        now = soften(teacher, student, temperature)
        truth, order = int(val.labels[number]), np.argsort(-teacher)[:SHOWN]
        with canvas.drawing():
            figure = canvas.chart(400)
            name = self.room.classes[truth]
            canvas.show_image(figure, val.images[number].numpy(), 18, 165, 180, name)
            bars = canvas.axes(figure, 305, 58, 300, 296, f"Soft labels at T = {temperature:.1f}")
            rows = [("teacher", now.teacher[order], TEACHER), ("student", now.student[order], STUDENT)]
            place = list(order).index(truth) if truth in order else None
            canvas.soft_bars(bars, rows, [self.room.classes[k] for k in order], place)
            self._curves(figure, teacher, student, temperature, now)
            picture = canvas.png(figure)
        alt = f"A {name}, soft labels of teacher and student at T = {temperature:.1f}, gradient and entropy over T"
        return Drawing(picture, alt, self._words(teacher, student, now))

    def _curves(self, figure, teacher, student, temperature: float, now: Softened) -> None:
        """Gradient norms with and without T squared, and entropies, over T."""
        along = [soften(teacher, student, t) for t in GRID]
        raw = np.array([point.gradient for point in along])
        top = canvas.axes(figure, 715, 246, 300, 120, "Gradient at the student's logits")
        top.loglog(GRID, raw, color=PLAIN, ls="--", label="of KL")
        top.loglog(GRID, raw * GRID**2, color=TEACHER, label="of T² KL")
        top.plot([temperature] * 2, [now.gradient, now.gradient * temperature**2], "o", color="black", ms=4)
        below = canvas.axes(figure, 715, 58, 300, 120, "Entropy (nats)")
        below.semilogx(GRID, [p.entropy for p in along], color=TEACHER, label="teacher")
        below.semilogx(GRID, [p.student_entropy for p in along], color=STUDENT, ls="--", label="student")
        below.axhline(np.log(len(teacher)), color=PLAIN, lw=0.7, ls=":")
        below.text(LOWEST, np.log(len(teacher)), " uniform", va="bottom", color=PLAIN)
        below.plot([temperature] * 2, [now.entropy, now.student_entropy], "o", color="black", ms=4)
        below.set_ylim(0, 1.25 * np.log(len(teacher)))
        below.set_xlabel("temperature T")
        for ax in (top, below):
            ax.set_xticks([0.5, 1, 2, 4, 8, 20], ["0.5", "1", "2", "4", "8", "20"])
            ax.minorticks_off()
            ax.grid()
            ax.legend(loc="lower left" if ax is top else "lower right")

    def _words(self, teacher: np.ndarray, student: np.ndarray, now: Softened) -> str:
        t = self.settings["temperature"]
        cold = soften(teacher, student, 1.0)
        kept = now.gradient / cold.gradient if cold.gradient else float("nan")
        return (
            f"<b>T = {t:.1f}.</b> Entropy of the teacher's soft label {now.entropy:.2f} nats (at T = 1: "
            f"{cold.entropy:.2f}), KL(teacher ‖ student) {now.kl:.3f} nats, times T² {t**2 * now.kl:.3f}.<br>"
            f"<b>Why T² is there:</b> a factor of 1/T comes from the softmax's argument, and the soft labels grow "
            f"alike as 1/T. So the gradient of KL is {kept:.2f} times that at T = 1, while that of T² KL is "
            f"{t**2 * kept:.2f} times: the pull of the soft labels stays comparable with that of the hard label."
        )

    def controls(self) -> dict[str, Any]:
        import ipywidgets as w

        s, wide = self.settings, {"description_width": "initial"}
        scale = {"base": 10, "min": np.log10(LOWEST), "max": np.log10(HIGHEST), "step": 0.01}
        other = w.Button(description="Next image", icon="arrow-right", tooltip="Show the next image of val")
        other.on_click(lambda _: self.set(image=(self.settings["image"] + 1) % len(self.room.splits.val)))
        reset = w.Button(description="T = 4", tooltip="Back to the usual temperature")
        reset.on_click(lambda _: self.set(temperature=4.0))
        return {
            "temperature": w.FloatLogSlider(
                s["temperature"], description="temperature T", readout_format=".1f", style=wide,
                layout={"width": "420px"}, **scale,
            ),
            "image": w.BoundedIntText(
                s["image"], min=0, max=len(self.room.splits.val) - 1, description="image", style=wide,
                layout={"width": "140px"},
            ),
            "other": other,
            "reset": reset,
        }  # fmt: skip
