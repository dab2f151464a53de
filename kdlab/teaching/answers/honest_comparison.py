"""What is right in lesson 07."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr

from kdlab import stats
from kdlab.teaching.quiz import Answers, Question

ANSWERS = Answers(
    {
        "luck": Question(
            "A paper of yours may report one run. You pick the better name, and its best seed, against the other's "
            "worst. How large a gain can you publish?",
            ["a tenth of a point", "about a point", "several points"],
            "about a point",
            "The largest number of one row minus the smallest of the other. Nobody would do that on purpose. But "
            "whoever stops looking at the first pair of runs that looks right has done half of it.",
        ),
        "coverage": Question(
            "Three seeds, an interval that says 95 %. In how many of 100 studies does the bootstrap interval hold the "
            "truth?",
            ["about 95", "about 90", "about 75", "about 50"],
            "about 75",
            "Three numbers rarely reach far enough on both sides of the mean, and the bootstrap can only draw what it "
            "has. The t-interval knows about small n, and holds the truth in 95.",
        ),
        "pairing": Question(
            "Two methods share teacher, initial weights, order and crops at each seed. How strongly do their "
            "accuracies correlate over seeds, in our trainings?",
            ["above 0.9", "about 0.5", "about 0"],
            "about 0",
            "Sharing the streams does not make results alike. The next cells measure it, with shuffled seeds as a "
            "control.",
        ),
        "best": Question(
            "For each student we choose the epoch with the best accuracy on the pretend test set, and compare it with "
            "the last epoch. What do the fresh images say of the chosen epoch, compared with the last one?",
            ["the same gain", "half of the gain", "no gain, or a loss"],
            "no gain, or a loss",
            "An epoch is chosen because it is good on those very images: partly by merit, partly by luck. At the end "
            "of a training with a falling learning rate there is little merit left to choose by.",
        ),
        "many": Question(
            "In how many of these studies does at least one of the twelve come out significant, at 5 % each?",
            ["5 %", "about 15 %", "about 35 %", "nearly all"],
            "about 35 %",
            "Twelve independent chances would give 1 - 0.95^12 = 46 %. These share a baseline, and so they err "
            "together more often, which leaves somewhat fewer studies with an error.",
        ),
        "looking": Question(
            "You stop, and publish, at the first look with p < 0.05. In how many studies of two equal methods do you "
            "publish?",
            ["5 %", "about 10 %", "about 40 %", "nearly all"],
            "about 40 %",
            "Each look sees mostly the same seeds as the one before, so it is not 198 times 5 %. But with more seeds "
            "the mean wanders on, and sooner or later it is far out. Had you no end to your patience, it would be "
            "nearly all.",
        ),
        "seeds": Question(
            "You want to see effects of half the size. How many times more seeds does it take?",
            ["twice", "four times", "eight times"],
            "four times",
            "The interval shrinks with the square root of n. Half the width takes four times the seeds.",
        ),
    }
)


@ANSWERS.exercise("The factor for five seeds is stdtrit(4, 0.975), and the SD divides by n - 1.")
def _interval(a) -> bool:
    five = stats.interval([76.20, 75.80, 75.89, 75.85, 76.15])
    return np.allclose(a, (five.low, five.high), atol=0.006)


@ANSWERS.exercise("Sort them; times 4, 3, 2, 1; and none may be smaller than the one before it.")
def _holm(a) -> bool:
    return np.allclose(a, stats.holm([0.03, 0.001, 0.2, 0.02]), atol=1e-4)


@ANSWERS.exercise("stats.seeds_needed(effect, sd) has the answer.")
def _plan(a) -> bool:
    return list(a) == [stats.seeds_needed(effect, 0.2) for effect in (0.3, 0.1)]


def _p_of_difference(x: np.ndarray) -> float:
    return float(2 * stdtr(len(x) - 1, -abs(x.mean()) / (x.std(ddof=1) / np.sqrt(len(x)))))


@ANSWERS.exercise("E_n is above 20 at the second of them; stats.log_e_values(added) has its logarithm after each seed.")
def _looking(a) -> bool:
    added = np.array([1.3, 0.4, 1.5, 0.6, 1.2, 0.2, 1.4, 0.9, 1.1, 0.5])
    tests = (_p_of_difference, stats.sequential_p)
    return list(a) == [next(n for n in range(3, 11) if p(added[:n]) < 0.05) for p in tests]
