"""Data sets: the bundled one, the disk readers on tiny files in the right format, and every way they can be wrong."""

import gzip
import lzma
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from kdlab.data import facts, fingerprint, load, train_size
from kdlab.data.idx import CLASSES, FILES, PACK
from kdlab.errors import SpecError


@pytest.fixture(scope="module")
def fashion():
    return load("fashion")


def test_fashion_is_balanced_uint8_with_classes_and_rows(fashion):
    assert [len(split) for split in fashion] == [12000, 2000, 10000]
    for split, per_class in zip(fashion, (1200, 200, 1000), strict=True):
        assert split.images.dtype == torch.uint8 and split.images.shape[1:] == (1, 28, 28)
        assert split.labels.bincount().tolist() == [per_class] * 10
        assert split.classes == CLASSES
        assert len(split.rows.unique()) == len(split)
    assert not set(fashion.train.rows.tolist()) & set(fashion.val.rows.tolist())


def test_pack_is_small_and_has_its_licence_beside_it():
    assert PACK.stat().st_size <= 9_000_000
    notice = PACK.with_name("LICENSE-fashion-mnist").read_text(encoding="utf-8")
    assert "MIT" in notice and "2017 Zalando SE" in notice


def test_val_is_the_last_two_hundred_of_each_class_of_train(fashion):
    for label in range(10):
        train = fashion.train.rows[fashion.train.labels == label]
        assert fashion.val.rows[fashion.val.labels == label].min() > train.max()


def test_sizes_are_balanced_nested_prefixes(fashion):
    small = load("fashion", sizes=(320, 200, 505))
    assert [len(split) for split in small] == [320, 200, 505]
    assert small.train.labels.bincount().tolist() == [32] * 10
    assert small.test.labels.bincount().tolist() == [51] * 5 + [50] * 5
    for part, whole in zip(small, fashion, strict=True):
        assert torch.equal(part.images, whole.images[: len(part)])


@pytest.mark.parametrize("sizes", [(12001, 10, 10), (10, 2001, 10), (10, 10, 10001), (0, 10, 10)])
def test_sizes_that_cannot_be_filled_are_refused(sizes):
    with pytest.raises(SpecError, match="must be between 1 and"):
        load("fashion", sizes=sizes)


def test_statistics_come_from_train_and_normalise_uses_them(fashion):
    pixels = fashion.train.images.numpy() / 255
    assert fashion.train.mean[0] == pytest.approx(pixels.mean(), abs=1e-12)
    assert fashion.train.std[0] == pytest.approx(pixels.std(), abs=1e-12)
    assert fashion.test.mean == fashion.train.mean and fashion.test.std == fashion.train.std
    batch = fashion.test.batch(torch.tensor([3, 1, 4]))
    expected = (batch.double() / 255 - fashion.train.mean[0]) / fashion.train.std[0]
    torch.testing.assert_close(fashion.test.normalise(batch), expected.float(), rtol=1e-5, atol=1e-6)


def test_subsets_are_stratified_nested_and_differ_between_seeds(fashion):
    tenth, quarter = (fashion.train.subset(fraction, seed=3) for fraction in (0.1, 0.25))
    assert tenth.labels.bincount().tolist() == [120] * 10
    assert set(tenth.rows.tolist()) < set(quarter.rows.tolist())
    assert torch.equal(tenth.rows, fashion.train.subset(0.1, seed=3).rows)
    assert set(tenth.rows.tolist()) != set(fashion.train.subset(0.1, seed=4).rows.tolist())
    assert torch.equal(fashion.train.subset(1.0, seed=3).rows, fashion.train.rows)
    assert tenth.mean == fashion.train.mean
    assert len(tenth) == train_size("fashion", fraction=0.1)
    few = load("fashion", sizes=(325, 10, 10)).train.subset(0.1, seed=3)
    assert len(few) == train_size("fashion", sizes=(325, 10, 10), fraction=0.1)


def test_every_class_keeps_an_image_in_the_smallest_subset(fashion):
    assert sorted(fashion.train.subset(1e-6, seed=0).labels.tolist()) == list(range(10))


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan")])
def test_fractions_out_of_range_are_refused(fashion, fraction):
    with pytest.raises(SpecError, match="fraction"):
        fashion.train.subset(fraction, seed=0)


def test_subset_of_a_set_without_one_class_names_it(fashion):
    lacking = fashion.train.take(torch.nonzero(fashion.train.labels != 8).flatten())
    with pytest.raises(SpecError, match="Bag"):
        lacking.subset(0.5, seed=0)


def test_planning_needs_no_torch():
    code = (
        "import sys; from kdlab.data import facts, fingerprint; print(fingerprint('fashion'), facts('fashion'));"
        "assert not {'torch', 'torchvision', 'PIL'} & set(sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split()[0] == fingerprint("fashion") == load("fashion").train.fingerprint
    assert facts("fashion") == {
        "train": 12000, "val": 2000, "test": 10000, "classes": 10, "channels": 1, "size": 28, "per_class": [1200] * 10,
    }  # fmt: skip


def test_unknown_names_are_refused_with_the_nearest():
    for ask in (load, facts, fingerprint):
        with pytest.raises(SpecError, match=r"fashion-mnist.*Did you mean 'fashion'"):
            ask("fasion")
    with pytest.raises(SpecError, match="download"):
        load("svhn", download=True)


# --- readers of files -------------------------------------------------------------------------------------------------


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_fashion_mnist(folder, zipped):
    draw = np.random.default_rng(0)
    arrays = (
        draw.integers(256, size=(200, 28, 28), dtype=np.uint8),
        np.arange(200, dtype=np.uint8) % 10,
        draw.integers(256, size=(50, 28, 28), dtype=np.uint8),
        np.arange(50, dtype=np.uint8) % 10,
    )
    folder.mkdir(parents=True)
    for name, array in zip(FILES, arrays, strict=True):
        content = idx_bytes(array)
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return arrays


@pytest.mark.parametrize(("place", "zipped"), [("FashionMNIST/raw", False), ("fashion-mnist", True), (".", True)])
def test_idx_files_are_read_where_they_are_kept(tmp_path, place, zipped):
    root = tmp_path / "files"
    images, labels, test_images, _ = write_fashion_mnist(root / place, zipped)
    splits = load("fashion-mnist", root)
    assert [len(split) for split in splits] == [180, 20, 50]
    for split, source in zip(splits, (images, images, test_images), strict=True):
        assert np.array_equal(split.images[:, 0].numpy(), source[split.rows.numpy()])
    assert np.array_equal(splits.train.labels.numpy(), labels[splits.train.rows.numpy()])
    assert splits.val.rows.min() > splits.train.rows.max()
    assert facts("fashion-mnist", root)["val"] == 20


def test_root_may_come_from_the_environment(tmp_path, monkeypatch):
    write_fashion_mnist(tmp_path / "mine", zipped=True)
    monkeypatch.setenv("KDLAB_DATA", str(tmp_path / "mine"))
    assert len(load("fashion-mnist").test) == 50


def test_fingerprint_follows_the_content(tmp_path):
    write_fashion_mnist(tmp_path / "a", zipped=False)
    write_fashion_mnist(tmp_path / "b", zipped=False)
    assert fingerprint("fashion-mnist", tmp_path / "a") == fingerprint("fashion-mnist", tmp_path / "b")
    file = tmp_path / "b" / FILES[1]
    file.write_bytes(file.read_bytes()[:-1] + b"\5")
    assert fingerprint("fashion-mnist", tmp_path / "a") != fingerprint("fashion-mnist", tmp_path / "b")


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "cifar100"])
def test_missing_roots_and_files_are_named(tmp_path, name):
    for root, state in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "lacks")):
        with pytest.raises(SpecError, match=rf"{name}.*{root.name}.*{state}.*KDLAB_DATA") as error:
            load(name, root)
        assert {"fashion-mnist": FILES[0], "cifar10": "data_batch_1", "cifar100": "meta"}[name] in str(error.value)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"\1" + b[1:], lambda b: b"", lambda b: b[:2] + b"\x0d" + b[3:]]
)
def test_damaged_idx_files_are_named(tmp_path, damage):
    write_fashion_mnist(tmp_path / "files", zipped=False)
    file = tmp_path / "files" / FILES[2]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(SpecError, match=FILES[2]):
        load("fashion-mnist", tmp_path / "files")


def test_damaged_gzip_files_are_named(tmp_path):
    write_fashion_mnist(tmp_path / "files", zipped=True)
    file = tmp_path / "files" / (FILES[0] + ".gz")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SpecError, match=FILES[0]):
        load("fashion-mnist", tmp_path / "files")


def write_cifar(root, name):
    """A tiny archive: 40 training images (8 in each of five files for CIFAR-10), 12 test images, 4 classes."""
    draw = np.random.default_rng(1)
    fine = name == "cifar100"
    folder = root / ("cifar-100-python" if fine else "cifar-10-batches-py")
    folder.mkdir(parents=True)
    labels, names = ("fine_labels", "fine_label_names") if fine else ("labels", "label_names")
    train = ["train"] if fine else [f"data_batch_{k}" for k in range(1, 6)]
    stored = {}
    for file, count in [(file, 40 // len(train)) for file in train] + [("test" if fine else "test_batch", 12)]:
        data = draw.integers(256, size=(count, 3072), dtype=np.uint8)
        stored[file] = {"data": data, labels: [k % 4 for k in range(count)]}
    stored["meta" if fine else "batches.meta"] = {names: ["ant", "bee", "cat", "dog"]}
    for file, content in stored.items():
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    return folder, np.concatenate([stored[file]["data"] for file in train])


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_archives_are_read(tmp_path, name):
    _, data = write_cifar(tmp_path, name)
    splits = load(name, tmp_path)
    assert [len(split) for split in splits] == [36, 4, 12]
    assert splits.train.classes == ("ant", "bee", "cat", "dog")
    for split in splits[:2]:
        assert np.array_equal(split.images.numpy(), data.reshape(-1, 3, 32, 32)[split.rows.numpy()])
    assert facts(name, tmp_path)["channels"] == 3 and len(splits.train.mean) == 3


class RunsCode:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(RunsCode()), pickle.dumps(np.float64(1)), b"", b"junk", pickle.dumps({"data": 1, "fine_labels": []})],
)
def test_archives_that_hold_anything_else_are_refused_and_run_nothing(tmp_path, capsys, content):
    folder, _ = write_cifar(tmp_path, "cifar100")
    (folder / "train").write_bytes(content)
    with pytest.raises(SpecError, match="train (cannot be read as a|is no) CIFAR|train must hold its pixels as uint8"):
        load("cifar100", tmp_path)
    assert capsys.readouterr().out == ""


def write_images(root, per_class, size=(12, 10), mode="RGB", seed=2):
    draw = np.random.default_rng(seed)
    for label, count in per_class.items():
        (root / label).mkdir(parents=True)
        for k in range(count):
            pixels = draw.integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(root / label / f"{k}.png")


def test_folder_is_split_by_class_and_resized_to_the_commonest_size(tmp_path):
    write_images(tmp_path, {"cat": 30, "dog": 20})
    Image.new("RGB", (40, 40), "red").save(tmp_path / "dog" / "0.png")
    name = f"folder:{tmp_path}"
    splits = load(name)
    assert splits.train.classes == ("cat", "dog")
    assert [split.labels.bincount().tolist() for split in splits] == [[24, 16], [3, 2], [3, 2]]
    assert splits.train.images.shape[1:] == (3, 10, 12)
    rows = torch.cat([split.rows for split in splits])
    assert sorted(rows.tolist()) == list(range(50))
    assert facts(name)["train"] == 40 and facts(name)["size"] == 12
    assert torch.equal(load(name).train.images, splits.train.images)
    with pytest.raises(SpecError, match="'dog', which has 16"):
        load(name, sizes=(36, 4, 4))


def test_folder_with_train_and_test_keeps_them_and_grey_stays_grey(tmp_path):
    write_images(tmp_path / "train", {"a": 10, "b": 10}, mode="L")
    write_images(tmp_path / "test", {"a": 2, "b": 1}, mode="L", seed=3)
    splits = load(f"folder:{tmp_path}?size=16")
    assert [len(split) for split in splits] == [18, 2, 3]
    assert splits.train.images.shape[1:] == (1, 16, 16)
    assert fingerprint(f"folder:{tmp_path}?size=16") != fingerprint(f"folder:{tmp_path}")


def test_an_image_moved_to_another_class_changes_the_fingerprint(tmp_path):
    write_images(tmp_path, {"a": 20, "b": 20})
    before = fingerprint(f"folder:{tmp_path}")
    (tmp_path / "a" / "0.png").rename(tmp_path / "b" / "renamed.png")
    assert fingerprint(f"folder:{tmp_path}") != before


@pytest.mark.parametrize(
    ("per_class", "message"),
    [
        (None, "does not exist"),
        ({}, "no images"),
        ({"a": 0, "b": 0}, "no images"),
        ({"a": 9}, "only one class, 'a'"),
        ({"a": 9, "b": 2}, "class 'b' has 2 images"),
        ({"a": 9, "b": 0}, "class 'b' has 0 images"),
    ],
)
def test_folders_that_cannot_be_learned_from_are_refused(tmp_path, per_class, message):
    root = tmp_path / "images"
    if per_class is not None:
        root.mkdir()
        write_images(root, per_class)
    for ask in (load, facts, fingerprint):
        with pytest.raises(SpecError, match=message):
            ask(f"folder:{root}")


def test_folder_names_an_unreadable_image_and_an_unknown_option(tmp_path):
    write_images(tmp_path, {"a": 5, "b": 5})
    for option in ("sise=3", "size=big", "size=2"):
        with pytest.raises(SpecError, match=option):
            load(f"folder:{tmp_path}?{option}")
    whole = (tmp_path / "a" / "3.png").read_bytes()
    for content in (whole[: len(whole) // 2], b"not an image"):
        (tmp_path / "a" / "3.png").write_bytes(content)
        with pytest.raises(SpecError, match=r"a.3\.png' cannot be read"):
            load(f"folder:{tmp_path}")


def test_folder_with_other_classes_in_test_is_refused(tmp_path):
    write_images(tmp_path / "train", {"a": 5, "b": 5})
    write_images(tmp_path / "test", {"a": 5, "c": 5})
    with pytest.raises(SpecError, match="train lacks 'c'; test lacks 'b'"):
        load(f"folder:{tmp_path}")


def test_pack_is_what_the_script_makes(tmp_path, monkeypatch, fashion):
    """The script on files of its own format: same layout, first images of each class, checksums enforced."""
    from kdlab.data import make_fashion

    images, labels, test_images, test_labels = write_fashion_mnist(tmp_path / "files", zipped=True)
    with pytest.raises(SystemExit, match="checksum"):
        make_fashion.pack(tmp_path / "files")
    monkeypatch.setattr(make_fashion, "verified", lambda folder, name: make_fashion.read_idx(folder / f"{name}.gz"))
    made = tmp_path / "made.xz"
    made.write_bytes(make_fashion.pack(tmp_path / "files"))
    with lzma.open(made) as stream:
        arrays = [np.lib.format.read_array(stream) for _ in range(6)]
    for pixels, targets, rows, source, source_labels in (
        (*arrays[:3], images, labels),
        (*arrays[3:], test_images, test_labels),
    ):
        assert np.array_equal(pixels[:, 0], source[rows]) and np.array_equal(targets, source_labels[rows])
        assert np.array_equal(targets, np.sort(source_labels))
