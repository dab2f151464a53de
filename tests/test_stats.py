"""Statistics held against hand examples, brute force, restated formulas and simulation."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import integrate
from scipy import stats as scipy_stats

from kdlab import stats
from kdlab.errors import SpecError

SEEDS = 6


def runs(**arms):
    """A table of runs from one list of accuracies per arm."""
    rows = [
        {"arm": arm, "seed": seed, "test_accuracy": value, "diverged": False, "environment": "a"}
        for arm, values in arms.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def planted(seed, effects, n=SEEDS, sd=0.5):
    """Runs of a base arm and arms whose paired difference from it is normal with the given means, in SDs."""
    random = np.random.default_rng(seed)
    base = 80 + random.normal(size=n)
    return runs(base=base, **{a: base + random.normal(e * sd, sd, n) for a, e in effects.items()})


def minus_base(arm, **options):
    return stats.Contrast(f"{arm} - base", {arm: 1.0, "base": -1.0}, **options)


def outcome_rates(effects, contrasts, repeats=80, **options):
    """Share of repeats with each outcome, per contrast."""
    counts = [dict.fromkeys(stats.OUTCOMES, 0) for _ in contrasts]
    for seed in range(repeats):
        for count, verdict in zip(counts, stats.decide(planted(seed, effects, **options), contrasts), strict=True):
            count[verdict.outcome] += 1 / repeats
    return counts


# --- intervals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 5, 6, 10])
def test_t_interval_covers_95_percent_and_the_bootstrap_does_not(n):
    random = np.random.default_rng(n)
    samples = random.normal(3.0, 2.0, size=(4000, n))
    covered = [i.low <= 3.0 <= i.high for i in map(stats.interval, samples)]
    assert abs(np.mean(covered) - 0.95) < 0.015
    resampled = samples[:1000, random.integers(0, n, size=(400, n))].mean(axis=2)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=1)
    assert np.mean((low <= 3.0) & (high >= 3.0)) < 0.92


def test_interval_agrees_with_scipy_and_leaves_nan_out():
    values = [1.0, 2.0, 4.0, float("nan")]
    interval = stats.interval(values, level=0.9)
    expected = scipy_stats.ttest_1samp(values[:3], 0).confidence_interval(0.9)
    assert interval.n == 3
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_interval_of_one_value_has_no_width_to_show():
    interval = stats.interval([5.0])
    assert interval.mean == 5.0 and math.isnan(interval.low) and math.isnan(interval.high)
    assert math.isnan(stats.interval([]).mean)


# --- tests and corrections -------------------------------------------------------------------------------


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0]
    assert stats.holm([]) == []


def test_holm_counts_a_comparison_that_could_not_be_made():
    adjusted = stats.holm([0.02, float("nan"), 0.04])
    assert adjusted[0] == pytest.approx(0.06) and math.isnan(adjusted[1]) and adjusted[2] == pytest.approx(0.08)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7])
def test_sign_flip_is_exact(n):
    random = np.random.default_rng(n)
    for differences in (random.normal(0.5, 1, n), random.integers(-2, 4, n) / 5):
        sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=n)]
        expected = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-9)
        assert stats.sign_flip_p(differences) == pytest.approx(expected)


def test_sign_flip_floor_is_reached_when_all_differences_agree():
    assert stats.sign_flip_p([0.3, 0.1, 0.2, 0.5, 0.4]) == stats.sign_flip_floor(5) == 0.0625
    assert stats.sign_flip_floor(6) < 0.05
    assert stats.sign_flip_p(np.linspace(0.1, 1, 24)) == stats.sign_flip_floor(24)


@pytest.mark.parametrize("side", ["two-sided", "greater", "less"])
def test_t_test_agrees_with_scipy(side):
    differences = np.random.default_rng(5).normal(0.4, 1.0, 6)
    expected = scipy_stats.ttest_1samp(differences, 0.2, alternative=side).pvalue
    assert stats.t_test_p(differences, 0.2, side) == pytest.approx(expected)
    assert math.isnan(stats.t_test_p([0.3, 0.3, 0.3])) and math.isnan(stats.t_test_p([0.3]))


@pytest.mark.parametrize("shift", [-0.6, 0.0, 0.2, 0.9])
def test_tost_restated(shift):
    differences, margin = np.random.default_rng(7).normal(shift, 0.4, 8), 0.5
    error = differences.std(ddof=1) / math.sqrt(8)
    above_lower = scipy_stats.t.sf((differences.mean() + margin) / error, 7)
    below_upper = scipy_stats.t.cdf((differences.mean() - margin) / error, 7)
    assert stats.tost(differences, margin) == pytest.approx(max(above_lower, below_upper))


@pytest.mark.parametrize("n, effect", [(3, 2.0), (6, 1.0), (12, 0.8)])
def test_power_against_simulation(n, effect):
    samples = np.random.default_rng(n).normal(effect, 1.0, size=(20000, n))
    rejected = scipy_stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05
    assert stats.power_of(effect, 1.0, n) == pytest.approx(rejected.mean(), abs=0.015)


def test_detectable_effect_and_seeds_needed_are_inverse():
    for n in (2, 3, 6, 20):
        effect = stats.smallest_detectable(0.7, n)
        assert stats.power_of(effect, 0.7, n) == pytest.approx(0.8)
        assert stats.seeds_needed(effect * 1.0001, 0.7) == n
    assert math.isnan(stats.smallest_detectable(0.7, 1))
    with pytest.raises(SpecError, match="effect must not be 0"):
        stats.seeds_needed(0.0, 1.0)


@pytest.mark.parametrize("n, alpha, quoted", [(3, 0.0125, 5.03), (3, 0.05, None), (2, 0.05, None), (8, 0.0125, None)])
def test_the_smallest_margin_has_its_power_in_simulation(n, alpha, quoted):
    margin, draws = stats.smallest_margin(1.0, n, alpha=alpha), 200_000
    if quoted:
        assert margin == pytest.approx(quoted, abs=0.01)
    samples = np.random.default_rng(n).normal(0.0, 1.0, size=(draws, n))
    error, critical = samples.std(axis=1, ddof=1) / math.sqrt(n), scipy_stats.t.ppf(1 - alpha, n - 1)
    mean = samples.mean(axis=1)
    rejected = ((mean + margin) / error > critical) & ((mean - margin) / error < -critical)
    assert abs(rejected.mean() - 0.8) < 4 * math.sqrt(0.8 * 0.2 / draws)
    assert stats.tost_power(margin, 1.0, n, alpha) == pytest.approx(0.8, abs=1e-9)
    assert stats.smallest_margin(0.7, n, alpha=alpha) == pytest.approx(0.7 * margin)
    assert stats.seeds_needed(margin * 1.0001, 1.0, alpha=alpha, test=stats.tost_power) == n


def test_power_of_tost_against_integration_and_its_limits():
    for n, margin in ((2, 3.0), (3, 5.0), (7, 1.0), (300, 0.2)):
        critical = scipy_stats.t.ppf(0.95, n - 1)

        def given(u, n=n, margin=margin, critical=critical):
            inside = 2 * scipy_stats.norm.cdf(margin * math.sqrt(n) - critical * u) - 1
            return max(0.0, inside) * scipy_stats.chi.pdf(u * math.sqrt(n - 1), n - 1) * math.sqrt(n - 1)

        cut = min(margin * math.sqrt(n) / critical, 1 + 12 / math.sqrt(n - 1))
        expected = integrate.quad(given, 0, cut, points=[min(1.0, cut / 2)], limit=500)[0]
        assert stats.tost_power(margin, 1.0, n) == pytest.approx(expected, abs=1e-7)
    assert stats.tost_power(1e-9, 1.0, 500) == 0 and stats.tost_power(50.0, 1.0, 5) == pytest.approx(1, abs=1e-4)
    # with many seeds the split bound is exact: each side may miss half as often
    bound = (scipy_stats.norm.ppf(0.95) + scipy_stats.norm.ppf(0.9)) / math.sqrt(2000)
    assert stats.smallest_margin(1.0, 2000) == pytest.approx(bound, rel=1e-3)
    assert math.isnan(stats.smallest_margin(1.0, 1)) and math.isnan(stats.smallest_margin(0.0, 5))


# --- verdicts --------------------------------------------------------------------------------------------


def test_planted_effects_get_their_outcomes():
    effects = {"nothing": 0.0, "helps": 3.0, "harms": -3.0}
    nothing, helps, harms = outcome_rates(effects, [minus_base(arm) for arm in effects])
    assert nothing["undecided"] + nothing["negligible"] >= 0.93
    assert helps["supported"] >= 0.85 and helps["contradicted"] == 0
    assert harms["contradicted"] >= 0.85 and harms["supported"] == 0


def test_no_gain_outcomes_for_planted_effects():
    """Margin 0.5 is one SD; 12 seeds prove the absence of an effect, and a harmful one counts as no gain."""
    effects = {"nothing": 0.0, "harms": -3.0, "helps": 3.0, "at_margin": 1.0}
    contrasts = [minus_base(arm, expects="no_gain", role="null control") for arm in effects]
    nothing, harms, helps, at_margin = outcome_rates(effects, contrasts, n=12)
    assert nothing["supported"] >= 0.8 and nothing["contradicted"] == 0
    assert harms["supported"] >= 0.95
    assert helps["contradicted"] >= 0.95
    assert at_margin["supported"] <= 0.09 and at_margin["contradicted"] <= 0.09


def test_equivalence_is_contradicted_on_either_side():
    effects = {"harms": -4.0, "helps": 4.0, "nothing": 0.0}
    contrasts = [minus_base(arm, expects="equivalent", role="null control") for arm in effects]
    harms, helps, nothing = outcome_rates(effects, contrasts, n=12)
    assert harms["contradicted"] >= 0.95 and helps["contradicted"] >= 0.95 and nothing["supported"] >= 0.75


def test_no_gain_needs_more_than_a_wide_interval():
    verdict = stats.decide(runs(a=[80, 82, 79, 81], base=[80, 80, 80, 80]), [minus_base("a", expects="no_gain")])
    assert verdict[0].outcome == "undecided" and "rule out effects beyond" in verdict[0].reason


def test_holm_spans_the_claims_only():
    table = planted(3, {"a": 1.4, "b": 1.4, "c": 1.4})
    claims = [minus_base("a"), minus_base("b")]
    alone = stats.decide(table, claims)
    with_control = stats.decide(table, [*claims, minus_base("c", role="positive control")])
    assert [v.p_holm for v in with_control[:2]] == [v.p_holm for v in alone]
    both = stats.holm([p for v in alone for p in (v.p, v.p_equivalence)])
    assert [p for v in alone for p in (v.p_holm, v.p_equivalence_holm)] == pytest.approx(both)
    control = with_control[2]
    assert (control.p_holm, control.p_equivalence_holm) == (control.p, control.p_equivalence)


def test_effect_is_the_weighted_sum_per_seed():
    table = runs(a=[1.0, 2.0, 4.0], b=[0.0, 1.0, 1.0], c=[5.0, 5.0, 6.0])
    contrast = stats.Contrast("interaction", {"a": 0.5, "b": 0.5, "c": -1.0})
    (verdict,) = stats.decide(table, [contrast])
    assert verdict.differences == {0: -4.5, 1: -3.5, 2: -3.5}
    assert verdict.n == 3 and verdict.effect == pytest.approx(-23 / 6)


def test_diverged_missing_and_foreign_rows_are_flagged():
    table = runs(a=[80.0, 81.0, 82.0, 80.5], base=[79.0, 79.5, 80.0, 79.9])
    table.loc[(table.arm == "a") & (table.seed == 0), ["diverged", "test_accuracy"]] = [True, float("nan")]
    table.loc[(table.arm == "base") & (table.seed == 2), "environment"] = "b"
    table = table[~((table.arm == "base") & (table.seed == 3))]
    (verdict,) = stats.decide(table, [minus_base("a")])
    assert list(verdict.differences) == [1, 2]
    assert "diverged: a, seed 0" in verdict.flags
    assert "left out, without a value in every arm: seed 0, 3" in verdict.flags
    assert "pairs runs of different environments: seed 2" in verdict.flags


@pytest.mark.parametrize("values, why", [([80.0], "at least 2 seeds"), ([80.0, 81.0], "all differences are equal")])
def test_without_a_spread_nothing_is_decided(values, why):
    (verdict,) = stats.decide(runs(a=[v + 5 for v in values], base=values), [minus_base("a")])
    assert verdict.outcome == "undecided" and verdict.needed is None and why in verdict.reason


def test_overall_outcome():
    def verdicts(*effects):
        table = planted(0, {f"arm{i}": e for i, e in enumerate(effects)}, n=10)
        return stats.decide(table, [minus_base(f"arm{i}", margin=0.01) for i in range(len(effects))])

    assert stats.overall(verdicts(5.0, 5.0)) == "supported"
    assert stats.overall(verdicts(5.0, 0.0)) == "undecided"
    assert stats.overall(verdicts(5.0, 0.0, -5.0)) == "contradicted"
    assert stats.overall([]) == "undecided"


def test_verdict_table_is_plain_and_sentences_name_the_numbers():
    (verdict,) = stats.decide(planted(1, {"a": 5.0}), [minus_base("a")])
    row = stats.as_table([verdict]).iloc[0]
    assert row["name"] == "a - base" and row["n"] == SEEDS and row["outcome"] == "supported"
    assert verdict.reason.startswith(f"a gains {verdict.effect:.2f} points [{verdict.low:+.2f}, {verdict.high:+.2f}]")
    assert "95 % interval over 6 seeds; paired t, Holm p < 0.001" in verdict.reason
    assert verdict.reason.endswith("supported.")
    assert verdict.finding == re.sub(r" \(.*\)(: supported)\.", r"\1", verdict.reason) == row["finding"]


def test_five_seeds_say_that_the_sign_flip_test_cannot_decide():
    (five,) = stats.decide(planted(1, {"a": 5.0}, n=5), [minus_base("a")])
    (six,) = stats.decide(planted(1, {"a": 5.0}, n=6), [minus_base("a")])
    assert any("sign-flip" in flag for flag in five.flags) and not six.flags


def test_paired_comparison_of_two_arms():
    table = planted(2, {"a": 1.0})
    verdict = stats.paired(table, "a", "base")
    wide = table.pivot(index="seed", columns="arm", values="test_accuracy")
    assert verdict.p == pytest.approx(scipy_stats.ttest_rel(wide["a"], wide["base"]).pvalue)


@pytest.mark.parametrize(
    "contrast, message",
    [
        (lambda: minus_base("jda", metric="accuracy"), "metric must be one of .*'test_accuracy'"),
        (lambda: minus_base("jdaa"), "arm must be one of .*'jda'"),
        (lambda: minus_base("jda", expects="positiv"), "expects must be one of .*'positive'"),
        (lambda: minus_base("jda", margin=0.0), "margin of .* must be above 0"),
        (lambda: stats.Contrast("x", {"jda": 1.0}), "weights of 'x' must sum to 0"),
    ],
)
def test_mistakes_are_named(contrast, message):
    with pytest.raises(SpecError, match=message):
        stats.decide(planted(0, {"jda": 1.0}), [contrast()])


def test_two_rows_of_one_arm_and_seed_are_refused():
    table = runs(a=[1.0, 2.0], base=[1.0, 1.5])
    with pytest.raises(SpecError, match="arm 'a' has two rows for seed 1"):
        stats.decide(pd.concat([table, table.iloc[[1]]]), [minus_base("a")])


# --- tables ----------------------------------------------------------------------------------------------


def test_factors_stand_in_columns_and_other_arms_are_left_out():
    table = pd.DataFrame({"arm": ["weak2", "jda", "ce", "jda"], "seed": [0, 0, 0, 1], "test_accuracy": [1.0, 2, 3, 4]})
    rows = stats.with_factors(table, {"jda": (50.0, "two"), "weak2": (0.0, "two")}, ("share", "by"))
    assert rows["share"].tolist() == [0.0, 50.0, 50.0] and set(rows["by"]) == {"two"}
    assert rows["test_accuracy"].tolist() == [1.0, 2.0, 4.0] and list(table) == ["arm", "seed", "test_accuracy"]


def test_additive_residual_is_zero_for_an_additive_table_with_a_hole():
    rows, columns = np.array([0.0, 1.0, 3.0, 2.0]), np.array([10.0, 12.0, 11.0])
    matrix = pd.DataFrame(rows[:, None] + columns)
    matrix.iloc[1, 2] = float("nan")
    residual = stats.additive_residual(matrix)
    assert np.isnan(residual.iloc[1, 2]) and np.allclose(residual.fillna(0.0), 0.0)


def test_additive_residual_is_what_double_centring_leaves():
    matrix = pd.DataFrame(np.random.default_rng(0).normal(size=(4, 3)), index=list("abcd"))
    centred = matrix.sub(matrix.mean(axis=1), axis=0) - matrix.mean(axis=0) + matrix.to_numpy().mean()
    assert np.allclose(stats.additive_residual(matrix), centred)
