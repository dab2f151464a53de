"""Claim (e): joint augmentation is compatible with other distillation methods."""

from __future__ import annotations

from kdlab.perspectives import arms as runs
from kdlab.perspectives.profile import Profile
from kdlab.spec import RunSpec
from kdlab.stats import Contrast

TITLE = "Compatibility with other methods"
QUESTION = "Does joint augmentation help whatever the distillation method, and does any method profit more?"
CLAIM = "Joint augmentation is compatible with other distillation methods: each gains from it."
REFUTED_BY = "A method whose gain from JDA over weak2 is significantly below zero; undecided where it is not above."
FORMULA = (
    "Every method has the same hard and soft terms, CE + T² KL with T = 4, plus its own: FitNet (hint on stage 2), "
    "AT (attention maps), SP (similarity matrices); CCD weighs the KL of the second view."
)
FIGURES = {
    "gains": "Gain over KD on two weak views, by method and augmentation, and what an additive model (method + "
    "augmentation) leaves unexplained.",
    "contrasts": "Gain from JDA over weak2 for each method, with paired 95 % intervals.",
}
AUGMENTATIONS = ("weak2", "jda")


def arm(method: str, augmentation: str) -> str:
    """Name of a cell of the grid."""
    return f"{method} {augmentation}"


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Methods by {weak2, JDA}."""
    made = {}
    for method in profile.methods:
        kd = runs.kd(profile, method)
        made[arm(method, "weak2")] = runs.weak2(kd)
        made[arm(method, "jda")] = runs.augmented(kd, profile)
    return made


def contrasts(profile: Profile) -> list[Contrast]:
    """JDA − weak2 for every method."""
    return [
        Contrast(f"{m.upper() if m != 'fitnet' else 'FitNet'}: JDA − weak2", {arm(m, "jda"): 1, arm(m, "weak2"): -1})
        for m in profile.methods
    ]


def figures(table, verdicts, profile: Profile) -> dict:
    """Heat maps of gain and of the additive model's residual, and the forest plot of the contrasts."""
    import pandas as pd

    from kdlab import plotting
    from kdlab.stats import additive_residual

    mean = table.groupby("arm")["test_accuracy"].mean()
    cells = pd.DataFrame({a: {m: mean[arm(m, a)] for m in profile.methods} for a in AUGMENTATIONS})
    gains = cells - cells.loc[profile.methods[0], "weak2"]
    decided = [v.outcome != "undecided" for v in verdicts]
    marks = pd.DataFrame({"weak2": False, "jda": decided}, index=gains.index)
    with plotting.theme():
        figure = plotting.figure(2.6, plotting.PAGE)
        left, right = figure.subplots(1, 2)
        plotting.heatmap(left, gains, marks, label="gain (points)")
        left.set_title(f"Gain over {profile.methods[0].upper()} on weak2")
        plotting.heatmap(right, additive_residual(cells), label="residual (points)", limit=gains.abs().to_numpy().max())
        right.set_title("What method + augmentation leaves")
        return {"gains": figure, "contrasts": plotting.forest(verdicts)}
