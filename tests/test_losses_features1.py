"""CC, VID, RKD, PKT, AB, FT, FSP and NST: restatements in numpy, torchdistill's values, and their own properties."""

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from examples import context, example, leaves
from examples import made as method
from test_losses_basic import kd_restated, unit
from torchdistill.losses import mid_level

from kdlab.errors import SpecError
from kdlab.losses.cc import products
from kdlab.models import Outputs
from kdlab.registry import create

# --- numpy, from the formulas -------------------------------------------------------------------------------------


def array(tensor):
    return tensor.detach().numpy()


def maps(out):
    return [f.numpy() for f in out.features]


def convolved(layer, x):
    """A convolution of size 1 or 3 without bias, one shift of the padded map after another."""
    weight, (h, w) = array(layer.weight), x.shape[2:]
    size = weight.shape[2]
    edge = size // 2
    x = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    shifts = [(a, b) for a in range(size) for b in range(size)]
    return sum(np.einsum("oc,nchw->nohw", weight[:, :, a, b], x[:, :, a : a + h, b : b + w]) for a, b in shifts)


def normalised(x, layer=None):
    """BatchNorm over the batch, or with a layer's running statistics."""
    shape = (1, -1, 1, 1)
    mean = x.mean((0, 2, 3)) if layer is None else array(layer.running_mean)
    variance = x.var((0, 2, 3)) if layer is None else array(layer.running_var)
    return (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-5)


def coded(parts, x, frozen=False):
    """Convolution, BatchNorm and leaky ReLU, again and again."""
    for number in range(0, len(parts), 3):
        x = normalised(convolved(parts[number], x), parts[number + 1] if frozen else None)
        x = np.where(x > 0, x, 0.1 * x)
    return x


def windows(x, size, reduce):
    """``reduce`` over the windows of adaptive pooling."""
    n = x.shape[2]
    cuts = [slice(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
    return np.stack([np.stack([reduce(x[:, :, a, b], (2, 3)) for b in cuts], 2) for a in cuts], 2)


def cc_restated(method, student, teacher, batch):
    ends = zip(method.embeds, (student, teacher), strict=True)
    mine, theirs = (out.embedding.numpy() @ array(layer.weight).T + array(layer.bias) for layer, out in ends)
    delta, rows = np.abs(mine - theirs), range(len(mine))
    pairs = [delta[i] @ delta[j] for i in rows for j in rows if i != j]
    return kd_restated(method, student, teacher, batch) | {"cc": 0.02 * np.mean(pairs)}


def kernel_cc_restated(student, teacher):
    def kernel(x, y):
        return np.exp(-0.8) * (1 + 0.8 * x @ y + 0.32 * (x @ y) ** 2)

    rows, a, b = range(len(student.logits)), unit(student.embedding.numpy()), unit(teacher.embedding.numpy())
    total = sum((kernel(a[i], a[j]) - kernel(b[i], b[j])) ** 2 for i in rows for j in rows)
    return total / len(rows) ** 2


def pkt_restated(method, student, teacher, batch):
    def probabilities(embedding):
        similar = (1 + unit(embedding) @ unit(embedding).T) / 2
        return similar / similar.sum(1, keepdims=True)

    p, q = probabilities(student.embedding.numpy()), probabilities(teacher.embedding.numpy())
    return kd_restated(method, student, teacher, batch) | {"pkt": 30000 * (q * np.log(q / p)).sum() / len(p) ** 2}


def rkd_restated(method, student, teacher, batch):
    def huber(x):
        return x**2 / 2 if abs(x) < 1 else abs(x) - 0.5

    def distances(e):
        d = np.array([[np.linalg.norm(a - b) for b in e] for a in e])
        return d / d[d > 0].mean()

    def cosine(e, i, j, k):
        a, b = e[i] - e[j], e[k] - e[j]
        return 0.0 if j in (i, k) else a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    s, t = student.embedding.numpy(), teacher.embedding.numpy()
    rows = range(len(s))
    distance = np.vectorize(huber)(distances(s) - distances(t)).mean()
    triples = [huber(cosine(s, i, j, k) - cosine(t, i, j, k)) for i in rows for j in rows for k in rows]
    return kd_restated(method, student, teacher, batch) | {"rkd": 25 * distance + 50 * np.mean(triples)}


def vid_restated(method, student, teacher, batch):
    total = 0
    for f, g, layers, scale in zip(maps(student), maps(teacher), method.regressors, method.scales, strict=True):
        for number, layer in enumerate(layers[::2]):
            f = convolved(layer, np.maximum(f, 0) if number else f)
        variance = (np.log1p(np.exp(array(scale))) + 1e-5).reshape(1, -1, 1, 1)
        total += (np.log(np.sqrt(variance)) + (g - f) ** 2 / (2 * variance)).mean()
    return kd_restated(method, student, teacher, batch) | {"vid": total}


def nst_restated(method, student, teacher, batch):
    def kernel(x, y):
        return np.mean([(a @ b) ** 2 for a in x for b in y])

    total = 0
    for f, g in zip(maps(student), maps(teacher), strict=True):
        for a, b in zip(f, g, strict=True):
            x, y = unit(a.reshape(len(a), -1)), unit(b.reshape(len(b), -1))
            total += kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)
    return kd_restated(method, student, teacher, batch) | {"nst": 50 * total / len(batch.label)}


def ab_restated(method, student, teacher, batch):
    total = 0
    for f, g, connector, share in zip(maps(student), maps(teacher), method.connectors, (1 / 4, 1 / 2, 1), strict=True):
        f = normalised(convolved(connector[0], f))
        active, quiet = np.maximum(1 - f, 0) ** 2, np.maximum(1 + f, 0) ** 2
        total += share * (active[g > 0].sum() + quiet[g <= 0].sum()) / len(f)
    return {"ab": 0.003 * total}


def flow(x, y):
    x = windows(x, y.shape[2], np.max)
    return np.einsum("nchw,nehw->nce", x, y) / x.shape[2] ** 2


def flows(method, student, teacher):
    mine, theirs = ([out.stem.numpy(), *maps(out)] for out in (student, teacher))
    mine = [convolved(bridge, f) for bridge, f in zip(method.bridges, mine, strict=True)]
    return [(flow(*f), flow(*g)) for f, g in zip(pairwise(mine), pairwise(theirs), strict=True)]


def fsp_restated(method, student, teacher, batch):
    return {"fsp": sum(((a - b) ** 2).mean() for a, b in flows(method, student, teacher))}


def paraphraser_restated(method, student, teacher, batch):
    target = maps(teacher)[-1]
    return {"ft_paraphraser": ((coded(method.decoder, coded(method.encoder, target)) - target) ** 2).mean()}


def ft_restated(method, student, teacher, batch):
    factors = coded(method.translator, maps(student)[-1]), coded(method.encoder, maps(teacher)[-1], frozen=True)
    a, b = (unit(f.reshape(len(f), -1)) for f in factors)
    return kd_restated(method, student, teacher, batch) | {"ft": 500 * np.abs(a - b).mean()}


RESTATED = {
    "cc": cc_restated,
    "pkt": pkt_restated,
    "rkd": rkd_restated,
    "vid": vid_restated,
    "nst": nst_restated,
    "ab": ab_restated,
    "fsp": fsp_restated,
    "ft_paraphraser": paraphraser_restated,
    "ft": ft_restated,
}
# Read by the table of methods.
AGAINST_TORCHDISTILL = ("vid", "rkd", "pkt", "ft")


# --- torchdistill -------------------------------------------------------------------------------------------------


def read(values):
    """Tensors as torchdistill reads them, by the paths of their layers."""
    return {str(path): {"output": value} for path, value in enumerate(values)}


def stages(count):
    """torchdistill's table of stages that are compared one by one."""
    end = [{"io": "output", "path": str(path)} for path in range(count)]
    return {str(path): {"teacher": end[path], "student": end[path], "weight": 1} for path in range(count)}


def test_relations_are_torchdistills():
    student, teacher, batch = example()
    given = read([student.embedding]), read([teacher.embedding])
    rkd = mid_level.RKDLoss("0", "0", 25.0, 50.0, "mean")(*given)
    torch.testing.assert_close(method("rkd", student, teacher)(student, teacher, batch)["rkd"], rkd)
    pkt = mid_level.PKTLoss("0", "output", "0", "output", eps=0)(*given)
    torch.testing.assert_close(method("pkt", student, teacher, weight=1)(student, teacher, batch)["pkt"], pkt)


def test_torchdistills_cc_is_the_root_of_the_sum_of_squares():
    # It takes embeddings as they come, of any length, and the norm of the matrices' difference where the formula has
    # the squared norm.
    student, teacher, batch = example()
    given = [read([torch.nn.functional.normalize(out.embedding)]) for out in (student, teacher)]
    kernel = {"type": "gaussian", "gamma": 0.4, "max_p": 2}
    root = mid_level.CCKDLoss("0", "0", kernel, "sum")(*given)
    ours = method("cc", student, teacher, weight=1, form="kernel")(student, teacher, batch)["cc"]
    torch.testing.assert_close(8 * ours.sqrt(), root)
    assert ours.item() == pytest.approx(kernel_cc_restated(student, teacher))


def test_cc_is_the_crd_comparisons_mean_over_all_orders_of_the_rows():
    student, teacher = (out.rows(slice(4)) for out in example()[:2])
    made = method("cc", student, teacher, weight=1)
    delta = (made.embeds[0](student.embedding) - made.embeds[1](teacher.embedding)).abs()
    orders = [delta[list(order)] for order in permutations(range(4))]
    published = [(d[:-1] * d[1:]).sum(1).mean() for d in orders]
    torch.testing.assert_close(products(delta), torch.stack(published).mean())
    assert products(delta[:1]) == 0


def test_vid_is_torchdistills():
    student, teacher, batch = example()
    made = method("vid", student, teacher)
    variances = [(torch.nn.functional.softplus(scale) + 1e-5).view(1, -1, 1, 1) for scale in made.scales]
    means = [regressor(f) for regressor, f in zip(made.regressors, student.features, strict=True)]
    vid = mid_level.VIDLoss(stages(3))(read(zip(means, variances, strict=True)), read(teacher.features))
    torch.testing.assert_close(made(student, teacher, batch)["vid"], vid)


def test_torchdistills_ab_is_ours_without_the_weights_of_stages():
    # Its reduction "mean" divides the sum over stages, maps and rows by the number of rows.
    student, teacher, batch = example()
    made = method("ab", student, teacher, weight=1)
    connected = [connector(f) for connector, f in zip(made.connectors, student.features, strict=True)]
    each = [
        mid_level.AltActTransferLoss({"one": stages(3)[str(stage)]}, 1.0, "mean")(
            read(connected), read(teacher.features)
        )
        for stage in range(3)
    ]
    torch.testing.assert_close(made(student, teacher, batch)["ab"], each[0] / 4 + each[1] / 2 + each[2])


def test_ft_is_torchdistills():
    student, teacher, batch = example()
    made = method("ft", student, teacher, weight=1)
    given = read([made.translator(student.features[-1])]), read([made.encoder(teacher.features[-1])])
    ft = mid_level.FTLoss(1, "mean", "0", "0")(*given)
    torch.testing.assert_close(made(student, teacher, batch)["ft"], ft)


def test_torchdistills_fsp_sums_norms_of_columns():
    # The same flow matrices, but norms over their first axis, summed, where the formula has squares.
    student, teacher, _ = example()
    made = method("fsp", student, teacher)
    ends = [{"io": "output", "path": str(path)} for path in range(4)]
    pairs = {
        str(n): dict(teacher_first=a, teacher_second=b, student_first=a, student_second=b, weight=1)
        for n, (a, b) in enumerate(pairwise(ends))
    }
    mine, taught = ([out.stem, *out.features] for out in (student, teacher))
    mine = [bridge(f) for bridge, f in zip(made.bridges, mine, strict=True)]
    theirs = mid_level.FSPLoss(pairs)(read(mine), read(taught))
    columns = sum(np.linalg.norm(a - b, axis=1).sum() / 8 for a, b in flows(made, student, teacher))
    assert theirs.item() == pytest.approx(columns, rel=1e-6)


# --- what all share -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cc", "rkd", "pkt", "nst", "fsp"])
def test_a_student_equal_to_its_teacher_has_no_distance(name):
    student, _, batch = example()
    options = {"form": "kernel"} if name == "cc" else {}  # the other form has layers of its own between
    made = method(name, student, student, **options)
    assert made(student, student, batch)[name].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["vid", "ab", "fsp", "nst", "ft"])
def test_maps_of_other_sizes(name):
    student, teacher, batch = example(same_size=False)
    for a, b in ((student, teacher), (teacher, student)):
        made = create("losses", name)
        prepared = method("ft_paraphraser", a, b).state_dict()
        made.setup(a, b, replace(context(), prepared=prepared))
        assert torch.isfinite(made.double()(a, b, batch)[name])


@pytest.mark.parametrize("name", ["vid", "ab", "fsp", "nst"])
def test_as_many_stages_are_needed(name):
    student, teacher, _ = example()
    with pytest.raises(SpecError, match=f"{name} compares stage by stage.*student has 1 maps and the teacher 3"):
        method(name, Outputs(student.logits, student.features[:1], student.embedding), teacher)


@pytest.mark.parametrize("name", ["at", "nst", "catkd"])
def test_maps_of_one_position_teach_nothing_where_positions_are_compared(name):
    def shrunk(out, kept):
        small = [f if number < kept else f.mean((2, 3), keepdim=True) for number, f in enumerate(out.features)]
        return replace(out, features=tuple(small), final=out.final.mean((2, 3), keepdim=True))

    student, teacher, batch = example()
    with pytest.raises(SpecError, match=f"{name} compares .*position by position"):
        method(name, shrunk(student, 0), shrunk(teacher, 0))
    if name != "catkd":  # one stage of several positions is enough
        inputs, out = leaves(shrunk(student, 1))
        method(name, out, teacher)(out, shrunk(teacher, 1), batch)[name].backward()
        assert inputs[3].grad.abs().max() > 1e-6 and all(v.grad.abs().max() < 1e-6 for v in inputs[4:6])


@pytest.mark.parametrize("name", ["vid", "ab", "fsp", "ft", "ft_paraphraser"])
def test_all_that_learns_gets_a_gradient(name):
    student, teacher, batch = example()
    made = method(name, student, teacher)
    made(student, teacher, batch)[name].backward()
    for label, parameter in made.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().max() > 0) == parameter.requires_grad, label


@pytest.mark.parametrize("name", ["cc", "rkd", "pkt"])
def test_embeddings_may_coincide_or_vanish(name):
    student, teacher, batch = example()
    for change in (lambda e: e * 0, lambda e: e[:1].expand_as(e).clone(), lambda e: e[[0, 0, 1, 2, 3, 4, 5, 6]]):
        fresh, out = leaves(replace(student, embedding=change(student.embedding)))
        term = method(name, out, teacher)(out, teacher, batch)[name]
        term.backward()
        assert torch.isfinite(term) and torch.isfinite(fresh[1].grad).all()


@pytest.mark.parametrize(("name", "scale"), [("cc", 7.0), ("rkd", 7.0), ("pkt", 7.0)])
def test_relations_do_not_see_the_scale_of_embeddings(name, scale):
    student, teacher, batch = example()
    made = method(name, student, teacher, **({"form": "kernel"} if name == "cc" else {}))
    scaled = replace(student, embedding=scale * student.embedding)
    torch.testing.assert_close(made(scaled, teacher, batch)[name], made(student, teacher, batch)[name])


# --- each for itself ----------------------------------------------------------------------------------------------


def test_cc_with_a_long_series_has_the_gaussian_kernel():
    student, teacher, batch = example()
    made = method("cc", student, teacher, form="kernel", order=10)
    square = torch.cdist(*[torch.nn.functional.normalize(student.embedding)] * 2).square()
    torch.testing.assert_close(made.kernel(student.embedding), torch.exp(-0.4 * square), rtol=1e-6, atol=0)
    assert made(student, teacher, batch)["cc"] < 0.01
    with pytest.raises(SpecError, match="order must be one of"):
        create("losses", "cc", order=0)


def test_rkd_does_not_see_where_the_embeddings_are():
    student, teacher, batch = example()
    made = method("rkd", student, teacher)
    turn = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    moved = replace(student, embedding=student.embedding @ turn + 3)
    torch.testing.assert_close(made(moved, teacher, batch)["rkd"], made(student, teacher, batch)["rkd"])
    assert method("rkd", student, teacher, distance=0.0, angle=0.0)(student, teacher, batch)["rkd"] == 0


def test_pkt_is_finite_for_opposite_embeddings():
    _, teacher, batch = example()
    flipped = replace(teacher, embedding=torch.cat([teacher.embedding[:4], -teacher.embedding[:4]]))
    assert torch.isfinite(method("pkt", teacher, flipped)(teacher, flipped, batch)["pkt"])
    assert torch.isfinite(method("pkt", flipped, teacher)(flipped, teacher, batch)["pkt"])


def test_vid_starts_at_its_variance():
    student, teacher, _ = example()
    for variance in (0.01, 5.0, 1000.0):
        scales = method("vid", student, teacher, variance=variance).scales
        value = torch.nn.functional.softplus(torch.cat(list(scales))) + 1e-5
        torch.testing.assert_close(value, torch.full_like(value, variance), rtol=2e-3, atol=0)


def test_nst_is_the_distance_of_the_channels_second_moments():
    student, teacher, batch = example()
    made = method("nst", student, teacher, weight=1)

    def moments(f):
        x = torch.nn.functional.normalize(f.flatten(2), dim=2)
        return x.transpose(1, 2) @ x / x.shape[1]

    pairs = zip(student.features, teacher.features, strict=True)
    distance = sum((moments(f) - moments(g)).square().sum((1, 2)).mean() for f, g in pairs)
    torch.testing.assert_close(made(student, teacher, batch)["nst"], distance)


def test_nst_does_not_see_the_scale_of_channels():
    student, teacher, batch = example()
    loud = replace(
        student, features=tuple(f * torch.arange(1, f.shape[1] + 1)[:, None, None] for f in student.features)
    )
    made = method("nst", student, teacher)
    torch.testing.assert_close(made(loud, teacher, batch)["nst"], made(student, teacher, batch)["nst"])


@pytest.mark.parametrize("name", ["ab", "fsp"])
def test_the_first_stage_ends(name):
    student, teacher, batch = example()
    made = method(name, student, teacher)
    seen = {p: set(made(student, teacher, replace(batch, progress=p))) for p in (0.0, 29.9 / 240, 30 / 240, 0.99)}
    assert list(seen.values()) == [{name}, {name}, {"ce", "kd"}, {"ce", "kd"}]
    joint = method(name, student, teacher, init=0.0)
    assert all(set(joint(student, teacher, replace(batch, progress=p))) == {"ce", "kd", name} for p in (0.0, 0.99))
    with pytest.raises(SpecError, match=r"init must be a share of the training in \[0, 1\)"):
        create("losses", name, init=1.0)


def test_ab_asks_for_the_margin_on_the_teachers_side_only():
    # A student beyond the margin on the right side costs nothing, however far; on the boundary, margin^2.
    _, teacher, batch = example()
    made = method("ab", teacher, teacher, weight=1, margin=2.0)
    made.connectors = torch.nn.ModuleList(torch.nn.Identity() for _ in teacher.features)
    far = replace(teacher, features=tuple(2 * f.sign() + 5 * f for f in teacher.features))
    none = replace(teacher, features=tuple(0 * f for f in teacher.features))
    assert made(far, teacher, batch)["ab"] == 0
    sizes = [f[0].numel() for f in teacher.features]
    assert made(none, teacher, batch)["ab"].item() == pytest.approx(4 * (sizes[0] / 4 + sizes[1] / 2 + sizes[2]))


def test_fsp_learns_bridges_between_other_widths_only():
    student, teacher, batch = example()
    assert [tuple(p.shape) for p in method("fsp", student, teacher).parameters()] == [
        (8, 4, 1, 1), (8, 4, 1, 1), (16, 8, 1, 1), (32, 16, 1, 1),
    ]  # fmt: skip
    mixed = replace(student, features=(teacher.features[0], *student.features[1:]))
    made = method("fsp", mixed, teacher)
    assert len(list(made.parameters())) == 3 and torch.isfinite(made(mixed, teacher, batch)["fsp"])
    with pytest.raises(SpecError, match="fsp needs two maps"):
        method("fsp", *[Outputs(out.logits, out.features[:1], out.embedding) for out in (student, teacher)])


def test_fsp_begins_at_the_stem_where_both_show_it():
    student, teacher, batch = example()
    made = method("fsp", student, teacher)
    first, later = (replace(student, stem=2 * student.stem), replace(teacher, stem=None))
    assert made(first, teacher, batch)["fsp"] != made(student, teacher, batch)["fsp"]
    without = method("fsp", student, later)
    assert len(without.bridges) == 3
    assert without(first, later, batch)["fsp"] == without(student, later, batch)["fsp"]
    tapped = [replace(out, stem=None, features=(out.stem, *out.features)) for out in (student, teacher)]
    torch.testing.assert_close(method("fsp", *tapped)(*tapped, batch), made(student, teacher, batch))


def test_the_paraphraser_learns_to_paraphrase_and_has_the_rate_of_channels():
    student, teacher, batch = example()
    made = method("ft_paraphraser", student, teacher, rate=0.25)
    assert made.encoder(teacher.features[-1]).shape == (8, 8, 2, 2)
    optimiser = torch.optim.SGD(made.parameters(), 0.05, 0.9)
    losses = []
    for _ in range(40):
        losses.append(made(student, teacher, batch)["ft_paraphraser"])
        optimiser.zero_grad(), losses[-1].backward(), optimiser.step()
    assert losses[-1] < 0.7 * losses[0]


def test_ft_reads_the_paraphraser_as_it_was_prepared():
    student, teacher, batch = example()
    prepared = method("ft_paraphraser", student, teacher, rate=0.25)
    for _ in range(3):
        prepared(student, teacher, batch)  # moves the running statistics
    made = create("losses", "ft")
    made.setup(student, teacher, replace(context(), prepared=prepared.state_dict()))
    before = {k: v.clone() for k, v in made.encoder.state_dict().items()}
    made.train()(student, teacher, batch)
    assert all(torch.equal(v, before[k]) for k, v in made.encoder.state_dict().items())
    torch.testing.assert_close(made.encoder(teacher.features[-1]), prepared.eval().encoder(teacher.features[-1]))
    assert made.translator(student.features[-1]).shape == (8, 8, 2, 2) and made.translator.training
    assert not any(p.requires_grad for p in made.encoder.parameters())


def test_ft_without_its_paraphraser_says_so():
    student, teacher, _ = example()
    with pytest.raises(SpecError, match="ft needs a prepared teacher.*ft_paraphraser"):
        create("losses", "ft").setup(student, teacher, context())
    prepared = method("ft_paraphraser", teacher, student).state_dict()
    with pytest.raises(SpecError, match="paraphraser for 32 channels.*got one for 16"):
        create("losses", "ft").setup(student, teacher, replace(context(), prepared=prepared))
