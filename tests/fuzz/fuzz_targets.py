"""What is fuzzed: for each kind of input that people give, how to make odd ones, and what takes them.

A target is a hypothesis strategy and a function ``(value, folder)`` that must end, or raise ``SpecError`` with a
sentence. Everything runs in this process; no kernel is started and nothing trains.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from ipywidgets import Widget
from PIL import Image
from safetensors.torch import save as safetensors_bytes
from traitlets import TraitError
from typer.main import get_command

from kdlab import data, lab, models, paths, perspectives, report, widgets
from kdlab.cli import main
from kdlab.cli.app import app
from kdlab.cli.working_copy import working_copy
from kdlab.data import visitors
from kdlab.data.image import decode
from kdlab.errors import SpecError, from_json
from kdlab.lab import damage, ledger, merging, query, tidying
from kdlab.lab.checkpoint import checkpoint
from kdlab.lab.costs import Costs
from kdlab.lab.networks import describe_checkpoints
from kdlab.lab.store import Store
from kdlab.models import contents
from kdlab.report import pages, readme
from kdlab.spec import Budget, Checkpoint, Optimiser, RunSpec

CHECKOUT = Path(__file__).parents[2]
Target = Callable[[Any, Path], Any]

# ---- values ----------------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-3, 5), st.integers(), st.floats(), st.booleans(), st.sampled_from([0.5, 1e-9, 64, 120, 10**30]),
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from([
        "", "kd", "ce", "jda", "weak", "fashion", "quick", "smoke", "resnet8_s2_w8", "epochs", "folder:", "folder:.",
        "../x", "/dev/null/x", "a:B", "os:system", "nan", "inf", "1e999", "-1", "0", "None", "[", "'", "\x00", "%s",
        "{0}", "a" * 3000, "x=1", "?weights=ema", "é", "\ud800".encode("utf-8", "replace").decode(), "__import__",
    ]),
)  # fmt: skip
LEAVES = st.one_of(st.none(), NUMBERS, TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3), st.tuples(inner, inner)
    ),
    max_leaves=6,
)


@st.composite
def changed(draw: Any, plain: Any) -> Any:
    """A json-like value of which one place, or a few, is another value, gone or there twice."""
    value = json.loads(json.dumps(plain))
    for _ in range(draw(st.integers(1, 3))):
        place, at = value, None
        while isinstance(place, dict | list) and place:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            holder, at = place, draw(st.sampled_from(keys))
            place = holder[at]
            if draw(st.booleans()) and isinstance(place, dict | list):
                continue
            if draw(st.integers(0, 3)):
                holder[at] = draw(st.one_of(VALUES, VALUES, VALUES, DEEP))
            else:
                del holder[at]
            break
    return value


DEEP = st.sampled_from([90, 300, 900, 100_000]).map("nested {}".format)  # lists in lists, which no value could hold


def written(plain: Any) -> str:
    """A json-like value as text, in which ``nested N`` is N lists within each other."""
    return re.sub(r'"nested ([0-9]+)"', lambda found: "[" * int(found[1]) + "]" * int(found[1]), json.dumps(plain))


@st.composite
def damaged(draw: Any, contents: dict[str, bytes]) -> tuple[str, bytes]:
    """The name and the bytes of a file that is cut, changed at some places, or has bytes put in."""
    name = draw(st.sampled_from(sorted(contents)))
    content = bytearray(contents[name])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(content), draw(st.sampled_from([16, 64, 1 << 30]))) - 1)))
        kind = draw(st.sampled_from(["set", "cut", "insert", "none"]))
        if kind == "cut":
            del content[at:]
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=9))
        elif kind == "set" and content:
            put = draw(st.binary(min_size=1, max_size=4))
            content[at : at + len(put)] = put
    return name, bytes(content)


# ---- specs and parameters --------------------------------------------------------------------------------------------

FIELDS = [field.name for field in dataclasses.fields(RunSpec)]
SPEC = RunSpec(
    sizes=(320, 200, 500), method="kd", budget=Budget(2, "steps", 32), teacher=RunSpec(budget=Budget(2, "steps", 32))
).to_dict()  # fmt: skip
PARTS = st.one_of(
    VALUES,
    st.builds(lambda given: make(Budget, given), st.lists(VALUES, max_size=3)),
    st.builds(lambda given: make(Optimiser, given), st.lists(VALUES, max_size=3)),
    st.builds(lambda given: make(Checkpoint, given), st.lists(VALUES, max_size=3)),
)


def make(kind: type, given: list[Any]) -> Any:
    """A part of a spec, or None where it refuses what it is given."""
    try:
        return kind(*given)
    except (SpecError, TypeError):  # a wrong number of arguments is Python's own mistake to name
        return None


def spec(values: dict[str, Any], folder: Path) -> None:
    """A spec from any values, and its plan."""
    lab.plan([RunSpec(**values)])


def spec_document(plain: Any, folder: Path) -> None:
    """A spec from a json document that somebody edited, its key and its plan."""
    with damage.reading("of somebody", "spec.json"):
        plain = from_json(written(plain))
    lab.plan([RunSpec.from_dict(plain)])


NOTEBOOKS = CHECKOUT / "notebooks"
PARAMETERS = {  # of each notebook that has any, by its path without the ending
    path.relative_to(NOTEBOOKS).with_suffix("").as_posix(): sorted(report.parameters(path))
    for path in sorted(NOTEBOOKS.rglob("*.ipynb")) if '"parameters"' in path.read_text(encoding="utf-8")
}  # fmt: skip


@st.composite
def notebook_parameters(draw: Any) -> tuple[str, list[str]]:
    """A notebook, and words after ``-p`` of which most name one of its parameters."""
    perspective = draw(st.integers(0, 3))
    name = draw(st.sampled_from([name for name in PARAMETERS if name.startswith("perspectives/") or not perspective]))
    pairs = st.builds("{}={}".format, st.sampled_from(PARAMETERS[name]), WORDS)
    return name, draw(st.lists(st.one_of(pairs, pairs, WORDS), max_size=3))


def parameters(asked: tuple[str, list[str]], folder: Path) -> None:
    """``-p key=value`` for a notebook and, for that of a perspective, the study that it asks for."""
    name, words = asked
    values = report.check(NOTEBOOKS / f"{name}.ipynb", words)
    if name.startswith("perspectives/"):
        study = perspectives.study(Path(name).name, **perspectives.parameters({"profile": "smoke"} | values))
        study.folder(values.get("out_dir"))


# ---- the command line ------------------------------------------------------------------------------------------------

WORDS = st.one_of(
    TEXTS,
    NUMBERS.map(str),
    st.sampled_from([
        "few_shot", "dkd", "cutmix", "90m", "decided", "0,1", "cpu", "cuda", "local:2", "tcp://x:1", "folder:photos",
        "photos", "photos/bar/0.png", "x.csv", "x.csv.xz", "ledger.csv.xz", "pipe.csv.xz", "pipe.pt",
    ]),
)  # fmt: skip
COMMANDS = (  # none of these trains, serves, measures or downloads
    ("figures", "--plan"), ("run", "--plan"), ("tune", "--plan"), ("advise", "folder:photos", "--plan"), ("advise",),
    ("methods",), ("augmentations",), ("data",), ("compare",), ("export",), ("runs",), ("runs", "table"),
    ("runs", "export"), ("runs", "merge"), ("runs", "verify"), ("runs", "gc"), ("doctor",), ("bench", "--list"),
)  # fmt: skip
LEFT_OUT = {"lab": "serves", "data --download": "downloads"}  # whole commands, and options


@functools.cache
def options(command: tuple[str, ...]) -> dict[str, bool]:
    """The options of a command, as the parser has them: whether each takes a value."""
    found, name = get_command(app), command[0]
    for word in command:
        found = getattr(found, "commands", {}).get(word, found)
    found = getattr(found, "commands", {}).get("table", found)  # a word that may be left out
    asked = [one for one in found.params if one.param_type_name == "option"]
    return {one.opts[0]: not one.is_flag for one in asked if f"{name} {one.opts[0]}" not in LEFT_OUT}


@st.composite
def command_lines(draw: Any) -> list[str]:
    """A command with options and words, each of which may be right, wrong or missing."""
    command = draw(st.sampled_from(COMMANDS))
    line, known = list(command), options(command)
    for _ in range(draw(st.integers(0, 3))):
        if known and draw(st.integers(0, 4)):
            name = draw(st.sampled_from(sorted(known)))
            line += [name, draw(WORDS)] if known[name] else [name]
        else:
            line.append(draw(WORDS))
    return line


def command_line(words: list[str], folder: Path) -> None:
    """A whole command, as if typed: it ends with a status, and with one sentence where that is 2."""
    if not (folder / "photos").exists():
        photos(folder / "photos")
        for name in ("pipe.csv.xz", "pipe.pt"):
            os.mkfifo(folder / name)
    printed, before = io.StringIO(), sys.argv
    # No argument holds a zero byte; and what is drawn must not be written to, wherever that may be.
    sys.argv = ["kdlab", *(re.sub("^[/~]", "/dev/null/", word.replace("\x00", "")) for word in words)]
    try:
        with contextlib.chdir(folder), contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as end:
        assert end.code in (0, 1, 2, None), end.code
        if end.code == 2:
            assert printed.getvalue().strip().startswith(("kdlab: ", "kdlab ")), printed.getvalue()
    finally:
        sys.argv = before


# ---- files -----------------------------------------------------------------------------------------------------------


def photos(folder: Path) -> Path:
    """A folder of two classes."""
    random = np.random.default_rng(0)
    for label in ("bar", "disc"):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


OPTIONS = st.one_of(st.sampled_from(["size", "size", "background", "same", "pages"]), TEXTS)
ASKED = st.one_of(st.sampled_from(["8", "32x24", "white", "all", "first", "1025", "7", "0x9", "grey"]), WORDS)
FOLDERS = st.lists(st.tuples(OPTIONS, ASKED), max_size=2)


def folder_options(pairs: list[tuple[str, str]], folder: Path) -> None:
    """``folder:PATH?option=value`` of any options."""
    where = folder / "photos"
    if not where.exists():
        photos(where)
    asked = "&".join(f"{name}={value}" for name, value in pairs)
    data.load(f"folder:{where}?{asked}" if asked else f"folder:{where}")


# ---- whole folders

SPLITS = ("train", "test", "val", "Training", "valid", "testing", "trainval", "my train images", "dev")
CLASSES = (
    "bar", "disc", "Bar", "\u00e9", "e\u0301", "a\nb", "b" * 250, ".hidden", "__MACOSX", "train", "set", "images", " ",
    "%s{0}", "\udcff", "-rf", "x?size=9", "a&b", "0", "c.png", "\u202e", "labels",
)  # fmt: skip
ENDINGS = (
    "{}.png", "{}.PNG", "{}.jpg", "{}", ".{}.png", "{}.tar.gz", "{}\n.png", "\udcfe{}.png", f"{{}}{'x' * 240}.png",
)  # fmt: skip
FILES_IN_FOLDERS = {
    "empty": b"", "text": b"no image\n", "labels.csv": b"file,label\n0.png,bar\n", "array.npy": b"\x93NUMPY\x01\x00",
    "Thumbs.db": b"\xd0\xcf", "half": b"\x89PNG\r\n\x1a\n\x00", "drawing.svg": b"<svg/>", "raw.dng": b"II*\x00",
}  # fmt: skip
LINKS = ("nowhere", ".", "..", "../..", "itself", "/dev/zero", "bar", "0.png")


@functools.cache
def picture(number: int) -> bytes:
    """A tiny png; grey where the number is even."""
    random, stream = np.random.default_rng(number), io.BytesIO()
    shape = (8, 9) if number % 2 == 0 else (9, 8, 3)
    Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@st.composite
def trees(draw: Any) -> tuple[list[tuple[str, Any]], str]:
    """The files and links of a folder as people have them, by path, and how it is to be read.

    Bytes are a file, a text is a link to what it names, None a folder and ``...`` a pipe.
    """
    entries: list[tuple[str, Any]] = []
    splits = draw(st.one_of(st.just([""]), st.just(["train", "test"]), st.lists(st.sampled_from(SPLITS), max_size=3)))
    usual = st.sampled_from(CLASSES[:2])
    few = st.lists(st.sampled_from(CLASSES), max_size=4)
    labels = draw(st.one_of(st.just(CLASSES[:2]), st.just(CLASSES[:2]), few, st.lists(usual)))
    ending, within = draw(st.sampled_from((ENDINGS[0], *ENDINGS))), draw(st.sampled_from(["", "", "", "set/", "a/b/"]))
    apart = draw(st.sampled_from([1, 1, 1, 2]))  # every other image is that of another class
    number = 0
    for split in splits:
        for label in labels:
            here = "/".join(filter(None, [within + split, label]))
            entries.append((here, None))
            for _ in range(draw(st.sampled_from([4, 4, 4, 4, 4, 0, 1, 2]))):
                entries.append((f"{here}/{ending.format(number)}", picture(number // apart)))
                number += 1
    folders = st.sampled_from(["", *(path for path, content in entries if content is None)])
    for _ in range(draw(st.integers(0, 3))):
        place, name = draw(folders), draw(st.sampled_from((*CLASSES, *FILES_IN_FOLDERS, "odd.png")))
        files = st.sampled_from([*FILES_IN_FOLDERS.values(), picture(0), picture(1001)])
        entries.append((f"{place}/{name}", draw(st.one_of(files, st.sampled_from((*LINKS, None, ...))))))
    options = st.sampled_from(["", "", "", "?size=8", "?pages=all", "?same=keep", "?stream=yes", "?background=black"])
    return entries, draw(options)


def put(path: Path, content: Any) -> None:
    """One entry of a tree, unless there is one of its name, or the file system has no such name."""
    with contextlib.suppress(OSError):
        (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            return
        if content is ...:
            os.mkfifo(path)
        elif isinstance(content, str):
            path.symlink_to(path.name if content == "itself" else content)
        elif content is not None:
            path.write_bytes(content)


def tree(asked: tuple[list[tuple[str, Any]], str], folder: Path) -> None:
    """A folder with whatever there may be in one."""
    where = folder / "two" / "above" / "tree"  # a link may lead up
    where.mkdir(parents=True)
    try:
        for path, content in asked[0]:
            put(Path(f"{where}/{path}"), content)
        data.load(f"folder:{where}{asked[1]}")
    finally:
        shutil.rmtree(folder / "two")


def images() -> dict[str, bytes]:
    """Small images in the formats that people have."""
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8))
    written = {}
    kinds = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}
    for suffix, kind in kinds.items():
        stream = io.BytesIO()
        picture.save(stream, kind)
        written[f"x.{suffix}"] = stream.getvalue()
    return written


def image(file: tuple[str, bytes], folder: Path) -> None:
    """One image, decoded."""
    path = folder / file[0]
    path.write_bytes(file[1])
    assert decode(path, 3, 8, 8).shape == (3, 8, 8)


def image_folder(file: tuple[str, bytes], folder: Path) -> None:
    """A folder of images, one of them damaged: the set is read without it, or refused."""
    where = folder / "photos"
    if not where.exists():
        photos(where)
    odd = where / "bar" / file[0]
    odd.write_bytes(file[1])
    try:
        data.load(f"folder:{where}")
    finally:
        odd.unlink()


CIFAR = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
IDX = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def archives() -> dict[str, bytes]:
    """IDX files, plain and gzipped, and CIFAR's batch and class names."""
    pixels = np.random.default_rng(2).integers(0, 256, (20, 5, 5), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    batch = {b"data": np.zeros((20, 3072), np.uint8), b"labels": [int(label) for label in labels]}
    plain = {
        "train-images-idx3-ubyte": bytes([0, 0, 8, 3]) + np.array([20, 5, 5], ">i4").tobytes() + pixels.tobytes(),
        "train-labels-idx1-ubyte": bytes([0, 0, 8, 1]) + np.array([20], ">i4").tobytes() + labels.tobytes(),
    }
    return {
        **plain,
        **{f"{name}.gz": gzip.compress(content, mtime=0) for name, content in plain.items()},
        "data_batch_1": pickle.dumps(batch, protocol=2),
        "batches.meta": pickle.dumps({"label_names": list("abcdefghij")}, protocol=2),
    }


def archive(file: tuple[str, bytes], folder: Path) -> None:
    """Data sets as they are downloaded, one file of them damaged."""
    name, content = file
    whole, cifar = archives(), name in CIFAR
    where = folder / ("cifar-10-batches-py" if cifar else "fashion-mnist")
    where.mkdir(exist_ok=True)
    for other in CIFAR if cifar else IDX:
        usual = "data_batch_1" if other not in whole and cifar else other.replace("t10k", "train")
        (where / other).write_bytes(whole[usual])
    (where / f"{name.removesuffix('.gz')}.gz").unlink(missing_ok=True)
    if name.endswith(".gz"):  # or the plain one would be read
        (where / name.removesuffix(".gz")).unlink()
    (where / name).write_bytes(content)
    try:
        data.load("cifar10" if cifar else "fashion-mnist", root=folder)
    finally:
        (where / name).unlink()


class Attack:
    """A pickle that would leave a trace if it were executed."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


TRACE, NETWORK = Path("trace-of-an-attack"), "resnet8_s2_w4"
SAID = {"arch": NETWORK}
HOSTILE = {"attack.pt", "hidden.pt", "attack.pkl", "wide.pt", "packed.pt", "absurd.safetensors"}


def weights() -> dict[str, bytes]:
    """Files of weights in the forms that there are, and some (``HOSTILE``) that attack whoever opens them."""
    state = models.build(NETWORK, 2, 1, seed=0).state_dict()
    written = {"x.safetensors": safetensors_bytes(state)}
    for name, content in {
        "x.pt": state, "nested.pth": {"model": {"state_dict": state}, "epoch": 3}, "attack.pt": Attack(TRACE),
        "hidden.pt": {"state_dict": state, "hook": Attack(TRACE)},
        "wide.pt": state | {"conv1.weight": torch.zeros(1).expand(1 << 38)},
    }.items():  # fmt: skip
        stream = io.BytesIO()
        torch.save(content, stream)
        written[name] = stream.getvalue()
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=False)
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 16]}}).encode()
    own = {"arch": NETWORK, "options": "{}", "mean": "[0.5]", "std": "[0.2]", "classes": '["bar", "disc"]'}
    return written | {
        "own.safetensors": safetensors_bytes(state, own),
        "old.pt": stream.getvalue(),
        "attack.pkl": pickle.dumps(Attack(TRACE)),
        "absurd.safetensors": safetensors_of(header),
        "packed.pt": packed(written["x.pt"]),
    }


def safetensors_of(header: bytes) -> bytes:
    """A safetensors file with this header and 16 bytes of numbers."""
    return len(header).to_bytes(8, "little") + header + bytes(16)


def packed(archive: bytes) -> bytes:
    """A zip archive, deflated."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as whole, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name))
    return stream.getvalue()


@st.composite
def words_of_weights(draw: Any) -> dict[str, str]:
    """What a safetensors file says of itself."""
    value = st.one_of(TEXTS, changed({"a": [1], "width": 8}).map(written), changed([0.5, 0.2, "a"]).map(written))
    names = st.sampled_from(["arch", "options", "mean", "std", "classes", "class_names", "run", "format"])
    return draw(st.dictionaries(names, value, max_size=4)) | draw(st.sampled_from([{}, SAID, SAID]))


@functools.cache
def state_of_ten() -> dict[str, torch.Tensor]:
    """Weights that fit the bundled data."""
    return models.build(NETWORK, 10, 1, seed=0).state_dict()


def what_weights_say(said: dict[str, str], folder: Path) -> None:
    """A teacher's file that says its model itself, as far as a plan reads it."""
    path = folder / "x.safetensors"
    path.write_bytes(safetensors_bytes(state_of_ten(), said))
    contents.class_names(path)
    teacher = checkpoint("--teacher", path)
    describe_checkpoints(lab.plan([RunSpec(budget=Budget(2, "steps", 32), method="kd", teacher=teacher)]).todo)


def weight_file(file: tuple[str, bytes], folder: Path) -> None:
    """A teacher's file: what it holds, which weights, and the names of its classes. Nothing in it is executed."""
    path = folder / file[0]
    path.write_bytes(file[1])
    try:
        with contextlib.chdir(folder):
            contents.sets(contents.content(path), path)
            contents.class_names(path)
            models.load_teacher(NETWORK, path)
    finally:
        assert not (folder / TRACE).exists(), "the file was executed"


# ---- what kdlab has written ------------------------------------------------------------------------------------------


@functools.cache
def rows() -> tuple[ledger.Row, ...]:
    """Rows of the committed ledger: of each arm with one teacher the first two, of six arms."""
    (path, *_) = sorted((CHECKOUT / "figures" / "ledger").glob("*.csv.xz"))
    arms: dict[tuple[str, str], list[ledger.Row]] = {}
    for row in ledger.read(path).values():
        if row.spec["spec"]["teacher"] and row.spec["spec"]["fraction"] == 1:
            arms.setdefault((row.spec["spec"]["method"], row.spec["spec"]["augmentation"]), []).append(row)
    return tuple(row for arm in list(arms.values())[:6] for row in arm[:2])


@functools.cache
def kept_cells() -> list[dict[str, str]]:
    """The same, as text."""
    return [ledger._cells(row) for row in rows()[:3]]


def cells() -> list[dict[str, str]]:
    """The same, to be changed."""
    return [dict(line) for line in kept_cells()]


@functools.cache
def kept_ledger() -> bytes:
    """A ledger that another is merged into."""
    return csv_xz(cells()[:2])


@st.composite
def ledgers(draw: Any) -> bytes:
    """A ledger file with cells changed, or whose bytes are damaged."""
    lines = cells()
    for _ in range(draw(st.integers(1, 2))):
        line = draw(st.sampled_from(lines))
        name = draw(st.sampled_from(sorted(line)))
        if name in ledger.JSON:
            line[name] = json.dumps(draw(changed(json.loads(line[name]))))
        else:
            line[name] = str(draw(LEAVES)).replace("\x00", "").replace("\r", "")
    return csv_xz(lines)


def csv_xz(lines: list[dict[str, str]]) -> bytes:
    """Lines in the form of a ledger file."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return lzma.compress(stream.getvalue().encode("utf-8", "replace"), lzma.FORMAT_XZ, preset=0)


def ledger_file(content: bytes, folder: Path) -> None:
    """``kdlab runs merge FILE``: all rows or none, and the ledger untouched where it refuses."""
    path, into = folder / "given.csv.xz", folder / "ledger.csv.xz"
    path.write_bytes(content)
    before = kept_ledger()
    into.write_bytes(before)
    try:
        merging.merge([path], into)
    except SpecError:
        assert into.read_bytes() == before
        raise
    finally:
        assert {p.name for p in folder.glob("*.xz*")} == {path.name, into.name}, "something half written"
    ledger.read(into)


@functools.cache
def run_documents() -> dict[str, Any]:
    """The documents of a finished run, by file."""
    row = rows()[0]
    made = {"digest": row.environment, "git": row.revision, "device": "cpu"}
    cost = {"abreast": 3, "looked_at": 100, "evaluation": 0.5, "made": 9, "views": 0.1, "passes": 3, "teacher": 0.3}
    held = {"classes": ["bar", "disc"], "num_classes": 2, "channels": 1, "height": 8, "width": 8, "mean": [0.5]}
    return {"spec": row.spec, "result": row.result, "environment": made, "cost": cost, "data": held | {"std": [0.2]}}


@st.composite
def runs(draw: Any) -> tuple[str, Any, bool]:
    """One document of a run that somebody has changed, and whether the checksums were made anew for it."""
    name = draw(st.sampled_from([*run_documents(), "done"]))
    usual = {"schema": 1, "key": rows()[0].key, "sha256": {"spec.json": "0" * 64}}
    return name, draw(changed(run_documents().get(name, usual))), draw(st.booleans())


def run_in_a_store(asked: tuple[str, Any, bool], folder: Path) -> None:
    """A store with such a run: its table, what its runs cost, and what is wrong with it or nobody refers to."""
    name, plain, anew = asked
    store, key = Store(tempfile.mkdtemp(dir=folder)), rows()[0].key
    try:
        store.write(key, run_documents(), {"student": {"w": np.zeros(2, np.float32)}})
        content = written(plain).encode()
        if anew and name != "done":
            done = store.root / key / "done.json"
            before = json.loads(done.read_bytes())
            before["sha256"][f"{name}.json"] = hashlib.sha256(content).hexdigest()
            done.write_text(json.dumps(before))
        (store.root / key / f"{name}.json").write_bytes(content)
        with contextlib.redirect_stderr(io.StringIO()):
            Costs(store)
            if len(table := lab.table(store=store)):
                query.show(table)
            tidying.verify(store)
            tidying.collect(store)
    finally:
        shutil.rmtree(store.root)


COPIED = {"start.ipynb": ["0" * 64, "1" * 64], "a.ipynb": ["2" * 64, "3" * 64]}
SOURCE = {"cells": [{"cell_type": "code", "source": ["1\n", "2"], "metadata": {}}], "metadata": {}, "nbformat": 4}


def copied_notebooks(asked: tuple[Any, Any], folder: Path) -> None:
    """The list of what was copied for ``kdlab lab``, and a copied notebook, as somebody left them."""
    source, place = folder / "source", folder / "place"
    for where in (source, place):
        where.mkdir(exist_ok=True)
    (source / "start.ipynb").write_text(json.dumps(SOURCE))
    (place / ".copied.json").write_text(written(asked[0]))
    (place / "start.ipynb").write_text(written(asked[1]))
    working_copy(source, place)


def document(stem: str) -> Any:
    """A published json."""
    found = json.loads((CHECKOUT / "figures" / f"{stem}.json").read_text(encoding="utf-8"))
    if "data" in found and isinstance(found["data"], list):  # fewer points are drawn sooner
        found["data"] = [row for row in found["data"] if row["seed"] < 3]
        found["meta"]["overrides"]["seeds"] = [0, 1, 2]
    return found


def figure_record(plain: Any, folder: Path) -> None:
    """A figure's record: its table, and the figure drawn from it."""
    path = folder / "few_shot-gain.json"
    path.write_text(written(plain), encoding="utf-8")
    perspectives.redraw(path)


def verdict_document(plain: Any, folder: Path) -> None:
    """The documents of a published set: its gallery and the README's table."""
    for path in (CHECKOUT / "figures").glob("few_shot-*.*"):
        if not (folder / path.name).exists():
            shutil.copy(path, folder)
    (folder / "few_shot.verdict.json").write_text(written(plain), encoding="utf-8")
    pages.gallery(folder, figures=folder)
    readme.verdict_block(folder)


# ---- explorers -------------------------------------------------------------------------------------------------------

EXPLORERS = (
    "AugmentationExplorer", "ConfidenceExplorer", "TemperatureExplorer", "BudgetExplorer", "LiveTrainer",
    "ResultsBrowser", "OwnImages",
)  # fmt: skip
TRAINING = {"start", "resume", "run", "stop"}  # buttons that are not pressed
SETTINGS = st.one_of(VALUES, st.sampled_from([
    "cutmix", "jda", "weak", "kd", "all", "weak2", "kd jda", "store", "published", "shots", "budget", "val_accuracy",
    "photos", "method=kd", "ratio>x", "x", "8", 8, 0.5, 50.0, ("jda",), ["rotation", "jda"], (),
    "resnet8_s2_w4?width=x",
]))  # fmt: skip


@st.composite
def visits(draw: Any) -> tuple[str, dict[str, Any], list[tuple[str, Any]], bool]:
    """An explorer and a few of its settings, what is changed in it then, and whether on a page of a class.

    A change is of several settings by ``set`` (its name is empty), or of one control: a value or, where it offers
    some, which of them; a button is pressed.
    """
    name = draw(st.sampled_from(EXPLORERS))
    names = st.sampled_from(sorted(getattr(widgets, name).DEFAULTS))
    several = st.dictionaries(st.one_of(names, names, TEXTS), SETTINGS, max_size=2)
    by_control = st.tuples(st.one_of(names, st.sampled_from(BUTTONS)), st.one_of(st.integers(0, 40), SETTINGS))
    changes = st.lists(st.one_of(st.tuples(st.just(""), several), by_control), max_size=3)
    begin = draw(st.one_of(st.just({}), st.dictionaries(st.one_of(names, TEXTS), SETTINGS, max_size=2)))
    return name, begin, draw(changes), draw(st.integers(0, 7)) == 0


BUTTONS = ("refresh", "export", "look", "try_example", "pause", "again", "draw")


def explorer(asked: tuple[str, dict[str, Any], list[tuple[str, Any]], bool], folder: Path) -> None:
    """An explorer with any settings, its controls and its picture; what it cannot draw it says in words."""
    name, settings, changes, visiting = asked
    there = paths.ledger() / "few.csv.xz"
    if not there.exists():
        photos(folder / "photos")
        ledger.write(there, rows())
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as after:
        after.callback(Widget.close_all)  # ipywidgets holds all that a kernel has made; 7,000 explorers take 2 GB
        if visiting:
            patch.setenv(visitors.VISITORS, visitors.named(["photos"]))
        shown = getattr(widgets, name)(**settings)
        shown.widget()
        said_in_words(shown)
        for control, value in changes:
            if not control:
                with contextlib.suppress(SpecError):
                    shown.set(**value)
            elif control in shown.control and control not in TRAINING:
                touch(shown.control[control], value)
            said_in_words(shown)


def touch(control: Any, value: Any) -> None:
    """What a visitor's hand does to a control: of a menu a browser says which line; what it refuses reaches nobody."""
    if hasattr(control, "click"):
        control.click()
    elif hasattr(control, "index"):
        if control.options:
            which = (value if isinstance(value, int) else 0) % len(control.options)
            control.index = (which,) if isinstance(control.index, tuple) else which
    else:
        with contextlib.suppress(TraitError):
            control.value = value


def said_in_words(shown: Any) -> None:
    """Whatever went wrong in an explorer is a sentence for whoever looks at it."""
    if shown.failure is not None:
        assert isinstance(shown.failure, SpecError), repr(shown.failure)


TARGETS: dict[str, tuple[Any, Target]] = {
    "spec": (st.dictionaries(st.sampled_from(FIELDS), PARTS, max_size=3), spec),
    "spec document": (changed(SPEC), spec_document),
    "notebook parameter": (notebook_parameters(), parameters),
    "command line": (command_lines(), command_line),
    "folder options": (FOLDERS, folder_options),
    "folder tree": (trees(), tree),
    "image": (damaged(images()), image),
    "image folder": (damaged(images()), image_folder),
    "archive": (damaged(archives()), archive),
    "weights": (damaged(weights()), weight_file),
    "words of weights": (words_of_weights(), what_weights_say),
    "ledger": (ledgers(), ledger_file),
    "run in a store": (runs(), run_in_a_store),
    "copied notebooks": (st.tuples(changed(COPIED), changed(SOURCE)), copied_notebooks),
    "figure record": (changed(document("few_shot-gain")), figure_record),
    "verdict document": (changed(document("few_shot.verdict")), verdict_document),
    "explorer": (visits(), explorer),
}
FILES = {  # the files of a target, undamaged
    "image": images, "image folder": images, "archive": archives, "weights": weights,
}  # fmt: skip
