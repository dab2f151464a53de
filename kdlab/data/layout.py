"""The layout of a folder of images: which files belong to which class and split; no file is opened."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from kdlab.data.names import PREFIX, printable
from kdlab.data.walk import ClassFolder, File, folders_in, images_in, os_reason, walk
from kdlab.errors import SpecError

LAYOUT = "one sub-folder of images per class, or train/ and test/ (and val/) with such sub-folders"
WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
ROLES = {word + ending: role for role, words in WORDS.items() for word in words for ending in ("", "set", "data")}
UNCLEAR = ("trainval", "holdout", "heldout", "hold", "held", "unseen")  # names of a split that could be val or test
FILLING = {
    "images", "image", "imgs", "img", "pictures", "pics", "photos", "set", "data", "dataset", "split", "folder", "out",
}  # fmt: skip
BESIDE = "images beside the class folders"


@dataclass
class Layout:
    """A folder's images by split and class.

    Args:
        classes: their names, sorted.
        files: split (``"train"``, ``"val"``, ``"test"``, or ``""`` where nothing is split) to a list per class.
        left_out: reason to number of files.
        notes: what may have been taken for something else, as sentences.
    """

    classes: list[str]
    files: dict[str, list[list[File]]]
    left_out: Counter = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def find(path: str, name: str) -> Layout:
    """Look through a folder.

    Splits are known by the names that people give them, in any case and with words like "images" or a year around
    them, also one level below a single wrapping folder. Names that begin with "." and what systems leave behind
    are skipped at any depth; folders within a class are looked through, links to folders once.

    Args:
        path: of the folder.
        name: of the data, for messages.

    Raises:
        SpecError: when it is no folder, cannot be listed, or has no layout that can be learned from.
    """
    root = Path(path)
    _check_folder(root, name)
    layout = Layout([], {})
    parts, beside = _parts(root, name, layout.left_out)
    held = {split: _classes(folder, split, name, layout.left_out) for split, folder in parts.items()}
    layout.classes = sorted(set().union(*held.values()))
    odd = {split: sorted(set(layout.classes) - set(classes)) for split, classes in held.items()}
    if any(odd.values()):
        said = "; ".join(f"{split} lacks {', '.join(map(repr, lacking))}" for split, lacking in odd.items() if lacking)
        raise SpecError(f"data {name!r}: every split needs the same class folders, but {said}.")
    for folder in beside:
        layout.left_out[f"images in {printable(folder.name)!r}, beside the splits"] += len(walk(folder).files)
    layout.notes = _notes(layout.classes, next(iter(held.values())))
    found = {split: [walk(classes[label]) for label in layout.classes] for split, classes in held.items()}
    _check(name, layout.classes, found)
    for labels in found.values():
        for one in labels:
            layout.left_out.update(one.left_out)
    layout.left_out = +layout.left_out
    layout.files = {split: [one.files for one in labels] for split, labels in found.items()}
    return layout


def _check_folder(root: Path, name: str) -> None:
    try:
        os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        raise SpecError(f"data {name!r}: the folder {str(root)!r} does not exist; it should hold {LAYOUT}.") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"data {name!r}: {str(root)!r} cannot be a folder: {os_reason(error)}.") from error
    if not root.is_dir():
        packed = root.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
        todo = "unpack it first, and name the folder" if packed else "name the folder that it lies in"
        raise SpecError(f"data {name!r}: {str(root)!r} is a file: {todo}, which should hold {LAYOUT}.")


# --- splits -----------------------------------------------------------------------------------------------------------


def role(name: str) -> tuple[str | None, tuple[str, ...]]:
    """(split, the rest) of a folder's name: ("train", ()) for ``Train_images2017``; the split is None for a class.

    A name that could be several splits gives ``"unclear"``.
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    rest = tuple(word for word in words if word not in ROLES and word not in UNCLEAR and word not in FILLING)
    splits = {ROLES.get(word, "unclear") for word in words if word in ROLES or word in UNCLEAR}
    if not splits:
        return None, rest
    return (splits.pop() if len(splits) == 1 else "unclear"), rest


def _parts(root: Path, name: str, left_out: Counter) -> tuple[dict[str, Path], list[Path]]:
    """(split to its folder, folders beside the splits); ``{"": root}`` where nothing is split."""
    folders, base = folders_in(root), root
    parts = _splits(folders, name)
    if parts is None and len(folders) == 1:
        left_out[BESIDE] += images_in(root)
        base, below = folders[0], folders_in(folders[0])
        parts = None if role(folders[0].name)[0] else _splits(below, name)
        if parts is None:
            _refuse_level(root, name)
        folders = below
    if parts is None:
        return {"": root}, []
    left_out[BESIDE] += images_in(base)
    used = set(parts.values())
    return {split: _unwrapped(folder, split) for split, folder in parts.items()}, [f for f in folders if f not in used]


def _splits(folders: list[Path], name: str) -> dict[str, Path] | None:
    """Split to folder, or None where the folders are classes.

    Raises:
        SpecError: for folders that are named like splits but are not a set of them.
    """
    roles = {folder: role(folder.name) for folder in folders}
    named = {folder: split for folder, (split, _) in roles.items() if split}
    if not named or len(folders) == 1:
        return None
    alike = len({roles[folder][1] for folder in named}) == 1
    found = set(named.values())
    if alike and len(found) == len(named) > 1 and "train" in found and "unclear" not in found:
        return {split: folder for split in WORDS for folder in named if named[folder] == split}
    bare = [folder for folder in named if not roles[folder][1]]
    pairs = Counter(rest for rest, _ in {(roles[folder][1], named[folder]) for folder in named})
    if not bare and max(pairs.values()) < 2:
        return None  # a class may be a steam train
    listed, odd = ", ".join(printable(folder.name) for folder in folders[:8]), printable((bare or list(named))[0].name)
    raise SpecError(
        f"data {name!r}: its folders {listed} are named like splits, but are no train/ with test/ or val/, once each. "
        f"It should hold {LAYOUT}. If {odd!r} is a class, rename its folder."
    )


def _unwrapped(folder: Path, split: str) -> Path:
    """``train/train/`` as archives unpack: the inner one."""
    folders = folders_in(folder)
    again = len(folders) == 1 and not images_in(folder) and role(folders[0].name)[0] == split
    return folders[0] if again else folder


def _refuse_level(root: Path, name: str) -> None:
    inner, folders = root, folders_in(root)
    first = printable(folders[0].name)
    while len(folders) == 1 and (below := folders_in(folders[0])):
        inner, folders = folders[0], below
    if len(folders) < 2:
        return
    listed = ", ".join(printable(folder.name) for folder in folders[:5])
    raise SpecError(
        f"data {name!r}: it holds one folder, {first!r}; what is wanted seems to be "
        f"further down ({listed}). Name that folder: {PREFIX}{inner}"
    )


def _classes(folder: Path, split: str, name: str, left_out: Counter) -> dict[str, Path]:
    """Class name to its folder."""
    folders, loose = folders_in(folder), images_in(folder)
    where = f"its folder {printable(folder.name)!r}" if split else "the folder"
    if not folders:
        seen = f"{loose} images but no class folders" if loose else "no images"
        raise SpecError(f"data {name!r}: {where} holds {seen}; it should hold {LAYOUT}.")
    for label in folders:
        inner = [role(f.name) for f in folders_in(label)]
        if len({split for split, rest in inner if split and not rest}) > 1:
            one = printable(label.name)
            raise SpecError(
                f"data {name!r}: the class folder {one!r} holds splits; put the splits outside and the classes inside, "
                f"train/{one} and test/{one}."
            )
    left_out[BESIDE] += loose
    classes = {printable(label.name): label for label in folders}
    if len(classes) < 2:
        raise SpecError(f"data {name!r}: there is only one class, {next(iter(classes))!r}; at least two are needed.")
    if len(classes) < len(folders):
        raise SpecError(f"data {name!r}: two class folders in {where} have names that cannot be told apart.")
    return classes


def _notes(classes: list[str], folders: dict[str, Path]) -> list[str]:
    """Whether the classes may be parts of a set and the classes stand within: fold1/cat, fold1/dog, fold2/cat ..."""
    inner = {tuple(sorted(printable(folder.name) for folder in folders_in(folders[label]))) for label in classes}
    within = inner.pop()
    if inner or len(within) < 2:
        return []
    return [
        f"every class folder holds the same folders ({', '.join(within[:5])}): if these are the classes, and "
        f"{', '.join(classes[:3])} parts of the set, put the parts together or name them train, val and test"
    ]


def _check(name: str, classes: list[str], found: dict[str, list[ClassFolder]]) -> None:
    """Refuse what cannot be trained and tested on, saying what was in the folder."""
    everything = sum((one.left_out for labels in found.values() for one in labels), Counter())
    if not any(one.files for labels in found.values() for one in labels):
        raise SpecError(
            f"data {name!r}: the folder holds no images, {_inventory(everything)}; it should hold {LAYOUT}."
        )
    whole = {"": 3, "train": 4 - len(found), "val": 1, "test": 1}
    for split, labels in found.items():
        for label, one in zip(classes, labels, strict=True):
            if len(one.files) < whole[split]:
                also = _inventory(one.left_out) if one.left_out or not one.files else "nothing else is in it"
                raise SpecError(
                    f"data {name!r}: class {label!r} has {len(one.files)} images in {split or 'the folder'}: {also}. "
                    f"Every class needs at least {whole[split]} to fill the splits."
                )


def _inventory(left_out: Counter) -> str:
    """What lies in a folder besides images, and what to do about it."""
    if not left_out:
        return "it is empty"
    said = "it holds " + " and ".join(f"{count} {reason}" for reason, count in left_out.most_common())
    if "cannot read" in said:
        said += " (convert them to JPEG or PNG" + (", or install pillow-heif)" if ".hei" in said else ")")
    return said
