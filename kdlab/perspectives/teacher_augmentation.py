"""Claim (b): a teacher trained with rich augmentation is better, its student is not."""

from __future__ import annotations

from kdlab.perspectives import arms as runs
from kdlab.perspectives.profile import Profile
from kdlab.spec import RunSpec
from kdlab.stats import Contrast

TITLE = "Augmenting the teacher"
QUESTION = "Does a teacher that was itself trained with joint augmentation make a better student?"
CLAIM = "Training the teacher with rich augmentation raises the teacher's accuracy, but not the student's."
REFUTED_BY = (
    "No gain for the teacher; or a student that gains more than 0.5 points from the augmented teacher, whether it is "
    "itself trained on weak or on jointly augmented views."
)
FORMULA = "Teacher: CE on all rows (weak, or weak + JDA). Student: CE + T² KL(teacher || student), T = 4."
FIGURES = {
    "interaction": "Test accuracy of teacher and student by how each was trained; the student's lines would rise if "
    "the better teacher taught better.",
    "contrasts": "The contrasts listed before the runs; the band is the margin of ±0.5 points within which the "
    "student's difference counts as none.",
}


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Teachers {weak, weak2, JDA} and students {weak2, JDA} under the weak and the JDA teacher."""
    weak, joint = runs.kd(profile), runs.kd(profile, joint_teacher=True)
    teacher = runs.teacher(profile)
    return {
        "teacher weak": teacher,
        "teacher weak2": runs.weak2(teacher),
        "teacher jda": runs.teacher(profile, joint=True),
        "weak2": runs.weak2(weak),
        "jda": runs.augmented(weak, profile),
        "weak2 under jda teacher": runs.weak2(joint),
        "jda under jda teacher": runs.augmented(joint, profile),
    }


def contrasts(profile: Profile) -> list[Contrast]:
    """The teacher's gain; then the student's difference, weak2 and JDA students apart."""
    return [
        Contrast("teacher: JDA − weak", {"teacher jda": 1, "teacher weak": -1}, text="as published: twice the rows"),
        Contrast("teacher: JDA − weak2", {"teacher jda": 1, "teacher weak2": -1}, text="at equal cost"),
        Contrast(
            "weak2 student: JDA teacher − weak teacher", {"weak2 under jda teacher": 1, "weak2": -1}, expects="no_gain"
        ),
        Contrast("JDA student: JDA teacher − weak teacher", {"jda under jda teacher": 1, "jda": -1}, expects="no_gain"),
    ]
