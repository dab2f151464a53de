"""Claim (c): there is a suitable range for the share of augmented images."""

from __future__ import annotations

from dataclasses import replace

from kdlab import plotting
from kdlab.perspectives import recipes
from kdlab.perspectives.profiles import Profile
from kdlab.spec import RunSpec
from kdlab.stats import Contrast, with_factors

TITLE = "How much augmentation"
QUESTION = "Which share of the student's images should be augmented, and how many augmented copies pay?"
CLAIM = "There is a suitable range for the share of augmented images: some is better than none and better than all."
REFUTED_BY = "Shares inside the range no better than none (all weak) or no better than all (no weak image left)."
FORMULA = "KD: CE + T² KL(teacher || student), T = 4. Same originals and same rows a step for every share."
FIGURES = {
    "shares": "Test accuracy over the share of augmented rows, two rows per original. 0 is weak2, 1/2 is JDA.",
    "copies": "Test accuracy over augmented copies per original, at equal epochs and, but for `quick`, at equal "
    "student images.",
}


def share_arm(share: float) -> str:
    """Name of the arm with a share of augmented rows."""
    return f"share {share:g}"


def copies_arm(copies: int, unit: str) -> str:
    """Name of the arm with augmented copies at equal ``epochs`` or ``images``."""
    return f"copies {copies}, equal {unit}"


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Shares of two rows per original; copies at equal epochs and, where the profile says so, at those of one copy."""
    kd = recipes.kd(profile)
    made = {share_arm(r): recipes.augmented(kd, profile, ratio=r) if r else recipes.weak2(kd) for r in profile.shares}
    images = recipes.equal_images(profile)
    for copies in profile.copies:
        spec = recipes.augmented(kd, profile, views=copies + 1, ratio=copies / (copies + 1)) if copies else kd
        made[copies_arm(copies, "epochs")] = spec
        if profile.equal_images:
            made[copies_arm(copies, "images")] = spec.replace(budget=replace(images))
    return made


def contrasts(profile: Profile) -> list[Contrast]:
    """The mean of the interior shares, minus none and minus all; no share is picked after the fact."""
    inside = [r for r in profile.shares if 0 < r < 1]
    mean = {share_arm(r): 1 / len(inside) for r in inside}
    return [
        Contrast(
            "interior shares − none",
            mean | {share_arm(0.0): -1},
            text="is some better than none?",
            subject="The mean of the interior shares",
            reference="none",
        ),
        Contrast(
            "interior shares − all",
            mean | {share_arm(1.0): -1},
            text="is some better than all?",
            subject="The mean of the interior shares",
            reference="all",
        ),
    ]


def figures(table, verdicts, profile: Profile) -> dict:
    """Accuracy over the share of augmented rows, and over copies."""
    shares = {share_arm(r): (100 * r, "jda") for r in profile.shares}
    units = ("epochs", "images") if profile.equal_images else ("epochs",)
    copies = {copies_arm(c, unit): (c, f"equal {unit}") for c in profile.copies for unit in units}
    first, second = plotting.figure(), plotting.figure()
    plotting.line_with_interval(
        first.subplots(), with_factors(table, shares, ("share", "by")), "share", by="by",
        xlabel="augmented rows (%)",
    )  # fmt: skip
    plotting.line_with_interval(
        second.subplots(), with_factors(table, copies, ("copies", "by")), "copies", by="by",
        xlabel="augmented copies per original", legend="",
    )  # fmt: skip
    return {"shares": first, "copies": second}
