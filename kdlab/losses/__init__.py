"""Distillation methods: one class each, one protocol for all; ``from kdlab.losses import CRD, DKD`` loads those two."""

from __future__ import annotations

import importlib
from typing import Any

from kdlab.losses.base import Batch, Context, Losses, Method
from kdlab.registry import catalogue

__all__ = ["Batch", "Context", "Losses", "Method"]
_HOMES = {entry.target: entry.module for entry in catalogue("losses").values()}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
