"""SDD, WKD-L, EnergyKD, ABKD, isotonic KD, TeKAP, the four terms, and the ablations of CCD."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from examples import CLASSES, context, example, made, networks, random_outputs
from scipy.optimize import linprog, lsq_linear
from scipy.special import log_softmax, logsumexp, softmax

from kdlab.errors import SpecError
from kdlab.losses import Batch
from kdlab.losses.abkd import alpha_beta_rows
from kdlab.losses.isotonic import isotonic
from kdlab.losses.sdd import region_logits
from kdlab.losses.wkd_l import class_similarity, transport
from kdlab.models import Outputs
from kdlab.registry import create
from kdlab.rng import generator

# --- numpy, from the formulas -------------------------------------------------------------------------------------


def arrays(student, teacher, batch):
    return student.logits.numpy(), teacher.logits.numpy(), batch.label.numpy()


def ce_rows(s, labels):
    return -log_softmax(s, axis=1)[np.arange(len(labels)), labels]


def kl(s, t, temperature=4.0):
    p, q = log_softmax(t / temperature, axis=1), log_softmax(s / temperature, axis=1)
    return (np.exp(p) * (p - q)).sum(1)


def regions(final, scales):
    """Means over the cells of the grids, (B, R, D)."""
    _, _, h, w = final.shape
    cells = []
    for m in scales:
        for i in range(m):
            for j in range(m):
                rows = slice(i * h // m, -(-(i + 1) * h // m))
                columns = slice(j * w // m, -(-(j + 1) * w // m))
                cells.append(final[:, :, rows, columns].mean((2, 3)))
    return np.stack(cells, 1)


def sdd_restated(method, student, teacher, batch):
    s, t, y = arrays(student, teacher, batch)
    local = [
        regions(out.final.numpy(), (1, 2)) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        for out, layer in zip((student, teacher), method.layers, strict=True)
    ]
    total = 0.0
    for i in range(len(y)):
        for r in range(5):
            agree = (local[1][i, r].argmax() == y[i]) == (t[i].argmax() == y[i])
            total += (1 if agree else 2) * kl(local[0][i, r][None], local[1][i, r][None])[0] / 5
    return {"ce": ce_rows(s, y).mean(), "sdd": 16 * total / len(y)}


def cost_matrix():
    parts = list(context().teacher_pass())
    x = np.concatenate([out.embedding.numpy() for out, _ in parts])
    y = np.concatenate([labels.numpy() for _, labels in parts])
    h = np.eye(x.shape[1]) - 1 / x.shape[1]
    kernels = [h @ x[y == k].T @ x[y == k] @ h for k in range(CLASSES)]
    cka = [[np.trace(a @ b) / np.sqrt(np.trace(a @ a) * np.trace(b @ b)) for b in kernels] for a in kernels]
    return 1 - np.exp(-(1 - np.array(cka)))


def sinkhorn(p, q, cost, regularisation, iterations):
    """In logarithms."""
    f, g, m = np.zeros(len(p)), np.zeros(len(q)), -cost / regularisation
    for _ in range(iterations):
        f = np.log(p) - logsumexp(m + g[None], axis=1)
        g = np.log(q) - logsumexp(m + f[:, None], axis=0)
    return (np.exp(f[:, None] + m + g[None]) * cost).sum()


def wkd_l_restated(method, student, teacher, batch):
    s, t, y = arrays(student, teacher, batch)
    cost, hard = cost_matrix(), ce_rows(s, y)
    trust = softmax(t, axis=1)[np.arange(len(y)), y]
    moved = 0.0
    for i, label in enumerate(y):
        others = [k for k in range(CLASSES) if k != label]
        p, q = softmax(t[i, others] / 8), softmax(s[i, others] / 8)
        moved += sinkhorn(p, q, cost[np.ix_(others, others)], 0.05, 10)
    return {"ce": hard.mean(), "target": (trust * hard).mean(), "wkd_l": 600 * moved / len(y)}


def energykd_restated(method, student, teacher, batch):
    s, t, y = arrays(student, teacher, batch)
    train = np.concatenate([out.logits.numpy() for out, _ in context().teacher_pass()])
    energies = np.sort(-4 * logsumexp(train / 4, axis=1))
    low, high = energies[int(0.2 * len(train))], energies[len(train) - int(0.2 * len(train)) - 1]
    total = 0.0
    for i in range(len(y)):
        energy = -4 * logsumexp(t[i] / 4)
        tau = 6 if energy < low else 2 if energy > high else 4
        total += tau**2 * kl(s[i][None], t[i][None], tau)[0]
    return {"ce": 0.1 * ce_rows(s, y).mean(), "energykd": 0.9 * total / len(y)}


def alpha_beta(p, q, alpha, beta):
    both = alpha + beta
    mixed = p**alpha * q**beta - alpha / both * p**both - beta / both * q**both
    return -mixed.sum(1) / (alpha * beta)


def abkd_restated(method, student, teacher, batch):
    s, t, y = arrays(student, teacher, batch)
    divergence = alpha_beta(softmax(t / 4, axis=1), softmax(s / 4, axis=1), 0.8, 0.3)
    return {"ce": ce_rows(s, y).mean(), "abkd": 32 * divergence.mean()}


def nearest_in_order(p, first, second):
    """By bounded least squares over the steps down from the first class to the second and from there to the rest."""
    down = np.zeros((len(p), len(p)))
    down[:, 0] = 1  # the first class's value, free; column 1 + k is the step down to class k
    place = {k: c for c, k in enumerate([k for k in range(len(p)) if k != first], start=1)}
    for k, c in place.items():
        down[k, c] = -1
        if second not in (first, k):
            down[k, place[second]] = -1
    lower = np.r_[-np.inf, np.zeros(len(p) - 1)]
    return down @ lsq_linear(down, p, (lower, np.inf), method="bvls", tol=1e-14).x


def kdi_restated(method, student, teacher, batch):
    s, t, y = arrays(student, teacher, batch)
    p = np.array([nearest_in_order(row, label, label) for row, label in zip(softmax(t / 4.5, axis=1), y, strict=True)])
    soft = (p * (np.log(p) - log_softmax(s / 4.5, axis=1))).sum(1)
    return {"ce": 0.05 * ce_rows(s, y).mean(), "kdi": 0.95 * 4.5**2 * soft.mean()}


def kdp_restated(method, student, teacher, batch):
    s, t, y = arrays(student, teacher, batch)
    q = softmax(s, axis=1)
    above = [max(0, np.delete(row, label).max() - row[label]) for row, label in zip(q, y, strict=True)]
    soft = 0.95 * 4.5**2 * kl(s, t, 4.5).mean()
    return {"ce": 0.05 * ce_rows(s, y).mean(), "kd": soft, "kdp": 2 * np.mean(above)}


def tekap_restated(method, student, teacher, batch):
    s, t, y = arrays(student, teacher, batch)
    total = 0.0
    for i, (origin, view) in enumerate(zip(batch.origin.tolist(), batch.view.tolist(), strict=True)):
        noise = torch.randn(3, CLASSES, generator=generator(1, f"tekap/{origin}/{view}", 0, 0)).double().numpy()
        total += sum(kl(s[i][None], (0.9 * t[i] + 0.1 * e)[None])[0] for e in noise)
    return {
        "ce": 0.1 * ce_rows(s, y).mean(),
        "kd": 0.9 * 16 * kl(s, t).mean(),
        "tekap": 0.9 * 0.8 * 16 * total / len(y),
    }


def four_term_restated(method, student, teacher, batch):
    s, t, y = arrays(student, teacher, batch)
    hard, soft, far = ce_rows(s, y), 16 * kl(s, t), batch.augmented.numpy()
    return {
        "ce": hard[~far].mean() / 2,
        "ce_augmented": hard[far].mean() / 2,
        "kd": soft[~far].mean() / 2,
        "kd_augmented": soft[far].mean() / 2,
    }


RESTATED = {
    "sdd": sdd_restated,
    "wkd_l": wkd_l_restated,
    "energykd": energykd_restated,
    "abkd": abkd_restated,
    "kdi": kdi_restated,
    "kdp": kdp_restated,
    "tekap": tekap_restated,
    "four_term": four_term_restated,
}


def terms(name, student, teacher, batch, **options):
    return {k: v.item() for k, v in made(name, student, teacher, **options)(student, teacher, batch).items()}


# --- CCD's ablations ----------------------------------------------------------------------------------------------


def ccd_weights(teacher, batch, weighting, **options):
    ccd = create("losses", "ccd", weighting=weighting, **options)
    ccd.setup(None, None, context())
    return ccd.weights(teacher, batch)


def pairs(rows=40, seed=0):
    """A teacher's Outputs, and a batch in which half the rows are second views; the last one has no first."""
    origin = torch.arange(rows // 2).repeat(2)
    origin[-1] = rows
    view = torch.arange(rows) // (rows // 2)
    teacher = random_outputs(rows, 8, seed=seed)
    return teacher, Batch.of(torch.zeros(rows, dtype=torch.long), origin=origin, view=view)


def weights_restated(t, origin, view, weighting, centred, permutation):
    """Every weight by itself, from the text of the class; ``permutation`` of the pairs in the order of addresses."""
    t = t - t.mean(1, keepdims=True) if centred else t
    first = {o: row for row, (o, v) in enumerate(zip(origin, view, strict=True)) if v == 0}
    paired = sorted((o, v, row) for row, (o, v) in enumerate(zip(origin, view, strict=True)) if v > 0 and o in first)
    norm = np.sqrt((t**2).sum(1))
    w = {row: 1 + t[first[o]] @ t[row] / (norm[first[o]] * norm[row]) for o, _, row in paired}
    mean, rows = sum(w.values()) / len(w), list(w)
    changed = {
        "cosine": w,
        "normalised": {row: value / mean for row, value in w.items()},
        "constant": dict.fromkeys(w, mean),
        "shuffled": {row: w[rows[place]] for row, place in zip(rows, permutation, strict=True)},
    }[weighting]
    return np.array([changed.get(row, 1.0) for row in range(len(t))])


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("weighting", ["cosine", "normalised", "constant", "shuffled"])
def test_ccd_weights_restated_in_numpy(weighting, centred):
    teacher, batch = pairs()
    teacher, batch = replace(teacher, logits=teacher.logits + 0.5), replace(batch, epoch=3, step=7)
    permutation = torch.randperm(19, generator=generator(context().seed, "ccd", 3, 7)).tolist()
    expected = weights_restated(
        teacher.logits.numpy(), batch.origin.tolist(), batch.view.tolist(), weighting, centred, permutation
    )
    found = ccd_weights(teacher, batch, weighting, centred=centred)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    second = found[20:39]
    if weighting == "normalised":
        assert second.mean().item() == pytest.approx(1, abs=1e-12)
    if weighting == "shuffled":
        plain = ccd_weights(teacher, batch, "cosine", centred=centred)
        assert torch.equal(found.sort().values, plain.sort().values) and not torch.equal(found, plain)


def test_ccd_of_constant_weights_is_kd_with_its_augmented_rows_scaled():
    teacher, batch = pairs()
    student = random_outputs(40, 8, seed=5)
    scale = ccd_weights(teacher, batch, "cosine")[20:39].mean()
    factor = torch.ones(40, dtype=torch.float64)
    factor[20:39] = scale
    kd = create("losses", "kd").rows(student, teacher, batch)
    loss = create("losses", "ccd", weighting="constant")(student, teacher, batch)
    torch.testing.assert_close(loss["ccd"], (factor * kd["kd"]).mean())
    torch.testing.assert_close(loss["ce"], kd["ce"].mean())


def test_ccd_means_are_those_of_the_loss():
    """With row weights the weighted mean of the normalised w over the pairs is 1."""
    teacher, batch = pairs()
    batch = replace(batch, weight=torch.linspace(0, 1, 40, dtype=torch.float64))
    weights = ccd_weights(teacher, batch, "normalised")[20:39]
    assert ((weights * batch.weight[20:39]).sum() / batch.weight[20:39].sum()).item() == pytest.approx(1, abs=1e-12)


def test_ccd_shuffles_by_the_step_and_not_by_the_order_of_rows():
    teacher, batch = pairs()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(4))
    moved = Batch.of(batch.label, origin=batch.origin[order], view=batch.view[order])
    weights = ccd_weights(teacher, batch, "shuffled")
    torch.testing.assert_close(ccd_weights(teacher.rows(order), moved, "shuffled"), weights[order], rtol=0, atol=1e-14)
    assert not torch.equal(ccd_weights(teacher, replace(batch, step=1), "shuffled"), weights)
    other = create("losses", "ccd", weighting="shuffled")
    other.setup(None, None, replace(context(), seed=9))
    assert not torch.equal(other.weights(teacher, batch), weights)


def test_ccd_centred_does_not_see_the_offset():
    teacher, batch = pairs()
    offset = torch.linspace(-3, 9, 40, dtype=torch.float64)[:, None]
    other = replace(teacher, logits=teacher.logits + offset)
    centred = ccd_weights(teacher, batch, "cosine", centred=True)
    torch.testing.assert_close(ccd_weights(other, batch, "cosine", centred=True), centred)
    assert (ccd_weights(other, batch, "cosine") - ccd_weights(teacher, batch, "cosine")).abs().max() > 0.1
    a, b = (teacher.logits[i].numpy() - teacher.logits[i].numpy().mean() for i in (0, 20))
    assert centred[20].item() == pytest.approx(1 + a @ b / np.sqrt((a @ a) * (b @ b)))


def test_ccd_weights_of_its_terms_and_refusals():
    student, teacher, batch = example()
    plain = terms("ccd", student, teacher, batch)
    weighed = terms("ccd", student, teacher, batch, ce_weight=0.1, kd_weight=0.9)
    assert weighed == pytest.approx({"ce": 0.1 * plain["ce"], "ccd": 0.9 * plain["ccd"]})
    with pytest.raises(SpecError, match="weighting must be one of.*Did you mean 'normalised'"):
        create("losses", "ccd", weighting="normalized")
    lonely = Batch.of(batch.label)
    with pytest.raises(SpecError, match="needs pairs"):
        create("losses", "ccd", weighting="constant")(student, teacher, lonely)


# --- the four terms -----------------------------------------------------------------------------------------------


def test_four_terms_are_kd_in_its_scale():
    student, teacher, batch = example()
    plain, half = ~batch.augmented, slice(4)
    kd = terms("kd", student.rows(half), teacher.rows(half), Batch.of(batch.label[plain]))
    only = terms("four_term", student, teacher, batch, weights=(1, 0, 1, 0))
    assert only == pytest.approx({"ce": kd["ce"], "ce_augmented": 0, "kd": kd["kd"], "kd_augmented": 0})
    published = terms("four_term", student, teacher, batch, weights=(1, 0, 1, 0), rescaled=False)
    assert published == pytest.approx({k: v / 2 for k, v in only.items()})
    whole = terms("kd", student, teacher, batch)
    for weights in ((1, 1, 1, 1), (3, 3, 3, 3)):
        four = terms("four_term", student, teacher, batch, weights=weights)
        assert four["ce"] + four["ce_augmented"] == pytest.approx(whole["ce"])
        assert four["kd"] + four["kd_augmented"] == pytest.approx(whole["kd"])


def test_four_terms_without_augmented_rows():
    student, teacher, batch = example()
    weak = replace(batch, augmented=torch.zeros(8).bool())
    four = terms("four_term", student, teacher, weak)
    kd = terms("kd", student, teacher, weak)
    assert four == pytest.approx(kd | {"ce_augmented": 0, "kd_augmented": 0})
    with pytest.raises(SpecError, match="no row for its terms.*0 augmented of 8 rows"):
        terms("four_term", student, teacher, weak, weights=(0, 1, 0, 1))


def test_four_terms_follow_the_rows_weights():
    student, teacher, batch = example()
    given = torch.arange(8, dtype=torch.float64)
    weighed = replace(batch, weight=given, hard_weight=(~batch.augmented).double())
    four = terms("four_term", student, teacher, weighed, weights=(0, 1, 0, 1))
    soft, far = 16 * kl(student.logits.numpy(), teacher.logits.numpy()), batch.augmented.numpy()
    assert four["ce_augmented"] == 0
    assert four["kd_augmented"] == pytest.approx(np.average(soft[far], weights=given.numpy()[far]))


@pytest.mark.parametrize("weights", [(1, 1, 1), 4, (1, 1, 1, -1), (1, 1, 1, "1")])
def test_four_terms_need_four_weights(weights):
    with pytest.raises(SpecError, match="weights"):
        create("losses", "four_term", weights=weights)


# --- SDD ----------------------------------------------------------------------------------------------------------


def consistent():
    """Outputs of the two networks of the context on eight random images, and a batch."""
    x = torch.randn(8, 1, 48, 48, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    student, teacher = networks()
    return student.eval().outputs(x), teacher.outputs(x), Batch.of(torch.arange(8) % CLASSES)


def test_sdd_at_scale_one_is_kd():
    student, teacher, batch = consistent()
    sdd, kd = terms("sdd", student, teacher, batch, scales=(1,)), terms("kd", student, teacher, batch)
    assert sdd == pytest.approx({"ce": kd["ce"], "sdd": kd["kd"]}, rel=1e-9)
    assert terms("sdd", student, teacher, batch)["sdd"] != pytest.approx(kd["kd"], rel=1e-2)


def test_sdd_regions_average_to_the_whole():
    student, teacher, _ = consistent()
    layer = made("sdd", student, teacher).layers[0]
    local = region_logits(student.final, (1, 2, 3), layer)
    assert student.final.shape[2:] == (6, 6) and local.shape == (8, 14, CLASSES)
    for part in (local[:, 0], local[:, 1:5].mean(1), local[:, 5:].mean(1)):
        torch.testing.assert_close(part, student.logits)


def test_sdd_counts_complementary_regions_more():
    student, teacher, batch = consistent()
    one, two, three = (
        terms("sdd", student, teacher, batch, complementary_weight=c, scales=(3,))["sdd"] for c in (1.0, 2.0, 3.0)
    )
    assert two > one and three - two == pytest.approx(two - one)


def test_sdd_trains_the_students_classifier_once():
    student, teacher, batch = consistent()
    with_networks = context()
    sdd = create("losses", "sdd")
    sdd.setup(student, teacher, with_networks)
    layer = sdd.layers[0]
    assert any(layer is module for module in with_networks.student.modules())
    assert not list(sdd.parameters()) and not sdd.state_dict()
    sdd(student, teacher, batch)["sdd"].backward()
    assert layer.weight.grad.abs().max() > 0


def test_sdd_refusals():
    student, teacher, _ = example(same_size=False)  # the teacher's final map is 1x1
    with pytest.raises(SpecError, match="scales must not exceed the final map, 1x1 in the teacher"):
        made("sdd", student, teacher)
    for scales in ((), (0,), (1, 1), (1.5,), 2, "12"):
        with pytest.raises(SpecError, match="scales must be distinct integers"):
            create("losses", "sdd", scales=scales)


# --- WKD-L --------------------------------------------------------------------------------------------------------


def test_wkd_costs_are_a_dissimilarity():
    student, teacher, _ = example()
    cost = made("wkd_l", student, teacher).cost
    assert torch.equal(cost, cost.T) and cost.diagonal().eq(0).all()
    off = cost[~torch.eye(CLASSES, dtype=torch.bool)]
    assert off.min() > 0 and off.max() <= 1 - np.exp(-1)


def test_wkd_similarity_sees_directions_and_not_sizes_or_numbers():
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    embedding, labels = (
        torch.cat([x, 3 * x.repeat(2, 1), x[:, [1, 2, 3, 0]]]),
        torch.tensor([0] * 6 + [1] * 12 + [2] * 6),
    )
    out = Outputs(embedding, (), embedding)
    similar = class_similarity([(out.rows(slice(9)), labels[:9]), (out.rows(slice(9, 24)), labels[9:])], 4)
    assert similar[0, 1].item() == pytest.approx(1) and similar[0, 2] < 0.9
    assert similar[3].eq(0).all()  # no image of the last class


def test_wkd_transport_nears_the_exact_one():
    draw = np.random.default_rng(0)
    p, q, place = draw.dirichlet(np.ones(6)), draw.dirichlet(np.ones(6)), draw.random((6, 2))
    cost = np.linalg.norm(place[:, None] - place[None], axis=2)
    marginals = np.r_[np.kron(np.eye(6), np.ones(6)), np.kron(np.ones(6), np.eye(6))].reshape(12, 36)
    exact = linprog(cost.ravel(), A_eq=marginals, b_eq=np.r_[p, q]).fun
    rows = (torch.tensor(v)[None] for v in (p, q, cost))
    found = transport(*(v if v.shape[1:] == (6,) else v[0] for v in rows), 0.01, 2000)
    assert found.item() == pytest.approx(exact, rel=0.02) and found.item() >= exact - 1e-9


def test_wkd_transport_leaves_the_true_class_out():
    cost = torch.tensor(cost_matrix())
    p, q = (torch.tensor(softmax(np.random.default_rng(k).normal(size=(1, 5)))) for k in (0, 1))
    p[:, 2], q[:, 2] = 0, 0
    others = [0, 1, 3, 4]
    small = transport(p[:, others], q[:, others], cost[others][:, others], 0.05, 10)
    torch.testing.assert_close(transport(p, q, cost, 0.05, 10), small)


def test_wkd_decay_at_its_ends():
    student, teacher, batch = example()
    wkd = made("wkd_l", student, teacher)
    assert [wkd.decay(p) for p in (0.0, 0.625)] == [1, 1]
    assert wkd.decay(195 / 240) == pytest.approx(0.5) and wkd.decay(1.0) == pytest.approx(0)
    assert create("losses", "wkd_l", decay_from=240.0).decay(0.999) == 1
    first, late = (wkd(student, teacher, replace(batch, progress=p)) for p in (0.0, 195 / 240))
    assert (late["wkd_l"] / first["wkd_l"]).item() == pytest.approx(0.5)
    assert torch.equal(late["target"], first["target"])


def test_wkd_is_finite_in_float32_for_certain_networks():
    student, teacher, batch = example()
    wkd = made("wkd_l", student, teacher).float()
    s = (300 * student.logits).float().requires_grad_()
    sure = Outputs((300 * teacher.logits).float(), (), teacher.embedding.float())
    total = sum(wkd(Outputs(s, (), s), sure, batch).values())
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(s.grad).all()


def test_wkd_refusals():
    student, teacher, _ = example()
    with pytest.raises(SpecError, match="regularisation must be at least 0.0"):
        made("wkd_l", student, teacher, regularisation=0.001)
    for option, value in (("iterations", 0), ("iterations", 2.5), ("decay_from", 241.0), ("kappa", 0.0)):
        with pytest.raises(SpecError, match=option):
            create("losses", "wkd_l", **{option: value})


# --- EnergyKD -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["paper", "released"])
def test_energykd_with_equal_temperatures_is_kd(direction):
    student, teacher, batch = example()
    energy = terms("energykd", student, teacher, batch, taus=(4, 4, 4), direction=direction)
    kd = terms("kd", student, teacher, batch, preset="crd")
    assert energy == pytest.approx({"ce": kd["ce"], "energykd": kd["kd"]}, rel=1e-12)


@pytest.mark.parametrize("direction, certain, uncertain", [("paper", 6, 2), ("released", 2, 6)])
def test_energykd_groups_of_the_training_set(direction, certain, uncertain):
    student, teacher, _ = example()
    energy = made("energykd", student, teacher, direction=direction, low_share=0.3, high_share=0.1)
    train = torch.cat([out.logits for out, _ in context().teacher_pass()])
    taus = energy.temperatures(train)
    assert [(taus == tau).sum().item() for tau in (certain, 4, uncertain)] == [12, 24, 4]
    assert train[taus == certain].logsumexp(1).mean() > train[taus == uncertain].logsumexp(1).mean()


def test_energykd_refusals():
    bad = {"direction": "page", "low_share": 1.0, "high_share": 0.9, "taus": (6, 4, 2)}
    for option, value in bad.items():
        with pytest.raises(SpecError, match=option):
            create("losses", "energykd", **{option: value})
    for taus in ((2, 4), 4, (0, 4, 6), "246"):
        with pytest.raises(SpecError, match="taus"):
            create("losses", "energykd", taus=taus)


# --- ABKD ---------------------------------------------------------------------------------------------------------


def test_abkd_has_its_special_cases():
    student, teacher, batch = example()
    log_q, log_p = (torch.log_softmax(out.logits, 1) for out in (student, teacher))
    s, t = student.logits.numpy(), teacher.logits.numpy()
    assert alpha_beta_rows(log_q, log_p, 1.0, 0.0).tolist() == pytest.approx(kl(s, t, 1).tolist())
    assert alpha_beta_rows(log_q, log_p, 0.0, 1.0).tolist() == pytest.approx(kl(t, s, 1).tolist())
    abkd = terms("abkd", student, teacher, batch, alpha=1.0, beta=0.0, weight=16.0)
    kd = terms("kd", student, teacher, batch)
    assert abkd == pytest.approx({"ce": kd["ce"], "abkd": kd["kd"]})


@pytest.mark.parametrize("alpha, beta", [(0.7, 0.0), (0.0, 0.7), (0.0, 0.0), (0.05, 0.05), (1.0, 1.0)])
def test_abkd_nears_its_limits(alpha, beta):
    student, teacher, _ = example()
    log_q, log_p = (torch.log_softmax(out.logits, 1) for out in (student, teacher))
    near = alpha_beta(log_p.exp().numpy(), log_q.exp().numpy(), alpha or 1e-5, beta or 1e-5)
    assert alpha_beta_rows(log_q, log_p, alpha, beta).tolist() == pytest.approx(near.tolist(), rel=2e-4)


@pytest.mark.parametrize("alpha, beta", [(0.05, 0.05), (0.8, 0.3), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_abkd_in_float32_for_certain_networks(alpha, beta):
    s = (200 * example()[0].logits).float().requires_grad_()
    student, teacher, batch = Outputs(s, (), s), Outputs(-s.detach(), (), s.detach()), example()[2]
    value = create("losses", "abkd", alpha=alpha, beta=beta)(student, teacher, batch)["abkd"]
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(s.grad).all()


@pytest.mark.parametrize("option", ["alpha", "beta"])
def test_abkd_refuses_what_it_cannot_compute(option):
    for value in (0.01, -0.5):
        with pytest.raises(SpecError, match=option):
            create("losses", "abkd", **{option: value})


# --- isotonic KD --------------------------------------------------------------------------------------------------


def mixed(batch):
    """Shares on both sides of a half, both ends, and a row mixed with its own class."""
    share = torch.tensor([0.9, 0.6, 0.5, 0.4, 0.1, 1.0, 0.0, 0.7], dtype=torch.float64)
    partner = (batch.label + 1) % CLASSES
    partner[7] = batch.label[7]
    return replace(batch, partner=partner, share=share)


def order(batch):
    """First and second class of each row, as the words of the docstring have it."""
    for a, b, share in zip(batch.label.tolist(), batch.partner.tolist(), batch.share.tolist(), strict=True):
        yield (a, a) if share == 1 else (b, b) if share == 0 else (a, b) if share >= 0.5 else (b, a)


@pytest.mark.parametrize("seed", range(4))
def test_kdi_projects_mixed_labels(seed):
    student, teacher, batch = example(seed=seed)
    batch = mixed(batch)
    s, t, _ = arrays(student, teacher, batch)
    wanted = [nearest_in_order(p, *pair) for p, pair in zip(softmax(3 * t / 4.5, axis=1), order(batch), strict=True)]
    log_q = log_softmax(s / 4.5, axis=1)
    soft = np.mean([(m * (np.log(m) - q)).sum() for m, q in zip(wanted, log_q, strict=True)])
    found = terms("kdi", student, replace(teacher, logits=3 * teacher.logits), batch)
    assert found["kdi"] == pytest.approx(0.95 * 4.5**2 * soft, rel=1e-9)


def test_isotonic_keeps_mass_and_order_and_what_is_in_order():
    p = torch.rand(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).square()
    p /= p.sum(1, keepdim=True)
    first, second = torch.zeros(500, dtype=torch.long), torch.arange(500) % 2 * 5
    m = isotonic(p, first, second)
    torch.testing.assert_close(m.sum(1), torch.ones(500, dtype=torch.float64))
    two = m.gather(1, second[:, None])[:, 0]
    assert (m[:, 0] >= two).all() and (two[:, None] >= m[:, 1:5] - 1e-15).all()
    torch.testing.assert_close(isotonic(m, first, second), m)
    kept = (m == p).all(1)
    assert 10 < kept.sum() < 490  # some were in order, some not
    for k in range(40):
        wanted = nearest_in_order(p[k].numpy(), 0, second[k].item())
        assert m[k].tolist() == pytest.approx(wanted.tolist(), abs=1e-12)


def test_kdi_is_kd_under_a_teacher_in_order():
    student, teacher, batch = example()
    right = replace(teacher, logits=teacher.logits + 20 * torch.nn.functional.one_hot(batch.label, CLASSES))
    kdi = terms("kdi", student, right, batch)
    kd = terms("kd", student, right, batch, temperature=4.5, ce_weight=0.05, kd_weight=0.95)
    assert kdi == pytest.approx({"ce": kd["ce"], "kdi": kd["kd"]})


def test_kdp_penalises_mixed_rows_out_of_order():
    student, teacher, batch = example()
    batch = mixed(batch)
    kdp = made("kdp", student, teacher)
    found = kdp.rows(student, teacher, batch)["kdp"]
    for row, (q, (a, b)) in enumerate(zip(softmax(student.logits.numpy(), axis=1), order(batch), strict=True)):
        others = [q[k] for k in range(CLASSES) if k not in (a, b)]
        penalty = max(0, max(others) - min(q[a], q[b])) + max(0, q[b] - q[a])
        assert found[row].item() == pytest.approx(2 * penalty, abs=1e-15)
    assert (found > 0).any()
    good = torch.zeros(8, CLASSES, dtype=torch.float64)
    for row, (a, b) in enumerate(order(batch)):
        good[row, b], good[row, a] = 1, 2
    assert kdp.rows(Outputs(good, (), good), teacher, batch)["kdp"].eq(0).all()


@pytest.mark.parametrize("name", ["kdi", "kdp"])
def test_isotonic_methods_with_two_classes(name):
    student, teacher, batch = example(classes=2)
    batch = replace(batch, partner=1 - batch.label, share=torch.full((8,), 0.7, dtype=torch.float64))
    assert all(np.isfinite(v) for v in terms(name, student, teacher, batch).values())


# --- TeKAP --------------------------------------------------------------------------------------------------------


def test_tekap_noise_belongs_to_the_row_and_the_step():
    student, teacher, batch = example()
    tekap = made("tekap", student, teacher)
    noisy = tekap.perspectives(teacher.logits, batch)
    some = torch.tensor([5, 2])
    part = Batch.of(batch.label[some], origin=batch.origin[some], view=batch.view[some])
    assert noisy.shape == (3, 8, CLASSES)
    assert torch.equal(tekap.perspectives(teacher.logits[some], part), noisy[:, some])
    for other in (replace(batch, step=1), replace(batch, epoch=1), replace(batch, view=1 - batch.view)):
        assert (tekap.perspectives(teacher.logits, other) != noisy).all()


def test_tekap_noise_has_its_size():
    logits = torch.zeros(256, CLASSES, dtype=torch.float64)
    noisy = create("losses", "tekap", noise=0.3).perspectives(logits + 10, Batch.of(torch.zeros(256).long()))
    assert noisy.mean().item() == pytest.approx(7, abs=0.03) and noisy.std().item() == pytest.approx(0.3, abs=0.02)


def test_tekap_without_noise_is_more_of_kd():
    student, teacher, batch = example()
    tekap = terms("tekap", student, teacher, batch, noise=0.0, copies=2)
    assert tekap["tekap"] == pytest.approx(2 * 0.8 * tekap["kd"])
    crd = terms("kd", student, teacher, batch, preset="crd")
    assert {k: tekap[k] for k in crd} == pytest.approx(crd)


@pytest.mark.parametrize("options", [{"noise": 1.5}, {"copies": 0}, {"copies": 1.5}])
def test_tekap_refusals(options):
    with pytest.raises(SpecError, match=next(iter(options))):
        create("losses", "tekap", **options)
