"""Claim (d): augmentation helps distillation most when images are few."""

from __future__ import annotations

from kdlab import plotting
from kdlab.perspectives import recipes
from kdlab.perspectives.profiles import Profile
from kdlab.spec import RunSpec
from kdlab.stats import Contrast, with_factors

TITLE = "Few images"
QUESTION = "Does joint augmentation help the student more when it has few images to be distilled on?"
CLAIM = "Data augmentation pays in few-shot distillation: JDA's gain is larger with 10 % of the images than with all."
REFUTED_BY = "A gain of JDA over weak2 that is no larger at the smallest fraction than at 100 %."
FORMULA = (
    "KD: CE + T² KL(teacher || student), T = 4; CCD weighs each augmented row by 1 + cos of the teacher's logits on "
    "the pair. Subsets are stratified and nested and differ between seeds; the teacher saw 100 %."
)
FIGURES = {
    "fractions": "Test accuracy over the share of training images, at equal epochs and at equal steps.",
    "gain": "JDA minus weak2 over the share of training images, paired by seed.",
}
BASES = ("ce", "weak2", "jda", "ccd")
STEP_BASES = ("weak2", "jda")


def arm(base: str, fraction: float, unit: str = "epochs") -> str:
    """Name of an arm: ``"jda at 10 %, equal epochs"``."""
    return f"{base} at {100 * fraction:g} %, equal {unit}"


def arms(profile: Profile) -> dict[str, RunSpec]:
    """CE, weak2, JDA and CCD at every fraction and equal epochs; weak2 and JDA at equal steps too."""
    kd = recipes.kd(profile)
    whole = {
        "ce": recipes.ce(profile),
        "weak2": recipes.weak2(kd),
        "jda": recipes.augmented(kd, profile),
        "ccd": recipes.augmented(recipes.kd(profile, "ccd"), profile),
    }
    made = {arm(b, f): s.replace(fraction=f) for f in sorted(profile.fractions, reverse=True) for b, s in whole.items()}
    same = recipes.equal_steps(profile)
    for f in (*sorted(profile.step_fractions, reverse=True), 1.0):
        made |= {arm(b, f, "steps"): whole[b].replace(fraction=f, budget=same) for b in STEP_BASES}
    return made


def contrasts(profile: Profile) -> list[Contrast]:
    """The gain at the smallest fraction minus the gain on everything, at equal epochs and at equal steps."""
    low = min(profile.fractions)
    step_low = min(profile.step_fractions)

    def more(fraction, unit):
        return {arm("jda", fraction, unit): 1, arm("weak2", fraction, unit): -1,
                arm("jda", 1.0, unit): -1, arm("weak2", 1.0, unit): 1}  # fmt: skip

    def listed(fraction, unit):
        return Contrast(
            f"gain at {100 * fraction:g} % − gain at 100 %, equal {unit}", more(fraction, unit),
            subject=f"JDA's gain at {100 * fraction:g} % (equal {unit})", reference="its gain at 100 %",
        )  # fmt: skip

    return [listed(low, "epochs"), listed(step_low, "steps")]


def figures(table, verdicts, profile: Profile) -> dict:
    """Accuracy over the fraction at equal epochs and at equal steps, and JDA's gain."""
    factors = {
        arm(base, f, unit): (base, 100 * f, unit)
        for base in BASES for f in {*profile.fractions, *profile.step_fractions, 1.0} for unit in ("epochs", "steps")
    }  # fmt: skip
    rows = with_factors(table, factors, ("by", "percent", "unit"))
    wide = rows.pivot_table(index=["seed", "percent", "unit"], columns="by", values="test_accuracy").reset_index()
    gain = wide.assign(gain=wide.jda - wide.weak2, by="equal " + wide.unit).sort_values("by")
    lines, gains = plotting.figure(2.6, plotting.PAGE), plotting.figure()
    for ax, unit in zip(lines.subplots(1, 2, sharey=True), ("epochs", "steps"), strict=True):
        plotting.line_with_interval(
            ax, rows[rows.unit == unit], "percent", by="by", xlabel="training images (%)", log=True, legend=""
        )
        ax.set_title(f"Equal {unit}")
    plotting.line_with_interval(
        gains.subplots(), gain, "percent", value="gain", by="by", xlabel="training images (%)",
        ylabel="JDA \u2212 weak2 (points)", log=True, zero=True, legend="",
    )  # fmt: skip
    return {"fractions": lines, "gain": gains}
