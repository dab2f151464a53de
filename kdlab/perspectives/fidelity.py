"""Claim (h): joint augmentation buys fidelity: its students say more often what their teacher says."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from scipy.stats import kendalltau

from kdlab import plotting, stats
from kdlab.perspectives import compatibility, joint_augmentation, teacher_augmentation
from kdlab.perspectives.profiles import Profile
from kdlab.plotting.look import FAINT, INK, LOOKS
from kdlab.spec import RunSpec
from kdlab.stats import Contrast

TITLE = "Fidelity to the teacher"
QUESTION = "Do students of joint augmentation follow their teacher more closely, and where: also where it is wrong?"
CLAIM = (
    "Joint augmentation buys fidelity: at equal cost its students agree with their teacher on more images than those "
    "of two weak views do, on new images, on corrupted ones, and where the teacher is wrong."
)
REFUTED_BY = (
    "Agreement with the teacher that is no higher under JDA than under two weak views of the same images: on test "
    "images, on corrupted test images, or on the test images that the teacher has wrong."
)
FORMULA = (
    "Agreement is the share of images on which student and teacher choose the same class. KD: CE + T² KL(teacher || "
    "student), T = 4. Augmented images are one JDA view of each training image, the same for all students of a seed; "
    "corrupted ones a thousand test images under each of 15 corruptions at strength 3 of 5."
)
FIGURES = {
    "agreement": "Agreement of student and teacher on four kinds of images. Every student is compared with its own "
    "teacher.",
    "wrong": "Agreement where the teacher is right, and where it is wrong. On an image that the teacher has wrong, to "
    "agree is to repeat its mistake.",
    "accuracy": "Accuracy of student and agreement with its teacher: an arrow for each method, from two weak views to "
    "JDA. Dotted: the accuracy of the weak teacher. Kendall's tau is between the two over the arms, with its 95 % "
    "t-interval.",
    "contrasts": "The contrasts, listed when seed 0 of three arms had been measured, in points of agreement. Bands "
    "are the margins within which a difference is negligible.",
}
MEASURES = ("fidelity",)
SETS = {"train": "Training images", "augmented": "Augmented training", "test": "Test images",
        "shifted": "Corrupted test images"}  # fmt: skip
# Points. The teacher has about a sixth of the test images wrong, so that chance weighs more than twice as much there.
WRONG_MARGIN = 1.0
AGREEMENT = "agreement (%)"
NOT_ALONE = ("simkd",)  # predicts by its teacher's classifier
SHOWN = ("kd", "weak2", "rotation", "jda")


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Distilled students of other notebooks that predict by themselves: arms of KD, and the grid on two views."""
    made = {name: spec for name, spec in joint_augmentation.arms(profile).items() if name in SHOWN}
    under = teacher_augmentation.arms(profile)
    made |= {name: under[name] for name in ("weak2 under jda teacher", "jda under jda teacher")}
    grid = compatibility.arms(profile)
    for method in (method for method in profile.grid if method not in ("kd", *NOT_ALONE)):
        names = [compatibility.arm(method, views) for views in ("weak2", "jda")]
        made |= {name: grid[name] for name in names if name in grid}
    return made


def contrasts(profile: Profile) -> list[Contrast]:
    """JDA over two weak views, on images of four kinds; on augmented training images it must, since it trains there."""
    where = {
        "on test images": ("fidelity.test.agreement", 0.5, "claim"),
        "on corrupted images": ("fidelity.shifted.agreement", 0.5, "claim"),
        "where the teacher is wrong": ("fidelity.test.agreement_wrong", WRONG_MARGIN, "claim"),
        "on augmented training images": ("fidelity.augmented.agreement", 0.5, "positive control"),
    }
    return [
        Contrast(
            f"JDA \u2212 weak2, {words}", {"jda": 1, "weak2": -1}, metric=metric, margin=margin, role=role,
            unit="points of agreement", subject=f"A JDA student, {words},", reference="one of two weak views",
        )
        for words, (metric, margin, role) in where.items()
    ]  # fmt: skip


def ranks(table: pd.DataFrame, where: str = "test") -> pd.Series:
    """Kendall's tau between agreement with the teacher and accuracy over the arms of each seed.

    Args:
        table: from the study.
        where: one of ``SETS``.

    Returns:
        A value in [-1, 1] for each seed; 1 where the arms have the same order by both.
    """
    columns = [f"fidelity.{where}.agreement", f"fidelity.{where}.accuracy"]
    seeds = table.groupby("seed")
    return pd.Series({seed: float(kendalltau(*(rows[c] for c in columns)).statistic) for seed, rows in seeds})


def summary(table: pd.DataFrame, arms: tuple[str, ...] = SHOWN) -> pd.DataFrame:
    """Means over seeds, one row per arm and kind of images.

    Args:
        table: from the study.
        arms: which of its arms.

    Returns:
        ``agreement``, ``agreement_right``, ``agreement_wrong``, ``accuracy`` and ``teacher_accuracy`` in percent,
        ``kl`` in nats, ``cka``.
    """
    what = ("agreement", "agreement_right", "agreement_wrong", "accuracy", "teacher_accuracy", "kl", "cka")
    rows = {
        (arm, where): {name: own[f"fidelity.{where}.{name}"].mean() for name in what}
        for arm, own in table[table["arm"].isin(arms)].groupby("arm", sort=False) for where in SETS
    }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["arm", "images"])


def figures(table, verdicts, profile: Profile) -> dict:
    """Agreement by kind of images; where the teacher is right or wrong; and accuracy over agreement."""
    kinds = [(title, f"fidelity.{where}.agreement", AGREEMENT) for where, title in SETS.items()]
    split = [
        (f"{SETS[where]},\nteacher {side}", f"fidelity.{where}.agreement_{side}", AGREEMENT)
        for where in ("test", "shifted") for side in ("right", "wrong")
    ]  # fmt: skip
    return {
        "agreement": plotting.dot_panels(table, SHOWN, kinds), "wrong": plotting.dot_panels(table, SHOWN, split),
        "accuracy": _accuracy(table),
    }  # fmt: skip


def _accuracy(table: pd.DataFrame):
    """Test images left, corrupted ones right: each method's mean agreement and accuracy on both kinds of views."""
    figure = plotting.figure(3.4, plotting.PAGE)
    for ax, where in zip(figure.subplots(1, 2), ("test", "shifted"), strict=True):
        mean = table.groupby("arm")[[f"fidelity.{where}.{name}" for name in ("agreement", "accuracy")]].mean()
        pairs = _pairs(mean.index)
        for weak2, jda in pairs.values():
            color = LOOKS["jda"][1] if jda == "jda" else FAINT
            arrow = {"arrowstyle": "-|>", "color": color, "lw": 1, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", mean.loc[jda], mean.loc[weak2], arrowprops=arrow)
            ax.plot(*mean.loc[weak2], marker="o", ms=2.5, color=color)
            ax.update_datalim([mean.loc[jda]])
        teacher = table.loc[table["arm"] == "jda", f"fidelity.{where}.teacher_accuracy"].mean()
        ax.axhline(teacher, color=INK, lw=0.8, ls=":")
        tau = stats.interval(ranks(table, where))
        ax.set_title(
            f"{SETS[where]}\nKendall's tau {tau.mean:.2f} [{tau.low:.2f}, {tau.high:.2f}]".replace("-", "\u2212")
        )
        ax.set(xlabel="agreement with the teacher (%)", ylabel="accuracy (%)")
        ax.margins(0.08)
        ax.grid(True)
        plotting.point_names(ax, {name: tuple(mean.loc[jda]) for name, (_, jda) in pairs.items()})
    return figure


def _pairs(arms: Iterable[str]) -> dict[str, tuple[str, str]]:
    """What the figure calls a method to its arms on two weak views and on JDA."""
    there = {*arms}
    pairs = {"KD": ("weak2", "jda"), "KD, JDA teacher": ("weak2 under jda teacher", "jda under jda teacher")}
    methods = dict.fromkeys(arm.split()[0] for arm in arms if arm.endswith(" jda"))
    pairs |= {compatibility.label(m): (f"{m} weak2", f"{m} jda") for m in methods}
    return {name: pair for name, pair in pairs.items() if {*pair} <= there}
