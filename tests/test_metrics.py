"""Metrics against restatements in plain Python, and hand-made cases."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kdlab import metrics
from kdlab.errors import SpecError

RNG = np.random.default_rng(0)
LOGITS, OTHER = RNG.normal(size=(200, 6)) * 2, RNG.normal(size=(200, 6)) * 2
LABELS = RNG.integers(0, 6, size=200)


def probabilities(row):
    top = max(row)
    powers = [math.exp(z - top) for z in row]
    return [p / sum(powers) for p in powers]


def test_accuracy_and_agreement_by_counting():
    right = sum(list(row).index(max(row)) == y for row, y in zip(LOGITS, LABELS, strict=True))
    same = sum(np.argmax(a) == np.argmax(b) for a, b in zip(LOGITS, OTHER, strict=True))
    assert metrics.accuracy(LOGITS, LABELS) == right / 200
    assert metrics.agreement(LOGITS, OTHER) == same / 200
    assert metrics.agreement(LOGITS, LOGITS) == 1


def test_nll_is_cross_entropy():
    expected = F.cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS)).item()
    by_hand = -sum(math.log(probabilities(r)[y]) for r, y in zip(LOGITS, LABELS, strict=True)) / 200
    assert metrics.nll(LOGITS, LABELS) == pytest.approx(expected, abs=1e-12)
    assert metrics.nll(LOGITS, LABELS) == pytest.approx(by_hand, abs=1e-12)


def test_predictive_kl():
    total = 0.0
    for s, t in zip(LOGITS, OTHER, strict=True):
        total += sum(q * math.log(q / p) for p, q in zip(probabilities(s), probabilities(t), strict=True))
    assert metrics.predictive_kl(LOGITS, OTHER) == pytest.approx(total / 200, abs=1e-12)
    assert metrics.predictive_kl(LOGITS, LOGITS + 7) == pytest.approx(0, abs=1e-12)  # an offset is no difference


@pytest.mark.parametrize("bins", [1, 7, 10, 15])
def test_calibration_error_bin_by_bin(bins):
    top = [max(probabilities(row)) for row in LOGITS]
    hit = [float(np.argmax(row) == y) for row, y in zip(LOGITS, LABELS, strict=True)]
    total = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(top) if b / bins < c <= (b + 1) / bins]
        if inside:
            total += abs(sum(hit[i] for i in inside) - sum(top[i] for i in inside))
    assert metrics.calibration_error(LOGITS, LABELS, bins) == pytest.approx(total / 200, abs=1e-12)


def test_calibration_error_of_certain_rows():
    certain = np.array([[1000.0, 0.0], [1000.0, 0.0]])
    assert metrics.calibration_error(certain, [0, 0]) == 0
    assert metrics.calibration_error(certain, [0, 1]) == 0.5
    assert metrics.calibration_error(certain, [1, 1]) == 1


def test_confusion():
    logits = np.eye(3)[[0, 1, 1, 2]]
    assert metrics.confusion(logits, [0, 1, 2, 2]).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    table = metrics.confusion(LOGITS, LABELS)
    assert table.sum() == 200 and np.trace(table) / 200 == metrics.accuracy(LOGITS, LABELS)


@pytest.mark.parametrize("name", ["accuracy", "nll", "calibration_error", "agreement", "predictive_kl"])
def test_tensors_give_the_same_floats(name):
    second = OTHER if name in ("agreement", "predictive_kl") else LABELS
    metric = getattr(metrics, name)
    value = metric(torch.tensor(LOGITS, requires_grad=True), torch.tensor(second))
    assert isinstance(value, float) and value == metric(LOGITS, second)
    assert math.isfinite(metric(torch.tensor(LOGITS).bfloat16(), torch.tensor(second)))


def test_extreme_logits_stay_finite():
    logits = np.array([[1e4, -1e4], [0.0, 1e4]])
    assert metrics.nll(logits, [1, 1]) == 1e4
    assert metrics.predictive_kl(logits, -logits) > 0


def test_wrong_shapes_are_named():
    with pytest.raises(SpecError, match="labels must have shape"):
        metrics.accuracy(LOGITS, LABELS[:-1])
    with pytest.raises(SpecError, match="differ in shape"):
        metrics.agreement(LOGITS, OTHER[:, :-1])
    with pytest.raises(SpecError, match="non-empty"):
        metrics.nll(np.zeros((0, 3)), [])
    with pytest.raises(SpecError, match="bins"):
        metrics.calibration_error(LOGITS, LABELS, bins=0)


def test_importable_without_torch():
    code = "import sys; sys.modules['torch'] = None; import kdlab.metrics as m; print(m.accuracy([[0, 1]], [1]))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1.0\n"
    modules = ", ".join(f"kdlab.metrics.{name}" for name in ("corruptions", "external", "fidelity", "views"))
    code = f"import sys, {modules}; print('torch' in sys.modules)"  # scipy's own modules stumble over a torch of None
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_entropy_by_hand():
    even, sure = np.zeros((3, 4)), np.array([[1000.0, 0.0, 0.0, 0.0]])
    assert metrics.entropy(even) == pytest.approx(np.log(4)) and metrics.entropy(sure) == 0
    p = np.array([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]])
    by_hand = [-sum(q * np.log(q) for q in row) for row in p]
    assert metrics.entropy(np.log(p) + 7) == pytest.approx(np.mean(by_hand)), "logits are known up to a constant"
    assert metrics.entropy(torch.tensor(np.log(p))) == metrics.entropy(np.log(p))
