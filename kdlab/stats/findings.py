"""Whether runs can speak about a claim at all: what is looked at before a verdict is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdlab import metrics
from kdlab.stats.contrasts import Contrast
from kdlab.stats.images import sampling_noise

RISE = 1.0  # points on val over the last quarter of training
LEVEL = 0.01  # of the test that an arm is above chance
NAMED = 3  # arms or contrasts that a sentence names
WELL = "nothing found against these runs (chance, convergence, teachers, number of images, as far as they are known)."


@dataclass(frozen=True)
class Finding:
    """Something that weakens every verdict on some runs.

    Args:
        word: for a badge, ``"not converged"``.
        sentence: what was found, with the numbers.
        remedy: what to do.
    """

    word: str
    sentence: str
    remedy: str


def health(
    table: pd.DataFrame, contrasts: Sequence[Contrast] = (), bar: Mapping[str, Any] | None = None,
    right: Callable[[str], np.ndarray | None] | None = None,
) -> list[Finding]:  # fmt: skip
    """What is wrong with some runs, the worst first.

    An arm is at chance where the mean of its val accuracy is not above the largest class's share (one-sided binomial
    test, p >= 1 %), and below the linear model where it is above chance and lies below that model's, on as many images;
    not converged where val still rose by more than a point over the last quarter of training, in the
    mean over seeds. A teacher is poor where the mean of its val accuracy lies below that of its students, or below the
    linear model's. A split is too small for a contrast whose noise from the draw of images (``sampling_noise``) is
    larger than its margin. What the arguments do not tell is not looked at.

    Args:
        table: runs with ``arm``, ``diverged``, ``val_accuracy``, and where known ``val_rise``,
            ``teacher_val_accuracy`` and ``fraction``.
        contrasts: what is to be judged.
        bar: the linear model's ``val_accuracy``, the largest class's ``val_share`` in percent, and the images of val,
            ``val_images``.
        right: key of a run to which test images it answers right, bool (N,).

    Returns:
        Nothing where all is well.
    """
    good = table[~table["diverged"].astype(bool)] if "diverged" in table else table
    columns = [c for c in ("val_accuracy", "val_rise", "teacher_val_accuracy") if c in good]
    means = good.groupby("arm", sort=False)[columns].mean().reindex(columns=columns)
    whole = set(good.loc[good["fraction"] == 1, "arm"]) if "fraction" in good else set(means.index)
    found = [*_chance(means, bar or {}), *_below(means.loc[[arm in whole for arm in means.index]], bar or {})]
    found += [*_converged(means), *_teachers(means, bar or {})]
    return [*found, *_images(table, contrasts, bar or {}, right)]


def health_line(findings: Iterable[Finding | Mapping[str, str]]) -> str:
    """Findings as a paragraph that begins with ``Health:``; a short line where there are none.

    Args:
        findings: from ``health``, or as they stand in a verdict's file.
    """
    plain = [f if isinstance(f, Mapping) else vars(f) for f in findings]
    return f"Health: {' '.join('{word}: {sentence} {remedy}'.format(**f) for f in plain) or WELL}"


def at_chance(accuracy: pd.Series, bar: Mapping[str, Any]) -> dict[Any, str]:
    """The arms that are not above chance (``health``), with their accuracies in words.

    Args:
        accuracy: mean val accuracy in percent by arm; NaN where there is none.
        bar: as in ``health``.
    """
    share, images = bar.get("val_share"), bar.get("val_images")
    if share is None or not images:
        return {}
    return {
        arm: f"{value:.1f} %" for arm, value in accuracy.dropna().items()
        if metrics.chance_p(round(value / 100 * images), images, share / 100) >= LEVEL
    }  # fmt: skip


def _chance(means: pd.DataFrame, bar: Mapping[str, Any]) -> list[Finding]:
    if not (lost := at_chance(means["val_accuracy"], bar)):
        return []
    chance = f"({bar['val_share']:.1f} %, the largest class's share)"
    said = f"{_named(lost)} on val {_is(lost)} not above chance {chance}."
    return [Finding("at chance", said, "Train longer (--epochs), or look at the data: `kdlab data NAME`.")]


def _below(means: pd.DataFrame, bar: Mapping[str, Any]) -> list[Finding]:
    line, lost = bar.get("val_accuracy"), at_chance(means["val_accuracy"], bar)
    values = means["val_accuracy"].dropna().items()
    below = {arm: f"{value:.1f} %" for arm, value in values if line is not None and value < line and arm not in lost}
    if not below:
        return []
    said = f"{_named(below)} on val {_is(below)} below a linear model on the pixels ({line:.1f} %)."
    remedy = "Train longer (--epochs); where one method alone is, try its weight: `kdlab tune NAME`."
    return [Finding("below the linear model", said, remedy)]


def _converged(means: pd.DataFrame) -> list[Finding]:
    rise = means["val_rise"].dropna() if "val_rise" in means else pd.Series(dtype=float)
    rising = {arm: f"{value:+.1f}" for arm, value in rise.items() if value > RISE}
    said = f"{_named(rising)} points on val over the last quarter of training, and still rising."
    return [Finding("not converged", said, "Train longer (--epochs).")] * bool(rising)


def _teachers(means: pd.DataFrame, bar: Mapping[str, Any]) -> list[Finding]:
    taught = means.dropna(subset=["teacher_val_accuracy"]) if "teacher_val_accuracy" in means else means.iloc[:0]
    found, remedy = [], "Train the teacher longer (--teacher-epochs), or take a larger one (--teacher)."
    pairs = taught.to_dict("index").items()
    below = {
        arm: f"{row['teacher_val_accuracy']:.1f} % against {row['val_accuracy']:.1f} %"
        for arm, row in pairs if row["teacher_val_accuracy"] < row["val_accuracy"]
    }  # fmt: skip
    if below:
        said = f"On val teachers are right less often than their students: {_named(below)}."
        found.append(Finding("teacher below student", said, remedy))
    line = bar.get("val_accuracy")
    poor = {
        arm: f"{row['teacher_val_accuracy']:.1f} %"
        for arm, row in pairs if line is not None and row["teacher_val_accuracy"] < line
    }  # fmt: skip
    if poor:
        said = f"A linear model reaches {line:.1f} % on val, the teacher of {_named(poor)}."
        found.append(Finding("teacher below the linear model", said, remedy))
    return found


def _images(table: pd.DataFrame, contrasts: Sequence[Contrast], bar: Mapping[str, Any], right) -> list[Finding]:
    found = []
    for split, images in (("val", bar.get("val_images", 0)), ("test", None)):
        small = {}
        for contrast in contrasts if right else ():
            if contrast.metric == f"{split}_accuracy":
                noise = sampling_noise(table, contrast.weights, right, images)
                if noise > contrast.margin:
                    small[contrast.name] = f"±{noise:.2f} {contrast.unit} against a margin of {contrast.margin:g}"
        if small:
            said = f"A seed's effect moves with the draw of {split} images: {_named(small)}."
            found.append(Finding(f"{split} too small", said, f"Take more {split} images, or a wider margin."))
    return found


def _named(values: Mapping[Any, str]) -> str:
    """``"jda (+1.4), weak2 (+1.2) and 3 more"``."""
    shown = [f"{name} ({value})" for name, value in list(values.items())[:NAMED]]
    more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
    return ", ".join(shown) + more


def _is(values: Mapping[Any, str]) -> str:
    return "is" if len(values) == 1 else "are"
