"""Training: the views of a step, one arm, and the cohort loop that runs many arms in lockstep."""

from __future__ import annotations

import importlib

_HOMES = {
    "Arm": "student",
    "Layout": "layout",
    "Result": "loop",
    "Stopped": "loop",
    "TeacherCache": "teacher_cache",
    "Views": "views",
    "device": "runtime",
    "predict": "loop",
    "slot_shares": "layout",
    "train": "loop",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
