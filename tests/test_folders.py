"""Folders of images: what is written after ``folder:``, splits, what is left out, copies, sizes, what is kept."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from images import fill, picture, save
from PIL import Image

from kdlab import data, paths
from kdlab.data import decoded, image, image_cache, layout, walk
from kdlab.data.names import parse, printable
from kdlab.data.source import carve
from kdlab.errors import SpecError

TWO = {"bar": 20, "disc": 20}


def counts(source):
    return {split: np.bincount(source.labels[split]).tolist() for split in data.SPLITS}


def refused(name, said):
    for ask in (data.facts, data.fingerprint, data.describe):
        with pytest.raises(SpecError, match=said) as error:
            ask(name)
        assert "\n" not in str(error.value)
        str(error.value).encode()  # it can be printed


# --- names ------------------------------------------------------------------------------------------------------------


def test_options_are_read_joined_and_their_order_does_not_matter(tmp_path):
    asked = parse(f"folder:{tmp_path}?size=32x24&background=#00Ff7f&same=keep&pages=all")
    assert asked == parse(f"folder:{tmp_path}?pages=all&same=keep&background=#00ff7F&size=32×24")
    assert (asked.path, asked.size, asked.background) == (str(tmp_path), (32, 24), (0, 255, 127))
    assert asked.keep_same and asked.all_pages
    bare = parse(f"folder:{tmp_path}")
    assert (bare.size, bare.background, bare.keep_same, bare.all_pages) == (None, (255, 255, 255), False, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("sise=32", r"one of \[size, background, same, pages, stream\], but got 'sise'. Did you mean 'size'\?"),
        ("size=", "size must be pixels"),
        ("size=7", "from 8 to 1024.*'7'"),
        ("size=32x7", "'32x7'"),
        ("size=1025", "'1025'"),
        ("size=" + "9" * 5000, "size must be pixels"),
        ("size=٣٢", "size must be pixels"),
        ("size=-32", "'-32'"),
        ("size=32&size=32", "size is given twice"),
        ("background=whit", "white, black or a colour like #00ff7f, but got 'whit'"),
        ("background=#12345", "'#12345'"),
        ("same=drop", r"same must be one of \[keep\], but got 'drop'"),
        ("pages=2", r"pages must be one of \[all\], but got '2'"),
    ],
)
def test_unknown_options_and_values_are_refused(tmp_path, options, said):
    fill(tmp_path / "images", TWO)
    refused(f"folder:{tmp_path}/images?{options}", said)


@pytest.mark.parametrize(
    "pasted",
    [" {} ", "'{}'", '"{}"', ' "{}" ', "“{}”", "{}/", "{}?size=16", "'{}'?size=16", '"{}?size=16"', " '{}' ?size=16"],
)
@pytest.mark.parametrize(
    "folder", ["photos", "photos? (2024)", "what?", "a?size=8", "'quoted'", "bär & disc", "a=b?c=d"]
)
def test_a_pasted_path_is_the_longest_beginning_that_is_a_folder(tmp_path, folder, pasted):
    fill(tmp_path / folder, TWO)
    name = "folder:" + pasted.format(tmp_path / folder)
    asked = parse(name)
    assert asked.path == str(tmp_path / folder) and asked.size == ((16, 16) if "size=16" in pasted else None)
    whole = data.absolute(name)
    assert whole == f"folder:{tmp_path / folder}" + ("?size=16" if "size=16" in pasted else "")
    assert data.absolute(whole) == whole and data.fingerprint(whole) == data.fingerprint(name)


def test_the_absolute_name_means_the_same_anywhere_and_never_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.absolute("folder:photos?size=32&pages=all") == f"folder:{tmp_path}/photos?pages=all&size=32"
    assert data.absolute("folder:~/photos") == data.absolute("folder: ./photos/ ") == f"folder:{tmp_path}/photos"
    assert data.absolute("folder:photos? (2024)") == f"folder:{tmp_path}/photos? (2024)"
    for name in ("fashion", "cifar10", "folder:", "folder: ", "", None, "mymodule:data"):
        assert data.absolute(name) == name
    for name in ("folder:a\0b", "folder:" + "x" * 5000, "folder:caf\udce9", "folder:?size=3", "folder:a?b?c"):
        assert data.absolute(data.absolute(name)) == data.absolute(name)


def test_home_and_relative_paths_are_read(tmp_path, monkeypatch):
    fill(tmp_path / "photos", TWO)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert data.fingerprint("folder:~/photos") == data.fingerprint("folder:photos")
    monkeypatch.chdir(tmp_path / "photos")
    assert data.facts("folder:.")["train"] == 32


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder:", "names no path"),
        ("folder:?size=32", "names no path"),
        ('folder:""', "names no path"),
        ("folder:a\0b", "cannot be a folder: embedded null byte"),
        ("folder:" + "x" * 5000, "cannot be a folder: file name too long"),
        ("folder:caf\udce9\n", "does not exist"),
        ("folder:nowhere?size=32", "nowhere' does not exist; it should hold one sub-folder of images per class"),
    ],
)
def test_paths_that_cannot_be_are_said_in_a_sentence(name, said):
    refused(name, said)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"PK")
    refused(f"folder:{tmp_path}/photos.zip?size=32", "photos.zip' is a file: unpack it first, and name the folder")
    (tmp_path / "a.png").write_bytes(b"")
    refused(f"folder:{tmp_path}/a.png", "is a file: name the folder that it lies in")


def test_names_become_text_that_can_be_printed():
    assert printable("bär") == printable("ba\u0308r") == "bär"  # composed and not, as file systems differ
    assert printable("caf\udce9") == "caf\\xe9" and printable("a\nb\u2028c") == "a\\nb\\u2028c"
    assert printable("👩\u200d🔬 (2)") == "👩\u200d🔬 (2)"


def test_odd_class_names_are_kept_apart_and_printable(tmp_path):
    root = fill(tmp_path / "images", {"new\nline": 10, "'quoted'": 10, "#1": 10})
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    for number in range(10):
        save(tmp_path / "x.png", picture("x", number))
        os.rename(tmp_path / "x.png", os.fsencode(root) + b"/caf\xe9/%d.png" % number)
    assert data.describe(f"folder:{root}").classes == ("#1", "'quoted'", "caf\\xe9", "new\\nline")
    assert len(data.load(f"folder:{root}").train) == 32


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Valid", "TEST"),
        ("training", "validation", "testing"),
        ("trn", "dev", "tst"),
        ("train_images", "val_images", "test_images"),
        ("images-train", "images-val", "images-eval"),
        ("TrainSet", "ValSet", "TestSet"),
        ("trainset", "valset", "testset"),
        ("train2017", "val2017", "test2017"),
        ("asl_train", "asl_val", "asl_test"),
        ("photos/train", "photos/val", "photos/test"),
        ("training_set/training_set", "val/val", "test_set/test_set"),
    ],
)
def test_splits_are_known_by_the_names_that_people_give(tmp_path, train, val, test):
    root = tmp_path / "images"
    for first, part in enumerate((train, val, test)):
        fill(root / part, {"bar": 9 - first, "disc": 9 - first}, first=100 * first)
    source = data.describe(f"folder:{root}")
    assert counts(source) == {"train": [9, 9], "val": [8, 8], "test": [7, 7]} and not source.notes
    again = fill(tmp_path / "sane" / "train", {"bar": 9, "disc": 9}).parent
    fill(again / "val", {"bar": 8, "disc": 8}, first=100), fill(again / "test", {"bar": 7, "disc": 7}, first=200)
    assert data.fingerprint(f"folder:{again}") == data.fingerprint(f"folder:{root}")


def test_a_given_val_is_val_and_test_is_carved_from_train(tmp_path):
    root = tmp_path / "images"
    fill(root / "train", TWO), fill(root / "val", {"bar": 5, "disc": 5}, first=100)
    source = data.describe(f"folder:{root}")
    assert counts(source) == {"train": [18, 18], "val": [5, 5], "test": [2, 2]}
    assert source.notes == ("there is no test folder: 10% of each class of train became test",)
    val = {picture(label, number).tobytes() for label in TWO for number in range(100, 105)}
    assert {one.tobytes() for one in source.pixels("val", 10)} == val


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["train/bar", "train/disc", "holdout/bar", "holdout/disc"], "train, holdout|holdout, train"),
        (["train", "cat"], "cat, train are named like splits.*If 'train' is a class, rename"),
        (["val/bar", "val/disc", "test/bar", "test/disc"], "test, val are named like splits"),
        (["train/bar", "train/disc", "training/bar", "test/bar"], "named like splits"),
        (["cat_train", "cat_test", "dog_train", "dog_test"], "named like splits"),
        (["trainval/bar", "test/bar"], "named like splits"),
        (["bar/train", "bar/test", "disc/train", "disc/test"], "the class folder 'bar' holds splits.*train/bar"),
        (["train/bar", "train/disc"], "one folder, 'train'; .*Name that folder: folder:.*images/train"),
        (["a/b/bar", "a/b/disc"], "one folder, 'a'; .*Name that folder: folder:.*images/a/b"),
        (["bar"], "only one class, 'bar'"),
        (["train/bar", "test/bar"], "only one class, 'bar'"),
        (["train/bar", "train/disc", "test/bar", "test/disk"], "train lacks 'disk'; test lacks 'disc'"),
        (["train/bar", "train/disc", "val/bar", "val/disc", "test/bar"], "only one class, 'bar'"),
        (["train", "test"], "its folder 'train' holds 6 images but no class folders"),
    ],
)
def test_folders_that_are_no_layout_say_what_was_expected(tmp_path, folders, said):
    for first, folder in enumerate(folders):
        fill(tmp_path / "images", {folder: 6}, first=100 * first)
    refused(f"folder:{tmp_path}/images", said)


def test_a_class_may_be_a_steam_train(tmp_path):
    root = fill(tmp_path / "images", {"steam train": 10, "bullet train": 10, "car": 10})
    assert data.describe(f"folder:{root}").classes == ("bullet train", "car", "steam train")
    root = tmp_path / "split"
    fill(root / "train", {"train": 9, "car": 9}), fill(root / "test", {"train": 3, "car": 3}, first=50)
    assert data.describe(f"folder:{root}").classes == ("car", "train")


# --- what is left out -------------------------------------------------------------------------------------------------


def test_whatever_is_left_out_is_counted_by_reason(tmp_path):
    root = tmp_path / "images"
    fill(root / "train", TWO), fill(root / "test", {"bar": 5, "disc": 5}, first=100)
    fill(root, {"unlabelled": 4}, first=200)
    save(root / "cover.png", picture("x", 0)), save(root / "train" / "cover.png", picture("x", 1))
    bar = root / "train" / "bar"
    for file in ("notes.txt", "more.TXT", "README", "empty.png", "a.heic", "b.svg", "Thumbs.db", ".DS_Store"):
        (bar / file).write_bytes(b"" if file == "empty.png" else b"x")
    fill(bar, {"@eaDir": 2, ".git/objects": 3, "deeper/still": 2}, first=300)
    os.mkfifo(bar / "pipe.png")
    source = data.describe(f"folder:{root}")
    assert source.left_out == {
        layout.BESIDE: 2, "images in 'unlabelled', beside the splits": 4, walk.MADE: 2, walk.HIDDEN: 3,
        ".txt files, which are no images": 2, "files whose name has no ending": 1, "empty files": 1,
        ".heic files, which this Pillow cannot read": 1, ".svg files, which kdlab cannot read": 1,
        "things that are no files": 1,
    }  # fmt: skip
    assert counts(source)["test"] == [5, 5] and sum(counts(source)["train"] + counts(source)["val"]) == 42


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "it is empty"),
        (["a.txt"], r"it holds 1 \.txt files, which are no images"),
        ([".a.png"], "it holds 1 hidden images"),
        (["a.png"], "it holds 1 empty files"),
        (
            ["a.heif", "b.jxl"],
            r"\.heif files, which this Pillow cannot read.*\(convert them to JPEG or PNG, or install",
        ),
    ],
)
def test_a_class_without_images_says_what_is_in_its_folder(tmp_path, files, said):
    root = fill(tmp_path / "images", {"disc": 20, "bar": 0})
    for file in files:
        (root / "bar" / file).write_bytes(b"" if file == "a.png" else b"x")
    refused(f"folder:{root}", f"class 'bar' has 0 images in the folder: .*{said}")


def test_endings_are_those_that_this_pillow_reads(tmp_path):
    known = Image.registered_extensions()
    assert walk.readable() >= {".jfif", ".jpg", ".png", ".tif", ".webp"}
    assert all(known[suffix] in Image.OPEN for suffix in walk.readable())
    assert not walk.readable() & {".eps", ".pdf", ".wmf", ".mpg", ".h5"}  # drawings, films, stubs
    root = fill(tmp_path / "images", {"bar": 20, "disc": 17})
    for number, suffix in enumerate((".webp", ".bmp", ".jp2")):
        save(root / "disc" / f"x{suffix}", picture("disc", 50 + number))
    assert sum(data.facts(f"folder:{root}")[split] for split in data.SPLITS) == 40


def test_unreadable_images_are_named_and_counted_and_not_left_out(tmp_path):
    root = fill(tmp_path / "images", TWO)
    for number in (3, 4):
        (root / "bar" / f"00{number}.png").write_bytes(b"no image")
    refused(f"folder:{root}", r"bar.003\.png' cannot be read.*not left out in silence \(nor are 1 more.*'004.png'\)")


def test_what_kdlab_wrote_into_the_folder_itself_is_no_class(tmp_path, monkeypatch):
    root = fill(tmp_path / "images", TWO)
    monkeypatch.setenv("KDLAB_OUT", str(root / "out"))
    before = data.fingerprint(f"folder:{root}")
    fill(root / "out", {"figures": 4}, first=100)
    assert data.describe(f"folder:{root}").classes == ("bar", "disc") and data.fingerprint(f"folder:{root}") == before


def test_a_folder_that_may_not_be_opened_is_named(tmp_path, monkeypatch):
    root, scan = fill(tmp_path / "images", TWO), os.scandir

    def closed(path):
        if Path(path).name == "disc":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(walk.os, "scandir", closed)
    refused(f"folder:{root}", r"folder .*disc' cannot be looked through: permission denied. Make it readable")


# --- copies -----------------------------------------------------------------------------------------------------------


def test_copies_of_test_leave_val_and_train_and_copies_of_val_leave_train(tmp_path):
    root = tmp_path / "images"
    for part, first in (("train", 0), ("val", 15), ("test", 20)):  # 0-19, 15-24, 20-29
        fill(root / part, {"bar": 20 if part == "train" else 10, "disc": 10}, first=first)
    save(root / "train" / "bar" / "copy.bmp", picture("bar", 29))
    source = data.describe(f"folder:{root}")
    assert counts(source) == {"train": [15, 10], "val": [5, 5], "test": [10, 10]}
    assert source.same == {
        "left out of val, also in test": 10, "left out of train, also in test": 1, "left out of train, also in val": 5,
    }  # fmt: skip
    bar = {number: picture("bar", number).tobytes() for number in range(30)}
    for split, numbers in (("train", range(15)), ("val", range(15, 20)), ("test", range(20, 30))):
        pixels = source.pixels(split, len(source.labels[split]))[source.labels[split] == 0]
        assert {one.tobytes() for one in pixels} == {bar[number] for number in numbers}


def test_where_we_split_equal_images_go_together(tmp_path):
    root = fill(tmp_path / "images", TWO)
    for number in range(20):  # everything three times
        for copy in "xy":
            save(root / "bar" / f"{copy}{number}.png", picture("bar", number))
    source = data.describe(f"folder:{root}")
    assert counts(source) == {"train": [51, 16], "val": [3, 2], "test": [6, 2]}  # 10 % of 54 is one three
    assert source.same == {"kept beside an equal one of the same split": 40}
    sets = [{one.tobytes() for one in source.pixels(s, len(source.labels[s]))} for s in data.SPLITS]
    assert sum(map(len, sets)) == len(set().union(*sets)) == 40


def test_equal_images_of_two_classes_are_refused_across_splits_too(tmp_path):
    root = tmp_path / "images"
    fill(root / "train", TWO), fill(root / "test", {"bar": 5, "disc": 5}, first=100)
    save(root / "test" / "disc" / "wrong.png", picture("bar", 7))
    refused(f"folder:{root}", r"'train/bar/007.png' and 'test/disc/wrong.png' are the same image in two classes \(1 ")
    kept = data.describe(f"folder:{root}?same=keep")
    assert kept.same == {"left out of train, also in test": 1} and counts(kept)["test"] == [5, 6]


def test_a_class_that_copies_leave_empty_is_named(tmp_path):
    root = fill(tmp_path / "images", {"bar": 20, "disc": 1})
    for number in range(9):
        save(root / "disc" / f"x{number}.png", picture("disc", 0))
    refused(f"folder:{root}", "class 'disc' has no image left for .*: it has 1 different images")


def test_held_out_groups_are_whole_and_last_and_near_their_share():
    labels = np.repeat([0, 1], 20)
    for groups in (None, np.arange(40)):  # without equal images as without groups
        kept, out = carve(labels, 0.1, groups)
        assert sorted(out) == [18, 19, 38, 39] and len(kept) == 36
    pairs = np.arange(40) // 2
    assert sorted(carve(labels, 0.1, pairs)[1]) == [18, 19, 38, 39]
    uneven = pairs.copy()
    uneven[10:20] = 5  # the last ten of class 0 are one group, too large for two
    assert sorted(carve(labels, 0.1, uneven)[1]) == [8, 9, 38, 39]
    across = np.where(np.arange(40) == 0, 19, pairs)  # the first of class 0 equals the last two of class 1
    assert sorted(carve(labels, 0.1, across)[1]) == [0, 18, 19, 38, 39]
    whole = np.repeat([0, 1, 2], [20, 10, 10])
    assert sorted(carve(labels, 0.1, whole)[1]) == [*range(20), *range(30, 40)]  # nothing smaller is there to hold


# --- sizes and pixels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "read"), [(7, False), (8, True), (96, True), (97, False)])
def test_outside_8_to_96_pixels_a_size_must_be_asked_for(tmp_path, side, read):
    root = fill(tmp_path / "images", {"bar": 4, "disc": 4}, side=side)
    if read:
        assert data.describe(f"folder:{root}").shape == (1, side, side)
    else:
        refused(f"folder:{root}", rf"{side} x {side} pixels.*kdlab data 'folder:{root}\?size=")
    assert data.describe(f"folder:{root}?size=12x20").shape == (1, 20, 12)
    assert data.facts(f"folder:{root}?size=12x20")["size"] == 20


def test_pixels_are_those_of_the_reader_of_one_file(tmp_path):
    root = fill(tmp_path / "images", TWO, side=40)
    save(root / "bar" / "rgb.png", np.dstack([picture("bar", k, 40) for k in (30, 31, 32)]))
    source = data.describe(f"folder:{root}?size=16x12")
    files = sorted((root / "bar").iterdir()) + sorted((root / "disc").iterdir())
    for split in data.SPLITS:
        for row, pixels in zip(source.rows[split], source.pixels(split, 99), strict=True):
            assert np.array_equal(pixels, image.decode(files[row], 3, 16, 12))
    assert "40 grey images are read as colour" in source.notes


def test_grey_icons_stay_grey_unless_their_background_is_a_colour(tmp_path):
    for label in TWO:
        for number in range(5):
            pixels = np.dstack([np.full((16, 16), 9, np.uint8), picture(label, number)])
            save(tmp_path / "images" / label / f"{number}.png", pixels)
    name = f"folder:{tmp_path}/images"
    white, black, red = (data.describe(name + more) for more in ("", "?background=black", "?background=#ff0000"))
    assert (white.shape[0], black.shape[0], red.shape[0]) == (1, 1, 3)
    assert white.pixels("train", 9).mean() > 150 > 20 > black.pixels("train", 9).mean()
    assert red.notes == ("10 grey images are read as colour", "10 images with transparency were laid on #ff0000")


def test_files_without_a_range_share_the_largest_value_of_the_set(tmp_path):
    for label in TWO:
        for number in range(5):
            save(tmp_path / "images" / label / f"{number}.tif", picture(label, number).astype(np.float32) * 2)
    save(tmp_path / "images" / "disc" / "top.tif", np.full((16, 16), 1020, np.float32))
    source = data.describe(f"folder:{tmp_path}/images")
    assert source.notes == ("11 images of open range were scaled by the set's largest value, 1020",)
    row, pixels = source.rows["train"][0], source.pixels("train", 1)[0, 0]
    label = source.classes[source.labels["train"][0]]
    assert np.abs(pixels - picture(label, row % 5) / 510 * 255.0).max() <= 0.51


# --- fingerprints and what is kept ------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_pixels_labels_and_class_names_not_of_files(tmp_path, monkeypatch):
    root = fill(tmp_path / "images", TWO)
    name = f"folder:{root}"
    before = data.fingerprint(name)
    assert data.load(name).train.fingerprint == before
    for file in (root / "bar").iterdir():
        os.utime(file, (1, 1))
        Image.open(file).save(file, compress_level=0)
    (root / "bar" / "notes.txt").write_text("x")
    assert data.fingerprint(name) == data.fingerprint(f"{name}?size=16") == before
    assert data.fingerprint(f"{name}?size=12") != before
    (root / "bar").rename(root / "baz")
    renamed = data.fingerprint(name)
    (root / "baz").rename(root / "bar")
    assert renamed != before == data.fingerprint(name)
    pixels = picture("bar", 0)
    pixels[0, 0] ^= 1
    save(root / "bar" / "000.png", pixels)
    assert data.fingerprint(name) != before
    save(root / "bar" / "000.png", picture("bar", 0))
    monkeypatch.setattr(data.folder, "REVISION", decoded.REVISION + 1)
    assert data.fingerprint(name) != before


def test_a_reader_of_files_has_a_revision(monkeypatch):
    before = data.fingerprint("fashion")
    files, read, revision = data.READERS["fashion"]
    monkeypatch.setitem(data.READERS, "fashion", (files, read, revision + 1))
    assert data.fingerprint("fashion") != before


def test_answers_follow_the_files_within_one_process(tmp_path):
    root = fill(tmp_path / "images", {"bar": 10, "disc": 1})
    refused(f"folder:{root}", "class 'disc' has 1 images")
    fill(root, {"disc": 10})
    first = data.facts(f"folder:{root}")
    fill(root, {"disc": 10}, first=10)
    second = data.facts(f"folder:{root}")
    assert (first["train"], second["train"]) == (16, 24) and second["per_class"] == [8, 16]
    save(root / "disc" / "003.png", np.dstack([picture("disc", 3)] * 3))
    assert data.facts(f"folder:{root}")["channels"] == 3
    (root / "disc" / "003.png").unlink()
    assert data.facts(f"folder:{root}")["channels"] == 1


@pytest.fixture
def decodes(monkeypatch):
    """Which files are decoded."""
    seen, decode = [], image.decode
    monkeypatch.setattr(image, "decode", lambda file, *a, **k: seen.append(Path(file).name) or decode(file, *a, **k))
    return seen


def kept():
    return sorted((paths.home() / "data").glob("*"))


def test_images_are_decoded_once_for_every_process(tmp_path, decodes):
    name = f"folder:{fill(tmp_path / 'images', TWO)}"
    train = data.load(name).train
    assert len(decodes) == 40 and len(kept()) == 1
    assert data.load(name).train.images.equal(train.images) and len(decodes) == 40
    script = (
        "import sys; from kdlab import data; from kdlab.data import image; image.decode = image.header = None;"
        "print(data.fingerprint(sys.argv[1]), data.describe(sys.argv[1]).pixels('train', 9).sum());"
        "assert 'torch' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", script, name], capture_output=True, text=True, check=True).stdout
    assert said.split() == [train.fingerprint, str(train.images[:9].sum().item())]
    os.utime(tmp_path / "images" / "bar" / "000.png", (1, 1))
    assert data.fingerprint(name) == train.fingerprint and len(decodes) == 80 and len(kept()) == 1


@pytest.mark.parametrize("damage", ["half", "empty", "head", "tail", "pixel", "gone", "junk"])
def test_a_damaged_copy_is_made_again(tmp_path, decodes, damage):
    name = f"folder:{fill(tmp_path / 'images', TWO)}"
    right, source = data.load(name), data.describe(name)
    (file,) = kept()
    whole = file.read_bytes()
    broken = {
        "half": whole[: len(whole) // 2], "empty": b"", "head": b"x" + whole[1:], "tail": whole[:-20],
        "junk": whole[:-30] + b"{" + whole[-29:], "pixel": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
    }  # fmt: skip
    file.write_bytes(broken[damage]) if damage != "gone" else file.unlink()
    assert np.array_equal(source.pixels("train", 99), right.train.images)  # held from before
    file.write_bytes(broken[damage]) if damage != "gone" else file.unlink()
    for got, want in zip(data.load(name), right, strict=True):
        assert got.images.equal(want.images) and got.fingerprint == want.fingerprint
    assert len(decodes) > 40 and file.read_bytes() == whole


def test_files_that_change_while_they_are_read_are_said(tmp_path):
    root = fill(tmp_path / "images", TWO)
    source = data.describe(f"folder:{root}")
    kept()[0].unlink()
    save(root / "bar" / "003.png", picture("bar", 99))
    with pytest.raises(SpecError, match="changed while they were read. Try again"):
        source.pixels("train", 1)


@pytest.mark.parametrize("fault", ["read-only", "full"])
def test_what_cannot_be_kept_is_read_all_the_same(tmp_path, monkeypatch, fault, decodes):
    name = f"folder:{fill(tmp_path / 'images', TWO)}"
    right = data.load(name).train
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "other"))
    if fault == "read-only":
        (tmp_path / "other").write_text("a file where a folder should be made")
    else:
        monkeypatch.setattr(image_cache.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "no space left")))
    before = len(decodes)
    assert data.load(name).train.images.equal(right.images) and data.load(name).train.fingerprint == right.fingerprint
    assert len(decodes) - before == {"read-only": 40, "full": 80}[fault]  # the last folder stays in memory
    assert fault == "read-only" or not kept()


def test_a_file_that_breaks_while_it_is_decoded_leaves_nothing_behind(tmp_path):
    root = fill(tmp_path / "images", TWO)
    whole = (root / "bar" / "007.png").read_bytes()
    (root / "bar" / "007.png").write_bytes(whole[:-60])
    (root / "disc" / "011.png").write_bytes(whole[:-60])
    refused(f"folder:{root}", r"bar.007\.png' cannot be read.*nor are 1 more that cannot be read: '011\.png'")
    assert not kept()


def test_files_of_open_range_are_scaled_by_the_set_and_two_types_of_them_are_refused(tmp_path):
    for label, top in (("a", 3.0), ("b", 12.0)):
        (tmp_path / label).mkdir()
        for k in range(6):
            values = np.arange(256, dtype=np.float32).reshape(16, 16) / 255 * top
            values[0, 1] += k / 50  # no two alike
            Image.fromarray(values).save(tmp_path / label / f"{k}.tif")
    name = f"folder:{tmp_path}"
    source = data.describe(name)
    darkest = {
        int(label): image.max() for label, image in zip(source.labels["train"], source.pixels("train", 8), strict=True)
    }
    assert darkest == {0: 64, 1: 255}, "3 of 12 is a quarter of white, in every image of the class"
    assert any("12 images of open range were scaled by the set's largest value, 12" in note for note in source.notes)
    Image.fromarray(np.full((16, 16), 70000, np.int32)).save(tmp_path / "a" / "whole.tif")
    with pytest.raises(SpecError, match="whole numbers .*whole.tif.* and some floating point .*which value is white"):
        data.describe(name)


def test_parts_of_a_set_that_look_like_classes_are_remarked(tmp_path):
    for k, part in enumerate(("fold1", "fold2")):
        fill(tmp_path / "parts" / part, {"cat": 5, "dog": 5}, first=100 * k)
    source = data.describe(f"folder:{tmp_path / 'parts'}")
    assert source.classes == ("fold1", "fold2")
    assert any("every class folder holds the same folders (cat, dog)" in note for note in source.notes)
    fill(tmp_path / "parts" / "fold2", {"owl": 5})
    assert not any("same folders" in note for note in data.describe(f"folder:{tmp_path / 'parts'}").notes)


def test_deep_images_of_a_narrow_range_are_said(tmp_path):
    """10 bits in a 16-bit file: scaled by the type's range four levels are left, which is said, not hidden."""
    for label, first in (("a", 0), ("b", 50)):
        (tmp_path / label).mkdir()
        for k in range(6):
            values = np.full((16, 16), 1020, np.uint16)
            values[k, : first // 10 + k] = 0
            Image.fromarray(values).save(tmp_path / label / f"{k}.png")
    source = data.describe(f"folder:{tmp_path}")
    assert source.pixels("train", 4).max() == 4  # round(1020 / 257)
    assert any("the brightest pixel is 4 of 255" in note and "at most 5 levels" in note for note in source.notes)
    for label, value in (("a", 100), ("b", 120)):
        Image.fromarray(np.full((16, 16), value, np.uint16)).save(tmp_path / label / "dark.png")
    with pytest.raises(
        SpecError, match="'.*dark.png' and '.*dark.png' have the same pixels as read: the brightest pixel"
    ):
        data.describe(f"folder:{tmp_path}")


def test_what_is_true_of_one_class_alone_is_said(tmp_path):
    fill(tmp_path, {"small": 6}, side=12)
    fill(tmp_path, {"large": 8})
    notes = data.describe(f"folder:{tmp_path}").notes
    assert "6 of 14 images were resized to 16 x 16 pixels, which most have, all of class 'small'" in notes
