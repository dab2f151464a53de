"""DKD, NKD, RLD, DIST, LSKD, CTKD, TTM, WTTM and MLLD: restatements in numpy, invariants, torchdistill."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from examples import ENTRIES, example, leaves, made
from scipy.special import log_softmax, softmax
from scipy.stats import pearsonr
from torchdistill.losses import mid_level

from kdlab.errors import SpecError
from kdlab.losses.base import warm_up
from kdlab.losses.dist import pearson_distance
from kdlab.losses.kd import KD
from kdlab.losses.lskd import reads_logits_only
from kdlab.registry import create, register

BASES = [name for name, entry in ENTRIES.items() if reads_logits_only(entry)]

# --- numpy, from the formulas -------------------------------------------------------------------------------------


def divergence(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def hard(student, batch, weight=1.0):
    logs = log_softmax(student.logits.numpy(), axis=1)
    return {"ce": weight * np.mean([-log[y] for log, y in zip(logs, batch.label.tolist(), strict=True)])}


def each(student, teacher, batch, value):
    """Mean over rows of ``value(s, t, y)``."""
    triples = zip(student.logits.numpy(), teacher.logits.numpy(), batch.label.tolist(), strict=True)
    return np.mean([value(s, t, y) for s, t, y in triples])


def dkd_restated(method, student, teacher, batch):
    def target(s, t, y):
        p, q = softmax(t / 4)[y], softmax(s / 4)[y]
        return divergence((p, 1 - p), (q, 1 - q))

    def rest(s, t, y):
        return divergence(softmax(np.delete(t, y) / 4), softmax(np.delete(s, y) / 4))

    first = 16 / 20  # T^2 in the first of the twenty epochs' warm-up
    terms = {"tckd": first * each(student, teacher, batch, target)}
    return hard(student, batch) | terms | {"nckd": 8 * first * each(student, teacher, batch, rest)}


def nkd_restated(method, student, teacher, batch):
    def target(s, t, y):
        return -softmax(t)[y] * log_softmax(s)[y]

    def rest(s, t, y):
        p, q = np.delete(softmax(t), y), np.delete(softmax(s), y)
        return -(p / p.sum() * np.log(q / q.sum())).sum()

    terms = {"target": each(student, teacher, batch, target), "rest": 1.5 * each(student, teacher, batch, rest)}
    return hard(student, batch) | terms


def rld_restated(method, student, teacher, batch):
    def confidence(s, t, y):
        p, q = softmax(t).max(), softmax(s)[y]
        return divergence((p, 1 - p), (q, 1 - q))

    def below(s, t, y):
        kept = [k for k in range(len(t)) if t[k] < t[y]]
        return divergence(softmax(t[kept] / 4), softmax(s[kept] / 4)) if kept else 0.0

    terms = {"scd": each(student, teacher, batch, confidence) / 20}
    return hard(student, batch) | terms | {"mcd": 8 * 16 / 20 * each(student, teacher, batch, below)}


def dist_restated(method, student, teacher, batch):
    p, q = (softmax(out.logits.numpy(), axis=1) for out in (student, teacher))
    inter, intra = (np.mean([1 - pearsonr(a, b)[0] for a, b in zip(*x, strict=True)]) for x in ((p, q), (p.T, q.T)))
    return hard(student, batch) | {"inter": inter, "intra": intra}


def kd_at(student, teacher, batch, temperature):
    kl = each(student, teacher, batch, lambda s, t, y: divergence(softmax(t / temperature), softmax(s / temperature)))
    return temperature**2 * kl


def zscore(out):
    z = out.logits.numpy()
    z = (z - z.mean(1, keepdims=True)) / (1e-7 + z.std(1, keepdims=True))
    return replace(out, logits=torch.from_numpy(z))


def lskd_restated(method, student, teacher, batch):
    return hard(student, batch, 0.1) | {"kd": 9 * kd_at(zscore(student), zscore(teacher), batch, 2.0)}


def ctkd_restated(method, student, teacher, batch):
    temperature = 1 + 20 / (1 + np.exp(-method.theta.item()))
    return hard(student, batch, 0.1) | {"kd": 0.9 * kd_at(student, teacher, batch, temperature)}


def ttm_restated(method, student, teacher, batch, weight=45, gamma=0.1, sample=lambda power: 1.0, name="ttm"):
    def match(s, t, y):
        power = softmax(t) ** gamma
        return sample(power) * divergence(power / power.sum(), softmax(s))

    return hard(student, batch) | {name: weight * each(student, teacher, batch, match)}


def wttm_restated(method, student, teacher, batch):
    return ttm_restated(method, student, teacher, batch, 4, 0.2, np.sum, "wttm")


def mlld_parts(student, teacher, batch):
    """By (view, T): KL of rows, squared differences of rows of G and of M; and the masks of view 0."""
    parts = {}
    for view in (0, 1):
        s, t = (out.logits.numpy()[batch.view.numpy() == view] for out in (student, teacher))
        for temperature in (2, 3, 4, 5, 6):
            p, q = softmax(s / temperature, axis=1), softmax(t / temperature, axis=1)
            kl = temperature**2 * np.array([divergence(b, a) for a, b in zip(p, q, strict=True)])
            rows, columns = ((x(p) - x(q)) ** 2 for x in (lambda m: m @ m.T, lambda m: m.T @ m))
            parts[view, temperature] = kl, rows.sum(1), columns.sum(1)
        if view == 0:
            p = softmax(t, axis=1)
            masks = [values <= np.percentile(values, 50) for values in (p.max(1), p.sum(0))]
    return parts, *masks


def mlld_restated(method, student, teacher, batch):
    parts, rows, classes = mlld_parts(student, teacher, batch)
    weights = {0: (rows, rows, classes), 1: (1, 1, 1)}
    terms = dict.fromkeys(("instance", "batch", "class"), 0.0)
    for (view, _), levels in parts.items():
        for name, mask, level in zip(terms, weights[view], levels, strict=True):
            terms[name] += (mask * level).mean() / 2
    return hard(student, batch) | terms


RESTATED = {
    "dkd": dkd_restated,
    "nkd": nkd_restated,
    "rld": rld_restated,
    "dist": dist_restated,
    "lskd": lskd_restated,
    "ctkd": ctkd_restated,
    "ttm": ttm_restated,
    "wttm": wttm_restated,
    "mlld": mlld_restated,
}


def with_logits(out, logits):
    return replace(out, logits=logits)


def same_terms(a, b, rtol=1e-9):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=rtol, atol=1e-12)


# --- DKD, NKD, RLD ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_with_beta_of_the_teacher_s_doubt_is_kd(temperature):
    student, teacher, batch = example()
    rows = create("losses", "dkd", beta=1.0, warmup=0.0, temperature=temperature).rows(student, teacher, batch)
    doubt = 1 - (teacher.logits / temperature).softmax(1)[torch.arange(8), batch.label]
    kd = create("losses", "kd", temperature=temperature).rows(student, teacher, batch)
    torch.testing.assert_close(rows["tckd"] + doubt * rows["nckd"], kd["kd"], rtol=1e-12, atol=0)


def test_the_warm_up_follows_the_published_epochs():
    _, _, batch = example()
    shares = [warm_up(replace(batch, progress=(epoch - 1) / 240), 20.0) for epoch in (1, 10, 20, 21, 240)]
    assert shares == pytest.approx([1 / 20, 1 / 2, 1, 1, 1]) and warm_up(batch, 0.0) == 1


@pytest.mark.parametrize("name, own", [("dkd", ["tckd", "nckd"]), ("rld", ["scd", "mcd"])])
def test_the_warm_up_scales_the_methods_own_terms(name, own):
    student, teacher, batch = example()
    start, later = (create("losses", name)(student, teacher, replace(batch, progress=p)) for p in (0.0, 0.5))
    assert torch.equal(start["ce"], later["ce"])
    for term in own:
        torch.testing.assert_close(20 * start[term], later[term])


def test_sure_networks_give_finite_numbers_in_float32():
    student, teacher, batch = example()
    wild = [with_logits(out, 1000 * out.logits.float()) for out in (student, teacher)]
    for name in ("dkd", "nkd", "rld", "dist", "lskd", "ctkd", "ttm", "wttm", "mlld"):
        inputs, out = leaves(wild[0])
        terms = create("losses", name)(out, wild[1], batch)
        sum(terms.values()).backward()
        assert all(torch.isfinite(value) for value in terms.values()) and torch.isfinite(inputs[0].grad).all()


@pytest.mark.parametrize("name", BASES + ["lskd"])
def test_a_student_that_answers_nothing_yet_has_finite_gradients(name):
    student, teacher, batch = example()
    blank, sure = with_logits(student, torch.zeros_like(student.logits)), with_logits(teacher, 5 * teacher.logits)
    for one, other in ((blank, sure), (blank, blank), (student, blank)):
        inputs, out = leaves(one)
        sum(made(name, one, other)(out, other, batch).values()).backward()
        assert torch.isfinite(inputs[0].grad).all()


def test_nkd_pulls_towards_the_label_and_the_teacher_s_shape_of_the_rest():
    _, teacher, batch = example()
    inputs, same = leaves(teacher)
    terms = create("losses", "nkd")(same, teacher, batch)
    target, rest = (torch.autograd.grad(terms[name], inputs[0], retain_graph=True)[0] for name in ("target", "rest"))
    own = torch.nn.functional.one_hot(batch.label, 5).bool()
    assert (target[own] < 0).all() and (target[~own] > 0).all()
    torch.testing.assert_close(rest, torch.zeros_like(rest))


def test_rld_leaves_out_the_teacher_s_mistakes():
    student, teacher, batch = example()
    rld = create("losses", "rld")
    before = rld.rows(student, teacher, batch)["mcd"]
    own = teacher.logits[torch.arange(8), batch.label][:, None]
    wrong = teacher.logits > own
    assert wrong.any(1).any()
    bolder = with_logits(teacher, teacher.logits + 3.0 * wrong)
    torch.testing.assert_close(rld.rows(student, bolder, batch)["mcd"], before)
    lowest = replace(batch, label=teacher.logits.argmin(1))
    assert rld.rows(student, teacher, lowest)["mcd"].abs().max() == 0


def test_rld_of_a_teacher_that_is_right_has_dkd_s_terms():
    student, teacher, batch = example()
    right = replace(batch, label=teacher.logits.argmax(1))
    rld, dkd = (create("losses", name).rows(student, teacher, right) for name in ("rld", "dkd"))
    torch.testing.assert_close(rld["mcd"], dkd["nckd"])
    plain = create("losses", "dkd", temperature=1.0).rows(student, teacher, right)
    torch.testing.assert_close(rld["scd"], plain["tckd"])


# --- DIST ---------------------------------------------------------------------------------------------------------


def test_dist_does_not_see_affine_maps_of_rows_within_rows_and_of_columns_within_columns():
    student, teacher, batch = example()
    dist = create("losses", "dist", temperature=4.0)
    p, q = dist.probabilities(student, teacher)
    plain = dist(student, teacher, batch)
    scale, shift = torch.linspace(0.2, 3, 8)[:, None].double(), torch.linspace(-1, 1, 8)[:, None].double()
    by_row, by_column = scale * p + shift, scale[:5].T * p + shift[:5].T
    torch.testing.assert_close(16 * pearson_distance(by_row, q, 1).mean(), plain["inter"])
    torch.testing.assert_close(16 * pearson_distance(by_column, q, 0).mean(), plain["intra"])
    assert abs(16 * pearson_distance(by_column, q, 1).mean() - plain["inter"]) > 1e-3
    assert abs(16 * pearson_distance(by_row, q, 0).mean() - plain["intra"]) > 1e-3


@pytest.mark.parametrize("name", ["dkd", "rld", "dist", "lskd", "ctkd", "mlld"])
def test_a_student_equal_to_its_right_teacher_has_only_the_hard_term(name):
    student, _, batch = example()
    batch = replace(batch, label=student.logits.argmax(1))
    for term, value in made(name, student, student)(student, student, batch).items():
        assert term == "ce" or value.item() == pytest.approx(0, abs=1e-12)


# --- LSKD ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_lskd_does_not_see_the_scale_and_the_mean_of_a_row(base):
    student, teacher, batch = example()
    a, b = torch.linspace(0.5, 4, 8)[:, None].double(), torch.linspace(-3, 3, 8)[:, None].double()
    moved = [with_logits(out, a.flip(0) * out.logits + b) for out in (student, teacher)]
    lskd = made("lskd", student, teacher, base=base)
    plain, other = lskd(student, teacher, batch), lskd(*moved, batch)
    assert plain.pop("ce") != other.pop("ce") and plain
    same_terms(plain, other, rtol=1e-5)
    unwrapped = made(base, student, teacher)
    a, b = unwrapped(student, teacher, batch), unwrapped(*moved, batch)
    assert any(abs(a[name] - b[name]) > 1e-4 for name in plain)


def test_lskd_hands_the_temperature_and_options_to_its_base():
    student, teacher, batch = example()
    lskd = create("losses", "lskd", base="dkd", base_options={"beta": 3.0, "warmup": 0.0})
    assert (lskd.base.temperature, lskd.base.beta) == (2.0, 3.0)
    dkd = create("losses", "dkd", beta=3.0, warmup=0.0, temperature=2.0)
    expected = dkd(zscore(student), zscore(teacher), batch)
    terms = lskd(student, teacher, batch)
    for name in ("tckd", "nckd"):
        torch.testing.assert_close(terms[name], 9 * expected[name])
    assert list(made("lskd", student, teacher, base="ctkd").parameters())
    foreign = create("losses", "lskd", base="kdlab.losses.kd:KD")(student, teacher, batch)
    same_terms(foreign, create("losses", "lskd")(student, teacher, batch))


@register("listener", knowledge="logits", needs=("teacher",))
class Listener(KD):
    """A foreign base that remembers what it was called with."""

    def setup(self, student, teacher, context):
        self.heard = [student.logits, teacher.logits]

    def after_step(self, batch):
        self.heard.append(batch)


def test_lskd_passes_everything_on_to_its_base():
    student, teacher, batch = example()
    lskd = made("lskd", student, teacher, base=f"{__name__}:Listener")
    lskd.after_step(batch)
    for heard, out in zip(lskd.base.heard, (student, teacher), strict=False):
        torch.testing.assert_close(heard, zscore(out).logits[:2])
    assert lskd.base.heard[2] is batch
    hard_weight = torch.tensor([1.0] * 4 + [0.0] * 4)
    weighted, half = (lskd(student, teacher, replace(batch, **{f: hard_weight})) for f in ("hard_weight", "weight"))
    assert weighted["ce"] == half["ce"] and weighted["kd"] != half["kd"]


@pytest.mark.parametrize("base", ["ce", "fitnet", "sp", "lskd", "nothing", "kdlab.losses.sp:SP", None])
def test_lskd_refuses_a_base_that_reads_more_than_logits(base):
    with pytest.raises(SpecError, match="base must be one of.*kd"):
        create("losses", "lskd", base=base)


def test_lskd_refuses_wrong_base_options():
    with pytest.raises(SpecError, match="Did you mean 'beta'"):
        create("losses", "lskd", base="dkd", base_options={"betta": 2.0})
    with pytest.raises(SpecError, match="base_options must be a mapping"):
        create("losses", "lskd", base_options="beta")


@pytest.mark.parametrize("base, word", [("dkd", "mixed"), ("mlld", "pairs"), ("ccd", "pairs")])
def test_lskd_refuses_what_its_base_refuses(base, word):
    student, teacher, batch = example()
    share = torch.full((8,), 0.7, dtype=torch.float64)
    batch = replace(batch, partner=batch.label, share=share, view=0 * batch.view)
    with pytest.raises(SpecError, match=word):
        create("losses", "lskd", base=base)(student, teacher, batch)


# --- CTKD ---------------------------------------------------------------------------------------------------------


def test_ctkd_s_temperature_climbs_along_a_cosine():
    student, teacher, batch = example()
    ctkd = made("ctkd", student, teacher)
    assert ctkd.temperature(0.0).item() == pytest.approx(1 + 20 / (1 + np.exp(-1)))
    shares = {0.0: 0.0, 2.5 / 240: (1 - np.sqrt(0.5)) / 2, 5 / 240: 0.5, 10 / 240: 1.0, 0.99: 1.0}
    epsilon = 1e-5

    def loss(theta):
        with torch.no_grad():
            ctkd.theta.fill_(theta)
        return ctkd(student, teacher, batch)["kd"].item()

    slope = (loss(1 + epsilon) - loss(1 - epsilon)) / (2 * epsilon)
    loss(1.0)
    for progress, share in shares.items():
        ctkd.zero_grad()
        ctkd(student, teacher, replace(batch, progress=progress))["kd"].backward()
        assert ctkd.theta.grad.item() == pytest.approx(-share * slope, rel=1e-6, abs=1e-12) and slope != 0
    assert create("losses", "ctkd", warmup=0.0).strength(0.0) == 1


def test_ctkd_at_its_temperature_is_kd():
    student, teacher, batch = example()
    ctkd = made("ctkd", student, teacher)
    kd = create("losses", "kd", temperature=ctkd.temperature(0.0).item(), preset="crd")
    same_terms(ctkd(student, teacher, batch), kd(student, teacher, batch))


# --- TTM ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_ttm_matches_the_softened_teacher_without_softening_the_student(temperature):
    student, teacher, batch = example()
    rows = create("losses", "ttm", weight=1.0, gamma=1 / temperature).rows(student, teacher, batch)["ttm"]
    softened = with_logits(teacher, teacher.logits / temperature)
    kd = create("losses", "kd", temperature=1.0).rows(student, softened, batch)["kd"]
    torch.testing.assert_close(rows, kd, rtol=1e-12, atol=0)


def test_wttm_weighs_ttm_between_a_sure_and_a_flat_teacher():
    student, teacher, batch = example()
    for logits, power_sum in ((1e4 * teacher.logits, 1.0), (0 * teacher.logits, 5**0.8)):
        ttm, wttm = (
            create("losses", name, weight=1.0, gamma=0.2).rows(student, with_logits(teacher, logits), batch)[name]
            for name in ("ttm", "wttm")
        )
        torch.testing.assert_close(wttm, power_sum * ttm)


# --- MLLD ---------------------------------------------------------------------------------------------------------


def test_mlld_as_released():
    student, teacher, batch = example()
    parts, rows, classes = mlld_parts(student, teacher, batch)
    terms = made("mlld", student, teacher, mode="released")(student, teacher, batch)
    weak, strong = ({t: parts[view, t] for t in (2, 3, 4, 5, 6)} for view in (0, 1))
    # A constant for a mask; no class or batch terms of the strong view; two of its temperatures read the weak view.
    kl = rows.mean() * sum(weak[t][0].mean() for t in weak)
    kl += sum(strong[t][0].mean() for t in (4, 3, 5)) + sum(weak[t][0].mean() for t in (2, 6))
    expected = {"instance": kl, "batch": rows.mean() * sum(weak[t][1].mean() for t in weak)}
    expected["class"] = classes.mean() * sum(weak[t][2].mean() for t in weak)
    assert {k: 2 * v.item() for k, v in terms.items() if k != "ce"} == pytest.approx(expected)


def test_mlld_leaves_out_first_views_of_which_the_teacher_is_certain():
    student, teacher, batch = example()
    sharper = torch.ones(8, 1).double()
    sharper[:2] = 50.0  # rows 0 and 1 are first views
    inputs, out = leaves(student)
    rows = made("mlld", student, teacher).rows(out, with_logits(teacher, sharper * teacher.logits), batch)
    assert (rows["instance"][:2] == 0).all() and (rows["instance"][2:] > 0).all()
    assert (rows["batch"][:2] == 0).all() and (rows["batch"][2:] > 0).all()
    rows["instance"].sum().backward()
    assert (inputs[0].grad[:2] == 0).all() and (inputs[0].grad[2:] != 0).any()


@pytest.mark.parametrize("view", [0, 1])
def test_mlld_without_pairs_says_so(view):
    student, teacher, batch = example()
    with pytest.raises(SpecError, match="mlld needs pairs.*views=2"):
        create("losses", "mlld")(student, teacher, replace(batch, view=torch.full((8,), view)))


def test_unknown_mode_is_refused():
    with pytest.raises(SpecError, match="mode must be one of"):
        create("losses", "mlld", mode="official")


# --- torchdistill -------------------------------------------------------------------------------------------------


def torchdistill(name, student, teacher, batch, **options):
    loss = getattr(mid_level, name)(".", "output", ".", "output", **options)
    return loss({".": {"output": student.logits}}, {".": {"output": teacher.logits}}, batch.label)


def test_torchdistill_s_kd_weighs_by_alpha_and_beta():
    student, teacher, batch = example()
    theirs = torchdistill("KDLoss", student, teacher, batch, temperature=4.0, alpha=0.1, beta=0.9)
    ours = create("losses", "kd", preset="crd")(student, teacher, batch)
    assert sum(ours.values()).item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize("beta, gamma, temperature", [(1.0, 1.0, 1.0), (2.0, 3.0, 4.0)])
def test_torchdistill_s_dist(beta, gamma, temperature):
    student, teacher, batch = example()
    theirs = torchdistill("DISTLoss", student, teacher, batch, beta=beta, gamma=gamma, tau=temperature)
    dist = create("losses", "dist", beta=beta, gamma=gamma, temperature=temperature, ce_weight=0.0)
    assert sum(dist(student, teacher, batch).values()).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_torchdistill_s_lskd_divides_the_variance_by_one_class_less():
    # Its logits are smaller by sqrt((K - 1) / K), as at a temperature larger by the inverse; its T^2 stays.
    student, teacher, batch = example()
    theirs = torchdistill("LogitStdKDLoss", student, teacher, batch, temperature=2.0, alpha=0.1, beta=9.0)
    ours = create("losses", "lskd", temperature=2.0 * (5 / 4) ** 0.5)(student, teacher, batch)
    assert (ours["ce"] + ours["kd"] * 4 / 5).item() == pytest.approx(theirs.item(), rel=1e-6)
