"""Claim (e): joint augmentation is compatible with other distillation methods."""

from __future__ import annotations

import pandas as pd

from kdlab import plotting
from kdlab.lab.validation import refusal
from kdlab.perspectives import recipes
from kdlab.perspectives.profiles import Profile
from kdlab.perspectives.published import published as published_rows
from kdlab.spec import RunSpec
from kdlab.stats import Contrast, additive_residual, paired_differences

TITLE = "Compatibility with other methods"
QUESTION = "Does joint augmentation help whatever the distillation method, and does any method profit more?"
CLAIM = "Joint augmentation is compatible with other distillation methods: each gains from it."
REFUTED_BY = (
    "A method whose gain from JDA over weak2 is significantly below zero; undecided or negligible where it is not "
    "above."
)
FORMULA = (
    "Feature, relation and contrastive methods have the hard and soft terms of KD, CE + T² KL with T = 4, plus their "
    "own; logit methods have their published terms. Weights are those of the papers, but for those that `kdlab tune "
    "--keep` chose on val at other seeds."
)
FIGURES = {
    "gains": "Gain over KD by method and augmentation, and what an additive model leaves unexplained. Gains are at "
    "equal epochs (over KD on one weak view) and, but for `quick`, at equal student images (over KD on matched ones: "
    "one weak view of twice the originals a step, for twice the epochs); the model (method + augmentation) is of the "
    "two-view cells. Bold with a star: JDA differs from weak2 by the corrected interval. Hatched: impossible, or one "
    "view not run in this profile.",
    "shares": "What a two-view method's gain is made of: augmentation, a second weak view and the method's own loss. "
    "Augmentation is JDA minus weak2; the second view is minus one view, at equal epochs and at equal student images; "
    "the loss is minus KD, both on weak2. Effects are paired by seed, with 95 % t-intervals. Hatched: impossible, not "
    "run in this profile, or KD itself.",
    "contrasts": "Gain from JDA over weak2 for each method, with paired 95 % intervals.",
}
SHARES = ("JDA − weak2", "weak2 − weak", "weak2 − weak of twice\nthe images", "method − KD,\nboth on weak2")
LABELS = {"fitnet": "FitNet", "reviewkd": "ReviewKD", "simkd": "SimKD", "catkd": "CAT-KD", "kdpp": "KD++",
          "energykd": "EnergyKD", "wkd_l": "WKD-L", "kdi": "KD-i", "kdp": "KD-p", "four_term": "four terms",
          "tekap": "TeKAP"}  # fmt: skip
ALONE, MATCHED, OWN = "weak", "weak, matched", "own views"


def arm(method: str, augmentation: str) -> str:
    """Name of a cell of the grid."""
    return f"{method} {augmentation}"


def label(method: str) -> str:
    """How a method is called in figures."""
    return LABELS.get(method, method.upper())


def cells(profile: Profile, method: str) -> dict[str, RunSpec]:
    """A row of the grid: column name to spec, whether it can run or not."""
    one = recipes.method(profile, method)
    if one.views > 1:  # a method with views of its own is a competitor, not a row to be augmented
        return {OWN: one}
    alone = {ALONE: one} | ({MATCHED: recipes.matched(one)} if profile.equal_images else {})
    return (
        (alone if method in (profile.one_view or profile.grid) else {})
        | {"weak2": recipes.weak2(one)}
        | {policy: recipes.augmented(one, profile, policy) for policy in profile.policies}
    )


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Methods by {one weak view, as many distinct images as two views, two weak views, a weak and an augmented one}."""
    grid = {arm(m, column): spec for m in profile.grid for column, spec in cells(profile, m).items()}
    return {name: spec for name, spec in grid.items() if refusal(spec) is None}


def impossible(profile: Profile) -> dict[str, str]:
    """Cells that cannot run, and why."""
    grid = {arm(m, column): spec for m in profile.grid for column, spec in cells(profile, m).items()}
    return {name: reason for name, spec in grid.items() if (reason := refusal(spec)) is not None}


def weights(profile: Profile) -> dict[str, dict[str, float]]:
    """The methods whose own weight differs from its default, and what it is: chosen by ``kdlab tune`` on val."""
    return {m: options for m, options in recipes.tuned(profile.regime).items() if m in profile.grid}


def contrasts(profile: Profile) -> list[Contrast]:
    """JDA − weak2 for every method that can have both."""
    there = arms(profile)
    pairs = [(m, arm(m, "jda"), arm(m, "weak2")) for m in profile.grid]
    return [
        Contrast(
            f"{label(m)}: JDA − weak2", {a: 1, b: -1}, subject=f"{label(m)} with JDA", reference="two weak views"
        )
        for m, a, b in pairs if {a, b} <= set(there)
    ]  # fmt: skip


def shares(table, profile: Profile) -> dict:
    """Panel title to method to the effect of each seed.

    Args:
        table: from the study, one row per arm and seed.
        profile: names the methods.
    """
    panels = {
        "Augmentation": lambda m: (arm(m, "jda"), arm(m, "weak2")),
        "View, equal epochs": lambda m: (arm(m, "weak2"), arm(m, ALONE)),
        "View, equal images": lambda m: (arm(m, "weak2"), arm(m, MATCHED)),
        "Loss": lambda m: (arm(m, "weak2"), arm(profile.grid[0], "weak2")),
    }
    there, effects = set(table["arm"]), {}
    for title, pair in panels.items():
        wanted = {m: pair(m) for m in profile.grid}
        wanted = {m: (a, b) for m, (a, b) in wanted.items() if {a, b} <= there and a != b}
        effects[title] = {label(m): paired_differences(table, {a: 1, b: -1})[0] for m, (a, b) in wanted.items()}
    return effects


def published(table, profile: Profile):
    """Our accuracies beside published ones of the same networks, in the paper profile; without rows in any other.

    Args:
        table: from the study.
        profile: names data and networks.

    Returns:
        DataFrame: the published rows, and ``ours``, the mean test accuracy of the method on one weak view. Teachers of
        other accuracies stand in other rows: compare differences within a group, never across.
    """
    rows = published_rows(profile.teacher, profile.student)
    if profile.name != "paper":
        return rows.iloc[:0]
    mean = table.groupby("arm")["test_accuracy"].mean()
    return rows.assign(ours=[mean.get(arm(key, ALONE)) for key in rows["key"]])


def figures(table, verdicts, profile: Profile) -> dict:
    """Heat maps of the gains and of the additive model's residual, and the shares of the gain."""
    mean = table.groupby("arm")["test_accuracy"].mean()
    augmented = ["weak2", *profile.policies]
    own = [OWN] * any(arm(m, OWN) in mean for m in profile.grid)
    grid = {c: {label(m): mean.get(arm(m, c)) for m in profile.grid} for c in (ALONE, MATCHED, *augmented, *own)}
    grid = pd.DataFrame(grid, dtype=float)
    decided = {v.contrast.name: v.outcome in ("supported", "contradicted") for v in verdicts}
    jda = [decided.get(f"{name}: JDA − weak2", False) for name in grid.index]
    marks = pd.DataFrame(False, index=grid.index, columns=grid.columns).assign(jda=jda)
    first = label(profile.grid[0])
    equal = grid[[MATCHED, *augmented]] - grid.loc[first, MATCHED], "gain (points)"
    panels = {
        "Equal epochs": (grid[[ALONE, *augmented, *own]] - grid.loc[first, ALONE], "gain (points)"),
        **({"Equal student images": equal} if profile.equal_images else {}),
        "Residual": (additive_residual(grid[augmented]), "residual (points)"),
    }
    figure = plotting.figure(0.8 + 0.19 * len(grid), plotting.PAGE)
    widths = [len(values.columns) for values, _ in panels.values()]
    axes = figure.subplots(1, len(panels), width_ratios=widths)
    for ax, (title, (values, words)) in zip(axes, panels.items(), strict=True):
        values = values.rename(columns={MATCHED: "matched"})
        stars = marks.reindex(columns=values.columns, fill_value=False)
        most = max(1.0, values.abs().max().max())
        plotting.heatmap(ax, values, stars, label=words, limit=most, compact=sum(widths) > 10)
        ax.set_title(title)
        if ax is not axes[0]:
            ax.set_yticks([])
    made = zip(SHARES, shares(table, profile).items(), strict=True)
    drawn = {f"{words} (points)": panel for words, panel in made if panel[1]}
    effects = plotting.effects(dict(drawn.values()), list(drawn))
    return {"gains": figure, "shares": effects}
