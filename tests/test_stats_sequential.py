"""The sequential t-test: its e-value by integration, its error over looks, its confidence sequence, its verdicts."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import integrate
from scipy import stats as scipy_stats

from kdlab import stats
from kdlab.errors import SpecError
from kdlab.report import CHECKOUT
from kdlab.stats.inference import interval
from kdlab.stats.judging import ALPHA, judge

MARGIN = 0.5


def contrast(name="a", **options):
    return stats.Contrast(f"{name} - base", {name: 1.0, "base": -1.0}, margin=MARGIN, **options)


def e_value(x: np.ndarray) -> float:
    """E_n as the issue of the test writes it, with scipy's t."""
    n, t, g = len(x), scipy_stats.ttest_1samp(x, 0).statistic, 1.0
    u = t**2 / (n - 1)
    return math.sqrt(g / (n + g)) * ((1 + u) / (1 + g / (n + g) * u)) ** (n / 2)


@pytest.fixture(scope="module")
def looks():
    """The simulation whose table is published."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CHECKOUT / "figures"))
        import looks

        yield looks
    sys.modules.pop("looks")


# --- the e-value --------------------------------------------------------------------------------------------------


def test_the_e_value_is_the_ratio_of_two_densities_with_their_parameters_integrated_out():
    """By quadrature over the scale and the effect size, without the algebra."""
    x = np.array([0.3, 1.1, -0.2, 0.9])

    def density(log_scale: float, size: float) -> float:  # d sigma / sigma = d log sigma
        scale = math.exp(log_scale)
        return math.prod(math.exp(-((v / scale - size) ** 2) / 2) / scale / math.sqrt(2 * math.pi) for v in x.tolist())

    def prior(size: float) -> float:  # N(0, 1 / g) with g = 1
        return math.exp(-(size**2) / 2) / math.sqrt(2 * math.pi)

    null, _ = integrate.quad(lambda s: density(s, 0.0), -6, 6)
    alternative, _ = integrate.dblquad(lambda d, s: density(s, d) * prior(d), -6, 6, -8, 8, epsabs=1e-6)
    assert math.exp(stats.log_e_values(x)[-1]) == pytest.approx(alternative / null, rel=1e-4)


def test_every_look_has_the_formula_whatever_unit_and_sign_the_differences_have():
    x = np.random.default_rng(0).normal(0.4, 1, 15)
    found = np.exp(stats.log_e_values(x))
    assert found[0] == 1 and found[1:] == pytest.approx([e_value(x[:n]) for n in range(2, 16)])
    assert np.exp(stats.log_e_values(-1e-3 * x)) == pytest.approx(found)
    assert np.exp(stats.log_e_values(1000 + x, null=1000)) == pytest.approx(found)
    assert np.exp(stats.log_e_values(np.stack([x, -x]))) == pytest.approx(np.stack([found, found]))


def test_p_is_one_over_the_largest_stake_and_never_rises():
    x = np.random.default_rng(1).normal(0.6, 1, 30)
    p = [stats.sequential_p(x[:n]) for n in range(2, 31)]
    assert p == pytest.approx([1 / max([1, *(e_value(x[:k]) for k in range(2, n + 1))]) for n in range(2, 31)])
    assert (np.diff(p) <= 0).all()


def test_without_a_spread_nothing_is_shown():
    for x in ([], [1.0], [0.3, 0.3, 0.3], [math.nan, 1.0]):
        assert math.isnan(stats.sequential_p(x))
    assert stats.log_e_values([0.7] * 9).tolist() == [0.0] * 9, "nine equal differences are no evidence either"
    late = [0.7] * 5 + [0.8]
    assert stats.sequential_p(late) == pytest.approx(1 / e_value(np.array(late)))
    assert stats.sequential_p([1.0, math.nan, 2.0]) == stats.sequential_p([1.0, 2.0])
    with pytest.raises(SpecError, match="side must be one of .*, but got 'grater'. Did you mean 'greater'"):
        stats.sequential_p([1.0, 2.0], side="grater")


# --- the error, over looks ----------------------------------------------------------------------------------------


def test_looks_after_every_seed_err_in_at_most_five_studies_of_a_hundred(looks):
    """The published simulation, shorter: 3,000 studies of 60 seeds."""
    table = looks.simulated("normal", 0.0, studies=3000, last=60).set_index("test")
    assert table.loc["sequential t", "by_50"] <= 5
    assert table.loc["t, repeated", "by_50"] > 25 and abs(table.loc["t, fixed", "by_34"] - 5) < 1.5
    found = looks.simulated("normal", 1.0, studies=500, last=60).set_index("test")
    assert found.loc["sequential t", "by_34"] > 95


def test_the_published_table_is_what_the_text_says():
    table = pd.read_csv(CHECKOUT / "figures" / "looks.csv").set_index(["differences", "effect", "test"])
    error = table["by_200"]
    assert error["normal", 0.0, "sequential t"] <= 5 and error["heavy", 0.0, "sequential t"] <= 5
    assert 40 <= error["normal", 0.0, "t, repeated"] <= 43, "two studies of five"
    assert (table["by_34"][:, 0.5, "t, fixed"] > 79).all() and (table["by_10"][:, 1.0, "t, fixed"] > 79).all()


def test_one_sided_looks_test_every_mean_up_to_the_null():
    """Where the mean lies below the null, "above" is found at some of many looks in at most 5 % of studies."""
    random = np.random.default_rng(2)
    wrong = [stats.sequential_p(x, 0.0, "greater") <= ALPHA for x in random.normal(-0.02, 1, (1500, 60))]
    assert np.mean(wrong) <= 0.05
    x = random.normal(0.8, 1, 40)
    assert stats.sequential_p(x, 0.0, "greater") == stats.sequential_p(x) and stats.sequential_p(x, 0.0, "less") == 1


# --- the confidence sequence --------------------------------------------------------------------------------------


def test_its_ends_are_where_p_is_five_percent():
    for seed in range(4):
        x = np.random.default_rng(seed).normal(0.3, 0.7, 20)
        found = stats.confidence_sequence(x)
        assert found.mean == pytest.approx(x.mean()) and found.n == 20
        for end, side in ((found.low, "greater"), (found.high, "less")):
            assert stats.sequential_p(x, end, side) == pytest.approx(0.05, abs=1e-6)
        assert (found.low, found.high) != (interval(x).low, interval(x).high)


def test_it_holds_the_mean_at_all_looks_at_once():
    studies = np.random.default_rng(3).normal(2.0, 3.0, (800, 50))
    found = [stats.confidence_sequence(x) for x in studies]  # the intersection of all looks
    assert np.mean([i.low <= 2.0 <= i.high for i in found]) >= 0.95


def test_few_seeds_bound_nothing():
    assert [math.isinf(stats.sequence_critical(n, 0.05)) for n in (2, 3, 4, 5)] == [True, True, True, False]
    for n in (5, 12, 200):
        t = stats.sequence_critical(n, 0.05)
        x = np.concatenate([np.ones(n // 2), -np.ones(n // 2), np.zeros(n % 2)])
        x = x + t * x.std(ddof=1) / math.sqrt(n)
        assert e_value(x) == pytest.approx(20)
    few = stats.confidence_sequence([1.0, 2.0, 3.0])
    assert (few.low, few.high) == (-math.inf, math.inf)
    assert math.isnan(stats.confidence_sequence([1.0]).low) and math.isnan(stats.confidence_sequence([]).mean)


@pytest.mark.parametrize("seed", range(3))
def test_negligible_is_the_sequence_within_the_margin(seed):
    x = np.random.default_rng(seed).normal(0.05, 0.4, 60)
    for n in range(5, 61, 5):
        found, (judged,) = stats.confidence_sequence(x[:n]), judge([x[:n]], [contrast()], "sequential")
        within = -MARGIN < found.low and found.high < MARGIN
        assert (judged.p_equivalence < 0.05) == within
        assert (judged.p < 0.05) == (found.low > 0 or found.high < 0)


# --- verdicts -----------------------------------------------------------------------------------------------------

WRONG = {
    ("positive", 0.0): {"supported", "contradicted"},
    ("positive", MARGIN): {"negligible", "contradicted"},
    ("no_gain", MARGIN): {"supported", "contradicted"},
    ("equivalent", -MARGIN): {"supported", "contradicted"},
}


def test_any_wrong_verdict_at_any_look_is_as_rare_as_five_in_a_hundred():
    """Three claims that share an arm; p never rises, so a wrong verdict at any look is a wrong p at the last."""
    truth, random, repeats, wrong = [*WRONG][:3], np.random.default_rng(7), 300, 0
    listed = [contrast(expects=expects) for expects, _ in truth]
    for _ in range(repeats):
        shared = random.normal(0, 0.3, 40)
        samples = [effect + shared + random.normal(0, 0.3, 40) for _, effect in truth]
        wrong += any(j.outcome in WRONG[t] for j, t in zip(judge(samples, listed, "sequential"), truth, strict=True))
    assert wrong / repeats <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / repeats)


@pytest.mark.parametrize(
    "expects, effect, outcome, test",
    [
        ("positive", 1.0, "supported", "sequential t"),
        ("positive", -1.0, "contradicted", "sequential t"),
        ("positive", 0.0, "negligible", "sequential TOST"),
        ("no_gain", -1.0, "supported", "sequential t below 0"),
        ("no_gain", 0.1, "supported", "sequential TOST"),
        ("no_gain", 1.5, "contradicted", "sequential t beyond 0.5"),
        ("equivalent", 0.0, "supported", "sequential TOST"),
        ("equivalent", -1.5, "contradicted", "sequential t beyond 0.5"),
    ],
)
def test_each_outcome_says_which_test_found_it(expects, effect, outcome, test):
    wobble = 0.1 * np.array([1.0, -1.0, 0.5, -0.5, 0.0] * 4)
    table = runs(a=80 + effect + wobble, base=np.full(20, 80.0))
    (verdict,) = stats.decide(table, [contrast(expects=expects)], design="sequential")
    assert (verdict.outcome, verdict.design) == (outcome, "sequential")
    assert f"(95 % confidence sequence over 20 seeds; {test}, Holm p < 0.001): {outcome}" in verdict.reason
    bounds = stats.confidence_sequence(verdict.differences.values())
    assert (verdict.low, verdict.high) == (bounds.low, bounds.high)
    assert math.isnan(verdict.sign_flip) and math.isnan(verdict.floor) and not verdict.flags


def test_undecided_says_what_a_look_could_show():
    x = np.random.default_rng(0).normal(0, 1, 12)
    (verdict,) = stats.decide(runs(a=80 + x, base=np.full(12, 80.0)), [contrast()], design="sequential")
    assert verdict.outcome == "undecided" and f"would take at most {verdict.needed} seeds." in verdict.reason
    (fixed,) = stats.decide(runs(a=80 + x, base=np.full(12, 80.0)), [contrast()])
    assert verdict.needed > fixed.needed and verdict.detectable > fixed.detectable
    assert "(95 % interval over 12 seeds; TOST, Holm p" in fixed.reason and fixed.design == "fixed"
    (few,) = stats.decide(runs(a=80 + x[:3], base=np.full(3, 80.0)), [contrast()], design="sequential")
    assert "(3 seeds, too few for a 95 % confidence sequence; " in few.reason and "nan" not in few.reason
    assert "inf" not in few.reason and math.isnan(few.detectable) and not few.bounded
    (none,) = stats.decide(runs(a=[81.0] * 4, base=[80.0] * 4), [contrast()], design="sequential")
    assert none.reason == "a - base: undecided, 4 seeds; all differences are equal."


def test_seeds_needed_do_what_they_say():
    """Of studies of as many seeds, at least the promised share is significant by then; looks before only add to it."""
    needed = stats.seeds_needed(0.8, 1.0, test=lambda *given: stats.power_of(*given, stats.sequence_critical))
    studies = np.random.default_rng(5).normal(0.8, 1.0, (2000, needed))
    at_the_end = (stats.log_e_values(studies)[:, -1] >= math.log(20)).mean()
    assert at_the_end == pytest.approx(0.8, abs=0.03) and needed > stats.seeds_needed(0.8, 1.0)


def test_the_order_of_seeds_is_theirs_and_not_the_tables():
    x = np.random.default_rng(4).normal(0.5, 1, 10)
    table = runs(a=80 + x, base=np.full(10, 80.0))
    one, other = (stats.decide(t, [contrast()], design="sequential")[0] for t in (table, table.iloc[::-1]))
    assert one == other
    with pytest.raises(SpecError, match="design must be one of .*, but got 'sequental'. Did you mean 'sequential'"):
        stats.decide(table, [contrast()], design="sequental")


def runs(**arms):
    """A table from one list of accuracies per arm."""
    return pd.DataFrame([
        {"arm": arm, "seed": seed, "key": f"{arm}{seed}", "test_accuracy": float(value)}
        for arm, values in arms.items() for seed, value in enumerate(values)
    ])  # fmt: skip
