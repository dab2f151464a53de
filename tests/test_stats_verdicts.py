"""Verdicts by two tests: Holm over both p of every claim restated, wrong verdicts counted, words."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from kdlab import stats
from kdlab.perspectives.conclusions import conclusion
from kdlab.stats.judging import ALPHA, judge

MARGIN = 0.5


def contrast(name="a", **options):
    return stats.Contrast(f"{name} - base", {name: 1.0, "base": -1.0}, margin=MARGIN, **options)


def runs(**arms):
    """A table from one list of accuracies per arm."""
    return pd.DataFrame([
        {"arm": arm, "seed": seed, "key": f"{arm}{seed}", "test_accuracy": value}
        for arm, values in arms.items() for seed, value in enumerate(values)
    ])  # fmt: skip


def restated(sample: np.ndarray, expects: str) -> tuple[float, float]:
    """Both p of a contrast by scipy."""

    def t(null, alternative):
        return scipy_stats.ttest_1samp(sample, null, alternative=alternative).pvalue

    tost = max(t(-MARGIN, "greater"), t(MARGIN, "less"))
    if expects == "positive":
        return t(0.0, "two-sided"), tost
    mean = sample.mean()
    outside = mean > MARGIN or (expects == "equivalent" and mean < -MARGIN)
    differs = t(MARGIN if mean > 0 else -MARGIN, "two-sided") if outside else 1.0
    return differs, min(tost, t(0.0, "two-sided")) if expects == "no_gain" and mean < 0 else tost


@pytest.mark.parametrize("seed", range(6))
def test_holm_over_both_p_of_every_claim_restated(seed):
    random = np.random.default_rng(seed)
    expects = [*("positive",) * 3, "no_gain", "no_gain", "equivalent"]
    samples = [random.normal(random.uniform(-1, 1), 0.3, 8) for _ in expects]
    listed = [contrast(expects=e) for e in expects]
    control = contrast(role="positive control")
    found = judge([*samples, samples[0]], [*listed, control])
    p = np.array([p for sample, e in zip(samples, expects, strict=True) for p in restated(sample, e)])
    order, adjusted, worst = np.argsort(p, kind="stable"), np.empty_like(p), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, (len(p) - rank) * p[place])
        adjusted[place] = min(1.0, worst)
    assert [q for j in found[:-1] for q in (j.p, j.p_equivalence)] == pytest.approx(p)
    assert [q for j in found[:-1] for q in (j.p_holm, j.p_equivalence_holm)] == pytest.approx(adjusted)
    assert (found[-1].p_holm, found[-1].p_equivalence_holm) == pytest.approx(restated(samples[0], "positive"))


WRONG = {
    ("positive", 0.0): {"supported", "contradicted"},
    ("positive", MARGIN): {"negligible", "contradicted"},
    ("positive", -MARGIN): {"negligible", "supported"},
    ("no_gain", 0.0): {"contradicted"},
    ("no_gain", MARGIN): {"supported", "contradicted"},
    ("equivalent", 0.0): {"contradicted"},
    ("equivalent", MARGIN): {"supported", "contradicted"},
    ("equivalent", -MARGIN): {"supported", "contradicted"},
}


@pytest.mark.parametrize("sd", [0.1, 0.4])
@pytest.mark.parametrize(
    "truth",
    [
        [("positive", 0.0)] * 3,
        [("positive", MARGIN)] * 3,
        [("positive", 0.0), ("positive", MARGIN), ("positive", -MARGIN)],
        [("positive", MARGIN), ("no_gain", MARGIN), ("equivalent", -MARGIN)],
        [("positive", 0.0), ("no_gain", 0.0), ("equivalent", 0.0)],
    ],
)
def test_any_wrong_verdict_is_as_rare_as_five_in_a_hundred(truth, sd):
    """The family of a study's claims, whose contrasts share an arm, at the effects where a null hypothesis just holds.

    At the margin itself the two null hypotheses of a no-effect contrast both hold: no verdict is right.
    """
    repeats, random = 1000, np.random.default_rng(7)
    listed = [contrast(expects=expects) for expects, _ in truth]
    wrong = 0
    for _ in range(repeats):
        shared = random.normal(0, sd / math.sqrt(2), 6)
        samples = [effect + shared + random.normal(0, sd / math.sqrt(2), 6) for _, effect in truth]
        wrong += any(j.outcome in WRONG[t] for j, t in zip(judge(samples, listed), truth, strict=True))
    assert wrong / repeats <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / repeats)


def test_a_verdict_says_which_seed_it_hangs_on():
    """Against the rule applied anew to tables that lack a seed, so with Holm's correction over the same claims."""
    rng = np.random.default_rng(4)
    base = 80 + rng.normal(0, 1, 8)
    noise = rng.normal(0, 1, (3, 8))
    table = runs(base=base, a=base + 1.2 + noise[0], b=base + 1.2 + noise[1], none=base + 0.2 * noise[2])
    claims = [contrast(arm) for arm in ("a", "b", "none")]
    whole = stats.decide(table, claims)
    for seed in range(8):
        for verdict, without in zip(whole, stats.decide(table[table["seed"] != seed], claims), strict=True):
            assert verdict.turns.get(seed, verdict.outcome) == without.outcome
    assert any(v.turns for v in whole), "nothing to see in these numbers"
    shown = {v.contrast.name.split()[0]: v.stability for v in whole}
    assert shown["none"] == "the same without any one seed"
    two = table[table["seed"] < 2]
    assert all(v.stability == "" and not v.turns for v in stats.decide(two, claims))
    assert all(v.stability == "" and not v.turns for v in stats.decide(table, claims, design="sequential"))
    hangs = dataclasses.replace(whole[0], turns={3: "undecided", 5: "undecided", 1: "supported"})
    assert hangs.stability == "undecided without any one of seeds 3, 5; supported without seed 1"
    assert f"It hangs on single seeds: {hangs.stability}." in conclusion([hangs])
    assert stats.as_table([hangs])["stability"].item() == hangs.stability


def test_each_outcome_is_found_where_it_is_plain():
    base = 80 + np.linspace(-1, 1, 8)
    wobble = 0.05 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    arms = {"large": 1.0, "small": 0.2, "none": 0.0, "worse": -1.0, "slightly": -0.2}
    table = runs(base=base, **{arm: base + effect + wobble for arm, effect in arms.items()})
    found = dict(zip(arms, stats.decide(table, [contrast(arm) for arm in arms]), strict=True))
    assert {arm: v.outcome for arm, v in found.items()} == {
        "large": "supported", "small": "supported", "none": "negligible", "worse": "contradicted",
        "slightly": "contradicted",
    }  # fmt: skip
    ends = {arm: v.reason.rpartition("): ")[2] for arm, v in found.items()}
    assert ends == {
        "large": "supported.", "small": "supported, but smaller than 0.5 points.",
        "none": "negligible, smaller than 0.5 points either way.", "worse": "contradicted.",
        "slightly": "contradicted, but by less than 0.5 points.",
    }  # fmt: skip
    assert "; TOST, Holm p < 0.001)" in found["none"].reason
    assert found["worse"].reason.startswith("worse loses 1.00 points [−1.0")


def test_overall_of_supported_and_negligible():
    base = 80 + np.linspace(-1, 1, 8)
    wobble = 0.05 * np.array([1, -1, 1, -1, 1, -1, 1, -1])

    def of(*effects):
        table = runs(base=base, **{f"arm{i}": base + e + wobble for i, e in enumerate(effects)})
        return stats.overall(stats.decide(table, [contrast(f"arm{i}") for i in range(len(effects))]))

    assert [of(1, 1), of(1, 0), of(0, 0), of(0, -1, 1)] == ["supported", "negligible", "negligible", "contradicted"]


def test_a_p_says_its_test_and_whether_it_is_corrected():
    table = runs(base=[80, 81, 82, 80.5], a=[80.9, 80.5, 82.4, 81.0])
    listed = [contrast(), contrast(role="positive control"), contrast(expects="no_gain")]
    claim, control, none = stats.decide(table, listed)
    assert claim.outcome == "undecided" and claim.p_text == f"paired t, Holm p = {claim.p_holm:.3f}"
    assert f"; TOST, Holm p = {claim.p_equivalence_holm:.3f}): undecided;" in claim.reason
    assert control.p_text.startswith("TOST, raw p = ") or control.p_text.startswith("paired t, raw p = ")
    assert none.p_text.startswith("TOST, Holm p = ")


def test_a_difference_of_gains_is_above_or_below():
    gains = stats.Contrast("gain at 10 % − gain at 100 %", {"a": 1, "b": -1, "c": -1, "d": 1}, subject="JDA's gain")
    assert gains.sentence(-1.5, " [x]") == "JDA's gain is 1.50 points [x] below gain at 100 %"
    assert contrast("jda", reference="two weak views").sentence(0.6, "") == "jda gains 0.60 points over two weak views"
    likely = contrast("jda", metric="test_nll", unit="nats")
    assert likely.sentence(0.02, "") == "jda is 0.02 nats above base"
    assert stats.Contrast("null", {"a": 1, "b": -1}).sentence(0.1, "") == "null is 0.10 points above zero"


# --- test images -----------------------------------------------------------------------------------------


@pytest.fixture
def answers():
    random = np.random.default_rng(0)
    return {f"{arm}{seed}": random.random(400) < share for arm, share in (("a", 0.8), ("base", 0.7)) for seed in (0, 1)}


def test_error_over_images_restated(answers):
    table = runs(a=[80.0, 81.0], base=[70.0, 71.0])
    each = [
        100.0 * np.mean([int(answers[f"a{s}"][i]) - int(answers[f"base{s}"][i]) for s in (0, 1)]) for i in range(400)
    ]
    weights = {"a": 1.0, "base": -1.0}
    assert stats.image_error(table, weights, answers.get) == pytest.approx(scipy_stats.sem(each))
    assert stats.image_error(table.set_index("key"), weights, answers.get) == pytest.approx(scipy_stats.sem(each))
    (verdict,) = stats.decide(table, [contrast()], answers.get)
    assert verdict.image_error == pytest.approx(scipy_stats.sem(each))
    assert stats.as_table([verdict])["image_error"].item() == verdict.image_error


def test_sampling_noise_is_that_of_the_discordant_share(answers):
    table = runs(a=[80.0, 81.0], base=[70.0, 71.0])
    share = np.mean([answers[f"a{s}"] != answers[f"base{s}"] for s in (0, 1)])
    noise = stats.sampling_noise(table, {"a": 1.0, "base": -1.0}, answers.get)
    assert noise == pytest.approx(100 * math.sqrt(share / 400))
    other = stats.sampling_noise(table, {"a": 1.0, "base": -1.0}, answers.get, images=100)
    assert other == pytest.approx(2 * noise)


def test_without_the_answers_of_a_run_the_error_is_not_known(answers):
    table, weights = runs(a=[80.0, 81.0], base=[70.0, 71.0]), {"a": 1.0, "base": -1.0}
    del answers["base1"]
    assert math.isnan(stats.image_error(table, weights, answers.get))
    assert math.isnan(stats.image_error(table.drop(columns="key"), weights, answers.get))
    assert math.isnan(stats.decide(table, [contrast()])[0].image_error)
