"""Claim (l): the teacher alone can tell which augmentation makes good students, the one of the smaller T.stddev."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, pearsonr, spearmanr

from kdlab import plotting, stats
from kdlab.perspectives import joint_augmentation, recipes
from kdlab.perspectives.joint_augmentation import NULL_MARGIN
from kdlab.perspectives.profiles import Profile
from kdlab.plotting.look import ACCURACY
from kdlab.spec import RunSpec
from kdlab.stats import Contrast

TITLE = "What makes a good augmentation"
QUESTION = "Can the teacher alone, before any student is trained, tell which augmentation its student should get?"
CLAIM = (
    "The smaller the T.stddev of an augmentation under the teacher, the better its student: in test loss and in test "
    "accuracy."
)
REFUTED_BY = (
    "Students of the half of augmentations with the smaller T.stddev that have no lower test loss, or no higher test "
    "accuracy, than students of the other half."
)
FORMULA = (
    "T.stddev: the mean over classes of the standard deviation, over groups of 320 images, of the teacher's mean "
    "probability on each group and one augmented view of each of its images. KD: CE + T² KL(teacher || student), "
    "T = 4, on a weak and an augmented view."
)
FIGURES = {
    "t_stddev": "Students' test loss and accuracy over the T.stddev of their augmentation. A mark is an augmentation, "
    "with the 95 % t-interval of its students; Spearman's rank correlation is that within a seed, with its 95 % "
    "t-interval over seeds.",
    "predictors": "How well what the teacher says of the views ranks augmentations by their students' test accuracy. "
    "Spearman's rank correlation within a seed with the sign that was expected, its mean and 95 % t-interval; "
    "together: a straight line through all four, fitted without the augmentation that it is asked about.",
    "contrasts": "The contrasts listed before the runs of nine of the fourteen augmentations. Bands are the margins "
    "within which a difference is negligible.",
}
MEASURES = ("views",)
# By T.stddev under the teachers of three other seeds (figures/good.csv), the smaller half first.
GOOD = ("invert", "rotation", "translateY", "jda", "cutmix", "solarize", "autoaugment")
OTHERS = ("rotate", "equalize", "randaugment", "shearX", "brightness", "cutout", "weak")
# What the teacher says of views, and whether more of it should make a better student; T.stddev's sign is the claim's,
# those of the others say that a label should be kept, views agree, and the teacher be sure.
PREDICTORS = {"t_stddev": -1, "flips": -1, "agreement": 1, "entropy": -1}
TITLES = {"t_stddev": "T.stddev", "flips": "flipped labels", "agreement": "agreement of views", "entropy": "entropy"}
LOSS_MARGIN = 0.01  # nats


def augmented(profile: Profile) -> dict[str, RunSpec]:
    """A student for each augmentation, on a weak and an augmented view; of ``weak`` on two weak ones."""
    kd = recipes.kd(profile)
    rich = {name: recipes.augmented(kd, profile, name) for name in (*GOOD, *OTHERS) if name != "weak"}
    return rich | {"weak": recipes.weak2(kd)}


def arms(profile: Profile) -> dict[str, RunSpec]:
    """Those, and the controls: CE, KD on one view, and KD under other streams."""
    joint = joint_augmentation.arms(profile)
    return augmented(profile) | {name: joint[name] for name in ("ce", "kd", "kd again")}


def contrasts(profile: Profile) -> list[Contrast]:
    """The half with the smaller T.stddev against the other one, in test loss and in accuracy."""
    halves = dict.fromkeys(GOOD, 1 / len(GOOD)) | dict.fromkeys(OTHERS, -1 / len(OTHERS))
    text = "halves by T.stddev, under teachers of other seeds"
    return [
        Contrast("test loss: larger half \u2212 smaller half", {arm: -weight for arm, weight in halves.items()},
                 metric="test_nll", margin=LOSS_MARGIN, unit="nats of test loss", text=text,
                 subject="The half with the larger T.stddev", reference="the other half"),
        Contrast("accuracy: smaller half \u2212 larger half", halves, text=text,
                 subject="The half with the smaller T.stddev", reference="the other half"),
        Contrast("KD \u2212 CE", {"kd": 1, "ce": -1}, role="positive control", reference="labels alone",
                 text="distillation works at all here"),
        Contrast(
            "KD \u2212 KD under other streams", {"kd": 1, "kd again": -1}, expects="equivalent", margin=NULL_MARGIN,
            role="null control", text="one run against itself: nothing should be found",
        ),
    ]  # fmt: skip


def ranks(table: pd.DataFrame, column: str = "views.t_stddev", value: str = "test_accuracy") -> pd.DataFrame:
    """Correlations over augmentations between a number of the teacher's and one of the student's, for each seed.

    Args:
        table: from the study.
        column: of the teacher's.
        value: of the student's.

    Returns:
        A row per seed: ``pearson``, ``spearman`` and ``kendall``, in [-1, 1].
    """
    by = {"pearson": pearsonr, "spearman": spearmanr, "kendall": kendalltau}
    seeds = table[table["arm"].isin((*GOOD, *OTHERS))].dropna(subset=[column, value]).groupby("seed")
    return pd.DataFrame.from_dict(
        {seed: {name: float(f(rows[column], rows[value]).statistic) for name, f in by.items()} for seed, rows in seeds},
        orient="index",
    )


def together(table: pd.DataFrame, value: str = "test_accuracy") -> pd.Series:
    """Spearman's correlation, for each seed, of what all predictors say of an augmentation that was held out.

    Ordinary least squares of ``value`` on the four standardised predictors, means over seeds; for each augmentation
    fitted to the others, then asked about it with the seed's own numbers.

    Args:
        table: from the study.
        value: of the student's.
    """
    rows = table[table["arm"].isin((*GOOD, *OTHERS))]
    columns = [f"views.{name}" for name in PREDICTORS]
    scaled = (rows[columns] - rows[columns].mean()) / rows[columns].std()
    scaled = scaled.assign(one=1.0, arm=rows["arm"], seed=rows["seed"], value=rows[value])
    means, guesses = scaled.groupby("arm").mean(), []
    for arm, own in scaled.groupby("arm"):
        others = means.drop(index=arm)
        fit = np.linalg.lstsq(others[[*columns, "one"]].to_numpy(), others["value"].to_numpy(), rcond=None)[0]
        guesses.append(own.assign(guess=own[[*columns, "one"]].to_numpy() @ fit))
    guessed = pd.concat(guesses)
    return pd.Series(
        {seed: float(spearmanr(own["guess"], own["value"]).statistic) for seed, own in guessed.groupby("seed")}
    )


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, an augmentation a row, from the smallest T.stddev on.

    Args:
        table: from the study.

    Returns:
        ``t_stddev`` in thousandths; ``flips`` and ``agreement`` in [0, 1]; ``entropy`` and ``test_nll`` in nats;
        ``test_accuracy`` in percent; ``residual``, the accuracy beyond a straight line through T.stddev: outliers.
    """
    own = table[table["arm"].isin((*GOOD, *OTHERS))]
    columns = [*(f"views.{name}" for name in PREDICTORS), "test_nll", "test_accuracy"]
    made = own.groupby("arm")[columns].mean().rename(columns=lambda name: name.removeprefix("views."))
    line = np.polyfit(made["t_stddev"], made["test_accuracy"], 1)
    made = made.assign(residual=made["test_accuracy"] - np.polyval(line, made["t_stddev"]))
    return made.assign(t_stddev=1000 * made["t_stddev"]).sort_values("t_stddev")


def figures(table, verdicts, profile: Profile) -> dict:
    """Loss and accuracy over T.stddev; and how well each predictor ranks augmentations."""
    return {"t_stddev": _scatter(table), "predictors": _predictors(table)}


def _scatter(table: pd.DataFrame):
    figure = plotting.figure(3.0, plotting.PAGE)
    values = {"test_nll": "test loss (nats)", "test_accuracy": ACCURACY}
    for ax, (value, label) in zip(figure.subplots(1, 2), values.items(), strict=True):
        places: dict[str, tuple[float, float]] = {}
        for place, arm in enumerate((*GOOD, *OTHERS)):
            rows = table[table["arm"] == arm]
            if rows.empty:
                continue
            found, look = stats.interval(rows[value]), plotting.style("weak2" if arm == "weak" else arm, place)
            x = 1000 * rows["views.t_stddev"].mean()
            ax.plot([x, x], [found.low, found.high], color=look["color"], lw=1.6)
            ax.plot(x, found.mean, marker=look["marker"], color=look["color"], ms=5.5, mec="white", mew=0.7)
            places[arm] = x, found.mean
        rho = stats.interval(ranks(table, value=value)["spearman"])
        ax.set_title(f"Spearman's correlation {plotting.bounded(rho.mean, rho.low, rho.high)}")
        ax.set(xlabel="T.stddev (thousandths)", ylabel=label)
        ax.grid(True)
        ax.margins(0.12)
        plotting.point_names(ax, places)
    return figure


def _predictors(table: pd.DataFrame):
    panels = {}
    for title, value, better in (("Test accuracy", "test_accuracy", 1), ("Test loss, turned", "test_nll", -1)):
        rows = {
            TITLES[name]: better * sign * ranks(table, f"views.{name}", value)["spearman"]
            for name, sign in PREDICTORS.items()
        }
        panels[title] = rows | {"together": together(table, value)}
    return plotting.effects(panels, ["Spearman's correlation"] * 2)
