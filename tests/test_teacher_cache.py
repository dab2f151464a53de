"""Teacher outputs kept across runs: the bits of fresh ones, never half a record, never above the limit."""

import os

import examples
import numpy as np
import pytest
import torch

from kdlab import lab
from kdlab.data import load
from kdlab.errors import SpecError
from kdlab.lab.store import Store
from kdlab.models import Outputs, build
from kdlab.spec import Budget, RunSpec
from kdlab.training import Layout, TeacherCache, Views
from kdlab.training.layout import reads_maps, stream_key
from kdlab.training.teacher_cache import limit

ORIGINALS, STEPS, LOTS = 32, 12, 10**9
TEACHER = RunSpec(sizes=(320, 100, 100), model="resnet8_s2_w8", budget=Budget(4, "steps", ORIGINALS), role="teacher")
KD = TEACHER.replace(
    role="student",
    model="resnet8_s2_w4", teacher=TEACHER, method="kd", views=2, augmentation="jda", ratio=0.5,
    budget=Budget(STEPS, "steps", ORIGINALS),
)  # fmt: skip
LAYOUTS = (
    Layout("jda", (), 2, 0.5), Layout("jda", (), 2, 0.25), Layout("cutmix", (), 2, 0.5),
    Layout("weak", (), 4, 0.0, "own"),
    Layout("jda", (("probability", 0.9),), 3, 1.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def train():
    return load("fashion", sizes=TEACHER.sizes).train


@pytest.fixture(scope="module")
def teacher():
    return build("resnet8_s2_w8", 10, 1, seed=9).eval().requires_grad_(False)


def views(train, teacher, kept):
    return Views(train, 0, 0, ORIGINALS, {"t": teacher}, teacher_cache=kept)


def keeper(folder, limit=LOTS, steps=STEPS):
    return TeacherCache(folder, steps, {"seed": 0}, "cpu", limit)


def ask(source, mode, maps=False):
    """What the teacher says in all steps to all layouts."""
    said = []
    for step in range(STEPS):
        source.at(step)
        said += [source.teacher_outputs("t", layout, mode, maps) for layout in LAYOUTS]
    return said


@pytest.mark.parametrize("mode", ["same", "clean", "independent"])
def test_kept_outputs_are_the_fresh_ones_and_ask_no_teacher(train, teacher, tmp_path, mode):
    fresh = ask(views(train, teacher, None), mode, maps=True)
    first, second = (views(train, teacher, keeper(tmp_path)) for _ in range(2))
    for source, passes in ((first, None), (second, 0)):
        said = ask(source, mode)
        assert passes is None or source.spent["passes"] == passes
        for ours, theirs in zip(said, fresh, strict=True):
            assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.embedding, theirs.embedding)
            assert ours.features == () and ours.final is None
    whole = ask(second, mode, maps=True)  # stage maps are not kept: the teacher answers again, to the same bits
    assert second.spent["passes"] > 0
    assert all(
        torch.equal(a, b)
        for one, two in zip(whole, fresh, strict=True)
        for a, b in zip(one.features, two.features, strict=True)
    )


def test_a_damaged_record_is_asked_for_again(train, teacher, tmp_path):
    fresh = ask(views(train, teacher, keeper(tmp_path)), "same")
    for path in tmp_path.iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // STEPS + 40] ^= 1  # the second step's logits
        path.write_bytes(content)
    source = views(train, teacher, keeper(tmp_path))
    said = ask(source, "same")
    assert 0 < source.spent["passes"] == len(list(tmp_path.iterdir()))
    assert all(torch.equal(one.logits, two.logits) for one, two in zip(said, fresh, strict=True))


def test_other_data_seed_machine_or_options_are_other_streams(tmp_path):
    said = Outputs(torch.randn(4, 3), (), torch.randn(4, 2))
    keeper(tmp_path).write(("t", "x"), 0, said)
    assert torch.equal(keeper(tmp_path).read(("t", "x"), 0, 4).logits, said.logits)
    assert keeper(tmp_path).read(("t", "x"), 1, 4) is None
    assert keeper(tmp_path).read(("u", "x"), 0, 4) is None
    assert TeacherCache(tmp_path, STEPS, {"seed": 1}, "cpu", LOTS).read(("t", "x"), 0, 4) is None
    assert TeacherCache(tmp_path, STEPS, {"seed": 0}, "gpu", LOTS).read(("t", "x"), 0, 4) is None
    names = [next(iter(Layout("jda", options, 2, 1.0).view_names())) for options in ((), (("probability", 0.9),))]
    assert stream_key("t", names[0], "same") != stream_key("t", names[1], "same")


@pytest.mark.parametrize("said", ["lots", "-1", "inf", "nan"])
def test_a_limit_that_is_no_number_is_refused_in_words(monkeypatch, said):
    monkeypatch.setenv("KDLAB_TEACHER_GB", said)
    with pytest.raises(SpecError, match=f"KDLAB_TEACHER_GB must be a number of gigabytes, 0 or more, but is '{said}'"):
        limit()


def test_the_limit_holds_and_the_least_lately_used_goes(tmp_path):
    said = Outputs(torch.randn(4, 3), (), torch.randn(4, 2))
    record = 8 + said.logits.nbytes + said.embedding.nbytes
    limit = 3 * STEPS * record
    for number in range(5):
        kept = keeper(tmp_path, limit)
        if number > 1:
            assert kept.read(("t", 1), 0, 4) is not None  # in use: it stays
        kept.write(("t", number), 0, said)
        kept.close()
        for age, path in enumerate(sorted(tmp_path.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)):
            os.utime(path, (1e9 - age, 1e9 - age))
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= limit
    found = [number for number in range(5) if keeper(tmp_path, limit).read(("t", number), 0, 4) is not None]
    assert len(found) == 3 and {1, 4} <= set(found)
    small = keeper(tmp_path / "small", STEPS * record - 1)
    small.write(("t", 0), 0, said)
    assert not (tmp_path / "small").exists()


def test_a_longer_run_goes_on_with_the_file_of_a_shorter_one(tmp_path):
    said = Outputs(torch.randn(4, 3), (), torch.randn(4, 2))
    keeper(tmp_path).write(("t", 0), STEPS - 1, said)
    longer = keeper(tmp_path, steps=2 * STEPS)
    assert longer.read(("t", 0), STEPS - 1, 4) is not None
    longer.write(("t", 0), 2 * STEPS - 1, said)
    assert keeper(tmp_path).read(("t", 0), 2 * STEPS - 1, 4) is not None and len(list(tmp_path.iterdir())) == 1


def test_a_method_added_to_a_finished_sweep_asks_no_teacher(tmp_path, monkeypatch):
    more = [KD.replace(method=method) for method in ("dkd", "ccd", "pkt")]
    lab.run([KD], workers=0, progress=False, require_teacher=False)
    added = lab.run(more, workers=0, progress=False, require_teacher=False)
    store = Store()
    assert all(store.read(key, "cost")["passes"] == 0 for key in added.index)
    monkeypatch.setenv("KDLAB_TEACHER_GB", "0")
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "fresh"))
    fresh = lab.run(more, workers=0, progress=False, require_teacher=False)
    assert not (Store().root / ".taught").exists()
    for key in fresh.index:
        assert Store().read(key, "cost")["passes"] > 0
        ours, theirs = store.weights(key), Store().weights(key)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
        assert np.array_equal(store.logits(key)["test"], Store().logits(key)["test"])


WITHOUT_MAPS = [
    name for name, entry in examples.ENTRIES.items()
    if "teacher" in entry.needs and not reads_maps(RunSpec(method=name))
]  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_MAPS)
def test_methods_that_declare_no_maps_read_none(name):
    student, teacher, batch = examples.example_for(name)
    slim = Outputs(teacher.logits, (), teacher.embedding)
    made = [examples.made(name, student, teacher) for _ in range(2)]
    whole, less = (method(student, said, batch) for method, said in zip(made, (teacher, slim), strict=True))
    assert whole.keys() == less.keys() and all(torch.equal(whole[term], less[term]) for term in whole)
