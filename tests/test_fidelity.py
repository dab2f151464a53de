"""What a teacher says of views and how far a student says it too, against loops and definitions."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from kdlab import metrics
from kdlab.errors import SpecError
from kdlab.metrics import views
from kdlab.metrics.fidelity import cka, fidelity

DRAW = np.random.default_rng(0)
N, K = 90, 5
LABELS = DRAW.integers(0, K, size=N)
TEACHER = 2 * np.eye(K)[LABELS] + DRAW.normal(size=(N, K))
STUDENT = TEACHER + DRAW.normal(size=(N, K))


# ---- views -----------------------------------------------------------------------------------------------------------


def test_t_stddev_group_by_group():
    augmented, means = TEACHER + DRAW.normal(size=(N, K)), []
    for start in range(0, N, 15):
        both = [softmax(z) for z in (*TEACHER[start : start + 15], *augmented[start : start + 15])]
        means.append(np.mean(both, axis=0))
    by_hand = np.mean([np.std([u[k] for u in means], ddof=1) for k in range(K)])
    assert views.t_stddev(TEACHER, augmented, size=15) == pytest.approx(by_hand, abs=1e-15)
    assert views.t_stddev(torch.tensor(TEACHER), torch.tensor(augmented), 15) == pytest.approx(by_hand, abs=1e-15)


def test_t_stddev_falls_as_the_twin_says_less_of_the_original():
    """Correlation c of twin and original: the variance of their mean is (1 + c) / 2 of that of the original alone."""
    classes = np.arange(2000) % K
    index = views.draw_groups(2000, groups=400, size=20, seed=1)
    drawn = classes[index.ravel()]
    sure = 50 * np.eye(K)
    found = []
    for same in (1.0, 0.5, 0.0):
        twin = np.where(DRAW.random(len(drawn)) < same, drawn, DRAW.integers(0, K, len(drawn)))
        found.append(views.t_stddev(sure[drawn], sure[twin], size=20))
    expected = [np.sqrt((1 + same) / 2 * (1 / K) * (1 - 1 / K) / 20) for same in (1.0, 0.5, 0.0)]
    assert found == pytest.approx(expected, rel=0.08)
    rows = np.argsort(classes, kind="stable").reshape(K, -1)
    stratified = rows[:, :1600].reshape(K, 100, 4).transpose(1, 0, 2).ravel()  # four of each class in every group
    assert views.t_stddev(sure[classes[stratified]], sure[classes[stratified]], size=20) < 1e-12  # sees nothing then


def test_groups_are_random_samples():
    groups = views.draw_groups(50, groups=300, size=20)
    assert groups.shape == (300, 20) and all(len(set(group)) == 20 for group in groups)
    assert (groups == views.draw_groups(50, groups=300, size=20)).all()
    assert (groups != views.draw_groups(50, groups=300, size=20, seed=1)).any()
    assert np.bincount(groups.ravel(), minlength=50) / 300 == pytest.approx(np.full(50, 0.4), abs=0.15)


def test_flips_and_agreement_by_counting():
    augmented = TEACHER + 2 * DRAW.normal(size=(N, K))
    flips = [z.argmax() != y for z, y in zip(augmented, LABELS, strict=True)]
    sound = [t.argmax() == y for t, y in zip(TEACHER, LABELS, strict=True)]
    assert views.label_flip_rate(augmented, LABELS) == np.mean(flips)
    kept = [flip for flip, right in zip(flips, sound, strict=True) if right]
    assert views.label_flip_rate(augmented, LABELS, TEACHER) == np.mean(kept) != np.mean(flips)
    assert views.label_flip_rate(TEACHER, LABELS, TEACHER) == 0
    assert np.isnan(views.label_flip_rate(TEACHER[:1], [(TEACHER[0].argmax() + 1) % K], TEACHER[:1]))
    three = np.stack([TEACHER, augmented, STUDENT])
    pairs = [np.mean(a.argmax(1) == b.argmax(1)) for i, a in enumerate(three) for b in three[:i]]
    assert views.view_agreement(three) == pytest.approx(np.mean(pairs), abs=1e-12)


# ---- fidelity --------------------------------------------------------------------------------------------------------


def test_fidelity_by_whether_the_teacher_is_right():
    features = DRAW.normal(size=(N, 6)), DRAW.normal(size=(N, 4))
    found = fidelity(STUDENT, TEACHER, LABELS, *features)
    right = np.array([t.argmax() == y for t, y in zip(TEACHER, LABELS, strict=True)])
    for name, rows in (("all", np.full(N, True)), ("teacher_right", right), ("teacher_wrong", ~right)):
        s, t, y = STUDENT[rows], TEACHER[rows], LABELS[rows]
        expected = {
            "images": rows.sum(), "agreement": metrics.agreement(s, t), "kl": metrics.predictive_kl(s, t),
            "student_accuracy": metrics.accuracy(s, y), "teacher_accuracy": metrics.accuracy(t, y),
            "cka": cka(features[0][rows], features[1][rows]),
        }  # fmt: skip
        assert found[name] == expected
    assert found["teacher_right"]["teacher_accuracy"] == 1 and found["teacher_wrong"]["teacher_accuracy"] == 0
    assert found["teacher_wrong"]["student_accuracy"] <= 1 - found["teacher_wrong"]["agreement"]
    assert found["teacher_right"]["student_accuracy"] == found["teacher_right"]["agreement"]
    parts = [found[side]["images"] * found[side]["kl"] for side in ("teacher_right", "teacher_wrong")]
    assert sum(parts) / N == pytest.approx(found["all"]["kl"])
    perfect = fidelity(STUDENT, np.eye(K)[LABELS], LABELS)
    assert perfect["teacher_wrong"]["images"] == 0 and np.isnan(perfect["teacher_wrong"]["kl"])
    assert "cka" not in perfect["all"]


# ---- CKA -------------------------------------------------------------------------------------------------------------


def hsic(k, l, debiased):  # noqa: E741
    """By the definitions, with all matrices written out."""
    n = len(k)
    if not debiased:
        h = np.eye(n) - 1 / n
        return np.trace(k @ h @ l @ h)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    mixed = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)
    return (np.trace(k @ l) + mixed) / (n * (n - 3))


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("widths", [(3, 4), (40, 60)])
def test_cka_by_its_definition(debiased, widths):
    x = DRAW.normal(size=(25, widths[0])) + 3
    y = np.tanh(x[:, :1]) @ DRAW.normal(size=(1, widths[1])) + DRAW.normal(size=(25, widths[1])) - 2
    k, l = x @ x.T, y @ y.T  # noqa: E741
    expected = hsic(k, l, debiased) / np.sqrt(hsic(k, k, debiased) * hsic(l, l, debiased))
    assert cka(x, y, debiased) == pytest.approx(expected, abs=1e-10)
    turn = np.linalg.qr(DRAW.normal(size=(widths[0],) * 2))[0]
    assert cka(2 * x @ turn + 5, torch.tensor(y), debiased) == pytest.approx(expected, abs=1e-10)
    assert cka(x, x, debiased) == pytest.approx(1, abs=1e-12)
    assert cka(x.reshape(25, -1, 1, 1), y, debiased) == pytest.approx(expected, abs=1e-10)


def test_only_the_debiased_cka_of_unrelated_features_is_nothing():
    found = {debiased: [] for debiased in (True, False)}
    for _ in range(40):
        x, y = DRAW.normal(size=(30, 50)), DRAW.normal(size=(30, 50))
        for debiased, values in found.items():
            values.append(cka(x, y, debiased))
    assert abs(np.mean(found[True])) < 0.05 and np.mean(found[False]) > 0.5
    assert np.isnan(cka(np.full((9, 3), 0.1), DRAW.normal(size=(9, 2)))) and np.isnan(
        cka(np.full((9, 3), 0.1), DRAW.normal(size=(9, 2)), debiased=False)
    )


def test_what_does_not_match_is_said():
    for make, said in (
        (lambda: views.t_stddev(TEACHER, TEACHER, size=60), "two whole groups of 60 rows or more, but got 90"),
        (lambda: views.t_stddev(TEACHER, TEACHER[1:], size=15), "differ in shape"),
        (lambda: views.draw_groups(10, size=11), "size must be at most the 10 images"),
        (lambda: views.view_agreement([TEACHER]), "views must be two or more, but got 1"),
        (lambda: fidelity(STUDENT, TEACHER, LABELS, TEACHER), "of one alone"),
        (lambda: fidelity(STUDENT, TEACHER, LABELS, TEACHER[1:], TEACHER[1:]), r"the 90 images, but got \[89, 89\]"),
        (lambda: cka(TEACHER[:3], TEACHER[:3]), "the same 4 images or more"),
    ):
        with pytest.raises(SpecError, match=said):
            make()
