"""Random streams: all bits of a path count, roles share nothing, and what a model draws is its run's own."""

import hashlib
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import lab, rng
from kdlab.data import load
from kdlab.lab import keys
from kdlab.lab.store import Store
from kdlab.models import Outputs, build, outputs
from kdlab.perspectives import NAMES, recipes, study
from kdlab.perspectives.profiles import profile
from kdlab.registry import catalogue
from kdlab.spec import Budget, RunSpec
from kdlab.training import Arm, Layout, Stopped, Views, train
from kdlab.training.images import CROP_FLIP

SIZES = (320, 100, 100)


def twister(path: str) -> np.random.MT19937:
    """A Mersenne twister of numpy whose state is the SHAKE-128 digest of a path."""
    words = np.frombuffer(hashlib.shake_128(path.encode()).digest(2496), "<u4").copy()
    words[0] |= 1 << 31
    made = np.random.MT19937()
    made.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    return made


def test_a_stream_is_a_twister_that_begins_at_the_digest_of_its_path():
    drawn = torch.randint(2**16, (3000,), generator=rng.generator(7, "weak/1", 3, 5)).numpy()
    raw = twister("7\x1fweak/1\x1f3\x1f5").random_raw(3000)
    assert (drawn == raw % 2**16).all()
    uniform = torch.rand(1000, generator=rng.generator(7, "weak/1", 3, 5)).double().numpy()
    assert (uniform == (raw[:1000] % 2**24) / 2**24).all()


def test_seeds_that_agree_in_their_low_bits_give_other_streams():
    """torch's own seeding takes 32 bits of a seed on a CPU, so one pair in four thousand million is the same stream."""
    one, other = (torch.rand(4, generator=torch.Generator().manual_seed(s)) for s in (5, 5 + 2**32))
    assert torch.equal(one, other)
    one, other = (torch.rand(4, generator=rng.generator(s, "order")) for s in (5, 5 + 2**32))
    assert not torch.isclose(one, other).any()


def test_uniforms_of_ten_thousand_streams_are_uniform():
    """The first draws of neighbouring streams: a Kolmogorov-Smirnov distance below its 0.1 % bound."""
    first = np.sort([torch.rand(1, generator=rng.generator(0, "x", 0, step)).item() for step in range(10_000)])
    assert np.abs(first - (np.arange(10_000) + 0.5) / 10_000).max() < 1.95 / 100
    assert len(set(first)) > 9_990


def test_a_global_stream_is_put_back():
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    drawn = []
    for _ in range(2):
        with rng.global_stream(3, "model", 4):
            drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    with rng.global_stream(3, "model", 5):
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert drawn[0] == drawn[1] and not set(drawn[0]) & set(drawn[2])
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate()


# --- roles --------------------------------------------------------------------------------------------------------


def shown(role, replicate=0):
    """Originals and crops of a step, and the initial weights, for one role."""
    views = Views(load("fashion", sizes=SIZES).train, 4, replicate, 64, {}, role=role)
    views.at(2)
    weights = build("resnet8_s2_w4", 10, 1, seed=views.seed).state_dict()
    return views.index, views.draw_params(CROP_FLIP, "weak/0")["corner"], weights["conv1.weight"]


@pytest.mark.parametrize("other", [("teacher", 0), ("preparation/1", 0), ("preparation/2", 0), ("student", 1)])
def test_roles_and_replicates_share_no_draw(other):
    for mine, theirs in zip(shown("student"), shown(*other), strict=True):
        same = (mine == theirs).float().mean()
        assert same < 0.3, "by chance one image in five, one coordinate in nine"


def test_a_spec_given_as_a_teacher_becomes_one():
    plain = RunSpec(sizes=SIZES, budget=Budget(4, "steps", 32))
    student = plain.replace(method="kd", teacher=plain)
    assert student.teacher == plain.replace(role="teacher") and student.role == "student"
    assert keys.run_key(student.teacher) != keys.run_key(plain)
    assistant = student.replace(model="resnet8_s2_w4", teacher=student)
    last = assistant.replace(teacher=assistant)
    roles, one = [], last
    while one is not None:
        roles.append(one.streams)
        one = one.teacher
    assert roles == ["student", "preparation/2", "preparation/1", "teacher"]
    assert RunSpec.from_dict(last.to_dict()) == last and last.at_seed(3).teacher.streams == "preparation/2"


@pytest.mark.parametrize("name", NAMES)
def test_in_every_perspective_arms_of_one_role_share_streams_and_teachers_have_their_own(name):
    for spec in study(name, "smoke").specs:
        assert spec.streams in ("student", "teacher", "preparation/1")
        for above in lab.lineage(spec)[:-1]:
            assert above.streams != spec.streams
    if name == "joint_augmentation":
        made = study(name, "smoke").arms
        assert made["kd again"].replace(replicate=0) == made["kd"], "the null control differs in its number alone"


@pytest.mark.parametrize("method", ["ft_paraphraser", "sskd_head", "hsakd_joint"])
def test_what_prepares_a_teacher_draws_for_itself(method):
    spec = recipes.method(profile("smoke"), method)
    assert spec.streams == ("preparation/1" if spec.teacher else "teacher")


# --- what models draw ---------------------------------------------------------------------------------------------


class Dropping(nn.Module):
    """A small network with dropout, and noise from all three global generators in both modes."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(in_channels, 6, 5, 3), nn.Linear(6, num_classes)

    def forward(self, x):
        return self.outputs(x).logits

    def outputs(self, x):
        noise = torch.rand(1).item() + np.random.rand() + random.random()
        feature = F.dropout(self.conv(x).relu(), 0.5, self.training) * (1 + 0.01 * noise)
        embedding = feature.mean((2, 3))
        return Outputs(self.fc(embedding), (feature,), embedding, feature)


def stochastic(**changes):
    teacher = RunSpec(sizes=SIZES, model="test_streams:Dropping", budget=Budget(6, "steps", 32))
    return RunSpec(
        sizes=SIZES, model="test_streams:Dropping", budget=Budget(12, "steps", 32), teacher=teacher, method="kd"
    ).replace(**changes)


def bits(spec, *company, root):
    """A run's weights and logits, trained beside others in a store of its own."""
    store = Store(root)
    torch.manual_seed(len(company)), np.random.seed(len(company)), random.seed(len(company))
    lab.run([*company, spec], workers=0, progress=False, store=store, require_teacher=False)
    key = lab.run_key(spec)
    return store.weights(key) | {f"logits/{k}": torch.from_numpy(v) for k, v in store.logits(key).items()}


def test_bits_of_a_model_that_draws_do_not_depend_on_company_or_process(tmp_path):
    spec = stochastic()
    others = [stochastic(views=2), stochastic(model="resnet8_s2_w4"), stochastic(method="ce", teacher=None)]
    alone = bits(spec, root=tmp_path / "alone")
    among = bits(spec, *others, root=tmp_path / "among")
    assert all(torch.equal(value, among[name]) for name, value in alone.items())
    again = bits(spec.replace(replicate=1), root=tmp_path / "again")
    assert not any(torch.equal(value, again[name]) for name, value in alone.items() if value.is_floating_point())


def test_a_teacher_that_draws_has_a_stream_of_the_same_name_as_ever():
    views = Views(load("fashion", sizes=SIZES).train, 0, 0, 8, {"t": Dropping(10, 1).eval()})
    views.at(1)
    found = views.teacher_outputs("t", Layout("weak", (), 1, 0.0), "same").logits
    x = views.batch(Layout("weak", (), 1, 0.0), 0.0).x
    with rng.global_stream(views.seed, "t", "Name(policy=('weak', ()), copy=0, turn=0, picker='')", "same", 1):
        assert torch.equal(found, views.teachers["t"](x))


def test_dropout_differs_from_step_to_step_and_pairs_arms():
    """Arms of one role share the masks of a step, as they share its crops; two steps share none."""
    masks = []
    with torch.no_grad():
        net = Dropping(10, 1).train()
        for number in (3, 3, 4):
            with rng.global_stream(0, "model", number):
                masks.append(net.outputs(torch.ones(2, 1, 28, 28)).features[0] == 0)
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("name", catalogue("models"))
def test_no_registered_model_draws_in_its_forward_pass(name):
    """Otherwise its draws would have to come from a named stream, as those of foreign models do."""
    model = build(name, 3, 1, seed=0).train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with torch.no_grad():
        outputs(model, torch.zeros(2, 1, 32, 32))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_with_dropout_goes_on_with_the_same_bits(tmp_path):
    splits = load("fashion", sizes=SIZES)
    spec, saved = stochastic(method="ce", teacher=None), {}
    whole = []

    def go(restore, beat):
        arm = Arm("a", spec, None, 12)
        views = Views(splits.train, 0, 0, 32, {})
        train([arm], splits, views, restore=restore, save=lambda a: saved.update(state=a.state()),
              finish=lambda a, r: whole.append(r), beat=beat)  # fmt: skip

    go(lambda arm: None, lambda waiting: False)
    with pytest.raises(Stopped):
        go(lambda arm: None, lambda waiting: waiting[0].step == 5)
    torch.manual_seed(99)
    go(lambda arm: arm.load_state(*saved["state"]), lambda waiting: False)
    assert all(torch.equal(v, whole[1].student[k]) for k, v in whole[0].student.items())
    assert whole[0].logits["test"].tobytes() == whole[1].logits["test"].tobytes()
