"""Claim (k): a teacher should look at the very view that its student sees, and the more so the stronger the view."""

from __future__ import annotations

from itertools import product

import pandas as pd

from kdlab import plotting, stats
from kdlab.perspectives import joint_augmentation, recipes
from kdlab.perspectives.joint_augmentation import NULL_MARGIN
from kdlab.perspectives.profiles import Profile
from kdlab.spec import RunSpec
from kdlab.stats import Contrast

TITLE = "What the teacher looks at"
QUESTION = "Should the teacher label the student's view, the original behind it, or a view of its own?"
CLAIM = (
    "A student learns most when its teacher looks at the same view as itself: more than from the teacher's answer to "
    "the clean original, more than from its answer to another view of it, and by more the stronger the view."
)
REFUTED_BY = (
    "A student that learns no less from the answer to the clean original, or to a view of the teacher's own draw; or a "
    "lead of the same view that is no larger under JDA than on weak views."
)
FORMULA = (
    "KD: CE + T² KL(teacher || student), T = 4, one view of each original a step, every view augmented. The teacher's "
    "answer is to the student's view (same), to the original as it is (clean), or to another draw of the same "
    "augmentation (its own)."
)
FIGURES = {
    "accuracy": "Accuracy by the student's view and by what the teacher looks at. Where there is no augmentation all "
    "three are one; of a CutMix view, which belongs to two originals, a teacher can only see the same one.",
    "lead": "What the same view gains over the clean original, and over a view of the teacher's own, by the student's "
    "view: paired differences.",
    "contrasts": "The contrasts listed before the runs. Bands are the margins within which a difference is negligible.",
}
VIEWS = {"weak": "weak", "jda": "JDA"}
SEES = {"same": "the same view", "clean": "the original", "independent": "its own view"}
NONE, MIXED = "none", "cutmix, same"  # a mixed view belongs to two originals: a teacher can only look at the same one


def arm(views: str, sees: str) -> str:
    """Name of an arm: ``"jda, clean"``."""
    return f"{views}, {sees}"


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Students of two kinds of views, a teacher that looks at three; none, CutMix; two controls."""
    kd = recipes.kd(profile)

    def every(policy: str) -> RunSpec:
        return recipes.augmented(kd, profile, policy, views=1, ratio=1.0)

    by = {"weak": kd, "jda": every("jda")}
    made = {"ce": recipes.ce(profile), NONE: every("identity")}
    made |= {arm(views, sees): by[views].replace(teacher_view=sees) for views, sees in product(VIEWS, SEES)}
    made[MIXED] = every("cutmix")
    return made | {"kd again": joint_augmentation.arms(profile)["kd again"]}


def lead(views: str, over: str, by: float = 1.0) -> dict[str, float]:
    """What the same view gains over another one that the teacher may look at, as weights of arms.

    Args:
        views: one of ``VIEWS``.
        over: one of ``SEES``.
        by: factor.
    """
    return {arm(views, "same"): by, arm(views, over): -by}


def contrasts(profile: Profile) -> list[Contrast]:
    """The same view over the original and over another one; its lead under JDA over that on weak ones; controls."""

    def mean(over: str) -> dict[str, float]:
        return {name: weight for views in VIEWS for name, weight in lead(views, over, 1 / len(VIEWS)).items()}

    same = "A teacher that looks at the same view"
    return [
        Contrast("same view \u2212 original", mean("clean"), text="mean over weak and JDA views", subject=same,
                 reference="one that looks at the original"),
        Contrast("same view \u2212 its own view", mean("independent"), text="mean over weak and JDA views",
                 subject=same, reference="one that looks at a view of its own"),
        Contrast("lead of the same view: JDA \u2212 weak", lead("jda", "clean") | lead("weak", "clean", -1.0),
                 text="over the original", subject="The lead of the same view under JDA",
                 reference="its lead on weak views"),
        Contrast("KD \u2212 CE", {arm("weak", "same"): 1, "ce": -1}, role="positive control", reference="labels alone",
                 text="distillation works at all here"),
        Contrast(
            "KD \u2212 KD under other streams", {arm("weak", "same"): 1, "kd again": -1}, expects="equivalent",
            margin=NULL_MARGIN, role="null control", text="one run against itself: nothing should be found",
        ),
    ]  # fmt: skip


def by_views(table: pd.DataFrame) -> pd.DataFrame:
    """One row per student and seed with what it sees (``views``) and what its teacher does (``sees``).

    Args:
        table: from the study. The student without augmentation stands there three times, as all three are one.
    """
    names = {arm(views, sees): (title, said) for (views, title), (sees, said) in product(VIEWS.items(), SEES.items())}
    parts = [table[table["arm"] == NONE].assign(views="none", sees=said) for said in SEES.values()]
    names[MIXED] = ("CutMix", SEES["same"])
    parts += [table[table["arm"] == name].assign(views=title, sees=said) for name, (title, said) in names.items()]
    return pd.concat(parts, ignore_index=True)


def figures(table, verdicts, profile: Profile) -> dict:
    """Accuracy by both kinds of views, and what the same view gains."""
    accuracy, gains = plotting.figure(2.6), plotting.figure(2.6)
    plotting.line_with_interval(
        accuracy.subplots(), by_views(table), "views", by="sees", xlabel="the student sees", legend="the teacher sees"
    )
    rows = [
        {"views": title, "over": SEES[over], "seed": seed, "lead": value}
        for (views, title), over in product(VIEWS.items(), ("clean", "independent"))
        for seed, value in stats.paired_differences(table, lead(views, over))[0].items()
    ]  # fmt: skip
    plotting.line_with_interval(
        gains.subplots(), pd.DataFrame(rows), "views", value="lead", by="over", zero=True, xlabel="the student sees",
        ylabel="lead of the same view (points)", legend="over",
    )  # fmt: skip
    return {"accuracy": accuracy, "lead": gains}
