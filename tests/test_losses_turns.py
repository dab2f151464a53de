"""SSKD and HSAKD: golden values, restatements in numpy, parameter counts, and whole runs with a prepared teacher."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from examples import context, example, made
from test_lab import no_training, nothing_was_written, run
from test_losses_basic import ce_rows, kl, unit, wave

from kdlab.errors import SpecError
from kdlab.lab import worker
from kdlab.lab.store import Store
from kdlab.losses import Batch, Context
from kdlab.losses.hsakd import auxiliary_heads, joint_rows, soft_rows, upright_cross_entropy
from kdlab.losses.sskd import quarter_turns, reliable
from kdlab.models import Outputs, Tapped, build
from kdlab.registry import create
from kdlab.spec import Budget, RunSpec

# --- numpy, from the formulas -------------------------------------------------------------------------------------


def mlp(head, x):
    (w, v), (a, b) = ([p.detach().numpy() for p in layer.parameters()] for layer in (head[0], head[2]))
    return np.maximum(x.numpy() @ w.T + v, 0) @ a.T + b


def where(batch):
    """Row number by (original, turn)."""
    return {pair: row for row, pair in enumerate(zip(batch.origin.tolist(), batch.variant.tolist(), strict=True))}


def cosines(vectors, batch):
    """For every turned row, by original and turn: its cosines to the upright rows, and which of them is its own."""
    rows, vectors = where(batch), unit(vectors)
    upright = [rows[origin, 0] for origin in sorted({o for o, _ in rows})]
    turned = [pair for pair in sorted(rows) if pair[1]]
    own = [upright.index(rows[origin, 0]) for origin, _ in turned]
    return np.array([[vectors[rows[pair]] @ vectors[j] for j in upright] for pair in turned]), own


def teaching(scores, truth, share):
    ranks = [sorted(row, reverse=True).index(row[k]) for row, k in zip(scores.tolist(), truth, strict=True)]
    wrong = sorted((rank, i) for i, rank in enumerate(ranks) if rank)
    return [i for i, rank in enumerate(ranks) if not rank] + [i for _, i in wrong[: int(share * len(wrong))]]


def sskd_restated(method, student, teacher, batch):
    s, t, y = student.logits.numpy(), teacher.logits.numpy(), batch.label.numpy()
    rows = where(batch)
    upright = [row for (_, turn), row in rows.items() if not turn]
    turned = [rows[pair] for pair in sorted(rows) if pair[1]]
    mine, own = cosines(mlp(method.head, student.embedding), batch)
    theirs, _ = cosines(mlp(method.teacher_head, teacher.embedding), batch)
    known = [turned[i] for i in teaching(t[turned], y[turned], 1.0)]
    found = teaching(theirs, own, 0.75)
    return {
        "ce": 0.1 * ce_rows(s, y)[upright].mean(),
        "kd": 0.9 * 16 * kl(s, t)[upright].mean(),
        "lt": 2.7 * 16 * kl(s, t)[known].mean(),
        "ss": 10 * 0.25 * kl(mine, theirs, 0.5)[found].mean(),
    }


def sskd_head_restated(method, student, teacher, batch):
    values, own = cosines(mlp(method.head, teacher.embedding), batch)
    return {"ss": ce_rows(values, own).mean()}


def convolve(x, layer):
    weight, stride = layer.weight.detach().numpy(), layer.stride[0]
    pad = weight.shape[2] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,ocij->nohw", windows, weight)


def normalise(x, layer):
    parts = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    mean, var, weight, bias = (p.detach().numpy()[None, :, None, None] for p in parts)
    if layer.training:
        mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def basic_block(x, block):
    thinned, project = x[:, :, :: block.stride, :: block.stride], block.downsample
    if project is not None:  # its convolution has stride 1 and reads the thinned image
        weight = project[0].weight.detach().numpy()[:, :, 0, 0]
        thinned = normalise(np.einsum("nchw,oc->nohw", thinned, weight), project[1])
    inner = np.maximum(normalise(convolve(x, block.conv1), block.bn1), 0)
    return np.maximum(normalise(convolve(inner, block.conv2), block.bn2) + thinned, 0)


def joint(heads, maps):
    """Logits of auxiliary heads made of basic blocks."""
    found = []
    for head, x in zip(heads, maps, strict=True):
        x = x.numpy()
        for block in (b for stage in head.branch for b in stage):
            x = basic_block(x, block)
        found.append(x.mean((2, 3)) @ head.fc.weight.detach().numpy().T + head.fc.bias.detach().numpy())
    return found


def joint_restated(logits, batch):
    return sum(ce_rows(a, (4 * batch.label + batch.variant).numpy()).mean() for a in logits)


def upright_restated(student, batch):
    return ce_rows(student.logits.numpy(), batch.label.numpy())[batch.variant.numpy() == 0].mean()


def hsakd_restated(method, student, teacher, batch):
    pairs = zip(joint(method.heads, student.features), joint(method.teacher_heads, teacher.features), strict=True)
    return {
        "ce": upright_restated(student, batch),
        "kd": 9 * kl(student.logits.numpy(), teacher.logits.numpy(), 3.0).mean(),
        "aux": 9 * sum(kl(a, b, 3.0).mean() for a, b in pairs),
    }


def hsakd_heads_restated(method, student, teacher, batch):
    return {"aux": joint_restated(joint(method.heads, teacher.features), batch)}


def hsakd_joint_restated(method, student, teacher, batch):
    aux = joint_restated(joint(method.heads, student.features), batch)
    return {"ce": upright_restated(student, batch), "aux": aux}


RESTATED = {
    "sskd": sskd_restated,
    "sskd_head": sskd_head_restated,
    "hsakd": hsakd_restated,
    "hsakd_heads": hsakd_heads_restated,
    "hsakd_joint": hsakd_joint_restated,
}
# Read by the table of methods.
AGAINST_TORCHDISTILL = ("sskd", "sskd_head")
GOLDEN = ("sskd", "hsakd")


# --- golden values ------------------------------------------------------------------------------------------------


def golden():
    """Logits of student and teacher, and a batch: two originals, turn after turn."""
    s, t = wave(8, 5, 1.0, 0.7, 0.2, 3), wave(8, 5, 0.9, 0.6, 0.5, 3)
    origin = torch.arange(8) // 4
    return s, t, Batch.of(torch.tensor([0, 3])[origin], origin=origin, variant=torch.arange(8) % 4)


def test_golden_sskd():
    s, t, batch = golden()
    mine, theirs = wave(8, 6, 1.3, 0.4, 0.1, 1), wave(8, 6, 0.7, 1.1, 0.3, 1)
    terms = create("losses", "sskd").parts(s, t, mine, theirs, batch)
    expected = {"ce": 2.6306679271, "kd": 0.1071198423, "lt": 0.2189334582, "ss": 0.1371717502}
    weights = {"ce": 0.1, "kd": 0.9, "lt": 2.7, "ss": 10}
    assert {k: v.item() / weights[k] for k, v in terms.items()} == pytest.approx(expected, abs=1e-9)
    assert sum(terms.values()).item() == pytest.approx(2.3223124902, abs=1e-9)
    for share, value in ((1.0, 0.1334525318), (0.0, 0.2278911637)):
        ss = create("losses", "sskd", ss_keep=share).parts(s, t, mine, theirs, batch)["ss"]
        assert ss.item() == pytest.approx(10 * value, abs=1e-8)


def test_golden_hsakd():
    s, t, batch = golden()
    a, b = wave(8, 20, 0.5, 0.3, 0.2, 3), wave(8, 20, 0.4, 0.35, 0.5, 3)
    hard, main, aux = upright_cross_entropy(s, batch), soft_rows([s], [t], 3.0).mean(), soft_rows([a], [b], 3.0).mean()
    assert [hard.item(), main.item(), aux.item()] == pytest.approx([2.6306679271, 0.1838038601, 0.5924342300], abs=1e-9)
    assert (hard + main + aux).item() == pytest.approx(3.4069060173, abs=1e-9)


def interleaved(rows):
    """Random Outputs and a batch of turns, original after original."""
    student, teacher, batch = example(rows=rows, classes=5, seed=7, turns=True)
    order = quarter_turns(batch).flatten()
    return student.rows(order), teacher.rows(order), Batch.of(
        batch.label[order], origin=batch.origin[order], variant=batch.variant[order]
    )  # fmt: skip


def test_sskd_is_torchdistills():
    mid_level = pytest.importorskip("torchdistill.losses.mid_level")
    # It leaves equal ranks to a sort that is not stable; up to 16 rows it is.
    student, teacher, batch = interleaved(16)
    method = made("sskd", student, teacher, lt_keep=0.5)
    heads = method.head(student.embedding), method.teacher_head(teacher.embedding)
    tapped = [{"fc": {"output": o.logits}, "ss": {"output": h}} for o, h in zip((student, teacher), heads, strict=True)]
    theirs = mid_level.SSKDLoss("fc", "fc", "ss", "ss", 4.0, 0.5, 4.0, 0.75, 0.5, loss_weights=[0.1, 0.9, 10.0, 2.7])
    expected = theirs(*tapped, batch.label[batch.variant == 0])
    torch.testing.assert_close(sum(method(student, teacher, batch).values()), expected, rtol=1e-6, atol=0)


def test_sskd_head_is_torchdistills():
    mid_level = pytest.importorskip("torchdistill.losses.mid_level")
    student, teacher, batch = interleaved(48)
    method = made("sskd_head", student, teacher)
    expected = mid_level.AuxSSKDLoss("ss")({}, {"ss": {"output": method.head(teacher.embedding)}})
    torch.testing.assert_close(method(student, teacher, batch)["ss"], expected, rtol=1e-6, atol=0)


# --- SSKD ---------------------------------------------------------------------------------------------------------


def test_sskd_restated_on_many_originals():
    student, teacher, batch = example(rows=48, seed=5, turns=True)
    method = made("sskd", student, teacher)
    terms = {k: v.item() for k, v in method(student, teacher, batch).items()}
    assert terms == pytest.approx(sskd_restated(method, student, teacher, batch), rel=1e-9)


def test_reliable_keeps_the_right_rows_and_the_best_ranked_of_the_others():
    scores = torch.tensor([[3.0, 2, 1]] * 6)
    truth = torch.tensor([2, 0, 1, 1, 2, 1])  # ranks 2, 0, 1, 1, 2, 1
    kept = {share: reliable(scores, truth, share).nonzero().flatten().tolist() for share in (0, 0.5, 0.8, 1)}
    assert kept == {0: [1], 0.5: [1, 2, 3], 0.8: [0, 1, 2, 3, 5], 1: [0, 1, 2, 3, 4, 5]}


def test_a_teacher_that_finds_nothing_teaches_nothing():
    student, teacher, batch = example(turns=True)
    wrong = Outputs(-10 * torch.nn.functional.one_hot(batch.label, 5).double(), teacher.features, teacher.embedding)
    method = made("sskd", student, teacher, lt_keep=0.0)
    student.logits.requires_grad_()
    term = method(student, wrong, batch)["lt"]
    assert term.item() == 0 and torch.isfinite(torch.autograd.grad(term, student.logits)[0]).all()


def test_sskd_weights_of_rows_count_in_every_term():
    student, teacher, batch = example(rows=16, turns=True)
    method = made("sskd", student, teacher, ss_keep=1.0)
    first = batch.origin < 2
    half = method(student, teacher, replace(batch, weight=first.double()))
    few = replace(batch, **{f: getattr(batch, f)[first] for f in ("label", "index", "origin", "view", "variant")})
    alone = method(student.rows(first), teacher.rows(first), few)
    for term in ("ce", "kd", "lt"):  # the cosines of ss see all upright rows
        torch.testing.assert_close(half[term], alone[term])
    assert not torch.isclose(half["ss"], method(student, teacher, batch)["ss"])
    hard = method(student, teacher, replace(batch, hard_weight=torch.zeros(16)))
    assert hard["ce"] == 0 and torch.isclose(hard["kd"], method(student, teacher, batch)["kd"])


@pytest.mark.parametrize("variant", [[0, 1, 2, 2], [0, 1, 2], [0, 0, 0, 0]])
def test_a_missing_turn_is_refused(variant):
    rows = len(variant)
    student, teacher, _ = example(rows=4, turns=True)
    method = made("sskd_head", student, teacher)
    zeros = torch.zeros(rows, dtype=torch.long)
    batch = Batch.of(zeros, origin=zeros, variant=torch.tensor(variant))
    with pytest.raises(SpecError, match="all four quarter turns"):
        method(student.rows(slice(rows)), teacher.rows(slice(rows)), batch)


def test_sskd_trains_its_own_head_only_and_starts_the_teachers_as_prepared():
    student, teacher, batch = example(turns=True)
    method = made("sskd", student, teacher)
    prepared = made("sskd_head", *example(turns=True)[:2]).state_dict()
    for name, value in method.teacher_head.state_dict().items():
        assert torch.equal(value, prepared[f"head.{name}"])
    method(student, teacher, batch)["ss"].backward()
    assert all(p.grad.abs().max() > 0 for p in method.head.parameters())
    assert all(p.grad is None and not p.requires_grad for p in method.teacher_head.parameters())


@pytest.mark.parametrize("name", ["sskd", "hsakd"])
def test_without_prepared_parts_it_says_so(name):
    student, teacher, _ = example(turns=True)
    with pytest.raises(SpecError, match="prepared parts of the teacher are missing"):
        create("losses", name).setup(student, teacher, replace(context(), prepared=None))


@pytest.mark.parametrize("option", ["lt_keep", "ss_keep"])
def test_shares_above_one_are_refused(option):
    with pytest.raises(SpecError, match=f"{option}.*but got"):
        create("losses", "sskd", **{option: 1.5})


# --- HSAKD --------------------------------------------------------------------------------------------------------


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def shown(network):
    with torch.no_grad():
        return network.eval().outputs(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def with_heads(name, classes=100):
    network = build(name, classes, 3, seed=0)
    out = shown(network)
    return network, out, auxiliary_heads(network, out, Context(classes, 1, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("name", "total"),
    [("wrn_16_2", 2_631_588), ("wrn_40_2", 8_024_484), ("resnet20", 1_041_316), ("resnet8x4", 4_790_836)],
)
def test_parameters_with_auxiliary_heads(name, total):
    network, out, heads = with_heads(name)
    assert count(network, heads) == total
    assert [head(stage).shape for head, stage in zip(heads, out.features, strict=True)] == [(2, 400)] * 3


@pytest.mark.parametrize(("name", "total"), [("wrn_16_2", 736_308), ("wrn_40_2", 2_288_180)])
def test_parameters_with_the_projection(name, total):
    network = build(name, 100, 3, seed=0)
    method = create("losses", "sskd_head")
    method.setup(shown(network), shown(network), Context(100, 1, torch.Generator().manual_seed(0)))
    assert count(network, method) == total


@pytest.mark.parametrize(
    ("name", "stages"), [("resnet14", ["layer2", "layer3"]), ("wrn_16_1", ["block2", "block3", "bn1"])]
)
def test_a_branch_with_the_networks_weights_goes_on_as_the_network(name, stages):
    network, out, heads = with_heads(name, 10)
    for tap in (0, 1):
        branch = heads[tap].branch.eval()
        with torch.no_grad():
            assert not torch.allclose(branch(out.features[tap]), out.final, atol=0.1)
            for part, stage in zip(branch, stages[tap:], strict=False):
                part.load_state_dict(network.get_submodule(stage).state_dict())
            torch.testing.assert_close(branch(out.features[tap]), out.final)
    assert heads[2].branch(out.features[2]).shape == out.final.shape


def test_heads_start_from_the_given_stream():
    first, second = (torch.cat([p.flatten() for p in with_heads("resnet8", 10)[2].parameters()]) for _ in range(2))
    assert torch.equal(first, second) and torch.isfinite(first).all()
    network, out, _ = with_heads("resnet8", 10)
    other = auxiliary_heads(network, out, Context(10, 1, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, torch.cat([p.flatten() for p in other.parameters()]))
    assert all(0.6 < c.weight.std() / (2 / (9 * c.out_channels)) ** 0.5 < 1.5 for c in other.modules() if wide(c))


def wide(layer):
    return isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3)


def test_the_teachers_heads_stay_as_prepared():
    student, teacher, batch = example(turns=True)
    method = made("hsakd", student, teacher).train()
    before = {k: v.clone() for k, v in method.teacher_heads.state_dict().items()}
    assert method.heads[0].training and not any(m.training for m in method.teacher_heads.modules())
    assert not any(p.requires_grad for p in method.teacher_heads.parameters())
    sum(method(student, teacher, batch).values()).backward()
    assert all(p.grad is not None for p in method.heads.parameters())
    assert all(torch.equal(v, before[k]) for k, v in method.teacher_heads.state_dict().items())


def test_networks_that_hsakd_cannot_branch_are_refused():
    student, teacher, _ = example(turns=True)
    foreign = replace(context("hsakd"), student=Tapped(build("resnet8", 5, 1, seed=0), ["layer1", "layer2", "layer3"]))
    with pytest.raises(SpecError, match="Tapped has no method branch.*that kdlab registers"):
        create("losses", "hsakd").setup(student, teacher, foreign)
    with pytest.raises(SpecError, match="the student has 1 maps and the teacher 3"):
        create("losses", "hsakd").setup(replace(student, features=student.features[:1]), teacher, context("hsakd"))


def test_the_joint_label_is_the_class_then_the_turn():
    batch = golden()[2]  # classes 0 and 3
    logits = 50 * torch.eye(20, dtype=torch.float64)[[0, 1, 2, 3, 12, 13, 14, 15]]
    assert joint_rows([logits, logits], batch).max() < 1e-9
    assert joint_rows([logits, logits], replace(batch, variant=(batch.variant + 1) % 4)).min() > 99


# --- whole runs ---------------------------------------------------------------------------------------------------

TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w8", budget=Budget(4, "steps", 16), role="teacher")
TURNED = TEACHER.replace(views=4, role="student")
PREPARED = {
    "sskd_head": TURNED.replace(method="sskd_head", teacher=TEACHER),
    "hsakd_heads": TURNED.replace(method="hsakd_heads", teacher=TEACHER),
    "hsakd_joint": TURNED.replace(method="hsakd_joint"),
}
PREPARED = {name: spec.replace(role="teacher") for name, spec in PREPARED.items()}


def student(method, teacher):
    return TURNED.replace(model="resnet8_s2_w4", method=method, teacher=teacher)


def test_students_of_prepared_teachers(monkeypatch):
    students = [student(name.partition("_")[0], teacher) for name, teacher in PREPARED.items()]
    specs = [TEACHER, *PREPARED.values(), *students]
    table, store = run(*specs), Store()
    keys = table.index.tolist()
    assert not table["diverged"].any() and table["student_images"].tolist() == [64] + 6 * [256]
    teacher, *prepared = keys[:4]
    plain = store.weights(teacher)
    for key, kept in zip(prepared, (True, True, False), strict=True):  # training jointly is what moves the backbone
        assert all(torch.equal(v, plain[k]) for k, v in store.weights(key).items()) == kept
        assert (store.logits(key)["test"] == store.logits(teacher)["test"]).all() == kept
    accuracy = table["test_accuracy"]
    assert accuracy[prepared[0]] == accuracy[prepared[1]] == accuracy[teacher]
    for key, source in zip(keys[4:], prepared, strict=True):
        parts = {k: v for k, v in store.weights(key, "method").items() if k.startswith("teacher_")}
        assert parts.keys() == {f"teacher_{k}" for k in store.weights(source, "method")}
        assert all(torch.equal(v, store.weights(source, "method")[k[8:]]) for k, v in parts.items())
    monkeypatch.setattr(worker, "train_cohort", no_training)
    assert run(*specs).equals(table)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (student("sskd", TEACHER), "'sskd' reads parts of the teacher that 'sskd_head' trains"),
        (student("sskd", PREPARED["hsakd_heads"]), "'sskd' reads parts of the teacher that 'sskd_head' trains"),
        (student("hsakd", PREPARED["sskd_head"]), "'hsakd' reads parts .* 'hsakd_heads' or 'hsakd_joint' trains"),
        (student("sskd", None), "method 'sskd' needs a teacher"),
        (student("sskd", PREPARED["sskd_head"]).replace(views=2), "takes views=4 and ratio=0, but got views=2"),
        (student("hsakd_heads", TEACHER), "prepares its teacher, so model must be the teacher's 'resnet8_s2_w8'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_trains(spec, said):
    with pytest.raises(SpecError, match=said):
        run(TEACHER, spec)
    assert nothing_was_written()
