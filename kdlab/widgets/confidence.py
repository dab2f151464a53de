"""Cosine confidence distillation, pair by pair: how far the teacher agrees with itself on two views of an image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlab.losses.base import Batch
from kdlab.losses.ccd import CCD, WEIGHTINGS
from kdlab.models import Outputs
from kdlab.plotting.look import FAINT, INK
from kdlab.registry import catalogue, create
from kdlab.widgets import canvas
from kdlab.widgets.canvas import CHANGED, PLAIN, STUDENT, TEACHER, Sheet
from kdlab.widgets.drawing import Drawing, table
from kdlab.widgets.pair import PairExplorer, make_view

STRIP, SHOWN = 8, 10  # pairs in the strip, classes in the bars


class Pairs(NamedTuple):
    """n weak views, their augmented partners, and the outputs for them, sorted by weight.

    Attributes:
        first, second: uint8 images (n, C, H, W).
        labels: (n,).
        teacher, student: logits of first and second views, (2, n, K).
        weight: of the second views in CCD, (n,).
        number: of the val image, (n,).
    """

    first: Tensor
    second: Tensor
    labels: Tensor
    teacher: Tensor
    student: Tensor
    weight: Tensor
    number: Tensor


def histogram(weights: np.ndarray):
    """Weights of all pairs, with KD's weight of 1 and their mean.

    Args:
        weights: (n,).

    Returns:
        The picture, and a function from (weight, count) to pixels from its upper left corner.
    """
    with canvas.drawing():
        figure = canvas.chart(460, 250)
        ax = canvas.axes(figure, 45, 62, 185, 325, f"Weights of {len(weights)} pairs")
        ax.set_title(ax.get_title("left"), pad=19)
        top = max(2.0, float(weights.max()))
        ax.hist(weights, np.linspace(min(0.0, float(weights.min())), top, 41), color=TEACHER)
        ax.axvline(1, color=FAINT, lw=1, ls="--")
        ax.axvline(weights.mean(), color=INK, lw=1)
        ax.set(xlabel="w (dashed: KD's 1)", xlim=(0, top))
        ax.text(weights.mean(), ax.get_ylim()[1], f"mean {weights.mean():.2f} ", ha="right", va="bottom")
        return canvas.pixels(figure), canvas.placer(figure, ax)


class ConfidenceExplorer(PairExplorer):
    """Pairs of views sorted by CCD's weight, and what KD + JDA and CCD each ask of the student.

    Both losses push the logits of a row by ``w T (p_t - p_s)``; KD has w = 1, CCD ``w = 1 + cos`` of the teacher's
    logits on the pair.

    Args:
        trained: teacher, student and data; None opens the default one.
        **settings: ``policy``, ``temperature``, ``weighting`` and ``centred`` (of CCD), ``seed``, ``draw`` (which draw
            of the seed), ``count`` (pairs) and ``place`` (of the chosen pair: 0 is the smallest weight, 100 the
            largest).

    Raises:
        SpecError: for an unknown setting or policy.
    """

    TITLE = "CCD explorer"
    QUESTION = "Which augmented views does the teacher trust, and what does that change for the student?"
    DEFAULTS = {
        "policy": "jda", "temperature": 4.0, "weighting": "cosine", "centred": False, "seed": 0, "draw": 0,
        "count": 256, "place": 0,
    }  # fmt: skip

    def views(self) -> tuple[Tensor, Tensor, Tensor]:
        """First and second views of the first ``count`` val images, uint8 (n, C, H, W), and their labels."""
        s, val = self.settings, self.trained.splits.val
        raw, moment = val.images[: s["count"]], (s["seed"], s["draw"])
        first, _ = make_view(raw, create("augment", "weak"), "weak", 0, *moment)
        second, _ = make_view(raw, create("augment", s["policy"]), s["policy"], 1, *moment)
        return first, second, val.labels[: len(raw)]

    def pairs(self) -> Pairs:
        """The pairs of the present settings, smallest weight first; kept until a setting changes that matters."""
        names = ("policy", "weighting", "centred", "seed", "draw", "count")
        return self.cached(tuple(self.settings[name] for name in names), self._pairs)

    def _pairs(self) -> Pairs:
        first, second, labels = self.views()
        both = torch.cat([first, second])
        teacher, student = (self.trained.logits(who, both) for who in ("teacher", "student"))
        n = len(first)
        batch = Batch.of(labels.repeat(2), views=2)
        ccd = CCD(weighting=self.settings["weighting"], centred=self.settings["centred"])
        weight = ccd.weights(Outputs(teacher, (), teacher), batch)[n:]
        order = weight.argsort(stable=True)
        paired = (z.view(2, n, -1)[:, order] for z in (teacher, student))
        return Pairs(first[order], second[order], labels[order], *paired, weight[order], order)

    def draw(self) -> Drawing:
        pairs, s = self.pairs(), self.settings
        chosen = round(s["place"] / 100 * (len(pairs.weight) - 1))
        sheet = Sheet(610)
        self._strip(sheet, pairs, chosen)
        numbers = self._pair(sheet, pairs, chosen)
        self._histogram(sheet, pairs, chosen)
        name = self.trained.classes[int(pairs.labels[chosen])]
        alt = f"Pairs of views by CCD weight; of one, a {name}, soft labels and pushes; a histogram of all weights"
        return Drawing(sheet.png(), alt, self._caption(pairs, chosen), numbers=numbers)

    def _strip(self, sheet: Sheet, pairs: Pairs, chosen: int) -> None:
        """Pairs from the least to the most trusted, evenly spaced; the chosen one takes the nearest place."""
        n = len(pairs.weight)
        places = np.linspace(0, n - 1, STRIP).round().astype(int)
        places[np.abs(places - chosen).argmin()] = chosen
        sheet.write(14, 4, "least trusted", 12, PLAIN)
        sheet.write(940, 4, "most trusted", 12, PLAIN)
        for column, row in enumerate(places):
            x, here = 14 + column * 128, row == chosen
            sheet.paste(pairs.first[row].numpy(), x, 28, 56, CHANGED if here else None)
            sheet.paste(pairs.second[row].numpy(), x + 60, 28, 56, CHANGED if here else None)
            sheet.write(x, 96, f"w = {pairs.weight[row]:.2f}", 13, CHANGED if here else INK, bold=bool(here))
            sheet.write(x, 114, self.trained.classes[int(pairs.labels[row])], 11, PLAIN, width=116)

    def _pair(self, sheet: Sheet, pairs: Pairs, chosen: int) -> str:
        """The chosen pair, the teacher's soft labels on both views and the push on the student's logits; as a table."""
        temperature = self.settings["temperature"]
        soft = (pairs.teacher[:, chosen] / temperature).softmax(1).numpy()
        student = (pairs.student[1, chosen] / temperature).softmax(0).numpy()
        push = temperature * (soft[1] - student)
        order = np.argsort(-pairs.teacher[0, chosen].numpy())[:SHOWN]
        names, truth = [self.trained.classes[k] for k in order], int(pairs.labels[chosen])
        for top, word, image in ((160, "first view", pairs.first), (362, "second view", pairs.second)):
            sheet.write(14, top, word, 16, bold=True)
            sheet.paste(image[chosen].numpy(), 14, top + 26, 160)
        rows = [("first view", soft[0][order], TEACHER), ("second view", soft[1][order], CHANGED)]
        most = max(0.3, 1.1 * float(soft.max()))
        place = list(order).index(truth) if truth in order else None
        title = f"Teacher at T = {temperature:g}"
        sheet.bars(290, 208, 220, 340, title, rows, names, high=most, label="probability", truth=place)
        both = [("KD + JDA", push[order], PLAIN), ("CCD", float(pairs.weight[chosen]) * push[order], STUDENT)]
        if self.settings["policy"] != "jda":
            both[0] = ("KD", push[order], PLAIN)
        reach = 1.1 * max(float(np.abs(values).max()) for _, values, _ in both) or 1.0
        scale = {"low": -reach, "high": reach, "label": "push on the logit"}
        sheet.bars(560, 208, 200, 340, "Asked of the student", both, [""] * len(names), **scale)
        heads = ("class", *(f"teacher, {word}" for word, *_ in rows), *(f"push of {word}" for word, *_ in both))
        return table(heads, zip(names, *(values.tolist() for _, values, _ in rows + both), strict=True))

    def _histogram(self, sheet: Sheet, pairs: Pairs, chosen: int) -> None:
        """All weights, drawn once, with a mark at the chosen one."""
        weights = pairs.weight.numpy()
        picture, place = self.cached(weights.tobytes(), lambda: histogram(weights))
        sheet.stick(picture, 790, 150)
        x, y = place(float(pairs.weight[chosen]), 0)
        x, y = 790 + x, 150 + y
        sheet.pen.polygon([(x, y - 2), (x - 9, y + 15), (x + 9, y + 15)], fill=CHANGED)

    def _caption(self, pairs: Pairs, chosen: int) -> str:
        w, mean = float(pairs.weight[chosen]), float(pairs.weight.mean())
        same = (pairs.teacher[0].argmax(1) == pairs.teacher[1].argmax(1)).float().mean()
        return (
            f"<b>w = 1 + cos = {w:.2f}</b> for this pair (val image {int(pairs.number[chosen])}). KD + JDA asks the "
            f"same push with weight 1, CCD with {w:.2f}; measured against CCD's own mean of {mean:.2f} this is "
            f"{w / mean if mean else float('nan'):.2f}.<br>The teacher's first choice is the same on both views for "
            f"{same:.0%} of the pairs. Where nearly all weights are close to 2, CCD is mostly a KD with a larger "
            "weight on second views: the weighting <code>normalised</code> takes that mean away."
        )

    def controls(self) -> dict[str, Any]:
        policies = sorted(n for n, e in catalogue("augment").items() if not e.picks)
        return {
            "place": self.field("IntSlider", "place", "pair, from least to most trusted (%)", "460px", min=0, max=100),
            "policy": self.field("Dropdown", "policy", options=policies),
            "temperature": self.field("FloatSlider", "temperature", "temperature T", min=0.5, max=20, step=0.5),
            "weighting": self.field("Dropdown", "weighting", width="200px", options=WEIGHTINGS),
            "centred": self.field("Checkbox", "centred", "centred logits", "auto", indent=False),
            "reroll": self.button("Reroll", self.reroll, "Draw all second views again", "random"),
        }
