"""What is fuzzed: for each kind of input that people give, how to make odd ones, and what takes them.

A target is a hypothesis strategy and a function ``(value, folder)`` that must end, or raise ``SpecError`` with a
sentence. Everything runs in this process; no kernel is started and nothing trains.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import io
import json
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as safetensors_bytes

from kdlab import data, lab, models, perspectives, plotting, report, widgets
from kdlab.cli import main
from kdlab.data.image import decode
from kdlab.errors import SpecError
from kdlab.lab import ledger, merging
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
        "../x", "/nowhere/x", "a:B", "os:system", "nan", "inf", "1e999", "-1", "0", "None", "[", "'", "\x00", "%s",
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
                holder[at] = draw(VALUES)
            else:
                del holder[at]
            break
    return value


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
    lab.plan([RunSpec.from_dict(plain)])


def parameters(words: list[str], folder: Path) -> None:
    """``-p key=value`` for a notebook, and the study that it asks for."""
    values = report.check(CHECKOUT / "notebooks" / "perspectives" / "few_shot.ipynb", words)
    values.pop("out_dir", None)
    perspectives.study("few_shot", values.pop("profile", None) or "smoke", **values)


# ---- the command line ------------------------------------------------------------------------------------------------

WORDS = st.one_of(TEXTS, NUMBERS.map(str), st.sampled_from(["few_shot", "dkd", "cutmix", "90m", "decided", "0,1"]))
COMMANDS = {  # of which none trains, serves or measures
    ("figures", "--plan"): (
        "--profile --data --teacher --student --seeds --epochs --steps --teacher-epochs --originals --workers "
        "--until --at-most -p"
    ),
    ("run", "--plan"): (
        "--profile --data --teacher --arch --teacher-classes --student --augmentation --views --ratio --epochs --steps "
        "--teacher-epochs --originals --fraction --seed --seeds --workers"
    ),
    ("tune", "--plan"): "--profile --data --teacher --student --seeds --workers",
    (
        "advise",
        "folder:photos",
        "--plan",
    ): "--epochs --teacher --arch --teacher-classes --student --augmentations --seeds",
    ("advise",): "--images --epochs --teacher-saw --figures",
    ("methods",): "",
    ("augmentations",): "--data",
    ("data",): "",
    ("compare",): "",
    ("export",): "--out",
    ("runs",): "--csv --limit",
    ("runs", "export"): "--profile --study --data",
    ("runs", "merge"): "--into",
    ("doctor",): "",
}


@st.composite
def command_lines(draw: Any) -> list[str]:
    """A command with options and words, each of which may be right, wrong or missing."""
    command = draw(st.sampled_from(sorted(COMMANDS)))
    line = list(command)
    options = COMMANDS[command].split()
    for _ in range(draw(st.integers(0, 3))):
        if options and draw(st.integers(0, 4)):
            line += [draw(st.sampled_from(options)), draw(WORDS)]
        else:
            line.append(draw(WORDS))
    return line


def command_line(words: list[str], folder: Path) -> None:
    """A whole command, as if typed: it ends with a status, and with one sentence where that is 2."""
    if not (folder / "photos").exists():
        photos(folder / "photos")
    printed, before = io.StringIO(), sys.argv
    # No argument holds a zero byte; and what is drawn must not be written to, wherever that may be.
    sys.argv = ["kdlab", *(re.sub("^/(?!nowhere)", "/nowhere/", word.replace("\x00", "")) for word in words)]
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
    return written | {
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
    """Three rows of the committed ledger."""
    (path, *_) = sorted((CHECKOUT / "figures" / "ledger").glob("*.csv.xz"))
    return tuple(ledger.read(path).values())[:3]


def cells() -> list[dict[str, str]]:
    """The same, as text."""
    return [ledger._cells(row) for row in rows()]


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
    import lzma

    import pandas as pd

    text = pd.DataFrame(lines).fillna("").to_csv(index=False, lineterminator="\n")
    return lzma.compress(text.encode("utf-8", "replace"), lzma.FORMAT_XZ, preset=0)


def ledger_file(content: bytes, folder: Path) -> None:
    """``kdlab runs merge FILE``: all rows or none, and the ledger untouched where it refuses."""
    path, into = folder / "given.csv.xz", folder / "ledger.csv.xz"
    path.write_bytes(content)
    before = csv_xz(cells()[:2])
    into.write_bytes(before)
    try:
        merging.merge([path], into)
    except SpecError:
        assert into.read_bytes() == before
        raise
    finally:
        assert {p.name for p in folder.glob("*.xz*")} == {path.name, into.name}, "something half written"
    ledger.read(into)


def document(stem: str) -> Any:
    """A published json."""
    return json.loads((CHECKOUT / "figures" / f"{stem}.json").read_text(encoding="utf-8"))


def figure_record(plain: Any, folder: Path) -> None:
    """A figure's record: its table, and the figure drawn from it."""
    path = folder / "few_shot-gain.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    plotting.load(path)
    perspectives.redraw(path)


def verdict_document(plain: Any, folder: Path) -> None:
    """The documents of a published set: its gallery and the README's table."""
    for path in (CHECKOUT / "figures").glob("few_shot-*.*"):
        if not (folder / path.name).exists():
            shutil.copy(path, folder)
    (folder / "few_shot.verdict.json").write_text(json.dumps(plain), encoding="utf-8")
    pages.gallery(folder, figures=folder)
    readme.verdict_block(folder)


# ---- explorers -------------------------------------------------------------------------------------------------------

EXPLORERS = ("AugmentationExplorer", "ConfidenceExplorer", "TemperatureExplorer", "BudgetExplorer", "LiveTrainer")


@st.composite
def explorer_settings(draw: Any) -> tuple[str, dict[str, Any]]:
    """An explorer and a few of its settings."""
    name = draw(st.sampled_from(EXPLORERS))
    names = sorted(getattr(widgets, name).DEFAULTS)
    keys = st.one_of(st.sampled_from(names), TEXTS)
    return name, draw(st.dictionaries(keys, VALUES, max_size=2))


def explorer(asked: tuple[str, dict[str, Any]], folder: Path) -> None:
    """An explorer with any settings, its controls and its picture; what it cannot draw it says in words."""
    name, settings = asked
    shown = getattr(widgets, name)(**settings)
    shown.widget()
    if shown.failure is not None:
        assert isinstance(shown.failure, SpecError), repr(shown.failure)


PARAMETERS = ("profile", "seeds", "data", "student", "teacher", "epochs")
TARGETS: dict[str, tuple[Any, Target]] = {
    "spec": (st.dictionaries(st.sampled_from(FIELDS), PARTS, max_size=3), spec),
    "spec document": (changed(SPEC), spec_document),
    "notebook parameter": (
        st.lists(
            st.one_of(
                st.builds("{}={}".format, st.sampled_from(PARAMETERS), WORDS),
                WORDS,
            ),
            max_size=3,
        ),
        parameters,
    ),
    "command line": (command_lines(), command_line),
    "folder options": (FOLDERS, folder_options),
    "image": (damaged(images()), image),
    "image folder": (damaged(images()), image_folder),
    "archive": (damaged(archives()), archive),
    "weights": (damaged(weights()), weight_file),
    "ledger": (ledgers(), ledger_file),
    "figure record": (changed(document("few_shot-gain")), figure_record),
    "verdict document": (changed(document("few_shot.verdict")), verdict_document),
    "explorer": (explorer_settings(), explorer),
}
FILES = {  # the files of a target, undamaged
    "image": images, "image folder": images, "archive": archives, "weights": weights,
}  # fmt: skip
