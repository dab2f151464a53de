"""ReviewKD, SimKD, CAT-KD, ITRD, KD++ and CRD: golden values, restatements in numpy, and their own properties."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from examples import CLASSES, TRAIN, context, example, leaves, networks, random_outputs
from examples import made as method
from scipy.signal import correlate
from test_losses_basic import kd_restated, unit, wave
from torch.nn import functional as F
from torchdistill.losses.mid_level import CRDLoss, HierarchicalContextLoss

from kdlab.errors import SpecError
from kdlab.losses import Batch
from kdlab.losses.catkd import class_maps
from kdlab.losses.crd import contrastive_rows, draw_negatives, update_memory
from kdlab.losses.itrd import decorrelation, information
from kdlab.losses.kdpp import class_directions, nd_rows
from kdlab.losses.reviewkd import hcl_rows
from kdlab.models import outputs
from kdlab.registry import create
from kdlab.rng import generator

# --- numpy, from the formulas -------------------------------------------------------------------------------------


def array(tensor):
    return tensor.detach().numpy()


def pool(maps, size):
    """Mean over ``size x size`` windows that cover the map and overlap where it does not divide."""
    n = maps.shape[2]
    cuts = [slice(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
    return np.stack([np.stack([maps[:, :, a, b].mean((2, 3)) for b in cuts], -1) for a in cuts], -2)


def block(sequential, maps):
    """Convolution, BatchNorm over the batch, and ReLU where the block has one."""
    kernel = array(sequential[0].weight)
    pad = kernel.shape[2] // 2
    maps = np.pad(maps, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.stack([[correlate(x, k, mode="valid")[0] for k in kernel] for x in maps])
    out = (out - out.mean((0, 2, 3), keepdims=True)) / np.sqrt(out.var((0, 2, 3), keepdims=True) + 1e-5)
    return np.maximum(out, 0) if len(sequential) == 3 else out


def hcl(a, b):
    total, weights, weight = ((a - b) ** 2).mean(), 1.0, 1.0
    for size in (4, 2, 1):
        if size < a.shape[2]:
            weight /= 2
            total, weights = total + weight * ((pool(a, size) - pool(b, size)) ** 2).mean(), weights + weight
    return total / weights


def reviewkd_restated(method, student, teacher, batch):
    mine = [array(student.embedding)[:, :, None, None], *(f.numpy() for f in reversed(student.features))]
    theirs = [array(teacher.embedding)[:, :, None, None], *(f.numpy() for f in reversed(teacher.before))]
    total, deeper = 0, None
    for fusion, f, g in zip(method.fusions, mine, theirs, strict=True):
        x = block(fusion.enter, f)
        if deeper is not None:
            near = np.arange(x.shape[2]) * deeper.shape[2] // x.shape[2]
            deeper = deeper[:, :, near][:, :, :, near]
            look = np.einsum("oc,bchw->bohw", array(fusion.attend.weight)[:, :, 0, 0], np.concatenate([x, deeper], 1))
            share = 1 / (1 + np.exp(-look - array(fusion.attend.bias)[:, None, None]))
            x = share[:, :1] * x + share[:, 1:] * deeper
        total, deeper = total + hcl(block(fusion.leave, x), g), x
    return kd_restated(method, student, teacher, batch) | {"reviewkd": 5 * total / 20}


def simkd_restated(method, student, teacher, batch):
    maps = student.final.numpy()
    for part in method.projector:
        maps = block(part, maps)
    return {"simkd": ((maps - teacher.final.numpy()) ** 2).mean()}


def catkd_restated(method, student, teacher, batch):
    looks = []
    for network, out in zip(networks(), (student, teacher), strict=True):
        seen = pool(np.einsum("kd,bdhw->bkhw", array(network.fc.weight), out.final.numpy()), 2)
        looks.append(unit(seen.reshape(-1, 4)))
    return kd_restated(method, student, teacher, batch) | {"catkd": 12 * ((looks[0] - looks[1]) ** 2).mean()}


def embedded(layer, out):
    return out.embedding.numpy() @ array(layer.weight).T + array(layer.bias)


def entropy(matrix):
    return -np.log2(np.sum((matrix / np.trace(matrix)) ** 2))


def itrd_restated(method, student, teacher, batch):
    s, t = embedded(method.embed, student), teacher.embedding.numpy()
    correlations = [np.corrcoef(s[:, d], t[:, d])[0, 1] for d in range(t.shape[1])]
    a, b = unit(s) @ unit(s).T, unit(t) @ unit(t).T
    return kd_restated(method, student, teacher, batch) | {
        "correlation": 2 * np.log2(sum((1 - c) ** 2.02 for c in correlations)),
        "mutual": -(entropy(a) + entropy(b) - entropy(a * b)),
    }


def kdpp_restated(method, student, teacher, batch):
    parts = list(context().teacher_pass())
    embeddings, labels = (np.concatenate(x) for x in zip(*((o.embedding.numpy(), y) for o, y in parts), strict=True))
    s, t, total = embedded(method.embed, student), teacher.embedding.numpy(), 0
    for f, g, y in zip(s, t, batch.label.tolist(), strict=True):
        mean = embeddings[labels == y].mean(0)
        along = f @ mean / np.sqrt(mean @ mean)
        total += 1 - along / np.sqrt(max(f @ f, g @ g))
    return kd_restated(method, student, teacher, batch) | {"kdpp": 2 * total / len(s)}


def crd_restated(method, student, teacher, batch):
    order = torch.randperm(TRAIN, generator=generator(1, "crd")).tolist()
    count, total = TRAIN - TRAIN // CLASSES, 0
    sides = [
        (unit(embedded(method.embeds[0], student)), array(method.teacher_memory)),
        (unit(embedded(method.embeds[1], teacher)), array(method.student_memory)),
    ]
    for embeds, memory in sides:
        scores = []
        for e, i, y in zip(embeds, batch.index.tolist(), batch.label.tolist(), strict=True):
            others = [j for j in order if j % CLASSES != y][:count]
            scores.append([np.exp(memory[j] @ e / 0.07) for j in [i, *others]])
        chances, noise = scores / (TRAIN * np.mean(scores)), count / TRAIN
        total -= np.log(chances[:, 0] / (chances[:, 0] + noise + 1e-7)).sum()
        total -= np.log(noise / (chances[:, 1:] + noise + 1e-7)).sum()
    return kd_restated(method, student, teacher, batch) | {"crd": 0.8 * total / len(batch.label)}


RESTATED = {
    "reviewkd": reviewkd_restated,
    "simkd": simkd_restated,
    "catkd": catkd_restated,
    "itrd": itrd_restated,
    "kdpp": kdpp_restated,
    "crd": crd_restated,
}
# Read by the table of methods.
AGAINST_TORCHDISTILL = ("crd", "reviewkd")
GOLDEN = ("crd",)
TRAINED = {"reviewkd": 4 * 6 + 3 * 2, "simkd": 9, "catkd": 0, "itrd": 2, "kdpp": 2, "crd": 4}  # tensors


@pytest.mark.parametrize("name", RESTATED)
def test_maps_of_other_sizes_and_all_learned_parts_get_gradient(name):
    student, teacher, batch = example(same_size=False)
    made = method(name, student, teacher)
    total = sum(made(student, teacher, batch).values())
    if TRAINED[name]:
        total.backward()
    assert torch.isfinite(total) and len(list(made.parameters())) == TRAINED[name]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())


@pytest.mark.parametrize("name", RESTATED)
def test_a_student_equal_to_its_teacher_is_finite_in_value_and_gradient(name):
    _, teacher, batch = example()
    around = context(name)
    made = create("losses", name)
    made.setup(teacher, teacher, replace(around, student=around.teacher))
    made.double()
    inputs, out = leaves(teacher)
    terms = made(out, teacher, batch)
    sum(terms.values()).backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(torch.isfinite(v.grad).all() for v in inputs if v.grad is not None)


# --- ReviewKD -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_hcl_is_torchdistills(size):
    a, b = random_outputs(3, 2, size=size, seed=1).features[0], random_outputs(3, 2, size=size, seed=2).features[0]
    theirs = HierarchicalContextLoss("m", "output", "m", "output")
    expected = theirs({"m": {"output": (a, None)}}, {"m": {"output": b}})
    assert hcl_rows(a, b).mean().item() == pytest.approx(expected.item(), rel=1e-12)


def test_reviewkd_starts_at_a_twentieth_and_is_full_after_twenty_epochs():
    student, teacher, batch = example()
    made = method("reviewkd", student, teacher)
    full = made(student, teacher, replace(batch, progress=0.5))["reviewkd"]
    for progress, share in ((0, 1 / 20), (9 / 240, 1 / 2), (19 / 240, 1), (0.99, 1)):
        term = made(student, teacher, replace(batch, progress=progress))["reviewkd"]
        torch.testing.assert_close(term, share * full)
    at_once = method("reviewkd", student, teacher, warmup=0.0)
    torch.testing.assert_close(at_once(student, teacher, batch)["reviewkd"], full)


@pytest.mark.parametrize("kept", [1, 2])
def test_reviewkd_takes_any_number_of_stages_but_the_same(kept):
    student, teacher, batch = example()
    less = [replace(out, features=out.features[-kept:], before=out.before[-kept:]) for out in (student, teacher)]
    assert torch.isfinite(method("reviewkd", *less)(*less, batch)["reviewkd"])
    with pytest.raises(SpecError, match=f"student has {kept} maps and the teacher 3"):
        method("reviewkd", less[0], teacher)


def test_reviewkd_reads_the_teacher_before_its_activation_where_it_shows_that():
    student, teacher, batch = example()
    after = replace(teacher, features=tuple(f.relu() for f in teacher.before))
    read = {}
    for activated, taught in ((False, after), (True, after), (False, replace(after, before=()))):
        made = method("reviewkd", student, taught, activated=activated)
        read[activated, bool(taught.before)] = made(student, taught, batch)["reviewkd"].item()
    assert read[True, True] == read[False, False] != read[False, True]
    same = replace(after, features=after.before)
    assert method("reviewkd", student, same, activated=True)(student, same, batch)["reviewkd"] == read[False, True]


def test_reviewkd_reviews_from_deep_to_shallow_only():
    """What is compared with the teacher's level l comes from the student's level l and deeper ones."""
    student, teacher, _ = example()
    made = method("reviewkd", student, teacher)
    inputs, out = leaves(student)
    reviewed, deeper = made.fusions[0](out.embedding[:, :, None, None], None)
    reviewed.square().sum().backward(retain_graph=True)
    assert inputs[1].grad.any() and all(v.grad is None for v in inputs[3:])
    made.fusions[1](out.features[-1], deeper)[0].square().sum().backward()
    assert inputs[5].grad.any() and inputs[3].grad is None and inputs[4].grad is None


# --- SimKD --------------------------------------------------------------------------------------------------------


def taught():
    """SimKD set up on the real outputs of the example networks, the networks and images."""
    student, teacher = networks()
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        outs = outputs(student.eval(), x), outputs(teacher, x)
    made = create("losses", "simkd")
    made.setup(*outs, replace(context("simkd"), student=student, teacher=teacher))
    return made.double(), student, teacher, x, outs


def test_simkd_predicts_through_the_projector_and_the_teachers_classifier():
    made, student, teacher, x, outs = taught()
    for part in made.projector:  # as after some training
        part[1].running_var.fill_(0.25)
    running = made.state_dict()
    logits = made.predict(student, x)
    expected = teacher.fc(made.projector.eval()(outs[0].final).mean((2, 3)))
    torch.testing.assert_close(logits, expected)
    assert not torch.allclose(logits, student(x), atol=0.01)
    assert all(torch.equal(running[k], v) for k, v in made.state_dict().items())


def test_simkd_with_a_perfect_projector_is_the_teacher():
    made, _, teacher, x, _ = taught()
    made.projector = torch.nn.Sequential(torch.nn.Identity())
    torch.testing.assert_close(made.predict(teacher, x), teacher(x))


def test_simkd_leaves_the_mode_and_running_statistics_and_saves_all_it_needs():
    made, student, teacher, x, outs = taught()
    made(*outs, Batch.of(torch.zeros(4, dtype=torch.long)))
    before = made.predict(student, x)
    assert made.projector.training and made.projector[0].training
    other = taught()[0]
    with torch.no_grad():
        other.classes.zero_()
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(other.predict(student, x), before)
    assert made.classes is not teacher.fc.weight and not made.classes.requires_grad


def test_simkd_adds_the_other_terms_only_where_they_weigh():
    student, teacher, batch = example()
    assert list(method("simkd", student, teacher)(student, teacher, batch)) == ["simkd"]
    assert list(method("simkd", student, teacher, ce_weight=1.0)(student, teacher, batch)) == ["ce", "simkd"]
    assert list(method("simkd", student, teacher, preset="crd")(student, teacher, batch)) == ["ce", "kd", "simkd"]


@pytest.mark.parametrize("reduction", [1, 4])
def test_simkd_is_narrow_inside_by_the_reduction(reduction):
    student, teacher, _ = example()
    shapes = [tuple(part[0].weight.shape) for part in method("simkd", student, teacher, reduction=reduction).projector]
    n = 32 // reduction
    assert shapes == [(n, 16, 1, 1), (n, n, 3, 3), (32, n, 1, 1)]
    with pytest.raises(SpecError, match="reduction must be one of"):
        create("losses", "simkd", reduction=3)


@pytest.mark.parametrize("name", ["simkd", "catkd"])
def test_a_model_without_a_final_map_is_refused(name):
    student, teacher, batch = example()
    with pytest.raises(SpecError, match=f"{name} reads the map before pooling, which the Outputs of the student do"):
        method(name, student, teacher)(replace(student, final=None), teacher, batch)


# --- CAT-KD -------------------------------------------------------------------------------------------------------


def test_catkd_trains_the_students_own_classifier_and_does_not_keep_it():
    student, teacher, batch = example()
    made, around = create("losses", "catkd"), context("catkd")
    made.setup(student, teacher, around)
    made.double()
    head = around.student.fc
    made(student, teacher, batch)["catkd"].backward()
    assert head.weight.grad.any() and head.bias.grad is None
    assert not list(made.parameters()) and list(made.state_dict()) == ["classes"]
    before = made(student, teacher, batch)["catkd"].item()
    with torch.no_grad():
        head.weight[0] += 1  # the layer is live: what trains it changes the term
    assert made(student, teacher, batch)["catkd"].item() != before


def test_catkd_of_the_same_network_is_zero_and_blind_to_scale():
    student, teacher, batch = example()
    same = replace(context("catkd"), teacher=networks()[0])
    made = create("losses", "catkd")
    made.setup(student, student, same)
    louder = replace(student, final=3 * student.final)
    assert made.double()(louder, student, batch)["catkd"].item() == pytest.approx(0, abs=1e-20)


def test_class_maps_are_pooled_before_or_after_the_classes():
    student, _, _ = example()
    head = networks()[0].fc.weight
    seen = torch.einsum("kd,bdhw->bkhw", head, student.features[0].repeat(1, 4, 1, 1))
    expected = F.normalize(F.adaptive_avg_pool2d(seen, 3).flatten(2), dim=2)
    torch.testing.assert_close(class_maps(student.features[0].repeat(1, 4, 1, 1), head, 3), expected)


# --- ITRD ---------------------------------------------------------------------------------------------------------


def test_correlation_is_blind_to_scale_and_offset_of_each_dimension():
    t = random_outputs(8, 4, seed=1).embedding
    s = random_outputs(8, 4, seed=2).embedding
    moved = s * torch.linspace(0.1, 5, 16) + torch.arange(16)
    torch.testing.assert_close(decorrelation(moved, t, 1.01), decorrelation(s, t, 1.01))
    # Sixteen dimensions, all opposite: log2(16 * 2^2.02).
    assert decorrelation(-t, t, 1.01).item() == pytest.approx(4 + 2.02)
    assert decorrelation(t, t, 1.01).item() == pytest.approx(np.log2(np.finfo(float).eps))


def test_information_of_orthogonal_and_of_equal_rows():
    """Eight orthogonal rows carry log2 8 bits, all of them shared; equal rows carry none."""
    eye, ones = torch.eye(8, dtype=torch.float64), torch.ones(8, 3, dtype=torch.float64)
    assert information(eye, 2 * eye.flip(1)).item() == pytest.approx(3)
    assert information(eye, ones).item() == pytest.approx(0, abs=1e-12)
    assert information(ones, ones).item() == pytest.approx(0, abs=1e-12)


def test_itrd_alpha_below_a_half_is_refused():
    with pytest.raises(SpecError, match="alpha must be at least 0.5"):
        create("losses", "itrd", alpha=0.4)


# --- KD++ ---------------------------------------------------------------------------------------------------------


def test_nd_wants_direction_and_length():
    direction = torch.tensor([[1.0, 0.0]]).repeat(5, 1)
    student = torch.tensor([[2.0, 0.0], [9.0, 0.0], [1.0, 0.0], [0.0, 2.0], [-2.0, 0.0]])
    teacher = torch.tensor([[0.0, 2.0]]).repeat(5, 1)
    assert nd_rows(student, teacher, direction).tolist() == pytest.approx([0, 0, 0.5, 1, 2])
    zero = torch.zeros(1, 2, requires_grad=True)
    nd_rows(zero, torch.zeros(1, 2), direction[:1]).sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_class_directions_of_all_and_of_missing_classes():
    around = replace(context(), num_classes=CLASSES + 1)
    directions = class_directions(around, 32)
    assert directions.dtype == torch.float64 and not directions[CLASSES].any()
    torch.testing.assert_close(directions[:CLASSES].norm(dim=1), torch.ones(CLASSES, dtype=torch.float64))


def test_kdpp_learns_a_layer_only_between_other_widths():
    student, teacher, batch = example()
    assert [tuple(p.shape) for p in method("kdpp", student, teacher).parameters()] == [(32, 16), (32,)]
    same = method("kdpp", teacher, teacher)
    assert not list(same.parameters()) and torch.isfinite(same(teacher, teacher, batch)["kdpp"])


# --- CRD ----------------------------------------------------------------------------------------------------------


def golden_crd():
    """Embeds and memories of student and teacher, the rows' places and their negatives."""
    memories = [F.normalize(wave(10, 4, a, b, phase, 1)) for a, b, phase in ((0.8, 0.5, 0.1), (0.6, 0.9, 0.4))]
    embeds = [F.normalize(wave(2, 4, a, b, phase, 1)) for a, b, phase in ((1.1, 0.45, 0.2), (0.95, 0.65, 0.3))]
    return embeds, memories, torch.tensor([1, 4]), torch.tensor([[0, 5, 7], [2, 8, 9]])


def places(negatives, size):
    """Lists of negatives as a table of places, each row a group of its own."""
    chosen = torch.zeros(len(negatives), size, dtype=torch.bool)
    return chosen.scatter(1, negatives, True), torch.arange(len(negatives))


def test_golden_crd():
    embeds, memories, index, negatives = golden_crd()
    none = torch.zeros(2, dtype=torch.float64)
    loss, constants = contrastive_rows(embeds, memories, index, *places(negatives, 10), none, 0.07)
    update_memory(memories[0], index, embeds[0], 0.5)
    assert constants.tolist() == pytest.approx([42567.25115, 4543552.08707], rel=1e-9)
    assert loss.mean().item() == pytest.approx(24.7834645214, abs=1e-9)
    expected = [0.3037398456, 0.5052062246, 0.5925694776, 0.5489719402]
    assert memories[0][1].tolist() == pytest.approx(expected, abs=1e-9)


def test_crd_is_torchdistills():
    """Two steps, the second with the constants and memories of the first; it keeps tau and Z in float32."""
    embeds, memories, index, negatives = golden_crd()
    theirs = CRDLoss("norm", "empty", "norm", 4, 10, 3, 10)
    theirs.memory_v1, theirs.memory_v2 = (m.clone() for m in memories)
    constants = torch.zeros(2, dtype=torch.float64)
    contrast = {"pos_idx": index, "contrast_idx": torch.cat([index[:, None], negatives], 1)}
    for _ in range(2):
        student = {"norm": {"output": embeds[0]}, "empty": {"input": contrast}}
        expected = theirs(student, {"norm": {"output": embeds[1]}})
        loss, constants = contrastive_rows(embeds, memories, index, *places(negatives, 10), constants, 0.07)
        for memory, embed in zip(memories, embeds, strict=True):
            update_memory(memory, index, embed, 0.5)
        assert loss.mean().item() == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(memories[0], theirs.memory_v1)
        torch.testing.assert_close(memories[1], theirs.memory_v2)
        embeds = [embed.flip(0) for embed in embeds]


def test_crd_negatives_are_distinct_of_other_classes_and_follow_the_order():
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 0])
    order = torch.tensor([6, 2, 4, 0, 3, 5, 1])
    chosen, row = draw_negatives(labels, order, torch.tensor([1, 0, 1, 2]), 3)
    drawn = [set(places.nonzero().flatten().tolist()) for places in chosen[row]]
    assert drawn == [{6, 4, 0}, {2, 4, 3}, {6, 4, 0}, {6, 2, 0}]


def test_crd_negatives_differ_between_steps_and_seeds():
    student, teacher, batch = example()
    made = method("crd", student, teacher, negatives=5)
    made(student, teacher, batch)  # fixes the constants, so that only the draw differs from here on

    def term(**moment):
        return made(student, teacher, replace(batch, **moment))["crd"].item()

    values = [term(), term(step=1), term(epoch=1)]
    made.seed = 2
    assert term(step=1) != values[1] and len(set(values)) == 3


def test_crd_takes_as_many_negatives_as_there_are():
    student, teacher, _ = example()
    assert method("crd", student, teacher).count == TRAIN - TRAIN // CLASSES
    assert method("crd", student, teacher, negatives=7).count == 7
    alone = replace(context("crd"), labels=torch.zeros(TRAIN, dtype=torch.long))
    with pytest.raises(SpecError, match="at least two classes"):
        create("losses", "crd").setup(student, teacher, alone)


def test_crd_remembers_each_image_once_after_the_step():
    student, teacher, batch = example()
    made = method("crd", student, teacher, momentum=0.25)
    before = made.student_memory.clone()
    made(student, teacher, batch)
    constants = made.constants.clone()
    assert torch.equal(made.student_memory, before) and (constants > 0).all()
    made.after_step(batch)
    embeds = F.normalize(made.embeds[0](student.embedding), dim=1)
    expected = before.clone()
    for image in set(batch.index.tolist()):
        mean = embeds[batch.index == image].mean(0)
        expected[image] = F.normalize(0.25 * before[image] + 0.75 * mean, dim=0)
    torch.testing.assert_close(made.student_memory, expected.detach())
    made(student, teacher, replace(batch, step=1))
    assert torch.equal(made.constants, constants)


def test_crd_memory_does_not_depend_on_the_order_of_rows():
    student, teacher, batch = example()
    memories = []
    for order in (torch.arange(8), torch.arange(8).flip(0)):
        made = method("crd", student, teacher)
        moved = replace(batch, label=batch.label[order], index=batch.index[order])
        made(student.rows(order), teacher.rows(order), moved)
        made.after_step(moved)
        memories.append(made.teacher_memory)
    torch.testing.assert_close(*memories)


def test_crd_counts_rows_by_their_weights():
    student, teacher, batch = example()
    made = method("crd", student, teacher)
    rows = made.rows(student, teacher, batch)["crd"]
    weight = torch.tensor([1.0] * 3 + [0.0] * 5)
    term = made(student, teacher, replace(batch, weight=weight))["crd"]
    torch.testing.assert_close(term, rows[:3].mean())


@pytest.mark.parametrize("options", [{"negatives": 0}, {"width": 1.5}, {"momentum": 1.5}, {"nce_temperature": 0.0}])
def test_crd_options_out_of_range_are_refused(options):
    (name,) = options
    with pytest.raises(SpecError, match=f"{name} must be"):
        create("losses", "crd", **options)


def test_crd_scores_without_gathering_the_memories():
    """16384 negatives for 64 rows of a CIFAR: gathered vectors would take half a gigabyte a side."""
    draw = torch.Generator().manual_seed(0)
    memories = [torch.randn(50000, 128, generator=draw) / 128**0.5 for _ in range(2)]
    embeds = [F.normalize(torch.randn(8, 128, generator=draw)).requires_grad_() for _ in range(2)]
    labels = torch.arange(50000) % 100
    negatives, row = draw_negatives(labels, torch.randperm(50000, generator=draw), labels[:8], 16384)
    loss, _ = contrastive_rows(embeds, memories, torch.arange(8), negatives, row, torch.zeros(2), 0.07)
    loss.mean().backward()
    assert torch.isfinite(loss).all() and all(torch.isfinite(e.grad).all() for e in embeds)
    assert (negatives.sum(1) == 16384).all()
    assert not any((labels[places] == label).any() for places, label in zip(negatives[row], labels[:8], strict=True))
