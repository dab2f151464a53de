"""The registered methods and augmentations in groups and words, for the README and the terminal. Imports no torch."""

from __future__ import annotations

from kdlab.registry import Entry, catalogue, preparations

KNOWLEDGE = {
    "none": "No teacher",
    "logits": "Logits: what the teacher answers",
    "features": "Features: what the teacher's layers show",
    "relations": "Relations: how the teacher's rows lie to each other",
    "contrastive": "Contrastive: which rows belong together",
}


def by_knowledge() -> dict[str, list[Entry]]:
    """The methods that train a student, by their fact ``knowledge``."""
    apart = preparations()
    students = [e for name, e in catalogue("losses").items() if name not in apart]
    kinds = dict.fromkeys([*KNOWLEDGE, *(e.knowledge for e in students)])
    groups = {kind: [e for e in students if e.knowledge == kind] for kind in kinds}
    return {kind: entries for kind, entries in groups.items() if entries}


def preparing() -> list[Entry]:
    """The methods that prepare a teacher."""
    apart = preparations()
    return [e for name, e in catalogue("losses").items() if name in apart]


def families() -> list[list[Entry]]:
    """The augmentations, those of one class together."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in catalogue("augment").values():
        found.setdefault((entry.module, entry.target), []).append(entry)
    return list(found.values())


def mixes_or_picks(entry: Entry) -> str:
    """Whether an augmentation ``mixes`` images or ``picks`` rows; empty when it only changes each image."""
    return ", ".join(word for word in ("mixes", "picks") if getattr(entry, word))


def summary(entry: Entry) -> str:
    """The first paragraph of a part's text, in one line."""
    return " ".join(entry.doc.split())
