"""CE, KD, CCD, FitNet, AT and SP: golden values, restatements in numpy, and their own properties."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from examples import example
from examples import made as method
from scipy.special import log_softmax
from torch.nn import functional as F

from kdlab.errors import SpecError
from kdlab.losses import Batch
from kdlab.losses.at import attention
from kdlab.losses.ccd import first_views
from kdlab.models import Outputs
from kdlab.registry import create


def wave(n, c, a, b, phase, size):
    """``size * sin(a i + b j + phase)``, the stuff of the golden vectors."""
    i, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(c, dtype=torch.float64)
    return size * torch.sin(a * i + b * j + phase)


def golden():
    s, t = wave(4, 5, 1.0, 0.7, 0.2, 3).requires_grad_(), wave(4, 5, 0.9, 0.6, 0.5, 3)
    f, g = (wave(4, 6, 1.3, 0.4, 0.1, 3), wave(4, 3, 0.7, 1.1, 0.3, 3))
    batch = Batch.of(
        label=torch.tensor([0, 0, 3, 3]),
        origin=torch.tensor([0, 0, 1, 1]),
        view=torch.tensor([0, 1, 0, 1]),
    )
    return Outputs(s, (f,), f), Outputs(t, (g,), g), batch


# --- numpy, from the formulas -------------------------------------------------------------------------------------


def ce_rows(s, labels):
    return -log_softmax(s, axis=1)[np.arange(len(labels)), labels]


def kl(s, t, temperature=4.0):
    p, q = log_softmax(t / temperature, axis=1), log_softmax(s / temperature, axis=1)
    return (np.exp(p) * (p - q)).sum(1)


def ccd_weights(t, origin, view):
    weights = np.ones(len(t))
    for i in np.flatnonzero(view):
        for j in np.flatnonzero((origin == origin[i]) & (view == 0)):
            weights[i] += t[j] @ t[i] / np.sqrt((t[j] @ t[j]) * (t[i] @ t[i]))
    return weights


def unit(v):
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def arrays(student, teacher):
    """Student's logits, teacher's logits and the pairs of maps, as arrays."""
    maps = [(f.numpy(), g.numpy()) for f, g in zip(student.features, teacher.features, strict=True)]
    return student.logits.numpy(), teacher.logits.numpy(), maps


def ce_restated(method, student, teacher, batch):
    return {"ce": ce_rows(student.logits.numpy(), batch.label.numpy()).mean()}


def kd_restated(method, student, teacher, batch):
    kd = 16 * kl(student.logits.numpy(), teacher.logits.numpy()).mean()
    return ce_restated(method, student, teacher, batch) | {"kd": kd}


def ccd_restated(method, student, teacher, batch):
    s, t, _ = arrays(student, teacher)
    weighted = ccd_weights(t, batch.origin.numpy(), batch.view.numpy()) * kl(s, t)
    return ce_restated(method, student, teacher, batch) | {"ccd": 16 * weighted.mean()}


def at_restated(method, student, teacher, batch):
    _, _, maps = arrays(student, teacher)
    looks = [[unit((m**2).mean(1).reshape(len(m), -1)) for m in pair] for pair in maps]
    return kd_restated(method, student, teacher, batch) | {"at": 1000 * sum(((a - b) ** 2).mean() for a, b in looks)}


def sp_restated(method, student, teacher, batch):
    n = len(batch.label)
    a, b = (unit(m.reshape(n, -1) @ m.reshape(n, -1).T) for m in arrays(student, teacher)[2][-1])
    return kd_restated(method, student, teacher, batch) | {"sp": 3000 * ((a - b) ** 2).sum() / n**2}


def fitnet_restated(method, student, teacher, batch):
    hint, target = arrays(student, teacher)[2][1]
    hint = np.einsum("oc,nchw->nohw", method.regressor[0].weight.detach().numpy()[:, :, 0, 0], hint)
    mean, var = hint.mean((0, 2, 3), keepdims=True), hint.var((0, 2, 3), keepdims=True)
    hint = np.maximum((hint - mean) / np.sqrt(var + 1e-5), 0)
    return kd_restated(method, student, teacher, batch) | {"fitnet": 100 * ((hint - target) ** 2).mean()}


RESTATED = {
    "ce": ce_restated,
    "kd": kd_restated,
    "ccd": ccd_restated,
    "at": at_restated,
    "sp": sp_restated,
    "fitnet": fitnet_restated,
}
# Read by the table of methods.
GOLDEN = ("kd", "ccd", "sp")


# --- golden values ------------------------------------------------------------------------------------------------


def test_golden_kd():
    student, teacher, batch = golden()
    rows = create("losses", "kd").rows(student, teacher, batch)
    terms = create("losses", "kd")(student, teacher, batch)
    expected = [2.8308860536e-3, 9.5210920393e-4, 1.1396530373e-3, 6.8976474763e-3]
    assert terms["ce"].item() == pytest.approx(3.0820733305, abs=1e-9)
    assert (rows["kd"] / 16).tolist() == pytest.approx(expected, rel=1e-9)
    assert sum(terms.values()).item() == pytest.approx(3.1293545136, abs=1e-9)


def test_golden_ccd():
    student, teacher, batch = golden()
    ccd = create("losses", "ccd")
    total = sum(ccd(student, teacher, batch).values())
    total.backward()
    expected = [-0.1529559008, 0.1333481993, 0.0379327916, -0.0070624681, -0.0112626221]
    assert ccd.weights(teacher, batch).tolist() == pytest.approx([1, 1.6341499368, 1, 1.6234946517], abs=1e-9)
    assert total.item() == pytest.approx(3.1489722188, abs=1e-9)
    assert student.logits.grad[1].tolist() == pytest.approx(expected, abs=1e-9)


def test_golden_sp():
    student, teacher, batch = golden()
    term = create("losses", "sp", weight=1.0)(student, teacher, batch)["sp"]
    assert term.item() == pytest.approx(0.1785236234817363, abs=1e-12)


def test_golden_sp_of_the_ccd_code_scales_rows_by_their_absolute_sum():
    # Its rows are scaled to L1 length 1, where the paper says L2: the same Gram matrices, another number.
    student, teacher, _ = golden()
    grams = [(f := out.features[-1].numpy()) @ f.T for out in (student, teacher)]
    a, b = (g / np.abs(g).sum(1, keepdims=True) for g in grams)
    assert ((a - b) ** 2).sum() / 16 == pytest.approx(0.0561264247, abs=1e-9)


@pytest.mark.parametrize("name", ["kd", "ccd", "at", "sp"])
def test_a_student_equal_to_its_teacher_has_only_the_hard_term(name):
    student, _, batch = example()
    for term, value in method(name, student, student)(student, student, batch).items():
        if term != "ce":
            assert value.item() == pytest.approx(0, abs=1e-9)


# --- weights and mixing -----------------------------------------------------------------------------------


def test_mixed_labels_and_hard_weights():
    student, _, batch = example()
    partner, share = batch.label.flip(0), torch.linspace(0, 1, 8, dtype=torch.float64)
    hard = torch.tensor([1.0] * 4 + [0.0] * 4)
    mixed = Batch.of(batch.label, partner=partner, share=share, hard_weight=hard)
    s = student.logits.numpy()
    rows = share.numpy() * ce_rows(s, batch.label.numpy()) + (1 - share.numpy()) * ce_rows(s, partner.numpy())
    assert create("losses", "ce")(student, None, mixed)["ce"].item() == pytest.approx(rows[:4].mean(), abs=1e-7)


def test_hard_weight_leaves_the_soft_term_and_weight_moves_both():
    student, teacher, batch = example()
    kd, first = create("losses", "kd"), torch.tensor([1.0] * 4 + [0.0] * 4)
    plain = kd(student, teacher, batch)
    hard = kd(student, teacher, Batch.of(batch.label, hard_weight=first))
    weighted = kd(student, teacher, Batch.of(batch.label, weight=first))
    half = kd(student.rows(slice(4)), teacher.rows(slice(4)), Batch.of(batch.label[:4]))
    torch.testing.assert_close(hard["kd"], plain["kd"])
    torch.testing.assert_close(hard["ce"], half["ce"])
    torch.testing.assert_close(weighted, half)
    none = kd(student, teacher, Batch.of(batch.label, hard_weight=torch.zeros(8)))
    assert none["ce"].item() == 0 and torch.isfinite(none["kd"])


def test_kd_presets_and_temperature():
    student, teacher, batch = example()
    plain, crd = create("losses", "kd"), create("losses", "kd", preset="crd")
    a, b = plain(student, teacher, batch), crd(student, teacher, batch)
    assert (b["ce"] / a["ce"]).item() == pytest.approx(0.1) and (b["kd"] / a["kd"]).item() == pytest.approx(0.9)
    with pytest.raises(SpecError, match="preset must be one of"):
        create("losses", "kd", preset="dkd")
    with pytest.raises(SpecError, match="Did you mean 'temperature'"):
        create("losses", "kd", temprature=3)


def test_kd_at_temperature_one_has_the_gradient_of_soft_labels():
    student, teacher, batch = example()
    s = student.logits.clone().requires_grad_()
    kd = create("losses", "kd", temperature=1.0)(Outputs(s, (), s), teacher, batch)["kd"]
    soft = F.cross_entropy(s, teacher.logits.softmax(1))
    torch.testing.assert_close(torch.autograd.grad(kd, s), torch.autograd.grad(soft, s))


# --- CCD ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [2, 4, 8])
def test_ccd_with_cosines_of_zero_is_kd_at_any_number_of_views(views):
    student, _, batch = example()
    view = torch.arange(8) % views
    t = torch.zeros(8, 5, dtype=torch.float64)
    t[view == 0, 0], t[view > 0, 1] = 3.0, 2.0  # every further view is orthogonal to its first
    teacher = Outputs(t, (), t)
    batch = Batch.of(batch.label, origin=torch.arange(8) // views, view=view)
    kd, ccd = (create("losses", name)(student, teacher, batch) for name in ("kd", "ccd"))
    torch.testing.assert_close(kd["kd"], ccd["ccd"], rtol=1e-14, atol=0)
    torch.testing.assert_close(kd["ce"], ccd["ce"], rtol=0, atol=0)


def test_ccd_weights_follow_origin_for_several_and_missing_rows():
    _, teacher, _ = example()
    # Original 0: a first and two further views; 1: the same in another order; 2: no first view; 3: nothing but it.
    origin, view = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3]), torch.tensor([0, 1, 2, 1, 0, 1, 2, 0])
    batch = Batch.of(torch.zeros(8, dtype=torch.long), origin=origin, view=view)
    t = teacher.logits
    weights = create("losses", "ccd").weights(teacher, batch)
    assert first_views(batch).tolist() == [0, 0, 0, 4, 4, -1, -1, 7]
    assert weights[[0, 4, 5, 6, 7]].tolist() == [1] * 5
    torch.testing.assert_close(weights[1:3], 1 + F.cosine_similarity(t[:1], t[1:3]))
    torch.testing.assert_close(weights[3], 1 + F.cosine_similarity(t[4], t[3], dim=0))


def test_ccd_pairs_views_whatever_was_augmented():
    student, teacher, batch = example()
    ccd = create("losses", "ccd")
    for augmented in (torch.zeros(8).bool(), torch.ones(8).bool(), torch.arange(8) % 3 == 0):
        moved = replace(batch, augmented=augmented)
        assert torch.equal(ccd(student, teacher, moved)["ccd"], ccd(student, teacher, batch)["ccd"])


def test_ccd_with_one_pair_each_is_the_published_mean_of_two_means():
    student, teacher, batch = example()
    batch = Batch.of(batch.label, origin=torch.arange(8) % 4, view=batch.view)
    ccd = create("losses", "ccd")
    soft = torch.tensor(kl(student.logits.numpy(), teacher.logits.numpy()))
    weights = ccd.weights(teacher, batch)
    published = 16 * (soft[:4].mean() + (weights[4:] * soft[4:]).mean()) / 2
    torch.testing.assert_close(ccd(student, teacher, batch)["ccd"], published)


@pytest.mark.parametrize("view", [[0] * 4, [1] * 4, [0, 1, 0, 1]])
def test_ccd_without_pairs_says_so(view):
    student, teacher, _ = example(rows=4)
    batch = Batch.of(torch.zeros(4, dtype=torch.long), view=torch.tensor(view))  # four originals, one row each
    with pytest.raises(SpecError, match="needs pairs.*second view beside its first.*views=2"):
        create("losses", "ccd")(student, teacher, batch)


# --- feature methods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fitnet", "at", "sp"])
def test_maps_of_other_sizes_and_widths(name):
    student, teacher, batch = example(same_size=False)
    made = method(name, student, teacher)
    assert torch.isfinite(made(student, teacher, batch)[name])


def test_at_pools_to_the_smaller_map():
    student, teacher, batch = example(same_size=False)
    pooled = [F.adaptive_avg_pool2d(f, g.shape[2:]) for f, g in zip(student.features, teacher.features, strict=True)]
    pairs = zip(pooled, teacher.features, strict=True)
    distance = sum((attention(f) - attention(g)).square().mean() for f, g in pairs)
    torch.testing.assert_close(method("at", student, teacher)(student, teacher, batch)["at"], 1000 * distance)


def test_fitnet_trains_its_regressor():
    student, teacher, batch = example()
    made = method("fitnet", student, teacher)
    assert [tuple(p.shape) for p in made.parameters()] == [(16, 8, 1, 1), (16,), (16,)]
    made(student, teacher, batch)["fitnet"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())
    with pytest.raises(SpecError, match="stage must be one of"):
        method("fitnet", student, teacher, stage=4)


def test_at_needs_as_many_stages():
    student, teacher, _ = example()
    with pytest.raises(SpecError, match="student has 1 maps and the teacher 3"):
        method("at", Outputs(student.logits, student.features[:1], student.embedding), teacher)
