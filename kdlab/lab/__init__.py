"""The lab, everything between a spec and a table: plan a list of specs, run what is missing, one row per run.

``plan`` resolves specs, their teachers and cohorts; ``run`` trains what is missing; ``table`` reads what is finished.
"""

from __future__ import annotations

import importlib

_HOMES = {
    "Damaged": "damage",
    "Halted": "running",
    "MissingRuns": "store",
    "Plan": "planning",
    "PoorTeacher": "teachers",
    "Store": "store",
    "duration": "planning",
    "lineage": "planning",
    "linear": "baseline",
    "plan": "planning",
    "row": "rows",
    "run": "running",
    "run_key": "planning",
    "table": "rows",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
