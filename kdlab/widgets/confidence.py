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
from kdlab.widgets.charts.chart import Axis, Mark, Panel, bars, rule
from kdlab.widgets.charts.chart import names as vertical
from kdlab.widgets.charts.colours import CHANGED, PLAIN, STUDENT, TEACHER
from kdlab.widgets.charts.tiles import Images, Tiles, Words
from kdlab.widgets.drawing import Drawing, table
from kdlab.widgets.pair import PairExplorer, make_view

COLD, HOT = 0.5, 20.0
TEMPERATURES = np.geomspace(COLD, HOT, 10)
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


def histogram(weights: np.ndarray, chosen: int) -> Panel:
    """Weights of all pairs, with KD's weight of 1, their mean, and a mark at the chosen one.

    Args:
        weights: (n,).
        chosen: number of a pair.
    """
    low, top = min(0.0, float(weights.min())), max(2.0, float(weights.max()))
    counts, edges = np.histogram(weights, np.linspace(low, top, 41))
    told = [f"w from {a:.2f} to {b:.2f}: {n} pairs" for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    mean, here, most = float(weights.mean()), float(weights[chosen]), 1.15 * float(counts.max())
    up = Axis(0, most)
    marks = [
        Mark("rects", edges[:-1], np.zeros(len(counts)), TEACHER, edges[1:], counts, told=told),
        rule(up, x=1.0, color=FAINT, width=1.5, dash="--", name="KD's 1"),
        rule(up, x=mean, color=INK, width=1.5, name=f"mean {mean:.2f}"),
        Mark("points", [here], [0.03 * most], CHANGED, told=[f"this pair: w = {here:.2f}"], marker="^", size=16),
    ]
    return Panel(f"Weights of {len(weights)} pairs", Axis(low, top, "weight w"), up, marks, 300, 230)


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
        return self.cached(self._kept(), self._pairs)

    def _kept(self) -> tuple[Any, ...]:
        return tuple(self.settings[n] for n in ("policy", "weighting", "centred", "seed", "draw", "count"))

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
        panels, numbers = self._pair(pairs, chosen)
        name = self.trained.classes[int(pairs.labels[chosen])]
        alt = f"Pairs of views by CCD weight; of one, a {name}, soft labels and pushes; a histogram of all weights"
        views = (("first view", pairs.first), ("second view", pairs.second))
        both = Tiles([[Words(word, bold=True), Images([i[chosen].numpy()], 130)] for word, i in views], 130, 140)
        rows = [[self._strip(pairs, chosen)], [both, *panels, histogram(pairs.weight.numpy(), chosen)]]
        return Drawing(rows, alt, self._caption(pairs, chosen), numbers)

    def _strip(self, pairs: Pairs, chosen: int) -> Tiles:
        """Pairs from the least to the most trusted, evenly spaced; the chosen one takes the nearest place."""
        n = len(pairs.weight)
        places = np.linspace(0, n - 1, STRIP).round().astype(int)
        places[np.abs(places - chosen).argmin()] = chosen
        tiles = []
        for number, row in enumerate(places):
            here, end = row == chosen, {0: "least trusted", STRIP - 1: "most trusted"}.get(number, "")
            views = [pairs.first[row].numpy(), pairs.second[row].numpy()]
            tiles.append([
                Images(views, 48, CHANGED if here else ""),
                Words(f"w = {pairs.weight[row]:.2f}", CHANGED if here else INK, bool(here)),
                Words(self.trained.classes[int(pairs.labels[row])], PLAIN, size=12),
                *([Words(end, PLAIN, size=12)] if end else []),
            ])  # fmt: skip
        return Tiles(tiles, 104, 600)

    def _pair(self, pairs: Pairs, chosen: int) -> tuple[list[Panel], str]:
        """The teacher's soft labels on both views of a pair and the push on the student's logits; and as a table."""
        temperature = self.settings["temperature"]
        soft = (pairs.teacher[:, chosen] / temperature).softmax(1).numpy()
        push = self._pushes(pairs, temperature)[chosen]
        order = np.argsort(-pairs.teacher[0, chosen].numpy())[:SHOWN]
        names, truth = [self.trained.classes[k] for k in order], int(pairs.labels[chosen])
        rows = [("first view", soft[0][order], TEACHER), ("second view", soft[1][order], CHANGED)]
        kd = "KD + JDA" if self.settings["policy"] == "jda" else "KD"
        both = [(kd, push[order], PLAIN), ("CCD", float(pairs.weight[chosen]) * push[order], STUDENT)]
        down = vertical(names, bold=list(order).index(truth) if truth in order else None)
        reach = self._reach(pairs)
        panels = [
            Panel(f"Teacher at T = {temperature:g}", Axis(0, 1, "probability"), down, bars(rows, names), 330, 230),
            Panel("Asked of the student", Axis(-reach, reach, "push on the logit"), down, bars(both, names), 330, 230),
        ]
        heads = ("class", *(f"teacher, {word}" for word, *_ in rows), *(f"push of {word}" for word, *_ in both))
        return panels, table(heads, zip(names, *(values.tolist() for _, values, _ in rows + both), strict=True))

    def _pushes(self, pairs: Pairs, temperature: float) -> np.ndarray:
        """What KD asks of the student's logits on all second views, (n, K)."""
        teacher, student = ((z[1] / temperature).softmax(1) for z in (pairs.teacher, pairs.student))
        return (temperature * (teacher - student)).numpy()

    def _reach(self, pairs: Pairs) -> float:
        """Half of an axis that holds the pushes of all pairs at all temperatures, so that it stays as sliders move."""

        def reach() -> float:
            weights = np.maximum(1, np.abs(pairs.weight.numpy()))[:, None]
            return 1.1 * max(float(np.abs(weights * self._pushes(pairs, t)).max()) for t in TEMPERATURES) or 1.0

        return self.cached(("reach", *self._kept()), reach)

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
            "temperature": self.field("FloatSlider", "temperature", "temperature T", min=COLD, max=HOT, step=0.5),
            "weighting": self.field("Dropdown", "weighting", width="200px", options=WEIGHTINGS),
            "centred": self.field("Checkbox", "centred", "centred logits", "auto", indent=False),
            "reroll": self.button("Reroll", self.reroll, "Draw all second views again", "random"),
        }
