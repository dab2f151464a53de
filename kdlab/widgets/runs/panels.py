"""Charts of finished runs: the seeds and means of arms, paired differences with their verdicts, and a notice."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kdlab import stats
from kdlab.plotting.look import FAINT, INK
from kdlab.plotting.panels import EFFECT, MINUS, OUTCOME_LOOKS
from kdlab.widgets.charts.chart import Axis, Mark, Panel, about, names, rule
from kdlab.widgets.charts.tiles import Tiles, Words

NARROW = 28  # letters of an arm's name on an axis


def notice(text: str) -> Tiles:
    """A text in place of a picture."""
    return Tiles([[Words(text, size=16)]], 300, 600)


def arms_panel(
    table: pd.DataFrame, arms: Mapping[str, str], looks: Mapping[str, dict], metric: str, title: str,
    line: float | None = None, opens: Mapping[tuple[str, int], str] | None = None,
) -> Panel:  # fmt: skip
    """Seeds, mean and 95 % t-interval of each arm, a row each; a thin line joins the runs of a seed.

    Args:
        table: runs with the columns ``arm``, ``seed``, ``diverged`` and the metric.
        arms: arm to what stands at its row, from above to below.
        looks: color and marker by arm.
        metric: the accuracy.
        title: of the panel.
        line: the linear model's value of it, where known.
        opens: the option of the menu ``run`` that a dot chooses, by arm and seed; None leaves dots without.
    """
    good = table[~table["diverged"].astype(bool)]
    wide = good.pivot(index="seed", columns="arm", values=metric).astype(float).reindex(columns=list(arms))
    rows, marks, shown = np.arange(len(arms)), [], [] if line is None else [line]
    down = names([textwrap.shorten(word, NARROW, placeholder=" …") for word in arms.values()])
    if line is not None:
        marks.append(rule(down, x=line, color=INK, width=1.2, dash=":", name="linear model"))
    along = [place for _ in range(len(wide)) for place in (*(rows + 0.2), np.nan)]
    seeds = [value for values in wide.to_numpy() for value in (*values, np.nan)]
    marks.append(Mark("line", seeds, along, FAINT, width=0.8, strength=0.55))
    for row, arm in enumerate(arms):
        color, mean = looks[arm]["color"], stats.interval(wide[arm])
        told = [f"{arm}, seed {seed}: {value:.2f} %" for seed, value in wide[arm].items()]
        marks += [
            Mark("points", wide[arm], [row + 0.2] * len(wide), color, told=told, size=6, menu="run" if opens else "",
                 opens=[opens.get((arm, seed), "") for seed in wide.index] if opens else ()),
            Mark("segments", [mean.low], [row - 0.14], color, [mean.high], [row - 0.14], width=3),
            Mark("points", [mean.mean], [row - 0.14], color, told=[f"{arm}: {interval_text(mean)}"],
                 marker=looks[arm]["marker"], size=12),
        ]  # fmt: skip
        shown += [mean.low, mean.high, *wide[arm]]
    across = Axis(*about(shown), f"{metric.replace('_', ' ')} (%)")
    return Panel(title, across, down, marks, 60 + 62 * len(arms), 380)


def verdict_panel(verdicts: Sequence[stats.Verdict], rows: Sequence[str], title: str) -> Panel:
    """Paired differences: one row per contrast with its margin as a band, its seeds, its interval and its outcome.

    Args:
        verdicts: all in one unit.
        rows: what stands at each.
        title: of the panel.
    """
    short = (textwrap.shorten(row, NARROW, placeholder=" …") for row in rows)
    down = names([f"{word}: {verdict.outcome}" for word, verdict in zip(short, verdicts, strict=True)])
    margins, places = np.array([v.contrast.margin for v in verdicts], float), np.arange(len(rows))
    shown = [0.0, *margins, *-margins]
    marks = [Mark("rects", -margins, places - 0.35, FAINT, margins, places + 0.35, strength=0.22),
             rule(down, x=0.0, color=INK, width=1.2)]  # fmt: skip
    for row, verdict in enumerate(verdicts):
        look, values = OUTCOME_LOOKS[verdict.outcome], verdict.differences
        told = [f"seed {seed}: {value:+.2f}".replace("-", MINUS) for seed, value in values.items()]
        seeds = [row + 0.2] * len(values)
        hollow = look.get("markerfacecolor") == "white"
        marks += [
            Mark("points", list(values.values()), seeds, look["color"], told=told, size=6, strength=0.7),
            Mark("segments", [verdict.low], [row - 0.1], look["color"], [verdict.high], [row - 0.1], width=3),
            Mark("points", [verdict.effect], [row - 0.1], look["color"], told=[verdict.reason], marker=look["marker"],
                 size=12, hollow=hollow),
        ]  # fmt: skip
        shown += [verdict.low, verdict.high, *values.values()]
    across = Axis(*about(shown), EFFECT.format(unit="points", bounds="intervals"))
    return Panel(title, across, down, marks, 60 + 62 * len(rows), 380)


def comparison(
    table: pd.DataFrame, arms: Mapping[str, str], looks: Mapping[str, dict], verdict: stats.Verdict | None, metric: str,
    line: float | None = None, opens: Mapping[tuple[str, int], str] | None = None,
) -> list[Panel]:  # fmt: skip
    """One or two arms, and their paired difference beside them.

    Args:
        table: runs of the arms, whose column ``arm`` holds ``"A"`` and ``"B"``.
        arms: names of A and B.
        looks: of A and B.
        verdict: on A minus B, or None where there are no two arms.
        metric: column that is compared.
        line: the linear model's value of it, where known.
        opens: as in ``arms_panel``.
    """
    words = {letter: f"{letter}: {name}" for letter, name in arms.items()}
    first = arms_panel(table, words, looks, metric, "Two arms" if verdict else "One arm", line, opens)
    return [first, verdict_panel([verdict], [f"A {MINUS} B"], "Paired by seed")] if verdict else [first]


def interval_text(mean: stats.Interval) -> str:
    """``75.13 % (95 % interval 74.13 to 76.13), 6 seeds``."""
    if mean.n < 2:
        return f"{mean.mean:.2f} %, one seed: no interval" if mean.n else "no finished seed"
    return f"{mean.mean:.2f} % (95 % interval {mean.low:.2f} to {mean.high:.2f}), {mean.n} seeds"
