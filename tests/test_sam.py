"""Sharpness-aware steps against a restatement, and what their second pass leaves as it was."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from kdlab.data import load
from kdlab.lab import Store
from kdlab.lab.costs import Costs, _measured
from kdlab.lab.keys import normal
from kdlab.lab.planned import planned
from kdlab.models import build
from kdlab.spec import Budget, Optimiser, RunSpec
from kdlab.training import Arm, Views
from kdlab.training.layout import fusion_key
from kdlab.training.runtime import one_thread
from kdlab.widgets.runs.arms import arm_names, run_facts

ORIGINALS = 16
BASE = RunSpec(sizes=(160, 50, 50), model="resnet8_s2_w4", budget=Budget(8, "steps", ORIGINALS))
RULE = Optimiser(0.1, momentum=0.0, weight_decay=0.01, rho=0.5)
RULES = {"sam": RULE, "asam": dataclasses.replace(RULE, adaptive=True)}


@pytest.fixture(autouse=True)
def single():
    with one_thread():
        yield


def arm_of(rule, method="ce"):
    splits = load("fashion", sizes=BASE.sizes)
    teacher = build("resnet8_s2_w8", 10, 1, seed=9).eval().requires_grad_(False)
    views = Views(splits.train, 0, 0, ORIGINALS, {"t": teacher})
    made = Arm("key", BASE.replace(method=method, optimiser=rule), "t" if method != "ce" else None, 8)
    return made.build(views, 10, 1), views


def by_hand(student, batch, rule, rate):
    """One step of SAM or ASAM, parameter by parameter."""
    F.cross_entropy(student(batch.x), batch.label).backward()
    scales, total = {}, 0.0
    for name, p in student.named_parameters():
        scales[name] = p.detach().abs() + 0.01 if rule.adaptive and "weight" in name else torch.ones_like(p)
        total += float(((scales[name] * p.grad) ** 2).sum())
    moves = {n: rule.rho * scales[n] ** 2 * p.grad / total**0.5 for n, p in student.named_parameters()}
    other = copy.deepcopy(student)
    with torch.no_grad():
        for name, p in other.named_parameters():
            p += moves[name]
            p.grad = None
    F.cross_entropy(other(batch.x), batch.label).backward()
    with torch.no_grad():
        for p, q in zip(student.parameters(), other.parameters(), strict=True):
            p -= rate * (q.grad + rule.weight_decay * p)
    return student


@pytest.mark.parametrize("name", RULES)
def test_a_step_is_that_of_the_papers(name):
    arm, views = arm_of(RULES[name])
    views.at(0)
    expected = by_hand(copy.deepcopy(arm.student), arm.inputs()[0], RULES[name], RULES[name].rate(0.5 / 8))
    other, same_views = arm_of(dataclasses.replace(RULE, rho=0.0))
    same_views.at(0)
    arm.train_step(), other.train_step()
    for key, value in expected.state_dict().items():
        assert torch.allclose(arm.student.state_dict()[key], value, atol=1e-6), key
    assert arm.losses == other.losses and arm.step == 1  # what is reported is the loss at the weights themselves
    for one, plain in zip(arm.student.buffers(), other.student.buffers(), strict=True):
        assert torch.equal(one, plain)
    moved = [not torch.equal(p, q) for p, q in zip(arm.student.parameters(), other.student.parameters(), strict=True)]
    assert all(moved), "the gradient is another one"


def test_a_methods_memory_is_of_the_first_pass():
    made = []
    for rho in (0.0, 0.5):
        arm, views = arm_of(dataclasses.replace(RULE, rho=rho), "crd")
        views.at(0)
        arm.train_step()
        made.append(arm)
    for one, other in zip(made[0].method.buffers(), made[1].method.buffers(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(made[0].method.embeds[0].weight, made[1].method.embeds[0].weight)


def test_a_loss_that_is_not_finite_at_the_moved_weights_ends_the_run():
    arm, views = arm_of(dataclasses.replace(RULE, rho=1e38))
    before = copy.deepcopy(arm.student)
    views.at(0)
    arm.train_step()
    assert arm.diverged_at == 0 and arm.step == 0 and not arm.active
    assert all(map(torch.equal, arm.student.parameters(), before.parameters()))


def test_an_arm_of_sam_is_called_so():
    specs = {"plain": BASE, "wide": BASE.replace(model="resnet8_s2_w8")}
    specs["sharp"] = BASE.replace(optimiser=Optimiser(rho=0.5))
    facts = {key: run_facts({"spec": spec.to_dict(), "normal": normal(spec)}) for key, spec in specs.items()}
    names = arm_names(facts)
    assert names["plain"] == "ce weak" and names["sharp"] == "ce weak, optimiser.rho 0.5"


def test_students_of_sam_step_by_themselves_and_cost_two_passes(tmp_path):
    plain = BASE.replace(method="kd", teacher=BASE)
    sharp = plain.replace(optimiser=RULE)
    assert fusion_key(plain) is not None and fusion_key(sharp) is None
    one, two = (Costs(Store(tmp_path)).run(planned(spec)) for spec in (plain, sharp))
    assert one < two < 2 * one  # the steps twice, the evaluation once
    result = {"seconds": 8.0, "student_images": 4, "steps": 1}
    rates = [next(iter(_measured(spec.to_dict(), result, {})))[2] for spec in (plain, sharp)]
    assert rates == [2.0, 1.0]  # of a pass
