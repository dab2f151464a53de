"""Folders as people have them, each with one oddity: what is read of it, or with which sentence it is refused."""

import os
from dataclasses import dataclass, field

import numpy as np
import pytest
from images import fill, picture, save
from PIL import Image

from kdlab import data
from kdlab.errors import SpecError

HIDDEN = "hidden images (in or under a name that begins with '.')"
PAGES = "pages after a file's first (?pages=all takes each as an image)"


def plain8(root):
    fill(root, {"bar": 20, "disc": 20})


def deep16(root):
    for label in ("bar", "disc"):
        for number in range(20):
            save(root / label / f"{number:03d}.png", picture(label, number).astype(np.uint16) * 257)


def icons(root):
    """The picture is in the alpha channel of black, as design tools export; no two are equal."""
    for label in ("bar", "disc"):
        for number in range(20):
            pixels = np.zeros((16, 16, 4), np.uint8)
            pixels[..., 3] = picture(label, number)
            save(root / label / f"{number:03d}.png", pixels)


def icons_on_white(root):
    for label in ("bar", "disc"):
        for number in range(20):
            save(root / label / f"{number:03d}.png", np.dstack([255 - picture(label, number)] * 3))


def half_turned(root):
    """Every second photo is stored on its side, with orientation 6."""
    for label in ("bar", "disc"):
        for number in range(20):
            pixels, exif = picture(label, number), Image.Exif()
            if number % 2:
                pixels, exif[0x0112] = np.rot90(pixels), 6
            save(root / label / f"{number:03d}.png", pixels, exif=exif)


def train_and_val(root):
    fill(root / "train", {"bar": 40, "disc": 40})
    fill(root / "val", {"bar": 10, "disc": 10}, first=500)


def checkpoints(root):
    fill(root, {"a": 20, "b": 20})
    for label in "ab":
        fill(root / label, {".ipynb_checkpoints": 20})


def train_in_test(root):
    fill(root / "train", {"bar": 30, "disc": 30})
    fill(root / "test", {"bar": 10, "disc": 10})


def two_labels(root):
    fill(root, {"bar": 20, "disc": 20})
    for number in range(5):
        save(root / "bar" / f"x{number}.png", picture("disc", number))


def two_labels_kept(root):
    two_labels(root)
    return "?same=keep"


def jfif(root):
    fill(root, {"bar": 20, "disc": 10})
    fill(root, {"disc": 10}, first=10, suffix=".jfif")


def heic(root):
    fill(root, {"disc": 20, "bar": 0})
    for number in range(7):
        (root / "bar" / f"IMG_{number:04d}.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))


def linked(root):
    fill(root, {"bar": 20, "disc": 20})
    fill(root.parent / "elsewhere", {"disc": 20}, first=900)
    (root / "disc" / "2024").symlink_to(root.parent / "elsewhere" / "disc")
    (root / "disc" / "again").symlink_to(root.parent / "elsewhere" / "disc")
    (root / "disc" / "around").symlink_to(root)
    (root / "disc" / "gone.png").symlink_to(root / "nowhere.png")


def pages(root):
    for label in ("bar", "disc"):
        (root / label).mkdir(parents=True)
        for number in range(6):
            first, *others = [Image.fromarray(picture(label, number + 10 * page)) for page in range(5)]
            first.save(root / label / f"{number}.tif", save_all=True, append_images=others)


def all_pages(root):
    pages(root)
    return "?pages=all"


def photos(root):
    for label in ("bar", "beam"):
        for number in range(10):
            pixels = np.full((900, 1200, 3), 10, np.uint8)
            pixels[..., 0], pixels[..., 2] = number * 20, 200 if label == "bar" else 20
            save(root / label / f"{number:03d}.jpg", pixels)


def photos_at_32(root):
    photos(root)
    return "?size=32"


def one_map(root):
    fill(root, {"bar": 20, "disc": 20})
    Image.new("1", (14000, 14000), 1).save(root / "disc" / "map.png")


def one_pixel(root):
    for label in ("bar", "beam"):
        for number in range(10):
            save(root / label / f"{number}.png", np.full((1, 1), number, np.uint8))


def latin1(root):
    fill(root, {"bar": 20, "disc": 20})
    os.rename(os.fsencode(root / "disc" / "000.png"), os.fsencode(root / "disc") + b"/caf\xe9.png")


def apple(root):
    fill(root, {"bar": 20, "disc": 20})
    for number in range(6):
        (root / "disc" / f"._{number:03d}.png").write_bytes(b"\0\5\26\7" + bytes(100))
    (root / "disc" / "Thumbs.db").write_bytes(bytes(100))
    fill(root / "__MACOSX", {"disc": 3})


def folder_named_jpg(root):
    fill(root, {"bar": 20, "disc": 20})
    (root / "disc" / "holiday.jpg").mkdir()


def question_mark(root):
    fill(root.with_name("photos? (2024)"), {"bar": 20, "disc": 20})
    return root.with_name("photos? (2024)")


def too_high(root):
    fill(root / "photos", {"bar": 20, "disc": 20})


def imbalanced(root):
    fill(root, {"disc": 100, "bar": 5})


def renamed(root):
    plain8(root)
    (root / "bar").rename(root / "Balken")


def four_by_forty(root):
    fill(root, {"bar": 40, "beam": 40, "disc": 40})
    fill(root, {"dot": 40}, side=12)


@dataclass
class Read:
    classes: str
    train: list[int]  # images of each class
    val: list[int]
    test: list[int]
    shape: tuple[int, int, int] = (1, 16, 16)
    left_out: dict[str, int] = field(default_factory=dict)
    same: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


TWO = Read("bar disc", [16, 16], [2, 2], [2, 2])
CASES = {
    "shapes8": (plain8, TWO),
    "shapes16": (
        deep16,
        Read("bar disc", [16, 16], [2, 2], [2, 2],
             notes=("40 images of mode I;16 were scaled to 8 bits by their full range",)),
    ),
    "shapesalpha": (
        icons,
        Read("bar disc", [16, 16], [2, 2], [2, 2], (3, 16, 16),
             notes=("40 images with transparency were laid on white",)),
    ),
    "shapesexif": (
        half_turned,
        Read("bar disc", [16, 16], [2, 2], [2, 2], notes=("20 images were turned by their EXIF orientation",)),
    ),
    "trainval": (
        train_and_val,
        Read("bar disc", [36, 36], [10, 10], [4, 4],
             notes=("there is no test folder: 10% of each class of train became test",)),
    ),
    "hidden_copies": (checkpoints, Read("a b", [16, 16], [2, 2], [2, 2], left_out={HIDDEN: 40})),
    "same_in_train_and_test": (
        train_in_test,
        Read("bar disc", [18, 18], [2, 2], [10, 10], same={"left out of train, also in test": 20},
             notes=("there is no val folder: 10% of each class of train became val",)),
    ),
    "same_in_two_classes": (
        two_labels,
        r"'bar/x0.png' and 'disc/000.png' are the same image in two classes \(5 such images\).*\?same=keep",
    ),
    "same_in_two_classes?same=keep": (
        two_labels_kept,
        Read("bar disc", [21, 16], [2, 2], [2, 2], same={"kept beside an equal one of the same split": 5}),
    ),
    "jfif": (jfif, TWO),
    "heic_only": (heic, r"class 'bar' has 0 images.*it holds 7 \.heic files, which this Pillow cannot read \(convert"),
    "linked": (
        linked,
        Read("bar disc", [16, 32], [2, 4], [2, 4],
             left_out={"links to folders that were met before": 2, "links that lead nowhere": 1}),
    ),
    "multipage": (pages, Read("bar disc", [4, 4], [1, 1], [1, 1], left_out={PAGES: 48})),
    "multipage?pages=all": (
        all_pages,
        Read("bar disc", [20, 20], [5, 5], [5, 5],
             notes=("48 pages after a file's first are images too; pages of one file stay in one split",)),
    ),
    "photos_12_megapixels": (photos, r"1200 x 900 pixels \(20 of 20 do\), and above 96 a side.*images\?size=32'"),
    "photos_12_megapixels?size=32": (
        photos_at_32,
        Read("bar beam", [8, 8], [1, 1], [1, 1], (3, 32, 32),
             notes=("20 of 20 images were resized to 32 x 32 pixels; most have 1200 x 900",)),
    ),
    "one_map_of_196_megapixels": (one_map, r"disc.map\.png' has 196 megapixels"),
    "one_pixel": (one_pixel, r"1 x 1 pixels \(20 of 20 do\), and below 8 a side.*images\?size=8'"),
    "latin1_file": (latin1, TWO),
    "apple": (apple, Read("bar disc", [16, 16], [2, 2], [2, 2], left_out={HIDDEN: 6})),
    "folder_named_jpg": (folder_named_jpg, TWO),
    "photos? (2024)": (question_mark, TWO),
    "level_too_high": (too_high, r"one folder, 'photos'; .*\(bar, disc\)\. Name that folder: folder:.*images/photos"),
    "imbalanced": (imbalanced, Read("bar disc", [3, 81], [1, 9], [1, 10])),
    "two": (plain8, TWO),
    "two_renamed": (renamed, Read("Balken disc", [16, 16], [2, 2], [2, 2])),
    "four_by_forty": (
        four_by_forty,
        Read("bar beam disc dot", [32] * 4, [4] * 4, [4] * 4,
             notes=("40 of 160 images were resized to 16 x 16 pixels, which most have, all of class 'dot'",)),
    ),
}  # fmt: skip


def named(build, tmp_path) -> str:
    """Build a case; the name of its data."""
    where = build(tmp_path / "images")
    return (
        f"folder:{tmp_path / 'images'}{where}" if isinstance(where, str) else f"folder:{where or tmp_path / 'images'}"
    )


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_read_or_refused_as_it_should_be(case, tmp_path):
    build, outcome = CASES[case]
    name = named(build, tmp_path)
    if isinstance(outcome, str):
        for ask in (data.facts, data.fingerprint, data.describe, data.load):
            with pytest.raises(SpecError, match=outcome) as refused:
                ask(name)
            assert "\n" not in str(refused.value)
        return
    source, facts = data.describe(name), data.facts(name)
    counts = [np.bincount(source.labels[split]).tolist() for split in data.SPLITS]
    got = Read(" ".join(source.classes), *counts, source.shape, source.left_out, source.same, source.notes)
    assert got == outcome
    assert [facts[split] for split in data.SPLITS] == [sum(outcome.train), sum(outcome.val), sum(outcome.test)]
    shown = [{image.tobytes() for image in source.pixels(s, len(source.labels[s]))} for s in data.SPLITS]
    assert not (shown[0] & shown[2] or shown[1] & shown[2] or shown[0] & shown[1])


@pytest.mark.parametrize(("odd", "sane"), [(deep16, plain8), (icons, icons_on_white), (half_turned, plain8)])
def test_a_twin_reads_as_the_same_pixels_and_has_the_same_fingerprint(odd, sane, tmp_path):
    one, other = named(odd, tmp_path / "odd"), named(sane, tmp_path / "sane")
    assert data.fingerprint(one) == data.fingerprint(other)
    for mine, theirs in zip(data.load(one), data.load(other), strict=True):
        assert mine.images.equal(theirs.images) and mine.labels.equal(theirs.labels)
    assert len(data.load(one).train.images.unique()) > 50
