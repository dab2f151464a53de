"""Specs refuse what cannot be, keys hold exactly what can matter, the registry read equals the registry imported."""

import dataclasses
import importlib
import inspect
import json

import pytest
import torch

from kdlab import data, registry, rng
from kdlab.errors import SpecError
from kdlab.lab.keys import normal, run_key, teacher_key
from kdlab.registry import catalogue, find
from kdlab.spec import Budget, Checkpoint, Optimiser, RunSpec, sweep

TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(6, "steps", 32), role="teacher")
STUDENT = TEACHER.replace(role="student", method="kd", teacher=TEACHER, views=2, augmentation="jda", ratio=0.5)

# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seed": -1}, "seed must be a non-negative integer, but got -1"),
        ({"seed": 1.5}, "seed must be a non-negative integer, but got 1.5"),
        ({"seed": True}, "seed must be a non-negative integer, but got True"),
        ({"replicate": -1}, "replicate must be a non-negative integer"),
        ({"views": 0}, "views must be an integer of at least 1, but got 0"),
        ({"ratio": 1.5}, r"ratio must be a number in \[0, 1\], but got 1.5"),
        ({"ratio": float("nan")}, "ratio must be a number in .* but got nan"),
        ({"fraction": 0}, r"fraction must be a number in \(0, 1\], but got 0"),
        ({"teacher_view": "sam"}, "teacher_view must be one of .*'sam'. Did you mean 'same'?"),
        ({"precision": "float16"}, "precision must be one of .* Did you mean 'bfloat16'?"),
        ({"sizes": (320, 200)}, r"sizes must be \(train, val, test\), but got \(320, 200\)"),
        ({"sizes": (0, 200, 500)}, "sizes: train must be an integer of at least 1, but got 0"),
        ({"teacher": "resnet20"}, "teacher must be a RunSpec, a Checkpoint or None, but got 'resnet20'"),
        ({"model": None}, "model must be a name, but got None"),
        ({"budget": 24}, "budget must be a Budget, but got 24"),
        ({"method_options": ["temperature"]}, "method_options must be a mapping"),
        ({"sede": 1}, "field of RunSpec must be one of .* Did you mean 'seed'?"),
    ],
)
def test_fields_out_of_range_are_refused(fields, said):
    with pytest.raises(SpecError, match=said):
        RunSpec().replace(**fields)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Budget(0), "budget.amount must be a positive, finite number, but got 0"),
        (lambda: Budget("3"), "budget.amount must be a positive, finite number, but got '3'"),
        (lambda: Budget(1, "epoch"), "budget.unit must be one of .* Did you mean 'epochs'?"),
        (lambda: Budget(1, originals_per_step=0), "budget.originals_per_step must be an integer of at least 1"),
        (lambda: Budget(1).steps(63, 1), "the training subset has 63 images, fewer than .*originals_per_step=64"),
        (lambda: Optimiser(lr=0), "optimiser.lr must be a positive, finite number"),
        (lambda: Optimiser(momentum=2), r"optimiser.momentum must be a number in \[0, 1\]"),
        (lambda: Optimiser(schedule="cosin"), "optimiser.schedule must be one of .* Did you mean 'cosine'?"),
        (lambda: Optimiser(rho=-0.1), "optimiser.rho must be a non-negative, finite number"),
        (lambda: Optimiser(adaptive="yes"), "optimiser.adaptive must be True or False, but got 'yes'"),
        (lambda: Optimiser(milestones=(0.5, 75)), r"optimiser.milestones must be a number in \[0, 1\], but got 75"),
        (lambda: find("losses", "kdd"), "method must be one of .*'kdd'. Did you mean 'kd'?"),
        (lambda: find("models", "resnet8x44"), "model must be one of .* Did you mean 'resnet8x4'?"),
        (lambda: find("losses", "json:Nothing"), "method 'json:Nothing': .*json.* has no Nothing. It has"),
        (lambda: find("losses", ":KD"), "method ':KD' must be written module:Class, such as"),
        (lambda: registry.check_options("losses", "kd", {"temprature": 2}), "Did you mean 'temperature'?"),
        (lambda: sweep(RunSpec(), rato=[0.5]), "field of RunSpec must be one of .* Did you mean 'ratio'?"),
    ],
)
def test_parts_out_of_range_are_refused(make, said):
    with pytest.raises(SpecError, match=said):
        make()


# --- identity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher", [None, TEACHER, Checkpoint("weights.safetensors", "ab" * 32, "resnet20")])
def test_round_trip_through_json(teacher):
    spec = STUDENT.replace(teacher=teacher, optimiser=Optimiser(schedule="step", milestones=(0.5, 0.75)))
    plain = json.loads(json.dumps(spec.to_dict()))
    assert RunSpec.from_dict(plain) == spec
    with pytest.raises(SpecError, match="Did you mean 'teacher'"):
        RunSpec.from_dict(plain | {"techer": None})


def test_plain_sgd_is_written_and_keyed_as_before_there_was_sam():
    plain, sharp = STUDENT, STUDENT.replace(optimiser=Optimiser(rho=0.05, adaptive=True))
    before = {"lr", "momentum", "nesterov", "weight_decay", "schedule", "milestones", "warmup"}
    for made in (plain.to_dict(), plain.to_dict()["teacher"]):
        assert set(made["optimiser"]) == before
    assert set(normal(plain)["optimiser"]) == before - {"milestones"}  # which a cosine has none of
    assert sharp.to_dict()["optimiser"].items() >= {"rho": 0.05, "adaptive": True}.items()
    for spec in (sharp, STUDENT.replace(optimiser=Optimiser(adaptive=True)), STUDENT.replace(teacher=sharp)):
        assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


CHANGES = {
    "data": "folder:mine",  # a stand-in, see the test
    "sizes": (300, 200, 500),
    "fraction": 0.5,
    "model": "resnet8_s2_w8",
    "model_options": {"taps": ["layer1"]},
    "teacher": TEACHER.replace(seed=1),
    "method": "ccd",
    "method_options": {"temperature": 2.0},
    "augmentation": "invert",
    "augmentation_options": {"policy": "cifar10"},
    "views": 3,
    "ratio": 0.25,
    "hard_labels": "plain",
    "teacher_view": "clean",
    "budget": Budget(7, "steps", 32),
    "optimiser": Optimiser(lr=0.05),
    "seed": 1,
    "replicate": 1,
    "precision": "bfloat16",
    "teacher_precision": "bfloat16",
    "role": "teacher",
}


def test_every_field_changes_the_key(monkeypatch):
    monkeypatch.setattr(data, "fingerprint", lambda name: f"hash of {name}")
    monkeypatch.setattr(data, "train_size", lambda *given: 320)
    assert set(CHANGES) == {f.name for f in dataclasses.fields(RunSpec)}
    changed = [STUDENT.replace(**{name: value}) for name, value in CHANGES.items()]
    changed += [STUDENT.replace(budget=Budget(6, "steps", 16)), STUDENT.replace(teacher=None, method="ce")]
    changes = {"momentum": 0.8, "nesterov": False, "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant"}
    rules = [STUDENT.replace(optimiser=Optimiser(**{name: value})) for name, value in changes.items()]
    steps = [STUDENT.replace(optimiser=Optimiser(schedule="step", milestones=m)) for m in ((), (0.5,))]
    rules += [
        STUDENT.replace(optimiser=Optimiser(rho=rho, adaptive=a)) for rho, a in ((0.1, False), (0.1, True), (1, False))
    ]
    keys = list(map(run_key, [STUDENT, *changed, *rules, *steps]))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (STUDENT.replace(fraction=1), STUDENT.replace(fraction=1.0)),
        (STUDENT.replace(ratio=1), STUDENT.replace(ratio=1.0)),
        (STUDENT.replace(optimiser=Optimiser(lr=1)), STUDENT.replace(optimiser=Optimiser(lr=1.0))),
        (STUDENT.replace(method_options={"temperature": 2}), STUDENT.replace(method_options={"temperature": 2.0})),
        (STUDENT, STUDENT.replace(method_options={"temperature": 4.0}, augmentation_options={"policy": "cifar100"})),
        (
            STUDENT.replace(method_options={"temperature": 2.0, "ce_weight": 0.5}),
            STUDENT.replace(method_options={"ce_weight": 0.5, "temperature": 2.0}),
        ),
        (STUDENT.replace(method="sdd"), STUDENT.replace(method="sdd", method_options={"scales": [1, 2]})),
        (STUDENT.replace(ratio=0.0), STUDENT.replace(ratio=0.0, augmentation="invert")),
        (STUDENT.replace(augmentation="weak", ratio=0.0), STUDENT.replace(augmentation="weak", ratio=0.5)),
        (STUDENT.replace(budget=Budget(2, "epochs", 32)), STUDENT.replace(budget=Budget(20, "steps", 32))),
        (STUDENT, STUDENT.replace(budget=Budget(6 * 32 * 2, "student_images", 32))),
        (STUDENT, STUDENT.replace(optimiser=Optimiser(milestones=(0.5,)))),
        (STUDENT, STUDENT.replace(optimiser=Optimiser(adaptive=True))),
        (STUDENT.replace(optimiser=Optimiser(rho=1)), STUDENT.replace(optimiser=Optimiser(rho=1.0))),
        (TEACHER, TEACHER.replace(teacher_view="clean")),
        (TEACHER.replace(ratio=0.0), TEACHER.replace(ratio=0.0, hard_labels="plain")),
        (
            STUDENT.replace(optimiser=Optimiser(momentum=0, nesterov=True)),
            STUDENT.replace(optimiser=Optimiser(momentum=0, nesterov=False)),
        ),
        (RunSpec(), RunSpec(sizes=(12000, 2000, 10000))),
    ],
)
def test_what_cannot_matter_leaves_the_key(one, other):
    assert run_key(one) == run_key(other)


def test_the_key_follows_revisions_and_foreign_source(monkeypatch):
    before = run_key(STUDENT)
    assert run_key(STUDENT.replace(method="test_spec:Foreign")) != before
    assert find("losses", "test_spec:Foreign").options == {"weight": 2.0}
    monkeypatch.setitem(catalogue("losses"), "kd", dataclasses.replace(find("losses", "kd"), revision=2))
    assert run_key(STUDENT) != before


class Foreign:
    """A method of one's own."""

    def __init__(self, weight=2.0):
        self.weight = weight


def test_the_key_of_a_checkpoint_is_its_content_not_its_place():
    first = Checkpoint("a.safetensors", "ab" * 32, "resnet20")
    assert teacher_key(first) == teacher_key(dataclasses.replace(first, path="elsewhere.safetensors"))
    assert teacher_key(first) != teacher_key(dataclasses.replace(first, sha256="cd" * 32))
    assert teacher_key(first) != teacher_key(dataclasses.replace(first, arch="resnet32"))


def test_at_seed_moves_the_teacher_but_not_a_checkpoint():
    moved = STUDENT.at_seed(3)
    assert (moved.seed, moved.teacher.seed) == (3, 3)
    assert moved.at_seed(0) == STUDENT
    fixed = STUDENT.replace(teacher=Checkpoint("a", "ab" * 32, "resnet20"))
    assert fixed.at_seed(3).teacher == fixed.teacher


def test_sweep_is_a_grid_with_the_last_axis_fastest():
    specs = sweep(STUDENT, ratio=[0.25, 0.5], seed=[0, 1])
    assert [(s.ratio, s.seed, s.teacher.seed) for s in specs] == [(0.25, 0, 0), (0.25, 1, 1), (0.5, 0, 0), (0.5, 1, 1)]
    assert specs[0].teacher is specs[2].teacher  # one teacher, one spec: a plan looks at it once
    teachers = [None, TEACHER, Checkpoint("a", "ab" * 32, "resnet20")]
    specs = sweep(STUDENT.replace(method="ce"), teacher=teachers, seed=[None, 2])
    assert [s.seed for s in specs] == [0, 2] * 3
    assert [s.teacher for s in specs] == [None, None, TEACHER, TEACHER.at_seed(2), teachers[2], teachers[2]]
    with pytest.raises(SpecError, match=r"seed must be a non-negative integer, but got \[0\]"):
        sweep(STUDENT, seed=[[0]])


@pytest.mark.parametrize(
    ("budget", "train", "views", "steps"),
    [
        (Budget(2, "epochs", 64), 6000, 2, 2 * 93),  # 93.75: the short last batch is dropped
        (Budget(0.5, "epochs", 32), 320, 1, 5),
        (Budget(7, "steps", 32), 320, 3, 7),
        (Budget(1280, "student_images", 32), 320, 2, 20),
        (Budget(1, "student_images", 32), 320, 1, 1),
    ],
)
def test_budgets_in_steps(budget, train, views, steps):
    assert budget.steps(train, views) == steps


# --- registry and streams -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", registry.KINDS)
def test_the_registry_read_is_the_registry_imported(kind):
    entries = catalogue(kind)
    assert entries
    for name, entry in entries.items():
        target = getattr(importlib.import_module(entry.module), entry.target)
        assert name in target.names and entry.many == (len(target.names) > 1)
        assert entry.revision == target.revision
        assert all(getattr(entry, fact) == value for fact, value in target.facts.items())
        assert entry.doc == inspect.getdoc(target).split("\n\n")[0]
        signature = inspect.signature(target).parameters.values()
        assert entry.options == {p.name: p.default for p in signature if p.default is not p.empty}


def test_streams_are_named_and_apart():
    paths = [(0,), (0, "order"), (1, "order"), (0, "order", 1), (0, "order", 0, 1), (0, "weak/0"), (0, "weak/1")]
    seeds = {rng.stream_seed(seed, *names) for seed, *names in paths}
    assert len(seeds) == len(paths) and all(0 <= s < 2**63 for s in seeds)
    assert rng.stream_seed(0, "order", 0, 0) == 2729355566882563990  # or every stored run would be another one


def test_a_generator_is_made_afresh_and_leaves_the_global_one_alone():
    before = torch.random.get_rng_state()
    first, second = (torch.rand(3, generator=rng.generator(5, "order", 2, 7)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.rand(3, generator=rng.generator(5, "order", 2, 8)))
    assert torch.equal(torch.random.get_rng_state(), before)
