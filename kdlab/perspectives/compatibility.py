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
