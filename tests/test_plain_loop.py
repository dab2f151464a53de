"""Methods outside of the workbench: the docs' own loops, every method in such a loop, and messages."""

import re

import pytest
import torch
from examples import ENTRIES, example

import kdlab.losses
from kdlab.augment import CutMix
from kdlab.data import load
from kdlab.errors import SpecError
from kdlab.losses import CCD, CRD, DKD, FT, KD, SP, Batch, EnergyKD, FitNet, Losses, TeKAP
from kdlab.models import build, outputs
from kdlab.paths import CHECKOUT
from kdlab.registry import create

CHAPTER = (CHECKOUT / "docs" / "own-loop.md").read_text(encoding="utf-8")
ON_LOGITS = [n for n, e in ENTRIES.items() if e.knowledge == "logits" and {*e.needs} <= {"teacher", "labels"}]
ROWS = 16  # a step: of 16 images, or 8 in two views, or 4 in four turns


def test_the_loops_of_the_docs():
    """They run as printed and leave a student that has moved and is finite."""
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "own-loop.md", "exec"), names)
        start, after = build("resnet8_s2_w4", 10, 1, seed=1).state_dict(), names["student"].state_dict()
        assert all(torch.isfinite(after[k]).all() and not torch.equal(after[k], v) for k, v in start.items())
    for method in (FitNet(), CRD(negatives=64)):
        student = names["distil"](method, steps=2)
        assert all(torch.isfinite(p).all() for p in [*student.parameters(), *method.parameters()])


def loop(name, teacher, train, prepared=None):
    """Two steps of a method in a plain loop; returns it with the losses and the largest gradient of what it trains."""
    entry = ENTRIES[name]
    views = 4 if "turns" in entry.needs else 2 if "pairs" in entry.needs else 1
    prepares = entry.stage == "teacher"
    student = teacher if prepares else build("resnet8_s2_w4", 10, 1, seed=1)
    batches = [(train.normalise(train.images[i]), train.labels[i]) for i in torch.arange(len(train)).split(64)]
    method = create("losses", name)
    first = train.normalise(train.images[:2])
    taught = None if "teacher" not in entry.needs else teacher
    method.attach(student, taught, first, labels=train.labels, train=batches, prepared=prepared)
    trained = list((method if prepares else torch.nn.ModuleList([student, method])).parameters())
    optimiser, losses = torch.optim.SGD(trained, lr=1e-3), []
    for step in range(2):
        index = torch.arange(ROWS // views).add(step * ROWS).repeat(views)
        x = train.normalise(train.images[index])
        if "turns" in entry.needs:
            x = torch.cat([part.rot90(j, (-2, -1)) for j, part in enumerate(x.chunk(4))])
        with torch.no_grad():
            theirs = None if taught is None else outputs(teacher, x)
        batch = Batch.of(
            train.labels[index], index=index, views=views, turns="turns" in entry.needs, step=step, progress=step / 2
        )
        found = method(theirs if prepares else outputs(student, x), theirs, batch)
        assert isinstance(found, Losses) and torch.equal(found.total, sum(found.values()))
        optimiser.zero_grad()
        found.total.backward()
        optimiser.step()
        method.after_step(batch)
        losses.append(found.total)
    return method, losses, max(p.grad.abs().max() for p in trained if p.grad is not None)


@pytest.fixture(scope="module")
def given():
    teacher = build("resnet8_s2_w8", 10, 1, seed=0).eval().requires_grad_(False)
    return teacher, load("fashion", sizes=(320, 10, 10)).train


@pytest.mark.parametrize("name", ENTRIES)
def test_every_method_in_a_plain_loop(name, given):
    prepared = [loop(first, *given)[0] for first in ENTRIES[name].prepared[:1]]
    method, losses, gradient = loop(name, *given, *prepared)
    assert all(torch.isfinite(loss) for loss in losses) and gradient > 0 and torch.isfinite(gradient)
    assert getattr(kdlab.losses, type(method).__name__) is type(method) and type(method).__name__ in dir(kdlab.losses)


@pytest.mark.parametrize("name", ON_LOGITS)
def test_methods_on_logits_take_three_tensors(name):
    """The loss is that of Outputs and a Batch after any warm-up; a gradient reaches the student's logits alone."""
    student, teacher, batch = example()
    logits, theirs = student.logits.clone().requires_grad_(), teacher.logits.clone().requires_grad_()
    method, same = (create("losses", name).double() for _ in range(2))
    found = method(logits, theirs, batch.label)
    plain = Batch.of(batch.label, step=1, progress=1.0)
    assert found == same(student, teacher, plain)
    found.total.backward()
    assert logits.grad.abs().max() > 0 and theirs.grad is None


def test_what_is_drawn_is_new_in_each_call_with_labels():
    student, teacher, batch = example()
    method = TeKAP()
    first, second = (method(student.logits, teacher.logits, batch.label)["tekap"] for _ in range(2))
    assert first != second


def test_networks_are_left_in_the_modes_they_had(given):
    student = build("resnet8_s2_w4", 10, 1, seed=1).train()
    frozen = next(m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)).eval()
    before = {k: v.clone() for k, v in student.state_dict().items()}
    method = FitNet().attach(student, given[0], given[1].normalise(given[1].images[:2]))
    assert student.training and not frozen.training and not given[0].training and method.training
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    assert sum(p.numel() for p in method.parameters()) > 0
    again = FitNet().attach(student, given[0], given[1].normalise(given[1].images[:2]), seed=1)
    assert not torch.equal(next(method.parameters()), next(again.parameters()))


def test_mistakes_are_explained(given):
    teacher, train = given
    student, theirs, batch = example()
    logits, label = student.logits, batch.label
    with pytest.raises(SpecError, match=r"sp reads stage maps, which the Outputs of the student do not have: "):
        SP()(logits, theirs, batch)
    with pytest.raises(SpecError, match=r"no attribute 'regressor'.*fitnet.*attach\(student, teacher, images\)"):
        FitNet()(student, theirs, batch)
    with pytest.raises(SpecError, match=r"ccd needs a Batch, not labels alone.*views=2"):
        CCD()(logits, theirs.logits, label)
    with pytest.raises(SpecError, match=r"crd needs a Batch, not labels alone.*index=index"):
        CRD()(student, theirs, label)
    with pytest.raises(SpecError, match="mixed images"):
        DKD()(logits, theirs.logits, Batch.of(label, partner=label, share=torch.ones(8)))
    with pytest.raises(SpecError, match="views must divide the 8 rows"):
        Batch.of(label, views=3)
    x = train.normalise(train.images[:2])
    with pytest.raises(SpecError, match="crd needs labels, the classes of all training images"):
        CRD().attach(teacher, teacher, x)
    with pytest.raises(SpecError, match="energykd needs train, batches"):
        EnergyKD().attach(teacher, teacher, x)
    with pytest.raises(SpecError, match="ft needs a prepared teacher"):
        FT().attach(teacher, teacher, x)
    with pytest.raises(SpecError, match="fitnet reads stage maps, which the Outputs of the student do not have"):
        FitNet().attach(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)), teacher, x)
    with pytest.raises(AttributeError, match="no attribute 'nothing'$"):
        KD().nothing  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'DKKD'"):
        kdlab.losses.DKKD  # noqa: B018


def test_rows_of_views_and_turns():
    batch = Batch.of(torch.tensor([5, 6, 5, 6, 5, 6, 5, 6]), views=4, turns=True)
    assert batch.origin.tolist() == [0, 1] * 4 and batch.variant.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(batch.view, batch.variant) and torch.equal(batch.index, batch.origin)
    assert Batch.of(torch.empty(0, dtype=torch.int64)).origin.tolist() == []


def test_mixed_images(given):
    """Shares of labels, as the docs put them, are those of the soft targets."""
    teacher, train = given
    labels = train.labels[:8]
    mixed = CutMix()(train.images[:8], torch.Generator().manual_seed(0))
    batch = Batch.of(labels[mixed.own], partner=labels[mixed.partner], share=mixed.share)
    logits = teacher(train.normalise(mixed.images))
    hard = torch.nn.functional.cross_entropy(logits, mixed.targets(labels, 10))
    torch.testing.assert_close(KD()(logits, logits, batch)["ce"], hard)
