"""A folder that is streamed: the images of one in memory bit for bit, few of them held, the next ones decoded ahead."""

import gc
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from kdlab import data, lab
from kdlab.data import decoded
from kdlab.data.source import HELD
from kdlab.data.streamed import BESIDE, Streamed
from kdlab.errors import SpecError
from kdlab.lab import memory
from kdlab.models import build
from kdlab.spec import Budget, RunSpec
from kdlab.training.layout import Layout
from kdlab.training.loop import predict
from kdlab.training.views import Views


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Colour images of several sizes and kinds, a few of them turned, with pages or deep, in three classes."""
    root, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label in "abc":
        (root / label).mkdir()
        for number in range(40):
            side = 12 + number % 7
            picture = Image.fromarray(random.integers(0, 256, (side, side + 3, 3), dtype=np.uint8))
            kind = ("png", "jpg", "webp")[number % 3]
            turned = Image.Exif()
            turned[0x0112] = 1 + number % 8
            picture.save(root / label / f"{number:03d}.{kind}", exif=turned)
        pages = [Image.fromarray(random.random((12, 12), dtype=np.float32) * 900) for _ in range(2)]
        pages[0].save(root / label / "deep.tif", save_all=True, append_images=pages[1:])
    return root


@pytest.fixture
def names(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "own"))
    return [f"folder:{photos}?pages=all&size=16{more}" for more in ("", "&stream=yes")]


def test_a_streamed_folder_is_the_same_data(names, tmp_path):
    kept, stream = (data.load(name) for name in names)
    assert data.fingerprint(names[0]) == data.fingerprint(names[1]) == stream.train.fingerprint
    assert data.facts(names[0]) == data.facts(names[1]) and len(stream.train) > 80
    for one, other in zip(kept, stream, strict=True):
        assert isinstance(one.images, torch.Tensor) and isinstance(other.images, Streamed)
        assert one.images.shape == other.images.shape and torch.equal(one.labels, other.labels)
        assert torch.equal(one.images, other.batch(torch.arange(len(other)))) and torch.equal(one.rows, other.rows)
        assert torch.equal(one.images[3], other.images[3]) and torch.equal(one.images[:8], other.images[:8])
        assert (one.mean, one.std) == (other.mean, other.std)
    spec = RunSpec(data=names[0], model="resnet8_s2_w4", budget=Budget(2, "steps", 8))
    assert lab.run_key(spec) == lab.run_key(spec.replace(data=names[1])), "results do not depend on it"
    subsets = [splits.train.subset(0.5, 3) for splits in (kept, stream)]
    assert torch.equal(subsets[0].images, subsets[1].batch(torch.arange(len(subsets[1]))))
    sources = [data.describe(name) for name in names]
    for places in (np.array([1, 4, 7]), np.arange(9)):
        np.testing.assert_array_equal(*(source.take("val", places) for source in sources))
    np.testing.assert_array_equal(*(source.pixels("test", 5) for source in sources))
    stored = {path.suffix: path.stat().st_size for path in (tmp_path / "own" / "data").iterdir()}
    assert {".pixels", ".digests", ".counts"} == stored.keys() and stored[".digests"] < stored[".pixels"] / 4


def test_views_and_answers_are_the_same_bits(names):
    spec = RunSpec(data=names[0], model="resnet8_s2_w4", augmentation="jda", ratio=0.5, views=2,
                   budget=Budget(8, "steps", 16))  # fmt: skip
    model, layout, seen = build("resnet8_s2_w4", 3, 3, seed=1).eval(), Layout.of(spec), []
    for name in names:
        splits = data.load(name)
        views = Views(splits.train, 5, 0, 16, {})
        batches = []
        for step in (0, 1, 2, views.steps_per_epoch, 3 * views.steps_per_epoch + 1):  # goes on after an interruption
            views.at(step)
            batches.append(views.batch(layout, 0.5))
        seen.append((batches, predict(model, splits.test, rows=7)))
    for one, other in zip(seen[0][0], seen[1][0], strict=True):
        assert torch.equal(one.x, other.x) and torch.equal(one.label, other.label)
    np.testing.assert_array_equal(seen[0][1], seen[1][1])


def reader(size: int, calls: list):
    """Decodes image ``row`` as a constant, and tells that it did; pixels of ``size`` bytes."""
    lock = threading.Lock()

    def read(row: int) -> np.ndarray:
        with lock:
            calls.append(row)
        return np.full((1, 1, size), row % 251, np.uint8)

    return read


@pytest.mark.parametrize("files", [1_000, 5_000])
def test_what_is_held_does_not_grow_with_the_files(files):
    calls, held = [], 64 * (100 + BESIDE)
    images = Streamed(reader(100, calls), np.arange(files), (1, 1, 100), held=held)
    order = torch.randperm(files, generator=torch.Generator().manual_seed(0))
    images.expect(order)
    for part in order.split(16):
        found = images.index_select(0, part)
        assert torch.equal(found[:, 0, 0, 0], (part % 251).to(torch.uint8))
        assert images.bytes_held <= held
    assert sorted(calls) == list(range(files)), "each was decoded once in an epoch"
    images.index_select(0, torch.arange(50))
    assert images.bytes_held <= 3 * 50 * (100 + BESIDE), "more only for a request that is larger"


def test_the_next_images_are_decoded_while_a_step_is_taken():
    calls, order = [], torch.tensor([9, 2, 7, 0, 5, 1, 8, 3, 6, 4])
    images = Streamed(reader(4, calls), np.arange(10) + 100, (1, 1, 4), held=(4 + BESIDE) * 6)
    images.expect(order)
    images.index_select(0, order[:2])
    images._pool.shutdown()  # waits for what has begun
    assert sorted(calls) == sorted((100 + order[:4]).tolist()), "two asked for, two ahead: all that there is room for"
    images._pool, begun = None, len(calls)
    assert images.index_select(0, order[2:4]).flatten(1)[:, 0].tolist() == [107, 100]
    images._pool.shutdown()
    assert sorted(calls[begun:]) == sorted((100 + order[4:6]).tolist())
    images._pool = None
    assert torch.equal(images.index_select(0, order[2:4]), images[order[2:4]].index_select(0, torch.arange(2)))


def test_a_file_that_changes_meanwhile_is_noticed(photos, tmp_path):
    for label in "ab":
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng([number, ord(label)]).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / label / f"{number}.png")
    train = data.load(f"folder:{tmp_path}/own?stream=yes").train
    for path in (tmp_path / "own" / "a").iterdir():
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    with pytest.raises(SpecError, match="is not what it was when its folder was read"):
        train.to("cpu").batch(torch.arange(len(train)))  # which holds nothing yet


def test_a_disk_that_cannot_be_written_to_costs_a_pass_and_nothing_else(names, monkeypatch):
    monkeypatch.setattr(decoded.image_cache, "write", lambda *given: False)
    monkeypatch.setattr(decoded, "_in_memory", {})
    stream = data.load(names[1])
    assert torch.equal(data.load(names[0]).test.images, stream.test.batch(torch.arange(len(stream.test))))


def test_the_plan_counts_what_is_held(names):
    sizes = {"data": names[0], "model": "resnet8_s2_w4", "budget": Budget(2, "steps", 8)}
    runs = [lab.plan([RunSpec(**sizes | {"data": name})]).runs for name in names]
    kept, stream = (memory.needed(run.values() if hasattr(run, "values") else run) for run in runs)
    counts = data.facts(names[0])
    pixels = sum(counts[split] for split in data.SPLITS) * 3 * 16**2
    assert stream - kept == 3 * (3 * HELD - pixels)


@pytest.mark.parametrize("value", ["no", "", "1"])
def test_the_switch_is_yes_or_left_out(photos, value):
    with pytest.raises(SpecError, match="stream must be one of \\[yes\\]"):
        data.facts(f"folder:{photos}?size=16&stream={value}")


def test_what_stays_of_a_file_is_its_path_its_digest_and_its_label(tmp_path):
    """Of perhaps millions of files: whatever else is needed while a folder is opened is gone when it is open."""
    held = {}
    for files in (100, 1000):
        for number in range(files):
            place = tmp_path / str(files) / "ab"[number % 2] / f"photograph-{number:06d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.array([[number % 256, number // 256]] * 2, np.uint8)).save(place)
        name = f"folder:{tmp_path}/{files}?size=8&same=keep&stream=yes"
        data.load(name)  # afterwards nothing needs to be decoded
        tracemalloc.start()
        open_now = data.load(name)
        gc.collect()
        held[files] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(open_now.train) > files / 2
    assert (held[1000] - held[100]) / 900 < 150, "bytes"
