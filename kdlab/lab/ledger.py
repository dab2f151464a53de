"""The ledger: finished runs as rows of committed files, so that evidence outlives the store in which it was made.

::

    figures/ledger/<profile>-<data>.csv.xz      or those in $KDLAB_LEDGER

A file is csv in xz, a row for each key and environment, sorted, the same bytes for the same rows. Its columns are
``key``, ``environment`` (digest) and ``revision``; the numbers of ``result.json``, each as JSON and empty where a run
has no such number; ``curve`` and ``spec``, the run's documents as JSON; and ``test_right``, which test images it
answers right: a bit an image, the first one the highest bit of the first byte, in base64. A row holds no weights, so
it stands for a run in a table, and nowhere else. Imports no torch.
"""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import lzma
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdlab import paths
from kdlab.errors import SpecError, from_json
from kdlab.lab.answers import right
from kdlab.lab.keys import digest
from kdlab.lab.store import NEEDED, Store
from kdlab.lab.unfinished import writing

SUFFIX = ".csv.xz"
TEXT = ("key", "environment", "revision", "test_right")
JSON = ("curve", "spec")
TIMED = ("seconds",)  # numbers that are others when the same run is made again
XZ: list[dict[str, int]] = [{"id": lzma.FILTER_LZMA2, "preset": 9}]
# What is unpacked of a file: some 15 times the largest that is committed, whose lines are shorter than 10 kB.
LARGEST, LONGEST, WIDEST, UNPACKING = 100_000_000, 2_000_000, 1000, 128 << 20  # bytes, bytes, columns, bytes


@dataclass(frozen=True)
class Row:
    """A finished run without its weights.

    Args:
        key: of the run.
        environment: digest of what it was computed with.
        revision: of the code.
        result: as in the store's ``result.json``, and what was measured afterwards, ``MEASURE.number``.
        spec: as in ``spec.json``: the spec, and its normal form, of which the key is the hash.
        test_right: which test images are answered right, packed, in base64.
    """

    key: str
    environment: str
    revision: str
    result: Mapping[str, Any]
    spec: Mapping[str, Any]
    test_right: str

    @property
    def identity(self) -> tuple[str, str]:
        """What no two rows of a ledger share: key and environment."""
        return self.key, self.environment

    @property
    def images(self) -> int:
        """Test images."""
        return int(self.spec["normal"]["sizes"][2])

    def right(self) -> np.ndarray:
        """Whether each test image is answered right, bool (N,)."""
        packed = np.frombuffer(base64.b64decode(self.test_right), np.uint8)
        return np.unpackbits(packed, count=self.images).astype(bool)


def of_store(store: Store, key: str) -> Row:
    """The row of a finished run.

    Args:
        store: where the run is.
        key: of the run.

    Raises:
        Damaged: when its files cannot be read.
        SpecError: when its data are gone, so that nobody can tell which answers are right.
    """
    saved, result, made = store.documents(key)
    bits = base64.b64encode(np.packbits(right(store, key)).tobytes()).decode()
    return Row(key, made["digest"], made["git"], result | store.measured(key), saved, bits)


# ---- files -----------------------------------------------------------------------------------------------------------


def pack(rows: Iterable[Row]) -> bytes:
    """The content of a ledger file: the same bytes for the same rows, in whatever order they come."""
    lines = [_cells(row) for row in sorted(rows, key=lambda row: row.identity)]
    numbers = sorted({name for line in lines for name in line} - {*TEXT, *JSON})
    columns = [*TEXT[:3], *numbers, *JSON, TEXT[3]]
    text = pd.DataFrame(lines, columns=columns).fillna("").to_csv(index=False, lineterminator="\n")
    return lzma.compress(text.encode(), lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=XZ)


def _cells(row: Row) -> dict[str, str]:
    numbers = {name: _json(value) for name, value in row.result.items() if name != "curve"}
    texts = {name: getattr(row, name) for name in TEXT}
    return texts | numbers | {"curve": _json(row.result["curve"]), "spec": _json(row.spec)}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def read(path: Path) -> dict[tuple[str, str], Row]:
    """The rows of a ledger file by key and environment, each looked at.

    Args:
        path: the file.

    Raises:
        SpecError: when it cannot be read, or is no ledger: what is wrong, and in which row.
    """
    rows: dict[tuple[str, str], Row] = {}
    for number, cells in enumerate(_lines(path), 2):
        try:
            row = _row(cells)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise SpecError(f"ledger {path}, line {number} (run {cells['key']!r}): {reason}.") from error
        if row.identity in rows:
            raise SpecError(f"ledger {path}, line {number}: run {row.key} of {row.environment} stands twice.")
        rows[row.identity] = row
    return rows


def _lines(path: Path) -> Iterator[dict[str, str]]:
    """The lines of a ledger file, one by one: the first that is odd ends the reading.

    Raises:
        SpecError: when it cannot be read, or is no ledger.
    """
    try:
        lines = csv.reader(io.TextIOWrapper(io.BytesIO(_unpacked(path)), "utf-8", newline=""), strict=True)
        header = next(lines, [])
        if lacking := [name for name in (*TEXT, *JSON) if name not in header]:
            raise SpecError(
                f"ledger {path} lacks the columns {', '.join(lacking)}; `kdlab runs export` writes such files."
            )
        for cells in lines:
            if len(cells) != len(header):
                raise ValueError(f"line {lines.line_num} has {len(cells)} cells, and the first {len(header)}")
            yield dict(zip(header, cells, strict=True))
    except OSError as error:
        raise SpecError(f"ledger {path} cannot be read: {error.strerror or error}.") from error
    except SpecError:
        raise
    except (lzma.LZMAError, EOFError, ValueError, csv.Error) as error:
        raise SpecError(f"ledger {path} is cut short or no csv in xz: {str(error).splitlines()[0]}.") from error


def _unpacked(path: Path) -> bytes:
    """The csv of a ledger file, looked at as bytes: a few packed ones can stand for more than memory holds.

    Raises:
        OSError, LZMAError, EOFError, ValueError: saying what is wrong.
    """
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=UNPACKING)
    with paths.open_file(path) as file:
        content = unpacker.decompress(file.read(LARGEST), LARGEST)
    if not unpacker.eof:
        raise EOFError("its end is missing" if unpacker.needs_input else f"it unpacks to more than {LARGEST:,} bytes")
    if re.search(rb"[\r\n][ \t\r\n]{2}", content):
        raise ValueError("it holds empty lines")
    if any(content.find(b"\n", at, at + LONGEST) < 0 for at in range(0, len(content) - LONGEST, LONGEST)):
        raise ValueError(f"a line of it is longer than {LONGEST:,} bytes")
    if (columns := content[: content.find(b"\n")].count(b",") + 1) > WIDEST:
        raise ValueError(f"it has {columns:,} columns, and at most {WIDEST:,} are read")
    return content


def _row(cells: Mapping[str, str]) -> Row:
    """A row, if it holds together.

    Raises:
        ValueError, KeyError, TypeError, IndexError: saying what does not.
    """
    values = {name: from_json(text) for name, text in cells.items() if text and name not in TEXT}
    spec, numbers = values.pop("spec"), values
    row = Row(cells["key"], cells["environment"], cells["revision"], numbers, spec, cells["test_right"])
    if not row.environment:
        raise ValueError("names no environment")
    if lacking := [name for name in NEEDED["spec"] if not isinstance(spec[name], dict)]:
        raise ValueError(f"{lacking[0]} is none")
    if digest(spec["normal"]) != row.key:
        raise ValueError("its spec does not hash to its key")
    asked = dict.fromkeys((*NEEDED["result"], "steps"), (int, float)) | {"curve": (list,), "diverged": (bool,)}
    for name in (*asked, *numbers):
        if type(numbers[name]) not in asked.get(name, (int, float, bool, type(None))):
            raise ValueError(f"{name} cannot be {numbers[name]!r}")
    if len(base64.b64decode(row.test_right, validate=True)) != math.ceil(row.images / 8):
        raise ValueError(f"test_right does not fit {row.images:,} test images")
    accuracy, share = numbers["test_accuracy"], 100 * row.right().mean()
    if not numbers["diverged"] and not math.isclose(share, accuracy, abs_tol=1e-6):
        raise ValueError(f"its test accuracy is {accuracy}, but test_right makes it {share}")
    return row


def write(path: Path, rows: Iterable[Row]) -> None:
    """Replace a ledger file by a whole new one.

    Raises:
        SpecError: when the disk refuses.
    """
    with writing(path):
        paths.write_file(path, pack(rows))


def merged(*groups: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """All rows by key and environment; of two of one run the first stays, with what was measured of the other.

    Raises:
        SpecError: when two rows of one run and environment differ in more than the time it took.
    """
    rows: dict[tuple[str, str], Row] = {}
    for row in (row for group in groups for row in group):
        here = rows.setdefault(row.identity, row)
        if here is row:
            continue
        if unlike := differing(here, row):
            raise SpecError(
                f"run {row.key} of environment {row.environment} is here with other numbers: "
                + "; ".join(f"{name} {before} here, {after} there" for name, (before, after) in unlike.items())
                + ". Runs of one environment are the same to the last bit, so one of the two is wrong."
            )
        rows[row.identity] = _with_measured(here, row)
    return rows


def remeasured(numbers: Mapping[str, Any], measure: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of a run in which those of one measure, whose names begin with ``MEASURE.``, are replaced by its own."""
    return {what: value for what, value in numbers.items() if not what.startswith(measure)} | dict(own)


def _with_measured(here: Row, other: Row) -> Row:
    """A row with the other's numbers of those measures of which it has none, or of an earlier revision."""
    result = dict(here.result)
    for name in (name for name in other.result if name.endswith(".revision")):
        if other.result[name] > here.result.get(name, 0):
            measure = name.removesuffix("revision")
            own = {what: value for what, value in other.result.items() if what.startswith(measure)}
            result = remeasured(result, measure, own)
    return here if result == here.result else replace(here, result=result)


def differing(first: Row, second: Row) -> dict[str, tuple[str, str]]:
    """What two rows of one run say differently; a number that only one has says nothing.

    Left out are times, and what was measured afterwards, perhaps on another processor.
    """
    one, other = _cells(first), _cells(second)
    names = [name for name in one if name in other and "." not in name and name not in (*TIMED, "revision", "spec")]
    return {name: (one[name][:40], other[name][:40]) for name in names if one[name] != other[name]}


def add(path: Path, rows: Iterable[Row]) -> int:
    """Add rows to a ledger file, which is made where it is not there; nothing that is in it goes.

    Returns:
        How many rows are new; where nothing is, not even a measured number, the file stays untouched.

    Raises:
        SpecError: when the file cannot be read or written, or disagrees.
    """
    before = read(path) if path.exists() else {}
    after = merged(before.values(), rows)
    if after != before:
        write(path, after.values())
    return len(after) - len(before)


# ---- the ledger that is here -----------------------------------------------------------------------------------------


def files() -> list[Path]:
    """The files of the ledger, in the order of their names; none where there is none."""
    return sorted(paths.ledger().glob(f"*{SUFFIX}"))


def by_key() -> dict[str, dict[str, Row]]:
    """Every row of the ledger that is here: key, then environment.

    Raises:
        SpecError: when a file cannot be read, or two files disagree.
    """
    return _by_key(tuple((path, (found := os.stat(path)).st_mtime_ns, found.st_size) for path in files()))


@functools.lru_cache(maxsize=2)
def _by_key(known: Sequence[tuple[Path, int, int]]) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in merged(*(read(path).values() for path, *_ in known)).values():
        found.setdefault(row.key, {})[row.environment] = row
    return found
