"""Claim (j): augmentation works in distillation because its students lie in flatter minima."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from kdlab import plotting, stats
from kdlab.perspectives import ccd, joint_augmentation, recipes
from kdlab.perspectives.profiles import Profile
from kdlab.plotting.look import ACCURACY
from kdlab.spec import RunSpec
from kdlab.stats import Contrast
from kdlab.stats.inference import two_sided

TITLE = "Sharpness"
QUESTION = "Do students of joint augmentation lie in flatter minima, and are flatter students better?"
CLAIM = (
    "Joint augmentation helps as sharpness-aware minimisation does: its students are flatter than those of two weak "
    "views at equal cost, also where sharpness is measured in units of the weights, and what SAM gains on two weak "
    "views it gains less of on JDA views."
)
REFUTED_BY = (
    "A largest curvature of the loss on training images that is no lower under JDA than under two weak views, plain or "
    "adaptive; or a gain of SAM that is as large on JDA views as on weak ones."
)
FORMULA = (
    "Curvature is the largest eigenvalue of the Hessian of a loss at the student's last weights, in eval mode, on the "
    "same 256 training images for all students of a seed; adaptive: of D H D with D = diag(|w|). SAM takes each step's "
    "gradient at w + rho g / |g|, which costs a second pass. KD: CE + T² KL(teacher || student), T = 4."
)
FIGURES = {
    "curvature": "How sharp cross-entropy on training images is at the students' weights, by four measures. Left to "
    "right: the largest curvature, plain and adaptive, and the trace, as logarithms of base 2 (one unit less is half "
    "as sharp); and the rise of the loss of 64 images within a radius of 0.05.",
    "terms": "The largest curvature of each of the paper's four terms, and of the loss that a student was trained on, "
    "as logarithms of base 2. L_ce and L_kd are on the images as they are, L_A and L_T on one JDA view of each.",
    "accuracy": "Test accuracy over curvature: small marks are runs, large ones the arms' means. Kendall's tau is "
    "between flatness and accuracy, over the arms of each seed (with its 95 % t-interval) and over the seeds of each "
    "arm (its mean over arms; interval by the jackknife over seeds).",
    "slices": "Cross-entropy on training images along one random direction, in lengths of the student's own filters. "
    "Lines are medians over seeds, bands hold all seeds.",
    "contrasts": "The contrasts, listed when seed 0 of four arms had been measured. Bands are the margins within "
    "which a difference is negligible.",
}
MEASURES = ("sharpness",)
RHO = 0.05  # of SAM: by the rule of figures/rho.py, on val, at other seeds
MARGIN = 0.25  # doublings: a fifth more or less
# Doublings, for one run against itself under other streams: runs scatter by more than a margin.
NULL_MARGIN = 1.0
CURVATURE, ADAPTIVE = "sharpness.clean.log2_eigenvalue", "sharpness.clean.adaptive_log2_eigenvalue"
TERMS = {"clean": "L_ce", "views": "L_A", "kd_clean": "L_kd", "kd_views": "L_T", "own": "its own"}
SHOWN = ("ce", "kd", "weak2", "rotation", "jda", "ccd", "sam", "jda sam")
SLICED = ("ce", "weak2", "jda", "sam")
DOUBLINGS, LOG = "doublings of curvature", "log2"


def sam(spec: RunSpec, rho: float = RHO) -> RunSpec:
    """The same student, trained with sharpness-aware minimisation of radius rho."""
    return spec.replace(optimiser=dataclasses.replace(spec.optimiser, rho=rho))


def arms(profile: Profile) -> dict[str, RunSpec]:
    """CE, KD, weak2, rotation, JDA and CCD of other notebooks; SAM on two weak views and on JDA; the null control."""
    joint = joint_augmentation.arms(profile)
    kd = recipes.kd(profile)
    made = {name: joint[name] for name in ("ce", "kd", "weak2")}
    made |= {"rotation": recipes.augmented(kd, profile, "rotation"), "jda": joint["jda"]}
    made |= {"ccd": ccd.arms(profile)["ccd"], "sam": sam(joint["weak2"]), "jda sam": sam(joint["jda"])}
    return made | {"kd again": joint["kd again"]}


def contrasts(profile: Profile) -> list[Contrast]:
    """JDA's students against weak2's in curvature, plain and adaptive; what SAM adds to either; two controls."""
    flatter = {"weak2": 1, "jda": -1}
    overlap = {"sam": 1, "weak2": -1, "jda sam": -1, "jda": 1}
    weak2 = "A student of two weak views"
    return [
        Contrast("curvature: weak2 \u2212 JDA", flatter, metric=CURVATURE, margin=MARGIN, unit=DOUBLINGS,
                 subject=weak2, reference="one of JDA", text="cross-entropy on training images"),
        Contrast("adaptive curvature: weak2 \u2212 JDA", flatter, metric=ADAPTIVE, margin=MARGIN, unit=DOUBLINGS,
                 subject=f"{weak2}, in units of its weights,", reference="one of JDA",
                 text="which no rescaling of layers can move"),
        Contrast("SAM's gain on two weak views \u2212 on JDA", overlap, subject="SAM's gain on two weak views",
                 reference="its gain on JDA views", text="do the two overlap?"),
        Contrast("curvature: weak2 \u2212 SAM", {"weak2": 1, "sam": -1}, metric=CURVATURE, margin=MARGIN,
                 unit=DOUBLINGS, role="positive control", subject=weak2, reference="one that SAM has trained on them",
                 text="SAM does what it is for"),
        Contrast("curvature: KD \u2212 KD under other streams", {"kd": 1, "kd again": -1}, expects="equivalent",
                 margin=NULL_MARGIN, metric=CURVATURE, unit=DOUBLINGS, role="null control",
                 text="one run against itself: nothing should be found"),
    ]  # fmt: skip


def across(table: pd.DataFrame, column: str = CURVATURE) -> pd.Series:
    """Kendall's tau between flatness (minus a column) and test accuracy over the arms of each seed.

    Args:
        table: from the study.
        column: sharpness, larger is sharper.

    Returns:
        A value in [-1, 1] for each seed; 1 where the flatter of any two arms is the better one.
    """
    return pd.Series({seed: _tau(rows, column) for seed, rows in _shown(table).groupby("seed")})


def within(table: pd.DataFrame, column: str = CURVATURE) -> tuple[float, float, float]:
    """Kendall's tau between flatness and test accuracy over the seeds of an arm: its mean over arms.

    Args:
        table: from the study, with three seeds or more.
        column: sharpness, larger is sharper.

    Returns:
        The mean, and its 95 % interval by the jackknife: ``theta -+ t_(n-1) sqrt((n - 1) mean_i (theta_i - mean)^2)``,
        theta_i without seed i. NaN bounds for fewer seeds.
    """
    rows = _shown(table)
    seeds = sorted(rows["seed"].unique())

    def mean(of: pd.DataFrame) -> float:
        return float(np.mean([_tau(own, column) for _, own in of.groupby("arm")]))

    found = mean(rows)
    if len(seeds) < 3:
        return found, np.nan, np.nan
    left_out = np.array([mean(rows[rows["seed"] != seed]) for seed in seeds])
    error = np.sqrt((len(seeds) - 1) * np.mean((left_out - left_out.mean()) ** 2))
    half = two_sided(len(seeds), 0.05) * error
    return found, found - half, found + half


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["arm"].isin(SHOWN)]


def _tau(rows: pd.DataFrame, column: str) -> float:
    there = rows[[column, "test_accuracy"]].dropna()
    return float(kendalltau(-there[column], there["test_accuracy"]).statistic)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, one row per arm: accuracies in percent, then cross-entropy on training images by all measures.

    Args:
        table: from the study.

    Returns:
        ``test_accuracy``; ``loss`` and ``rise`` in nats; ``eigenvalue`` and ``trace``, plain and adaptive; of the trace
        its mean standard error over probes.
    """
    what = ("loss", "eigenvalue", "adaptive_eigenvalue", "trace", "trace_error", "adaptive_trace", "rise",
            "adaptive_rise")  # fmt: skip
    columns = {f"sharpness.clean.{name}": name for name in what}
    return table.groupby("arm", sort=False)[["test_accuracy", *columns]].mean().rename(columns=columns)


def figures(table, verdicts, profile: Profile) -> dict:
    """Four measures of one loss; one measure of five losses; accuracy over curvature; slices."""
    table = table.assign(trace=np.log2(table["sharpness.clean.trace"].where(lambda trace: trace > 0)))
    measures = [("Largest curvature", CURVATURE, LOG), ("Adaptive", ADAPTIVE, LOG), ("Trace", "trace", LOG),
                ("Rise of the loss", "sharpness.clean.rise", "nats")]  # fmt: skip
    terms = [(title, f"sharpness.{name}.log2_eigenvalue", LOG) for name, title in TERMS.items()]
    return {
        "curvature": plotting.dot_panels(table, SHOWN, measures, looks=_looks()),
        "terms": plotting.dot_panels(table, SHOWN, terms, looks=_looks()),
        "accuracy": _accuracy(table), "slices": _slices(table),
    }  # fmt: skip


def _looks() -> dict[str, dict[str, str]]:
    looks = {arm: plotting.style(arm, row) for row, arm in enumerate(SHOWN)}
    looks["sam"] = {**plotting.style("weak2"), "color": "#882255", "label": "weak2, SAM"}
    looks["jda sam"] = {**plotting.style("jda"), "color": "#AA4499", "label": "JDA, SAM"}
    return looks


def _accuracy(table: pd.DataFrame):
    figure, looks = plotting.figure(3.2, plotting.PAGE), _looks()
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (title, column) in zip(axes, {"Largest curvature": CURVATURE, "Adaptive": ADAPTIVE}.items(), strict=True):
        for arm in (arm for arm in SHOWN if arm in set(table["arm"])):
            rows, look = table[table["arm"] == arm], looks[arm]
            plain = {"color": look["color"], "marker": look["marker"], "ls": ""}
            ax.plot(rows[column], rows["test_accuracy"], ms=2.5, mew=0, alpha=0.6, **plain)
            mean = rows[[column, "test_accuracy"]].mean()
            ax.plot(*mean, ms=7, mec="white", mew=0.8, label=look["label"], zorder=4, **plain)
        over, inside = stats.interval(across(table, column)), within(table, column)
        taus = {"over arms": (over.mean, over.low, over.high), "over seeds": inside}
        ax.set_title("\n".join([title, *(f"tau {words} {plotting.bounded(*tau)}" for words, tau in taus.items())]))
        ax.set_xlabel("log2 of the largest eigenvalue")
        ax.grid(True)
    axes[0].set_ylabel(ACCURACY)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    return figure


def _slices(table: pd.DataFrame):
    figure, looks = plotting.figure(2.6), _looks()
    ax = figure.subplots()
    columns = [name for name in table if name.startswith("sharpness.slice.")]
    at = np.linspace(-1, 1, len(columns))
    for arm in (arm for arm in SLICED if arm in set(table["arm"])):
        heights, look = table.loc[table["arm"] == arm, columns].to_numpy(dtype=float), looks[arm]
        ax.fill_between(at, heights.min(axis=0), heights.max(axis=0), color=look["color"], alpha=0.15, lw=0)
        middle = np.median(heights, axis=0)
        ax.plot(at, middle, color=look["color"], marker=look["marker"], ms=4, label=look["label"])
    ax.set(xlabel="step along the direction (lengths of the filters)", ylabel="cross-entropy (nats)", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.legend(loc="upper center", ncols=2)
    ax.grid(True)
    return figure
