"""What a result was computed with: versions, device, processor and revision."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

# What one capability leaves open: libraries choose kernels by these, and other kernels sum in another order.
FEATURES = ("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16")
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")  # which may forbid some


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
        "torch": str(torch.__version__),  # a plain str, which can be read where torch is not loaded
        "numpy": numpy.__version__,
        "device": torch.cuda.get_device_name() if where.startswith("cuda") else where,
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "features": features(),
    }
    digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:8]
    return numbers | {"digest": digest, "git": _git(), "kdlab": __version__}


def features() -> str:
    """The processor's maker and those of its features, AMX among them, by which libraries choose their kernels."""
    import torch

    if ask := getattr(torch.cpu, "get_capabilities", None):
        there = ask()
    else:  # an older torch tells less
        names = {"avx512_vnni": "_is_vnni_supported", "avx512_bf16": "_is_avx512_bf16_supported",
                 "amx_tile": "_is_amx_tile_supported", "amx_fp16": "_is_amx_fp16_supported"}  # fmt: skip
        there = {name: getattr(torch.cpu, asks, bool)() for name, asks in names.items()}
    maker = str(there.get("cpu_name") or "unknown").split()[0]
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if os.environ.get(name)]
    return " ".join([maker, *(name for name in FEATURES if there.get(name)), *limits])


def _git() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    try:
        done = subprocess.run(
            [git, "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
