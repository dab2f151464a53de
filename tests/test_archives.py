"""CIFAR and IDX files as people have them: packed, pickled again, cut, changed, with labels that fit no class."""

import gzip
import pickle
import random
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest

from kdlab.data import describe
from kdlab.data.arrays import check_classes, checked_images, checked_labels
from kdlab.data.cifar import read_archive
from kdlab.data.idx import FILES, read_idx
from kdlab.errors import SpecError

DRAW = np.random.default_rng(11)
NAMES = ["ant", "bee", "cat"]
TRAIN = [f"data_batch_{k}" for k in range(1, 6)]


def batch(count):
    return {"data": DRAW.integers(256, size=(count, 3072), dtype=np.uint8), "labels": [k % 3 for k in range(count)]}


def cifar_files():
    return {name: batch(6) for name in (*TRAIN, "test_batch")} | {"batches.meta": {"label_names": NAMES}}


def write(folder, contents, protocol=2):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return folder


def as_bytes(content):
    """What Python 3 makes of the original with ``encoding="bytes"``, and pickles again."""
    names = content.get("label_names")
    changed = content | ({"label_names": [name.encode() for name in names]} if names else {})
    return {key.encode(): value for key, value in changed.items()}


def same(source, contents):
    assert source.classes == tuple(NAMES) and source.shape == (3, 32, 32)
    pixels = np.concatenate([contents[name]["data"] for name in TRAIN]).reshape(-1, 3, 32, 32)
    labels = np.array([label for name in TRAIN for label in contents[name]["labels"]])
    for split in ("train", "val"):
        rows = source.rows[split]
        assert np.array_equal(source.pixels(split, len(rows)), pixels[rows])
        assert np.array_equal(source.labels[split], labels[rows])


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("change", [dict, as_bytes])
@pytest.mark.parametrize("place", ["cifar-10-batches-py", "cifar-10-python/cifar-10-batches-py", "."])
def test_cifar_is_read_where_and_how_people_keep_it(tmp_path, place, change, protocol):
    contents = cifar_files()
    write(tmp_path / place, {name: change(content) for name, content in contents.items()}, protocol)
    same(describe("cifar10", tmp_path), contents)


def test_labels_may_be_an_array(tmp_path):
    contents = cifar_files()
    contents["data_batch_2"]["labels"] = np.array(contents["data_batch_2"]["labels"], dtype=np.uint8)
    write(tmp_path, contents)
    same(describe("cifar10", tmp_path), contents)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_an_archive_that_is_still_packed_says_how_to_unpack_it(tmp_path, name):
    packed = tmp_path / f"cifar-{name[5:]}-python.tar.gz"
    with tarfile.open(packed, "w:gz"):
        pass
    with pytest.raises(SpecError, match=rf"Unpack.*tar xzf {packed} -C {tmp_path}"):
        describe(name, tmp_path)


def test_the_one_missing_file_is_named(tmp_path):
    folder = write(tmp_path / "cifar-10-batches-py", cifar_files())
    (folder / "data_batch_3").unlink()
    with pytest.raises(SpecError, match=r"lacks data_batch_3 beside the other files in '.*cifar-10-batches-py'"):
        describe("cifar10", tmp_path)


def damage(name, **values):
    return lambda contents: contents[name].update(values)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damage("data_batch_2", labels=[0, 1, 2, 3, 0, 1]), r"data_batch_2 holds the label 3, but .*meta names 3"),
        (damage("test_batch", labels=[0, 1, -1, 2, 0, 1]), r"test_batch holds the label -1"),
        (damage("data_batch_1", labels=[0, 1, 2]), r"data_batch_1 holds 3 labels, but there are 6 images"),
        (damage("data_batch_1", labels=[0.0, 1, 2, 0, 1, 2]), r"data_batch_1 must hold its labels as .* whole numbers"),
        (damage("data_batch_1", labels="012012"), r"data_batch_1 must hold its labels as .* whole numbers"),
        (damage("data_batch_1", labels=[[0]] * 6), r"data_batch_1 must hold its labels as .* whole numbers"),
        (damage("data_batch_1", labels=[[0], 1]), r"data_batch_1 must hold its labels as .* whole numbers"),
        (damage("batches.meta", label_names=NAMES[:2]), r"holds the label 2, but .*batches\.meta names 2 classes"),
        (damage("batches.meta", label_names=[*NAMES, "dog"]), r"batches\.meta: class 'dog' has 0 images in train"),
        (damage("batches.meta", label_names=["ant", "ant", "cat"]), r"batches\.meta must name .* each once"),
        (damage("batches.meta", label_names=7), r"batches\.meta is no CIFAR archive: 'label_names' must be a list"),
        (damage("data_batch_4", data=np.zeros((6, 3072))), r"data_batch_4 must hold its pixels as uint8.*float64"),
        (damage("data_batch_4", data=[[0] * 3072] * 6), r"data_batch_4 must hold its pixels as uint8.*list"),
        (damage("data_batch_4", data=np.zeros((6, 1024), np.uint8)), r"data_batch_4.*images x 3072.*\(6, 1024\)"),
        (damage("data_batch_4", data=np.zeros((0, 3072), np.uint8)), r"data_batch_4.*images x 3072.*\(0, 3072\)"),
        (lambda contents: contents["test_batch"].pop("labels"), r"test_batch is no CIFAR archive: it lacks 'labels'"),
        (lambda contents: contents.update(test_batch=[1, 2]), r"test_batch is no CIFAR archive: it holds list"),
    ],
)  # fmt: skip
def test_what_fits_no_class_or_image_is_named(tmp_path, spoil, words):
    contents = cifar_files()
    spoil(contents)
    write(tmp_path, contents, protocol=4)
    with pytest.raises(SpecError, match=words):
        describe("cifar10", tmp_path)


def changed(content, draw, cuts=60, flips=250):
    """The same bytes cut at many lengths, and with a few of them changed, mostly among the first 300."""
    for cut in draw.sample(range(len(content)), cuts):
        yield content[:cut]
    for _ in range(flips):
        spoiled = bytearray(content)
        for _ in range(draw.choice([1, 1, 2, 6])):
            spoiled[draw.randrange(draw.choice([300, len(content)])) % len(content)] = draw.randrange(256)
        yield bytes(spoiled)


def refused(ask, file):
    """Whether the file was refused in words that name it; anything but right data or a SpecError is a failure."""
    try:
        ask()
    except SpecError as error:
        assert str(file) in str(error)
        return True
    return False


@pytest.mark.parametrize("protocol", [2, 5])
def test_damaged_pickles_give_data_or_a_sentence(tmp_path, protocol):
    file, content = tmp_path / "data_batch_1", pickle.dumps(batch(2), protocol=protocol)

    def ask():
        data, labels = read_archive(file, "data", "labels")
        data = checked_images(data, (3072,), file)
        labels = checked_labels(labels, len(data), NAMES, file)
        assert data.shape == (len(labels), 3072) and set(labels) <= {0, 1, 2}

    count = 0
    for spoiled in changed(content, random.Random(protocol)):
        file.write_bytes(spoiled)
        count += refused(ask, file)
    assert count > 100


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_files(count=40):
    return {
        FILES[0]: DRAW.integers(256, size=(count, 4, 5), dtype=np.uint8),
        FILES[1]: np.arange(count, dtype=np.uint8) % 10,
        FILES[2]: DRAW.integers(256, size=(10, 4, 5), dtype=np.uint8),
        FILES[3]: np.arange(10, dtype=np.uint8),
    }


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("called", ["{}", "{}.gz"])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_files_are_read_by_what_they_hold_not_by_their_names(tmp_path, zipped, called, dotted):
    arrays = idx_files()
    for name, array in arrays.items():
        name = name.replace("-idx", ".idx") if dotted else name
        content = idx_bytes(array)
        (tmp_path / called.format(name)).write_bytes(gzip.compress(content) if zipped else content)
    source = describe("fashion-mnist", tmp_path)
    rows = source.rows["train"]
    assert np.array_equal(source.pixels("train", len(rows))[:, 0], arrays[FILES[0]][rows])
    assert np.array_equal(source.labels["train"], arrays[FILES[1]][rows])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (FILES[0], idx_bytes(np.zeros((39, 4, 5), np.uint8)), "holds 40 labels, but there are 39 images"),
        (FILES[0], idx_bytes(np.zeros((40, 20), np.uint8)), r"images x height x width.*\(40, 20\)"),
        (FILES[0], idx_bytes(np.zeros((0, 4, 5), np.uint8)), r"images x 4 x 5.*\(0, 4, 5\)"),
        (FILES[0], idx_bytes(np.zeros((40, 5, 4), np.uint8)), r"\(4, 5\).*\(5, 4\)"),
        (FILES[1], idx_bytes(np.full(40, 10, np.uint8)), "holds the label 10, but there are 10 classes"),
        (FILES[1], idx_bytes(np.zeros(40, np.uint8)), "'Trouser' has 0 images in train"),
        (FILES[3], idx_bytes(np.zeros((10, 1), np.uint8)), "labels as a list of whole numbers"),
        (FILES[3], b"<!DOCTYPE html>", r"not an IDX file.*<!DOCTYP"),
        (FILES[3], b"\x1f\x8b nonsense", "cannot be read"),
        (FILES[3], b"", "not an IDX file"),
        (FILES[3], b"\0\0\x08\xff\0\0", "not an IDX file"),
        (FILES[3], b"\0\0\x08\x04" + b"\xff" * 16, "promises the shape"),
    ],
)
def test_idx_files_that_do_not_fit_are_named(tmp_path, name, content, words):
    for file, array in idx_files().items():
        (tmp_path / file).write_bytes(idx_bytes(array))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=words) as error:
        describe("fashion-mnist", tmp_path)
    assert name.rpartition("-")[0][:5] in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            bytes([0, 0, 8, 3]) + struct.pack(">3I", 60_000, 280, 280),
            r"shape \(60000, 280, 280\), of which at most 200,",
        ),
        (bytes([0, 0, 8, 255]) + bytes(4 * 255), "values in 4 dimensions"),
        (bytes([0, 0, 8, 1]) + struct.pack(">I", 100) + bytes(10**8), r"holds more values, .* the shape \(100,\)"),
    ],
)
def test_an_idx_file_that_unpacks_to_more_than_it_promises_or_than_a_set_needs_is_refused(tmp_path, content, words):
    file = tmp_path / "images"
    file.write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    with pytest.raises(SpecError, match=words):
        read_idx(file)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10**6


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (b"\x80\x02Nr\x00\x00\x00\x04.", "holds NoneType"),  # remembers None as number 67,108,864
        (b"\x80\x02cnumpy\nndarray\nJ\x00\x00\x00\x10\x85R.", "not callable"),  # an array of 268,435,456 numbers
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(K\x00J\x00\x00\x00\x10\x85U\x01btR.", "holds ndarray"),
    ],
)
def test_a_cifar_file_cannot_ask_for_more_memory_than_it_holds(tmp_path, attack, words):
    (tmp_path / "meta").write_bytes(attack)
    tracemalloc.start()
    with pytest.raises(SpecError, match=words):
        read_archive(tmp_path / "meta", "labels")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10**6


@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_idx_files_give_data_or_a_sentence(tmp_path, zipped):
    array = DRAW.integers(256, size=(6, 4, 5), dtype=np.uint8)
    content = idx_bytes(array)
    file, count = tmp_path / "images", 0
    for spoiled in changed(gzip.compress(content) if zipped else content, random.Random(3)):
        file.write_bytes(spoiled)
        count += refused(lambda: read_idx(file), file)
    assert count > 60


def test_the_bundled_pack_says_when_it_is_damaged(tmp_path):
    from kdlab.data.idx import PACK, read_fashion

    whole = PACK.read_bytes()
    for spoiled in (whole[:1000], b"", b"x" * 99, whole[:5000] + b"\0\0\0" + whole[5003:]):
        (tmp_path / "fashion.xz").write_bytes(spoiled)
        with pytest.raises(SpecError, match=r"fashion\.xz is damaged.*Install kdlab again"):
            read_fashion([tmp_path / "fashion.xz"])


def test_every_class_needs_images(tmp_path):
    check_classes(NAMES, np.array([0, 1, 2, 2]), 1, "test", tmp_path)
    with pytest.raises(SpecError, match="class 'ant' has 1 images in train, but at least 2"):
        check_classes(NAMES, np.array([0, 1, 2, 2, 1]), 2, "train", tmp_path)
