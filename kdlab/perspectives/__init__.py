"""Perspectives: one question, one claim, the contrasts that decide it, one figure, one verdict each.

A perspective is a module with ``TITLE``, ``QUESTION``, ``CLAIM``, ``REFUTED_BY``, ``arms(profile)``,
``contrasts(profile)`` and ``figures(table, verdicts, profile)``; ``study`` makes it ready to run.
"""

from __future__ import annotations

import importlib

NAMES = ("joint_augmentation", "teacher_augmentation", "ratio_sweep", "few_shot", "compatibility")
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
