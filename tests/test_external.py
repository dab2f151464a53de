"""Measures of shifted sets against restatements by pairs, rows and loops, and what is frozen before."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import mannwhitneyu

from kdlab import metrics
from kdlab.errors import SpecError
from kdlab.metrics import external, scores

DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(0, 4, size=120)
LOGITS = 2 * np.eye(4)[LABELS] + DRAW.normal(size=(120, 4))
P = softmax(LOGITS, axis=1)
TIED = np.round(LOGITS)


# ---- one set ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [LOGITS, TIED, np.zeros((120, 4))], ids=["no ties", "ties", "all tied"])
def test_auc_by_pairs(values):
    for k, found in enumerate(scores.auc(values, LABELS)):
        own, rest = values[LABELS == k, k], values[LABELS != k, k]
        wins = sum((a > b) + (a == b) / 2 for a in own for b in rest)
        assert found == pytest.approx(wins / (len(own) * len(rest)), abs=1e-12)
        assert found == pytest.approx(mannwhitneyu(own, rest).statistic / (len(own) * len(rest)), abs=1e-12)
    assert np.isnan(scores.auc(values, np.zeros(120, dtype=int))).all()
    assert scores.auc(np.eye(4)[LABELS], LABELS).tolist() == [1.0] * 4


def test_auc_does_not_see_what_a_frozen_threshold_does():
    """The bias of one logit on the external set: its order stays, decisions at the old threshold do not."""
    frozen = external.freeze(LOGITS, LABELS)
    shifted = LOGITS - np.array([3.0, 0, 0, 0])
    assert scores.auc(shifted, LABELS).tolist() == scores.auc(LOGITS, LABELS).tolist()
    before, after = (
        scores.sensitivity_specificity(softmax(z / frozen.temperature, axis=1), LABELS, frozen.thresholds)
        for z in (LOGITS, shifted)
    )
    assert before[0][0] > 0.7 and after[0][0] < before[0][0] - 0.3
    rows = [external.external_scores(z, LABELS, frozen) for z in (LOGITS, LOGITS - np.array([1.4, 0, 0, 0]))]
    assert external.hidden_by_auc(*rows) and not external.hidden_by_auc(rows[0], rows[0])
    assert not external.hidden_by_auc(rows[0], rows[1] | {"auc": rows[0]["auc"] - 0.1})  # it says so itself


def test_sensitivity_and_specificity_by_counting():
    limits = np.array([0.3, 0.5, 0.2, 0.9])
    found = scores.sensitivity_specificity(P, LABELS, limits)
    for k, limit in enumerate(limits):
        hits = [p[k] >= limit for p, y in zip(P, LABELS, strict=True) if y == k]
        left = [p[k] < limit for p, y in zip(P, LABELS, strict=True) if y != k]
        assert (found[0][k], found[1][k]) == (np.mean(hits), np.mean(left))
    assert np.isnan(scores.sensitivity_specificity(P, np.zeros(120, dtype=int), limits)[0][1:]).all()


def test_brier_balanced_accuracy_and_classwise_calibration_row_by_row():
    total = sum((p[k] - (y == k)) ** 2 for p, y in zip(P, LABELS, strict=True) for k in range(4))
    assert scores.brier(LOGITS, LABELS) == pytest.approx(total / 120, abs=1e-12)
    assert scores.brier(np.eye(2) * 1000, [1, 0]) == 2 and scores.brier(np.eye(2) * 1000, [0, 1]) == 0
    recalls = [np.mean(LOGITS[LABELS == k].argmax(1) == k) for k in range(4)]
    assert scores.balanced_accuracy(LOGITS, LABELS) == pytest.approx(np.mean(recalls), abs=1e-12)
    few = LABELS < 2
    assert scores.balanced_accuracy(LOGITS[few], LABELS[few]) == pytest.approx(np.mean(recalls[:2]), abs=1e-12)
    gap = 0.0
    for k in range(4):
        for b in range(7):
            rows = [i for i in range(120) if b / 7 < P[i, k] <= (b + 1) / 7]
            gap += abs(sum((LABELS[i] == k) - P[i, k] for i in rows)) / 120
    assert scores.classwise_calibration_error(LOGITS, LABELS, bins=7) == pytest.approx(gap / 4, abs=1e-12)
    # One bin is the gap between the share of each class and what it is given.
    expected = np.abs(np.bincount(LABELS, minlength=4) / 120 - P.mean(0)).mean()
    assert scores.classwise_calibration_error(LOGITS, LABELS, bins=1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.8, 1.0])
def test_selective_risk_is_the_error_of_the_surest(coverage):
    order = sorted(range(120), key=lambda i: -P[i].max())[: math.ceil(coverage * 120 - 1e-9)]
    wrong = np.mean([LOGITS[i].argmax() != LABELS[i] for i in order])
    assert scores.selective_risk(LOGITS, LABELS, coverage) == pytest.approx(wrong, abs=1e-12)
    same = np.zeros((120, 4))  # all equally sure: whatever the coverage, chance says which are answered
    assert scores.selective_risk(same, LABELS, coverage) == pytest.approx(np.mean(LABELS != 0), abs=1e-12)


@pytest.mark.parametrize(
    "measure",
    [scores.auc, scores.brier, scores.balanced_accuracy, scores.classwise_calibration_error, scores.selective_risk],
)
def test_tensors_give_the_same(measure):
    assert np.array_equal(measure(torch.tensor(LOGITS), torch.tensor(LABELS)), measure(LOGITS, LABELS))


# ---- frozen ----------------------------------------------------------------------------------------------------------


def test_what_is_frozen_is_the_best_of_all():
    frozen = external.freeze(3 * LOGITS, LABELS)
    losses = {
        t: -log_softmax(3 * LOGITS / t, axis=1)[np.arange(120), LABELS].mean() for t in np.geomspace(0.1, 15, 400)
    }
    assert frozen.temperature == pytest.approx(min(losses, key=losses.get), rel=0.02)
    assert external.freeze(LOGITS, LABELS).temperature == pytest.approx(frozen.temperature / 3, rel=1e-3)
    p = softmax(3 * LOGITS / frozen.temperature, axis=1)
    for k in range(4):
        own = LABELS == k
        sums = {t: (p[own, k] >= t).mean() + (p[~own, k] < t).mean() for t in p[:, k]}
        assert sums[frozen.thresholds[k]] == pytest.approx(max(sums.values()), abs=1e-12)
        assert frozen.thresholds[k] == max(t for t, j in sums.items() if j > max(sums.values()) - 1e-12)
    answered = p.max(1) >= frozen.confidence
    assert answered.sum() == 96
    tied = external.freeze(TIED, LABELS)  # rows of one probability are called together
    q = softmax(TIED / tied.temperature, axis=1)
    for k in range(4):
        sums = [(q[LABELS == k, k] >= t).mean() + (q[LABELS != k, k] < t).mean() for t in q[:, k]]
        at = (q[LABELS == k, k] >= tied.thresholds[k]).mean() + (q[LABELS != k, k] < tied.thresholds[k]).mean()
        assert at == pytest.approx(max(sums), abs=1e-12)


def test_scores_of_a_set_are_those_of_the_measures():
    frozen = external.freeze(LOGITS, LABELS)
    other = LOGITS[:60] + DRAW.normal(size=(60, 4))
    found, z = external.external_scores(other, LABELS[:60], frozen), other / frozen.temperature
    p = softmax(z, axis=1)
    assert found["nll"] == metrics.nll(z, LABELS[:60]) and found["ece"] == metrics.calibration_error(z, LABELS[:60], 15)
    assert found["auc"] == pytest.approx(scores.auc(p, LABELS[:60]).mean())
    sensitivity, specificity = scores.sensitivity_specificity(p, LABELS[:60], frozen.thresholds)
    assert (found["sensitivity"], found["specificity"]) == pytest.approx((sensitivity.mean(), specificity.mean()))
    assert found["overconfidence"] == pytest.approx(p.max(1).mean() - found["accuracy"])
    answered = p.max(1) >= frozen.confidence
    assert found["answered"] == answered.mean()
    assert found["answered_risk"] == pytest.approx(1 - metrics.accuracy(other[answered], LABELS[:60][answered]))
    lone = external.external_scores(other[LABELS[:60] == 2], np.full((LABELS[:60] == 2).sum(), 2), frozen)
    assert np.isnan(lone["auc"]) and lone["sensitivity"] >= 0  # one class: no AUC, but a sensitivity
    unseen = external.freeze(LOGITS[LABELS < 3], LABELS[LABELS < 3])
    assert np.isnan(unseen.thresholds[3]) and math.isfinite(
        external.external_scores(LOGITS, LABELS, unseen)["sensitivity"]
    )


# ---- images as a sample ----------------------------------------------------------------------------------------------


def test_the_bootstrap_draws_rows_and_pairs_networks():
    counts = external.resample(120, 300, seed=3)
    assert counts.shape == (300, 120) and (counts.sum(1) == 120).all() and counts.var() == pytest.approx(1, rel=0.05)
    right = LOGITS.argmax(1) == LABELS
    quick = np.quantile(counts @ right / 120, [0.025, 0.975])
    interval = external.bootstrap(metrics.accuracy, LOGITS, LABELS, resamples=300, seed=3)
    assert interval == pytest.approx(tuple(quick), abs=1e-12)
    sd = np.sqrt(right.mean() * (1 - right.mean()) / 120)
    assert (interval[1] - interval[0]) / (2 * 1.96 * sd) == pytest.approx(1, abs=0.2)
    same = external.bootstrap(
        lambda a, b, y: scores.brier(a, y) - scores.brier(b, y), LOGITS, LOGITS + 1, LABELS, resamples=20
    )
    assert same == pytest.approx((0, 0), abs=1e-12)


def test_what_does_not_match_is_said():
    for make, said in (
        (lambda: scores.auc(LOGITS, LABELS + 1), r"labels must be classes in \[0, 4\), but got 4"),
        (lambda: scores.sensitivity_specificity(P, LABELS, [0.5]), r"thresholds must have shape \(4,\)"),
        (lambda: scores.selective_risk(LOGITS, LABELS, 0), r"coverage must be a number in \(0, 1\]"),
        (lambda: scores.classwise_calibration_error(LOGITS, LABELS, 0), "bins must be an integer of at least 1"),
        (lambda: external.bootstrap(metrics.accuracy, LOGITS, LABELS[1:]), r"same images, but got \[120, 119\] rows"),
        (lambda: external.bootstrap(metrics.accuracy, LOGITS, LABELS, level=2), "level must be a number"),
    ):
        with pytest.raises(SpecError, match=said):
            make()
