"""Claim (f): weights by the teacher's confidence beat KD + JDA, at less storage than HSAKD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kdlab import plotting
from kdlab.lab.validation import refusal
from kdlab.perspectives import recipes, weight_shares
from kdlab.perspectives.joint_augmentation import NULL_MARGIN
from kdlab.perspectives.profiles import Profile
from kdlab.plotting.look import FAINT, INK
from kdlab.spec import RunSpec
from kdlab.stats import Contrast, interval

TITLE = "Weights by the teacher's confidence"
QUESTION = "Does a student learn more when each augmented image counts by how far its teacher agrees with itself on it?"
CLAIM = (
    "Cosine confidence distillation (CCD) beats KD + JDA, and its weights do it: which image gets how much weight, and "
    "not how large the weights are on average."
)
REFUTED_BY = (
    "CCD at or below KD + JDA, which gives every image a weight of 1; or at or below CCD with the same weights "
    "shuffled among the pairs of a step; or at or below CCD with their mean for every pair."
)
FORMULA = (
    "KD: CE + T² KL(teacher || student), T = 4, mean over all rows; CCD multiplies the KL of each augmented row by "
    "w = 1 + cos of the teacher's logits on the pair."
)
FIGURES = {
    "arms": "Test accuracy of the student. All CCD arms see the same weak and augmented views as KD + JDA and differ "
    "in the weights of the augmented ones alone: their mean set to 1, their mean for every pair of a step, shuffled "
    "among the pairs of a step, or from logits without their mean. HSAKD sees the four quarter turns of each original.",
    "weights": "Who gets weight: its distribution, by whether the teacher is right, by class, and what each operation "
    "adds. KD + JDA's 1 is dashed, as are the mean of all pairs and no effect; an operation adds where it fired. "
    "Made anew from the teachers in the store, on the first 2,000 pairs that the students of each of them saw.",
    "pairs": "Pairs from the tenth with the most weight and from the tenth with the least. They are of the first seed "
    "whose teacher is in the store: the weak view above, the augmented one below, with the label, the teacher's first "
    "choice on each view where it is another one, and the operations that fired.",
    "costs": "What KD + JDA, CCD and HSAKD reach at equal epochs, and what each of them costs. Costs are images "
    "labelled by the teacher (before the student trains, and while it does) and network weights in memory while the "
    "student trains. HSAKD's student sees twice as many rows.",
}
LABELS = {
    "jda": "KD + JDA", "ccd normalised": "CCD, mean set to 1", "ccd constant": "CCD, mean for all",
    "ccd shuffled": "CCD, shuffled", "ccd centred": "CCD, centred logits", "hsakd": "HSAKD",
}  # fmt: skip
VARIANTS = {
    "normalised": {"weighting": "normalised"}, "constant": {"weighting": "constant"},
    "shuffled": {"weighting": "shuffled"}, "centred": {"centred": True},
}  # fmt: skip
DRAWN = ("ce", "kd", "weak2", "jda", "ccd", *(f"ccd {name}" for name in VARIANTS), "hsakd")
COMPARED = ("jda", "ccd", "hsakd")
TEACHER, HEADS = "teacher", "hsakd heads"
BEFORE, DURING = "before", "during"
HELD = ("student", "student's heads", "teacher", "teacher's heads")
SHADES = ("#0072B2", "#8FC5E8", "#555555", "#BDBDBD")
NO_TEACHER = "No teacher of these seeds is in the store. Train one,\nlab.run([study.arms['teacher']]), and save again."
MOST = 14  # groups of a panel; of more, those with the most and the least


def arms(profile: Profile) -> dict[str, RunSpec]:
    """CE, KD, weak2, KD + JDA, CCD and its controls, other streams as the null control; HSAKD with its teacher."""
    kd = recipes.kd(profile)
    made = {TEACHER: recipes.teacher(profile), "ce": recipes.ce(profile), "kd": kd, "weak2": recipes.weak2(kd)}
    made |= {"jda": recipes.augmented(kd, profile), "ccd": recipes.augmented(recipes.kd(profile, "ccd"), profile)}
    made |= {f"ccd {name}": made["ccd"].replace(method_options=options) for name, options in VARIANTS.items()}
    hsakd = recipes.method(profile, "hsakd")
    if refusal(hsakd) is None:
        made |= {HEADS: recipes.method(profile, "hsakd_heads"), "hsakd": hsakd}
    return made | {"kd again": kd.replace(replicate=1)}


def contrasts(profile: Profile) -> list[Contrast]:
    """CCD against KD + JDA, against its own weights shuffled and against their mean; and two controls."""
    return [
        Contrast("CCD − (KD + JDA)", {"ccd": 1, "jda": -1}, text="the paper's claim: does CCD help?",
                 reference="KD + JDA"),
        Contrast("CCD − shuffled", {"ccd": 1, "ccd shuffled": -1}, reference="CCD with its weights shuffled",
                 text="the same weights on other pairs: do the weights do it?"),
        Contrast("CCD − constant", {"ccd": 1, "ccd constant": -1}, reference="CCD with the mean weight for every pair",
                 text="the same mean for all: is it more than a scale?"),
        Contrast("KD − CE", {"kd": 1, "ce": -1}, role="positive control", text="distillation works at all here",
                 reference="labels alone"),
        Contrast(
            "KD − KD under other streams", {"kd": 1, "kd again": -1}, expects="equivalent", margin=NULL_MARGIN,
            role="null control", text="one run against itself: nothing should be found",
        ),
    ]  # fmt: skip


def measure(profile: Profile) -> dict[str, Any]:
    """What the figures ``weights`` and ``pairs`` show beside the table, as of ``weight_shares.measure``."""
    return weight_shares.measure(arms(profile)["ccd"].at_seed(seed) for seed in profile.seeds)


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy beside what it takes, one row per method; HSAKD's row counts the training of its teacher's heads.

    Args:
        table: from the study.

    Returns:
        ``test_accuracy`` and its 95 % t-interval ``low`` to ``high``; ``student images``; images that the teacher
        labelled ``before`` the student trained and ``during``; and weights of networks in memory while it trains: of
        the ``student``, ``student's heads`` (dropped afterwards), ``teacher`` and ``teacher's heads`` (to be kept).
    """
    first, rows = table.groupby("arm", sort=False).first(), {}
    for arm in (arm for arm in COMPARED if arm in first.index):
        finished = table[(table["arm"] == arm) & ~table["diverged"].astype(bool)]
        accuracy = interval(finished["test_accuracy"])
        mine, heads = first.loc[arm], first.loc[HEADS] if arm == "hsakd" else None
        held = (mine["parameters"], mine["method_parameters"], first.loc[TEACHER, "parameters"],
                0 if heads is None else heads["method_parameters"])  # fmt: skip
        rows[LABELS.get(arm, "CCD")] = {
            "test_accuracy": accuracy.mean, "low": accuracy.low, "high": accuracy.high,
            "student images": mine["student_images"],
            BEFORE: 0 if heads is None else heads["teacher_forwards"], DURING: mine["teacher_forwards"],
            **dict(zip(HELD, held, strict=True)),
        }  # fmt: skip
    whole = ["student images", BEFORE, DURING, *HELD]
    return pd.DataFrame.from_dict(rows, orient="index").astype(dict.fromkeys(whole, int))


def figures(table, verdicts, profile: Profile, measured: dict[str, Any]) -> dict:
    """The arms with their seeds, who gets weight, some pairs, and the costs.

    Args:
        table: from the study.
        verdicts: of its contrasts; not drawn here.
        profile: of the study.
        measured: from ``measure``.
    """
    there = set(table["arm"])
    drawn = [arm for arm in DRAWN if arm in there]
    dots = plotting.figure(0.5 + 0.32 * len(drawn))
    plotting.interval_dots(dots.subplots(), table, drawn, looks={arm: _look(arm) for arm in drawn})
    return {
        "arms": dots, "weights": _weights(measured.get("weights")), "pairs": _pairs(measured.get("pairs")),
        "costs": _costs(table, [arm for arm in COMPARED if arm in there]),
    }  # fmt: skip


def _look(arm: str) -> dict[str, str]:
    """An arm looks the same in both figures."""
    look = plotting.style(arm, DRAWN.index(arm))
    return look | {"label": LABELS.get(arm, look["label"])}


def _blank():
    figure = plotting.figure(1.2, plotting.PAGE)
    ax = figure.subplots()
    ax.set_axis_off()
    ax.text(0.5, 0.5, NO_TEACHER, ha="center", va="center")
    return figure


def _weights(found: dict[str, Any] | None):
    """Distribution, teacher's errors, classes, operations; a sentence where nothing was measured."""
    if not found:
        return _blank()
    rows = pd.DataFrame(found["groups"]).rename(columns={"name": "arm"})
    figure = plotting.figure(5.6, plotting.PAGE)
    (first, second), (third, fourth) = figure.subplots(2, 2, height_ratios=(1, 2))
    _distribution(first, pd.DataFrame(found["histograms"]))
    classes = rows[rows["by"] == "class"]
    mean = np.average(classes["weight"], weights=classes["pairs"])
    panels = (
        (second, "teacher", "By the teacher's answers", "mean weight", mean),
        (third, "class", "By class", "mean weight", mean),
        (fourth, "operation", "By operation that fired", "mean weight with it − without", 0.0),
    )
    for ax, by, title, label, line in panels:
        own = rows[rows["by"] == by]
        order = own.groupby("arm")["weight"].mean().sort_values(ascending=False).index.tolist()
        if len(order) > MOST:
            order = order[: MOST // 2] + order[-MOST // 2 :]
        looks = {name: {"color": SHADES[0], "marker": "D", "label": name} for name in order}
        plotting.interval_dots(ax, own, order, value="weight", label=label, looks=looks)
        ax.axvline(line, color=INK, lw=0.8, ls="--", zorder=1)
        ax.set_title(title)
    return figure


def _distribution(ax, rows: pd.DataFrame) -> None:
    """Share of pairs by weight, the mean over seeds; its mean and standard deviation in the legend."""
    middle = (weight_shares.BINS[1:] + weight_shares.BINS[:-1]) / 2
    for (kind, own), color, line in zip(rows.groupby("kind", sort=False), SHADES[::2], ("-", "--"), strict=True):
        label = f"{kind}: mean {own['mean'].mean():.2f}, SD {own['sd'].mean():.2f}"
        heights = 100 * np.mean(own["shares"].tolist(), axis=0)
        ax.plot(middle, heights, drawstyle="steps-mid", color=color, ls=line, lw=1.4, label=label)
    ax.axvline(1, color=FAINT, lw=0.8, ls="--")
    ax.set(xlabel="weight w", ylabel="pairs (%)", xlim=(0, 2))
    ax.set_title("All pairs")
    ax.legend(loc="upper left")


def _pairs(found: list[dict[str, Any]] | None):
    """Two rows of pairs; a sentence where nothing was measured."""
    if not found:
        return _blank()
    figure = plotting.figure(6.2, plotting.PAGE)
    for part, end in zip(figure.subfigures(2, squeeze=False)[:, 0], ("most", "least"), strict=True):
        shown = [picture for picture in found if picture["end"] == end]
        part.suptitle(f"{end.capitalize()} weight", x=0.01, ha="left", fontweight="bold", fontsize=8)
        for column, picture in zip(part.subplots(2, len(shown), squeeze=False).T, shown, strict=True):
            for ax, image in zip(column, weight_shares.pixels(picture), strict=True):
                ax.imshow(image, cmap="gray", vmin=0, vmax=255)
                ax.set_axis_off()
            column[0].set_title(f"w = {picture['weight']:.2f}\n{picture['label']}", fontsize=7, fontweight="normal")
            column[1].text(
                0.5, -0.05, _words(picture), transform=column[1].transAxes, ha="center", va="top", fontsize=6
            )
    return figure


def _words(picture: dict[str, Any]) -> str:
    """The teacher's first choices where they are not the label, and the operations, in short lines."""
    said = [f"{view}: {picture[name]}" for view, name in (("weak", "first"), ("aug.", "second"))
            if picture[name] != picture["label"]]  # fmt: skip
    names = picture["operations"] or ["(nothing fired)"]
    return "\n".join([*said, *(", ".join(names[i : i + 2]) for i in range(0, len(names), 2))])


def _costs(table: pd.DataFrame, there: list[str]):
    """Accuracy, the teacher's images and the networks' weights, one row per method."""
    figure, found = plotting.figure(1.9, plotting.PAGE), costs(table)
    first, second, third = figure.subplots(1, 3, sharey=True)
    looks = {arm: _look(arm) for arm in there}
    plotting.interval_dots(first, table, there, looks=looks)
    for ax, columns, label, shades in (
        (second, (BEFORE, DURING), "images labelled by the teacher (thousands)", SHADES[:2]),
        (third, HELD, "weights in memory (thousands)", SHADES),
    ):
        left = np.zeros(len(found))
        for column, shade in zip(columns, shades, strict=True):
            ax.barh(range(len(found)), found[column] / 1000, left=left, height=0.5, color=shade, label=column)
            left = left + found[column].to_numpy() / 1000
        ax.axvline(0, color=INK, lw=0.8)
        ax.set_xlabel(label)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=6)
    return figure
