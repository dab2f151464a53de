"""What the temperature does to soft labels, to the distance between them, and to its gradient."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from kdlab.errors import check_integer, check_number
from kdlab.plotting.look import INK
from kdlab.widgets.charts.chart import Axis, Mark, Panel, bars
from kdlab.widgets.charts.chart import names as vertical
from kdlab.widgets.charts.colours import PLAIN, STUDENT, TEACHER
from kdlab.widgets.charts.tiles import Images, Tiles, Words
from kdlab.widgets.drawing import Drawing, table
from kdlab.widgets.pair import PairExplorer

LOWEST, HIGHEST = 0.5, 20.0
GRID = np.geomspace(LOWEST, HIGHEST, 60)
SHOWN = 10  # classes
TICKS = {0.5: "0.5", 1: "1", 2: "2", 4: "4", 8: "8", 20: "20"}


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


@functools.cache
def _ends(classes: int) -> dict[str, Axis]:
    """Axes that hold for every image, so that pictures can be compared: gradients may leave theirs below."""
    across = {"low": LOWEST, "high": HIGHEST, "label": "temperature T", "log": True, "ticks": TICKS}
    return {"T": Axis(**across), "gradient": Axis(1e-4, 10, log=True), "entropy": Axis(0, 1.25 * np.log(classes))}


def curves(teacher: np.ndarray, student: np.ndarray) -> tuple[list[Mark], list[Mark]]:
    """Gradient norms with and without T squared, and entropies, over T.

    Args:
        teacher: logits (K,).
        student: logits (K,).

    Returns:
        The marks of both panels.
    """
    along = [soften(teacher, student, t) for t in GRID]
    raw, most = np.array([point.gradient for point in along]), np.log(len(teacher))
    entropies = [p.entropy for p in along], [p.student_entropy for p in along]
    norms = [
        Mark("line", GRID, np.maximum(raw, 1e-9), PLAIN, name="of KL", dash="--"),
        Mark("line", GRID, np.maximum(raw * GRID**2, 1e-9), TEACHER, name="of T² KL"),
    ]
    entropy = [
        Mark("segments", [LOWEST], [most], PLAIN, [HIGHEST], [most], width=1.2, dash=":"),
        Mark("words", [LOWEST], [most], PLAIN, words=["uniform"], anchor="start"),
        Mark("line", GRID, entropies[0], TEACHER, name="teacher"),
        Mark("line", GRID, entropies[1], STUDENT, name="student", dash="--"),
    ]
    return norms, entropy


def _now(temperature: float, values: Sequence[float], words: Sequence[str]) -> Mark:
    """Dots at the temperature that is set."""
    told = [f"T = {temperature:.1f}: {word} {value:.3g}" for word, value in zip(words, values, strict=True)]
    at = np.maximum(values, 1e-9)
    return Mark("points", [temperature] * len(values), at, INK, told=told, size=10)


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
        names, place = [self.trained.classes[k] for k in order], list(order).index(truth) if truth in order else None
        soft = [("teacher", now.teacher[order], TEACHER), ("student", now.student[order], STUDENT)]
        title = f"Soft labels at T = {temperature:.1f}"
        labels = Panel(title, Axis(0, 1, "probability"), vertical(names, bold=place), bars(soft, names), 330, 300)
        image = Tiles([[Words(name, bold=True, size=15), Images([val.images[number].numpy()], 150)]], 150, 150)
        alt = f"A {name}, soft labels of teacher and student at T = {temperature:.1f}, gradient and entropy over T"
        rows = ((self.trained.classes[k], float(now.teacher[k]), float(now.student[k])) for k in order)
        numbers = table(("class", "teacher", "student"), rows)
        courses = self._courses(teacher, student, now)
        return Drawing([[image, labels, courses]], alt, self._caption(teacher, student, now), numbers)

    def _courses(self, teacher: np.ndarray, student: np.ndarray, now: Softened) -> tuple[Panel, Panel]:
        """Gradient norms and entropies over T, computed once an image, with dots where T is now."""
        norms, entropy = self.cached(self.settings["image"], lambda: curves(teacher, student))
        t, axes = self.settings["temperature"], _ends(len(teacher))
        gradients, entropies = (now.gradient, now.gradient * t**2), (now.entropy, now.student_entropy)
        here = [_now(t, gradients, ("gradient of KL", "gradient of T² KL")),
                _now(t, entropies, ("entropy of the teacher", "entropy of the student"))]  # fmt: skip
        first = Panel("Gradient at the student's logits", axes["T"], axes["gradient"], [*norms, here[0]], 165, 280, 56)
        return first, Panel("Entropy (nats)", axes["T"], axes["entropy"], [*entropy, here[1]], 165, 280, 56)

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
