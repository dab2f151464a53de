"""kdlab: a workbench to see what data augmentation does to knowledge distillation.

::

    import kdlab

    teacher = kdlab.RunSpec(model="resnet8_s2_w16", budget=kdlab.Budget(20))
    student = kdlab.RunSpec(model="resnet8_s2_w4", method="kd", teacher=teacher)
    print(kdlab.plan([student]).describe())
    table = kdlab.run([student])

Names and folders are loaded when they are asked for, so that ``import kdlab`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
_HOMES = {
    "Budget": "spec",
    "Checkpoint": "spec",
    "Optimiser": "spec",
    "RunSpec": "spec",
    "SpecError": "errors",
    "Store": "lab",
    "load_teacher": "models",
    "plan": "lab",
    "profile": "perspectives",
    "run": "lab",
    "study": "perspectives",
    "sweep": "spec",
    "table": "lab",
}
FOLDERS = (
    "augment", "cli", "data", "lab", "losses", "metrics", "models", "perspectives", "plotting", "report", "stats",
    "teaching", "training", "widgets",
)  # fmt: skip
__all__ = [*_HOMES, *FOLDERS]


def __getattr__(name: str) -> Any:
    if name in FOLDERS:
        return importlib.import_module(f"kdlab.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"kdlab.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'kdlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
