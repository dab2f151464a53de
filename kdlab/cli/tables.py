"""What there is to choose from, as text for a terminal: data, methods and augmentations. Imports no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdlab.errors import SpecError, choose
from kdlab.registry import REQUIRED, Entry, find
from kdlab.report.parts import KNOWLEDGE, by_knowledge, families, mixes_or_picks, preparing, summary

WIDTH = 100
PREPARING = "Preparations: they train a teacher's parts for the methods that read those"
SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:")


def data(name: str | None = None, sheet: Path | None = None, download: bool = False) -> str:
    """What a data set holds as it was read, with a contact sheet as png; or which data sets there are.

    Args:
        name: as in ``data.load``; None lists all names.
        sheet: where the png goes; None takes a file under the data's name in ``home()/data``.
        download: fetch first what is missing of it.

    Raises:
        SpecError: for data that cannot be fetched or read, or a file that cannot be written.
    """
    from kdlab.data import READERS, describe, fetch

    if name is None and download:
        raise SpecError("--download needs the name of the data, as in `kdlab data cifar10 --download`.")
    if name is None:
        own = "data folder:PATH: your own images, one sub-folder for each class"
        return "\n".join([*map(data_line, READERS), own, "", "`kdlab data NAME` shows one, with a contact sheet."])
    from kdlab.lab import datasheet
    from kdlab.lab.unfinished import writing
    from kdlab.paths import home, write_file
    from kdlab.plotting.contact import contact_sheet

    said = "\n".join([*_wrapped(fetch(name), WIDTH, 2), ""]) if download else ""
    text = said + datasheet.text(name, fit=True)
    page = contact_sheet(describe(name), [datasheet.title(name), *datasheet.sentences(name)])
    file = sheet or home() / "data" / f"{datasheet.file_name(name)}.png"
    with writing(file):
        write_file(file, page)
    return f"{text}\n  contact sheet: {file}"


def data_line(name: str) -> str:
    """Whether a data set is here, and how large it is."""
    from kdlab.data import READERS, data_root, facts

    root = data_root(None)
    try:
        READERS[name][0](root)
    except SpecError:
        where = f"looked under {str(root)!r}, set KDLAB_DATA to look elsewhere"
        return f"data {name}: not here; {where}; `kdlab data {name} --download` fetches it"
    try:
        found = facts(name)
    except SpecError as error:
        return f"data {name}: cannot be read: {error}"
    return f"data {name}: {found['train']} train, {found['val']} val, {found['test']} test, {found['classes']} classes"


def methods(name: str | None = None) -> str:
    """All methods by the knowledge they pass on, or one of them in full.

    Args:
        name: registered name or ``module:Class``; None lists all.

    Raises:
        SpecError: for an unknown name.
    """
    if name is not None:
        return in_full(find("losses", name))
    head = ("name", "coupling", "needs", "what it does")
    groups = {KNOWLEDGE.get(kind, kind): entries for kind, entries in by_knowledge().items()}
    groups |= {PREPARING: preparing()}
    rows = {title: [_method_row(entry) for entry in entries] for title, entries in groups.items()}
    lines = _tables(head, rows, (8, 24))
    return "\n".join([*lines, "", "`kdlab methods NAME` shows one in full, with its options."])


def _method_row(entry: Entry) -> tuple[str, ...]:
    return entry.name, entry.coupling, ", ".join(entry.needs) or "nothing", summary(entry)


def augmentations(name: str | None = None, data: str | None = None) -> str:
    """All augmentations, or one of them in full.

    Args:
        name: registered name or ``module:Class``; None lists all.
        data: a data set's name; adds what is known of whether an image keeps its label.

    Raises:
        SpecError: for an unknown augmentation or data set.
    """
    if data is not None:
        _check_data(data)
    if name is not None:
        entry = find("augment", name)
        notes = _safety(data, [entry])
        return "\n".join([in_full(entry), *(["", *_wrapped(f"On {data}: {notes[0]}.", WIDTH)] if notes else [])])
    rows = []
    for entries in families():
        options = ", ".join(f"{k}={v!r}" for k, v in entries[0].options.items())
        text = " ".join([summary(entries[0]), *(f"On {data}: {note}." for note in _safety(data, entries))])
        rows.append((", ".join(e.name for e in entries), mixes_or_picks(entries[0]), options, text))
    lines = _tables(("name", "does", "options", "what it does"), {"": rows}, (6, 24))
    return "\n".join([*lines, "", "`kdlab augmentations NAME` shows one in full."])


def in_full(entry: Entry) -> str:
    """One part: text, facts and options with their defaults."""
    shown = {"from": f"{entry.module}.{entry.target}", "revision": entry.revision} | entry.declared()
    facts = [(f"{key}:", _plain(value)) for key, value in shown.items()]
    options = [(f"  {k}", "required" if v is REQUIRED else repr(v)) for k, v in entry.options.items()]
    parts = [entry.name, "", *reflowed(entry.text), "", *_columns(facts), "", "options and defaults:"]
    return "\n".join([*parts, *(_columns(options) if options else ["  none"])])


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) or "nothing" if isinstance(value, tuple | list) else str(value)


def reflowed(text: str) -> list[str]:
    """A docstring in lines of at most WIDTH characters: paragraphs filled, one piece per argument."""
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        pieces: list[str] = []
        section = paragraph.split("\n", 1)[0].strip() in SECTIONS
        for line in paragraph.splitlines():
            indent = len(line) - len(line.lstrip())
            if not pieces or line.lstrip().startswith("- ") or (section and indent <= 4):
                pieces.append(line)
            else:
                pieces[-1] += " " + line.strip()
        lines += ["", *(part for piece in pieces for part in _wrapped(piece, WIDTH, hang=4 if section else 0))]
    return lines[1:]


def _wrapped(text: str, width: int, hang: int = 0) -> list[str]:
    """Lines of at most ``width`` characters; a word longer than that stays whole."""
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(
        text.strip(), width, initial_indent=indent, subsequent_indent=indent + " " * hang,
        break_long_words=False, break_on_hyphens=False,
    ) or [""]  # fmt: skip


def _tables(head: Sequence[str], groups: Mapping[str, Sequence[Sequence[str]]], middle: Sequence[int]) -> list[str]:
    """Titled tables under one head; the first column fits its words, the last takes what is left."""
    words = [word.rstrip(",") for rows in groups.values() for row in rows for word in row[0].split()]
    widths = [max(map(len, [*words, head[0]])) + 1, *middle]
    lines = _columns([head], widths)
    for title, rows in groups.items():
        lines += ["", *([title] if title else []), *_columns(rows, widths)]
    return lines


def _columns(rows: Sequence[Sequence[str]], widths: Sequence[int] | None = None, gap: int = 2) -> list[str]:
    """Rows of cells as aligned text; cells are wrapped between words.

    Args:
        rows: cells, as many in each row.
        widths: of all columns but the last; None fits the first of two.
        gap: spaces between columns.
    """
    widths = list(widths or [max((len(row[0]) for row in rows), default=0)])
    widths.append(WIDTH - sum(widths) - gap * len(widths))
    lines = []
    for row in rows:
        cells = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            lines.append((" " * gap).join(part.ljust(w) for part, w in zip(parts, widths, strict=True)).rstrip())
    return lines


def _check_data(name: str) -> None:
    from kdlab.data import NAMES, READERS

    if not name.startswith("folder:"):
        choose("data", name, READERS if name in READERS else NAMES)


def _safety(data: str | None, entries: Sequence[Entry]) -> list[str]:
    """What is known of whether these augmentations keep the labels of a data set, each note once."""
    if data is None:
        return []
    from kdlab.augment.safety import label_safety

    notes: dict[str, list[str]] = {}
    for entry in entries:
        if note := label_safety(data, entry.name):
            notes.setdefault(note, []).append(entry.name)
    return [note if len(entries) == 1 else f"({', '.join(names)}) {note}" for note, names in notes.items()]
