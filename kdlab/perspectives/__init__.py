"""Perspectives: one question, one claim, the contrasts that decide it, one figure, one verdict each.

A perspective is a module of this folder with ``TITLE``, ``QUESTION``, ``CLAIM``, ``REFUTED_BY``, ``FORMULA``,
``FIGURES``, ``arms(profile)``, ``contrasts(profile)`` and ``figures(table, verdicts, profile)``; ``study`` makes it
ready to run. ``NAMES`` are those in the folder, in the order of their first lines: claim (a), claim (b) and so on.
"""

from __future__ import annotations

import importlib
from pathlib import Path

_TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py")}
NAMES = tuple(sorted((name for name, text in _TEXTS.items() if "\nCLAIM = " in text), key=_TEXTS.get))
_HOMES = {
    "PARAMETERS": "given",
    "PROFILES": "profiles",
    "Profile": "profiles",
    "Study": "studies",
    "lengths": "studies",
    "parameters": "given",
    "plain": "studies",
    "profile": "profiles",
    "redraw": "studies",
    "study": "studies",
}
__all__ = ["NAMES", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
