"""Rows that travel: from a store into a file, and from files of other machines and days into the ledger here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kdlab import data, paths
from kdlab.errors import SpecError
from kdlab.foreign import is_program
from kdlab.lab import ledger
from kdlab.lab.damage import Damaged
from kdlab.lab.keys import digest, from_data, normal
from kdlab.lab.ledger import SUFFIX, Row
from kdlab.lab.store import Store
from kdlab.memo import plan_memo
from kdlab.spec import RunSpec


def export(path: Path, keys: Sequence[str] | None = None, store: Store | None = None) -> str:
    """Write the rows of finished runs to a ledger file; where it is there, they are added to it.

    Args:
        path: the file, whose name ends in ``.csv.xz``.
        keys: of the runs, of which those that are not finished are left out; None takes all of the store.
        store: where they live; None takes the default store.

    Returns:
        What was written, and what was left out and why.

    Raises:
        SpecError: when no run is finished, or the file cannot be written or disagrees.
    """
    path, store = _named(path), store or Store()
    found, lost = rows_of(store, store.keys() if keys is None else filter(store.has, keys))
    if not found:
        why = f" ({next(iter(lost.values()))})" if lost else "; `kdlab runs` lists those there are"
        raise SpecError(f"nothing to export to {path}: no such run is finished in the store {store.root}{why}.")
    new = ledger.add(path, found)
    lines = [f"{len(found)} runs, {new} of them new, in {path}"]
    lines += [f"  {count} left out: {why}" for why, count in Counter(lost.values()).items()]
    return "\n".join(lines)


def rows_of(store: Store, keys: Iterable[str]) -> tuple[list[Row], dict[str, str]]:
    """The ledger rows of finished runs, and by key why others have none: damaged, or their data are gone."""
    found, lost = [], {}
    with plan_memo():
        for key in keys:
            try:
                found.append(ledger.of_store(store, key))
            except Damaged as error:
                store.set_aside(error)
                lost[key] = "their files are damaged"
            except SpecError as error:
                lost[key] = str(error)
    return found, lost


def merge(files: Sequence[Path], into: Path | None = None, store: Store | None = None) -> str:
    """Add the rows of ledger files to the ledger that is here, all of them or none.

    Args:
        files: each goes into the file of its own name in the ledger's folder.
        into: one file for all of them instead; it is made where it is not there.
        store: whose runs the rows must not contradict; None takes the default store.

    Returns:
        How many rows are new, in which file, and what could not be checked since data are not here.

    Raises:
        SpecError: for a file that cannot be read, a row whose spec does not hash to its key, or one that contradicts
            the ledger, the store or another file. Nothing is written then.
    """
    store, asked = store or Store(), {_named(file): ledger.read(_named(file)) for file in files}
    every = [row for rows in asked.values() for row in rows.values()]
    with plan_memo():
        unchecked = Counter(why for row in every if (why := check(row)))
        mine = rows_of(store, {row.key for row in every if _made_here(row, store)})[0]
    known = [row for there in ledger.by_key().values() for row in there.values()]
    ledger.merged(known, mine, every)
    targets: dict[Path, list[Row]] = {}
    for file, rows in asked.items():
        targets.setdefault(_target(file, into), []).extend(rows.values())
    for path, rows in targets.items():  # a file that disagrees says so before any is written
        ledger.merged(ledger.read(path).values() if path.exists() else (), rows)
    lines = [f"{ledger.add(path, rows)} of {len(rows)} rows are new in {path}" for path, rows in targets.items()]
    return "\n".join([*lines, *(f"  {count} rows: {why}" for why, count in unchecked.items())])


def check(row: Row) -> str:
    """Compare what a row's spec hashes to with its key.

    Args:
        row: of which ``ledger.read`` has seen that its normal form hashes to the key.

    Returns:
        What could not be checked, since the data are not here, or since it would have had a program imported that the
        row names (``module:Class``): a row is somebody's data. Empty when all was.

    Raises:
        SpecError: when the spec says another run than the key.
    """
    stored = row.spec["normal"]
    if named := sorted(_programs(row.spec["spec"])):
        _same_names(row)
        return f"{', '.join(named)}: no part of kdlab, and not imported, so names and seeds alone were compared"
    try:
        spec = RunSpec.from_dict(row.spec["spec"])
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"the spec of run {row.key} is none that can be read: {error!r}.") from error
    try:
        data.facts(spec.data)
        data_parts, unchecked = from_data(spec), ""
    except SpecError:
        data_parts = {name: stored[name] for name in ("data", "sizes", "steps", "teacher") if name in stored}
        unchecked = f"data {spec.data!r} are not here, so images, steps and teacher were taken as the rows say"
    now = normal(spec, data_parts)
    sizes = list(spec.sizes) if spec.sizes else now["sizes"]
    if digest(now) == row.key and sizes == now["sizes"] and ("teacher" in now) == (spec.teacher is not None):
        return unchecked
    names = [name for name in sorted({*now, *stored}) if now.get(name) != stored.get(name)]
    raise SpecError(
        f"the spec of run {row.key} does not hash to that key here, but to {digest(now)}; they differ in "
        f"{', '.join(names) or 'sizes or teacher'}. It was made from other data, by another version, or was edited."
    )


def _programs(document: Any) -> set[str]:
    """What a spec's document names that a key would have imported, but for torchvision's models."""
    if isinstance(document, dict):
        return {name for field, value in document.items() if field not in ("data", "path") for name in _programs(value)}
    if isinstance(document, list):
        return {name for value in document for name in _programs(value)}
    return {document} if isinstance(document, str) and is_program(document) else set()


def _same_names(row: Row) -> None:
    stored, document = row.spec["normal"], row.spec["spec"]
    fields = {"models": "model", "losses": "method", "augment": "augmentation"}
    try:
        parts = {fields[kind]: name for kind, name in stored["parts"].items() if kind != "augment" or name != "weak"}
        told = parts | {name: stored[name] for name in ("seed", "replicate", "views")}
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"the normal form of run {row.key} is none that can be read: {error!r}.") from error
    for field, value in told.items():
        if document.get(field, value) != value:
            raise SpecError(f"the spec of run {row.key} has the {field} {document[field]!r}, but its key {value!r}.")


def _made_here(row: Row, store: Store) -> bool:
    """Whether the store has this very run, from the same environment."""
    there = store.has(row.key) and store.sound(row.key)
    return there and store.read(row.key, "environment")["digest"] == row.environment


def _target(file: Path, into: Path | None) -> Path:
    if into is not None:
        return _named(into)
    if not paths.ledger().parent.is_dir():
        raise SpecError(f"there is no checkout here, and so no ledger {paths.ledger()}: name a file by --into, or set "
                        "KDLAB_LEDGER to a folder.")  # fmt: skip
    return paths.ledger() / file.name


def _named(path: Path) -> Path:
    if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
        raise SpecError(f"a ledger file is named NAME{SUFFIX}, but got {str(path)!r}.")
    return paths.absolute(path)
