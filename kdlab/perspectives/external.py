"""Claim (i): what joint augmentation gains in distillation is worth more, not less, on images from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from kdlab import plotting
from kdlab.perspectives import ccd, joint_augmentation, teacher_augmentation
from kdlab.perspectives.profiles import Profile
from kdlab.plotting.look import LOOKS
from kdlab.spec import RunSpec
from kdlab.stats import Contrast

TITLE = "Images from elsewhere"
QUESTION = "Does augmentation in distillation buy performance that holds on changed images, or internal accuracy only?"
CLAIM = (
    "With everything frozen on internal validation, a student of joint augmentation does better on corrupted images of "
    "kinds that it has never seen: more accurate, better calibrated, and more so with a teacher than without."
)
REFUTED_BY = (
    "Balanced accuracy under corruption that is no higher, or a calibration error that is no lower, than of two weak "
    "views at equal cost; or a gain under corruption that is no larger with a teacher than without."
)
FORMULA = (
    "Frozen on val: the temperature of the smallest NLL, a threshold for each class, the confidence from which it "
    "answers. Corrupted: a thousand test images under each of 13 corruptions that no operation of the policy is kin "
    "to, at five strengths, mean over all. KD: CE + T² KL(teacher || student), T = 4; CE: hard labels only."
)
FIGURES = {
    "accuracy": "Balanced accuracy on the test images, on corrupted ones, and on those changed by what JDA's "
    "operations are kin to (brightness, contrast, inversion).",
    "kinds": "Balanced accuracy by kind of change, the mean over strengths.",
    "trust": "Whether a network knows what it does not know, on corrupted images. Its calibration error at the frozen "
    "temperature; the share of wrong answers among those it gives at the frozen confidence; and the share of sets on "
    "which AUC hides a loss: it moves by less than 0.02 while balanced accuracy loses more than five points.",
    "contrasts": "The contrasts, listed when seed 0 of two arms had been measured. Bands are the margins within which "
    "a difference is negligible.",
}
MEASURES = ("external",)
STUDENTS = ("ce", "ce weak2", "ce jda", "kd", "weak2", "rotation", "jda", "kd again")
UNDER = ("teacher weak", "teacher jda", "weak2 under jda teacher", "jda under jda teacher")
KINDS = {"noise": "Noise", "blur": "Blur", "weather": "Weather", "digital": "Digital",
         "renderings": "Other renderings", "kin": "Kin to JDA"}  # fmt: skip
LABELS = joint_augmentation.LABELS | {
    "teacher weak": "teacher", "teacher jda": "JDA teacher", "weak2 under jda teacher": "weak2, JDA teacher",
    "jda under jda teacher": "JDA, JDA teacher",
}  # fmt: skip
SHOWN = ("teacher weak", "teacher jda", "ce weak2", "ce jda", "weak2", "rotation", "jda", "ccd",
         "weak2 under jda teacher", "jda under jda teacher")  # fmt: skip
BALANCED = "Balanced accuracy (%)"
# Points, for one run against itself under other streams: see ``joint_augmentation.NULL_MARGIN``, and corrupted
# images scatter by as much again.
NULL_MARGIN = 2.0


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Students with and without a teacher by their views, two teachers, and the students of the one trained on JDA."""
    joint, under = joint_augmentation.arms(profile), teacher_augmentation.arms(profile)
    made = {name: joint[name] for name in STUDENTS if name in joint} | {name: under[name] for name in UNDER}
    return made | {"ccd": ccd.arms(profile)["ccd"]}


def contrasts(profile: Profile) -> list[Contrast]:
    """JDA over two weak views on corrupted images, in accuracy, in calibration, and with a teacher over without."""
    plain, where = {"jda": 1, "weak2": -1}, "external.corrupted"
    gains = {"jda": 1, "weak2": -1, "ce jda": -1, "ce weak2": 1}
    return [
        Contrast(
            "accuracy under corruption: JDA \u2212 weak2", plain, metric=f"{where}.balanced_accuracy",
            subject="On corrupted images JDA", reference="two weak views",
        ),
        Contrast(
            "calibration under corruption: weak2 \u2212 JDA", {"weak2": 1, "jda": -1}, metric=f"{where}.ece",
            unit="points of calibration error", subject="A student of two weak views, on corrupted images,",
            reference="one of JDA",
        ),
        Contrast(
            "JDA's gain under corruption with a teacher \u2212 without", gains, metric=f"{where}.balanced_accuracy",
            subject="JDA's gain on corrupted images with a teacher", reference="its gain without",
        ),
        Contrast(
            "KD \u2212 CE, unchanged images", {"kd": 1, "ce": -1}, metric="external.internal.balanced_accuracy",
            role="positive control", reference="labels alone",
        ),
        Contrast(
            "KD \u2212 KD under other streams, corrupted", {"kd": 1, "kd again": -1}, expects="equivalent",
            margin=NULL_MARGIN, metric=f"{where}.balanced_accuracy", role="null control",
        ),
    ]  # fmt: skip


def summary(table: pd.DataFrame, measure: str = "balanced_accuracy") -> pd.DataFrame:
    """Means over seeds of one measure, a row per arm and a column per kind of change.

    Args:
        table: from the study.
        measure: of ``kdlab.metrics.external.external_scores``, or ``hidden``.
    """
    columns = {f"external.{kind}.{measure}": kind for kind in ("internal", "corrupted", *KINDS)}
    there = [column for column in columns if column in table]
    return table.groupby("arm", sort=False)[there].mean().rename(columns=columns)


def figures(table, verdicts, profile: Profile) -> dict:
    """Accuracy on three kinds of images, by kind of change, and whether a network knows what it does not know."""
    accuracy = [("Test images", "internal"), ("Corrupted", "corrupted"), ("Kin to JDA", "kin")]
    trust = [("ece", "calibration error (points)"), ("answered_risk", "wrong among answered (%)"),
             ("hidden", "sets where AUC hides a loss (%)")]  # fmt: skip
    pairs = ("ce weak2", "ce jda", "weak2", "jda")
    return {
        "accuracy": plotting.dot_panels(table, SHOWN, _balanced(accuracy), looks=_looks()),
        "kinds": plotting.dot_panels(
            table, pairs, _balanced((title, kind) for kind, title in KINDS.items()), rows=2, looks=_looks()
        ),
        "trust": plotting.dot_panels(
            table, SHOWN, [("", f"external.corrupted.{name}", label) for name, label in trust], looks=_looks()
        ),
    }


def _balanced(kinds: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """A panel of balanced accuracy for each title and kind of change."""
    return [(title, f"external.{kind}.balanced_accuracy", BALANCED) for title, kind in kinds]


def _looks() -> dict[str, dict[str, str]]:
    looks = {arm: plotting.style(arm, row) for row, arm in enumerate(SHOWN)}
    for arm, label in LABELS.items():
        views = arm.split()[0] if "under" in arm else arm.split()[-1]
        marker = LOOKS[views][2] if views in LOOKS else "o"
        looks[arm] = looks.get(arm, plotting.style(arm)) | {"label": label, "marker": marker}
        if arm.startswith("ce "):
            looks[arm] |= {"color": LOOKS["ce"][1]}
    return looks
