"""Where kdlab reads and writes: the folder of everything it makes."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Where everything kdlab writes goes: ``$KDLAB_OUT``, else ``out`` in the checkout, else ``out`` right here."""
    if os.environ.get("KDLAB_OUT"):
        return Path(os.environ["KDLAB_OUT"]).absolute()
    checkout = Path(__file__).resolve().parent.parent
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / "out"
