"""All methods: what every registered one must do, whoever wrote it. Each group's numbers are in test_losses_*.py."""

import dataclasses
import importlib
from pathlib import Path

import pytest
import torch
from examples import CLASSES, ENTRIES, context, example_for, leaves, made, networks

from kdlab import data
from kdlab.errors import SpecError
from kdlab.lab import validation
from kdlab.losses import Batch
from kdlab.models import Outputs
from kdlab.registry import create
from kdlab.spec import Budget, RunSpec

METHODS = list(ENTRIES)
DISTILLING = [name for name, entry in ENTRIES.items() if "teacher" in entry.needs]
PREPARING = [name for name, entry in ENTRIES.items() if entry.stage == "teacher"]
KNOWLEDGE = {"none", "logits", "features", "relations", "contrastive"}
NEEDS = {
    "teacher", "pairs", "features", "embedding", "final", "labels", "dataset", "turns", "prepared", "memory",
    "inference",
}  # fmt: skip

# Every group of methods states its formulas again, in numpy: name to function of (method, student, teacher, batch)
# that returns all terms as floats.
RESTATED = {}
for path in sorted(Path(__file__).parent.glob("test_losses_*.py")):
    RESTATED |= getattr(importlib.import_module(path.stem), "RESTATED", {})


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", METHODS)
def test_restated_in_numpy(name, seed):
    student, teacher, batch = example_for(name, seed=seed)
    method = made(name, student, teacher)
    expected = RESTATED[name](method, student, teacher, batch)
    terms = {k: v.item() for k, v in method(student, teacher, batch).items()}
    assert terms == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_gradcheck(name):
    student, teacher, batch = example_for(name)
    method = made(name, student, teacher)
    method.eval()
    inputs, _ = leaves(student)

    def total(logits, embedding, final, *maps_and_stem):
        *maps, stem = maps_and_stem
        return sum(method(Outputs(logits, tuple(maps), embedding, final, stem), teacher, batch).values())

    with torch.random.fork_rng(devices=[]):  # its random directions come from the global generator
        assert torch.autograd.gradcheck(total, inputs, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("name", METHODS)
def test_every_term_pulls_and_spares_the_teacher(name):
    """Each term moves the student (or the method's own parts, where it prepares a teacher), never the teacher."""
    student, teacher, batch = example_for(name)
    method = made(name, student, teacher)
    for term in method(student, teacher, batch):
        mine, out = leaves(student)
        theirs, frozen = leaves(teacher)
        method.zero_grad()
        method(out, frozen, batch)[term].backward()
        pulled = list(method.parameters()) if name in PREPARING else mine
        gradients = [v.grad for v in pulled if v.grad is not None]
        assert gradients and all(torch.isfinite(g).all() for g in gradients)
        assert any(g.abs().max() > 1e-8 for g in gradients)
        assert all(v.grad is None for v in theirs)


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_rows_does_not_matter(name):
    student, teacher, batch = example_for(name)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    fields = ("label", "index", "origin", "view", "variant", "augmented")
    moved = Batch(x=None, **{f: getattr(batch, f)[order] for f in fields})
    before = made(name, student, teacher)(student, teacher, batch)
    after = made(name, student, teacher)(student.rows(order), teacher.rows(order), moved)
    for term, value in before.items():
        torch.testing.assert_close(after[term], value, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_rows_average_to_the_terms(name):
    student, teacher, batch = example_for(name)
    method = made(name, student, teacher)
    try:
        rows = method.rows(student, teacher, batch)
    except NotImplementedError:
        return  # all its terms are about more than one row
    terms = made(name, student, teacher)(student, teacher, batch)
    assert set(rows) <= set(terms)
    for term, values in rows.items():
        assert values.shape == (8,)
        torch.testing.assert_close(values.mean(), terms[term])


@pytest.mark.parametrize("name", METHODS)
def test_maps_may_lie_in_memory_channels_last(name):
    student, teacher, batch = example_for(name)
    last = student._map(lambda v: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v)
    (mine, out), (theirs, moved) = leaves(student), leaves(last)
    assert not moved.features[0].is_contiguous()
    terms = made(name, student, teacher)(out, teacher, batch)
    same = made(name, student, teacher)(moved, teacher, batch)
    for term, value in terms.items():
        torch.testing.assert_close(same[term], value, rtol=1e-9, atol=1e-12)
    if name not in PREPARING:
        terms.total.backward(), same.total.backward()
        for a, b in zip(mine, theirs, strict=True):
            assert (a.grad is None) == (b.grad is None)
            assert a.grad is None or torch.allclose(a.grad, b.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_is_computed_in_float32(name):
    student, teacher, batch = example_for(name)
    half, teacher = student._map(torch.Tensor.bfloat16), teacher._map(torch.Tensor.float)
    first, second = made(name, half.full(), teacher).float(), made(name, half.full(), teacher).float()
    terms = first(half, teacher, batch)
    for a, b in zip(terms.values(), second(half.full(), teacher, batch).values(), strict=True):
        assert a.dtype == torch.float32 and torch.isfinite(a)
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", METHODS)
def test_the_global_generator_is_left_alone(name):
    student, teacher, batch = example_for(name)
    before = torch.random.get_rng_state()
    first, second = made(name, student, teacher), made(name, student, teacher)
    first(student, teacher, batch), second(student, teacher, batch)
    assert torch.equal(torch.random.get_rng_state(), before)
    a, b = first.state_dict(), second.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", METHODS)
def test_all_that_is_learned_or_remembered_is_saved(name):
    """A method that takes up another's state goes on as the other would."""
    student, teacher, batch = example_for(name)
    first, second = made(name, student, teacher), made(name, student, teacher)
    with torch.no_grad():
        for number, parameter in enumerate(first.parameters()):
            parameter.add_(0.01 * (1 + number))
    first(student, teacher, batch)
    first.after_step(batch)
    second.load_state_dict(first.state_dict())
    batch = dataclasses.replace(batch, step=1, progress=0.5)
    a, b = (method(student, teacher, batch) for method in (first, second))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", METHODS)
def test_facts_are_from_the_vocabulary(name):
    info = ENTRIES[name]
    assert info.knowledge in KNOWLEDGE and set(info.needs) <= NEEDS and set(info.of_teacher) <= set(info.needs)
    assert info.coupling in {"none", "agnostic", "required"}
    assert info.tune or name == "ce" or info.stage
    assert info.tune in ["", *info.options] and info.wraps in ["", *info.options]
    assert bool(info.prepared) == ("prepared" in info.needs) and set(info.prepared) <= set(METHODS)
    doc = create("losses", name).__doc__
    assert name == "ce" or all(part in doc for part in ("Reference:", "Args:", "Raises:", "L = "))


@pytest.mark.parametrize("name", METHODS)
def test_numbers_out_of_range_are_refused(name):
    for option, default in ENTRIES[name].options.items():
        if type(default) is float:
            for bad in (float("nan"), float("inf"), "4"):
                with pytest.raises(SpecError, match=option):
                    create("losses", name, **{option: bad})


@pytest.mark.parametrize("name", [n for n in METHODS if "labels" in ENTRIES[n].needs])
def test_mixed_labels_are_refused(name):
    student, teacher, batch = example_for(name)
    share = torch.full((8,), 0.7, dtype=torch.float64)
    mixed = dataclasses.replace(batch, partner=(batch.label + 1) % CLASSES, share=share)
    with pytest.raises(SpecError, match="mixed"):
        made(name, student, teacher)(student, teacher, mixed)


def pulls(name: str, classes: int, originals: int) -> dict[str, float]:
    """How strongly each term of a method pulls at the network that it trains, on real Outputs of two small networks.

    Terms that are not finite pull with NaN; a method that cannot be computed has no terms.
    """
    draw, info = torch.Generator().manual_seed(0), ENTRIES[name]
    views = 4 if "turns" in info.needs else 2 if "pairs" in info.needs else 1
    student, teacher = networks(classes)
    prepares = info.stage == "teacher"
    student = teacher if prepares else student.train()
    x = torch.rand(2 + originals * views, 1, 16, 16, generator=draw, dtype=torch.float64)
    method = create("losses", name)
    with torch.no_grad():
        method.setup(student.eval().outputs(x[:2]), teacher.outputs(x[:2]), context(name, classes, (student, teacher)))
    student.train(not prepares), method.double().train()
    origin = torch.arange(originals).repeat(views)
    view = torch.arange(views).repeat_interleave(originals)
    batch = Batch.of(
        label=origin % classes, origin=origin, index=origin, view=view, progress=0.05, augmented=view > 0,
        variant=view if "turns" in info.needs else 0 * view,
    )  # fmt: skip
    try:
        terms = method(student.outputs(x[2:]), teacher.outputs(x[2:]), batch)
    except ValueError:  # torch's BatchNorm, of one row
        return {}
    learned, found = [p for p in (method if prepares else student).parameters() if p.requires_grad], {}
    for term, value in terms.items():
        pulled = [None]
        if value.requires_grad:
            pulled = torch.autograd.grad(value, learned, retain_graph=True, allow_unused=True)
        size = sum(g.square().sum().item() for g in pulled if g is not None) ** 0.5
        found[term] = size if torch.isfinite(value) else float("nan")
    own = {term: size for term, size in found.items() if term not in ("ce", "kd") and "augmented" not in term}
    return own or {"kd": found["kd"]}


@pytest.mark.parametrize(("classes", "originals"), [(2, 8), (3, 8), (5, 1), (5, 2), (2, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("name", [name for name in METHODS if name != "ce"])
def test_what_is_admitted_pulls_and_what_is_refused_does_not(name, classes, originals, monkeypatch):
    """The facts ``least``, both ways: the plan refuses what teaches nothing, and notes each term that does not."""
    monkeypatch.setattr(data, "facts", lambda name: {"classes": classes})
    info = ENTRIES[name]
    views = 4 if "turns" in info.needs else 2 if "pairs" in info.needs else 1
    spec = RunSpec(model="mine:Net", method=name, views=views, budget=Budget(1, "epochs", originals))
    try:
        validation._check_counts(spec, info)
        refused, noted = False, {note.split("its term ")[1].split()[0] for note in validation.notes(spec, info)}
    except SpecError as error:
        refused, noted = True, set()
        assert name in str(error) and "teaches nothing" in str(error)
    found = pulls(name, classes, originals)
    if name == "kdp" and originals == 1:
        return  # a hinge: whether it has anything to say to a single row depends on the row
    if refused:
        assert all(size < 1e-6 for size in found.values())
    else:
        assert {term for term, size in found.items() if not size > 1e-6} == noted < set(found)
