"""What a result was computed with: versions, device, processor and revision."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import Any


@functools.cache
def environment() -> dict[str, Any]:
    """What a result was computed with. The digest covers what can change numbers; git stands beside it."""
    import numpy
    import torch

    from kdlab import __version__
    from kdlab.training import device

    where = device()
    numbers = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "device": torch.cuda.get_device_name() if where.startswith("cuda") else where,
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:8]
    return numbers | {"digest": digest, "git": _git(), "kdlab": __version__}


def _git() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
