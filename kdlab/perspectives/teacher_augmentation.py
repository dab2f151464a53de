"""Claim (b): a teacher trained with rich augmentation is better, its student is not."""

from __future__ import annotations

import pandas as pd

from kdlab import plotting
from kdlab.perspectives import recipes
from kdlab.perspectives.profiles import Profile
from kdlab.spec import RunSpec
from kdlab.stats import Contrast, with_factors

TITLE = "Augmenting the teacher"
QUESTION = "Does a teacher that was itself trained with joint augmentation make a better student?"
CLAIM = "Training the teacher with rich augmentation raises the teacher's accuracy, but not the student's."
REFUTED_BY = (
    "No gain for the teacher; or a student that gains more than 0.5 points from the augmented teacher, whether it is "
    "itself trained on weak or on jointly augmented views."
)
FORMULA = "Teacher: CE on all rows (weak, or weak + JDA). Student: CE + T² KL(teacher || student), T = 4."
FIGURES = {
    "interaction": "Test accuracy of teacher and student by how each was trained. The student's lines would rise if "
    "the better teacher taught better.",
    "teachers": "What a teacher is beside its accuracy: its calibration and its entropy. Calibration is the expected "
    "calibration error of the top class, 10 bins, in points; entropy the mean of its answers at T = 1, both on test "
    "images as they are.",
    "contrasts": "The contrasts listed before the runs. The band is the margin of ±0.5 points within which a "
    "difference counts as none.",
}


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Teachers {weak, JDA} by students {weak2, JDA}; with matched controls also a teacher on two weak views."""
    weak, joint = recipes.kd(profile), recipes.kd(profile, joint_teacher=True)
    teacher = recipes.teacher(profile)
    made = {"teacher weak": teacher}
    if profile.matched:
        made["teacher weak2"] = recipes.weak2(teacher)
    return made | {
        "teacher jda": recipes.teacher(profile, joint=True),
        "weak2": recipes.weak2(weak),
        "jda": recipes.augmented(weak, profile),
        "weak2 under jda teacher": recipes.weak2(joint),
        "jda under jda teacher": recipes.augmented(joint, profile),
    }


def contrasts(profile: Profile) -> list[Contrast]:
    """The teacher's gain; then the student's difference, weak2 and JDA students apart."""
    under = "one under the weak teacher"
    listed = [
        Contrast(
            "teacher: JDA − weak", {"teacher jda": 1, "teacher weak": -1}, text="as published: twice the rows",
            subject="A teacher on JDA", reference="one on a weak view",
        ),
        Contrast(
            "weak2 student: JDA teacher − weak teacher", {"weak2 under jda teacher": 1, "weak2": -1}, expects="no_gain",
            subject="A weak2 student under the JDA teacher", reference=under,
        ),
        Contrast(
            "JDA student: JDA teacher − weak teacher", {"jda under jda teacher": 1, "jda": -1}, expects="no_gain",
            subject="A JDA student under the JDA teacher", reference=under,
        ),
    ]  # fmt: skip
    if profile.matched:
        weights = {"teacher jda": 1, "teacher weak2": -1}
        equal = Contrast(
            "teacher: JDA − weak2", weights, text="at equal cost", subject="A teacher on JDA",
            reference="one on two weak views",
        )  # fmt: skip
        listed.insert(1, equal)
    return listed


def teachers(table) -> pd.DataFrame:
    """The teachers alone: one row per teacher and seed, ``arm`` being what it was trained on.

    Args:
        table: from the study, with ``test_ece`` in [0, 1] and ``test_entropy`` in nats.

    Returns:
        The rows with ``ece``, the calibration error in points.
    """
    rows = with_factors(table, {f"teacher {how}": (how,) for how in ("weak", "weak2", "jda")}, ("arm",))
    return rows.assign(ece=100 * rows["test_ece"])


def figures(table, verdicts, profile: Profile) -> dict:
    """Teachers on the left, their students on the right; and the teachers' calibration and entropy."""
    students = {
        "weak2": ("weak2", "weak"), "jda": ("jda", "weak"),
        "weak2 under jda teacher": ("weak2", "JDA"), "jda under jda teacher": ("jda", "JDA"),
    }  # fmt: skip
    figure = plotting.figure(2.5, plotting.PAGE)
    left, right = figure.subplots(1, 2)
    compared = teachers(table)
    plotting.interval_dots(left, compared)
    left.set_title("Teachers, by what they were trained on")
    rows = with_factors(table, students, ("by", "x")).sort_values("x", key=lambda x: x != "weak", kind="stable")
    plotting.line_with_interval(
        right, rows, "x", by="by", xlabel="the teacher was trained on", legend="student trained on"
    )
    right.set_title("Their students")
    beside = plotting.figure(1.7, plotting.PAGE)
    first, second = beside.subplots(1, 2)
    plotting.interval_dots(first, compared, value="ece", label="Calibration error (points)")
    plotting.interval_dots(second, compared, value="test_entropy", label="Entropy of the answers (nats)")
    return {"interaction": figure, "teachers": beside}
