"""Explorers: one question each, with sliders in JupyterLab and a static twin for batch runs.

``AugmentationExplorer()`` as the last line of a cell shows it; ``explorer.show(interactive=False)`` draws the twin.
"""

from __future__ import annotations

import importlib

_HOMES = {
    "AugmentationExplorer": "augmentation",
    "BudgetExplorer": "sweep.explorer",
    "ConfidenceExplorer": "confidence",
    "Drawing": "explorer",
    "Explorer": "explorer",
    "LiveTrainer": "trainer",
    "OwnImages": "own",
    "ResultsBrowser": "results.browser",
    "Room": "rooms",
    "TemperatureExplorer": "temperature",
    "is_interactive": "explorer",
    "check": "lesson",
    "predict": "lesson",
    "room": "rooms",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
