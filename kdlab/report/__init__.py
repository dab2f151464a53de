"""Reports: notebooks run in batch, the web pages made of them, and the README's tables."""

from __future__ import annotations

import importlib

_HOMES = {
    "CHECKOUT": "notebooks",
    "NOTEBOOKS": "notebooks",
    "Outcome": "notebooks",
    "check": "notebooks",
    "gallery": "pages",
    "html": "pages",
    "lessons": "pages",
    "load_verdicts": "pages",
    "parameters": "notebooks",
    "publish": "notebooks",
    "run_notebook": "notebooks",
    "unfinished": "pages",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
