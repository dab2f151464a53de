"""Claim (a): augmenting the distillation set helps although the teacher never saw it, and because there is one."""

from __future__ import annotations

from kdlab import plotting
from kdlab.perspectives import recipes
from kdlab.perspectives.profiles import Profile
from kdlab.spec import RunSpec
from kdlab.stats import Contrast

TITLE = "Joint against single augmentation"
QUESTION = "Does a student learn more when the teacher also labels augmented images, and does the policy matter?"
CLAIM = (
    "Data augmentation helps distillation even when the teacher never saw an augmented image: a joint policy of many "
    "operations (JDA) helps, more than a single rotation does, and more than it helps a student without a teacher."
)
REFUTED_BY = (
    "JDA at or below two plain weak views of the same images (weak2), which cost exactly as much; JDA at or below one "
    "random quarter turn; or a gain from JDA that is no larger with a teacher than without."
)
FORMULA = "KD: CE + T² KL(teacher || student), T = 4, mean over all rows; CE: hard labels only."
FIGURES = {
    "arms": "Test accuracy of the student by augmentation. Arms with an augmentation in their name see two views of "
    "each original, the others one. CE arms learn from labels alone, all others from the teacher too.",
}
# Points. Twice that of a claim: two runs that share no random draw differ by twice the SD of two that do
# (``sd_replicates`` and ``sd`` in figures/regime.csv), so that 12 seeds could not show them equal within 0.5.
NULL_MARGIN = 1.0
LABELS = {"ce weak2": "CE, weak2", "ce jda": "CE, JDA"}


def arms(profile: Profile) -> dict[str, RunSpec]:
    """CE and KD on one view, weak2, JDA; with KD each single operation, and other streams as the null control."""
    kd, ce = recipes.kd(profile), recipes.ce(profile)
    made = {"ce": ce, "ce weak2": recipes.weak2(ce), "ce jda": recipes.augmented(ce, profile)}
    made |= {"kd": kd, "weak2": recipes.weak2(kd)}
    made |= {name: recipes.augmented(kd, profile, name) for name in profile.operations}
    made |= {"jda": recipes.augmented(kd, profile), "kd again": kd.replace(replicate=1)}
    if profile.matched:
        made["matched"] = recipes.matched(kd)
    return made


def contrasts(profile: Profile) -> list[Contrast]:
    """JDA against its equal-cost control, against rotation and against JDA without a teacher; and two controls."""
    gains = {"jda": 1, "weak2": -1, "ce jda": -1, "ce weak2": 1}
    listed = [
        Contrast("JDA − weak2", {"jda": 1, "weak2": -1}, text="the same cost, the policy aside",
                 reference="two weak views"),
        Contrast("JDA − rotation", {"jda": 1, "rotation": -1}, text="many operations against one",
                 reference="one rotation"),
        Contrast("JDA's gain with a teacher − without", gains, text="JDA − weak2 under KD, minus the same under CE",
                 subject="JDA's gain with a teacher", reference="its gain without"),
        Contrast("KD − CE", {"kd": 1, "ce": -1}, role="positive control", text="distillation works at all here",
                 reference="labels alone"),
        Contrast(
            "KD − KD under other streams", {"kd": 1, "kd again": -1}, expects="equivalent", margin=NULL_MARGIN,
            role="null control", text="one run against itself: nothing should be found",
        ),
    ]  # fmt: skip
    if profile.matched:
        text = "against twice the originals a step and twice the epochs"
        listed.append(Contrast("JDA − matched", {"jda": 1, "matched": -1}, text=text))
    return listed


def figures(table, verdicts, profile: Profile) -> dict:
    """The arms with their seeds."""
    drawn = [arm for arm in arms(profile) if arm != "kd again"]
    dots = plotting.figure(0.5 + 0.32 * len(drawn))
    looks = {arm: plotting.style(arm, row) for row, arm in enumerate(drawn)}
    for arm, label in LABELS.items():  # as CE, with the marker of the views
        looks[arm] |= {"label": label, "color": looks["ce"]["color"], "marker": looks[arm.split()[1]]["marker"]}
    plotting.interval_dots(dots.subplots(), table, drawn, looks=looks)
    return {"arms": dots}
