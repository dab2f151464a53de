"""``kdlab doctor``: the environment that runs would be made in, and the state of the store."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from kdlab import data as datasets
from kdlab import settings
from kdlab.cli import tables
from kdlab.errors import SpecError
from kdlab.lab.costs import machine_name
from kdlab.lab.damage import Damaged
from kdlab.lab.store import Store
from kdlab.paths import home
from kdlab.registry import catalogue


def doctor() -> str:
    """Versions, device, data, disk, and the runs in the store; damaged runs are set aside."""
    import torch

    from kdlab.training import device

    names = ("kdlab", "torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib", "papermill", "jupyterlab")
    threads = f"torch threads in a run: 1 (of {torch.get_num_threads()})"
    return "\n".join([
        f"python {platform.python_version()} on {platform.system()} {platform.machine()}",
        "  ".join(f"{name} {version(name)}" for name in names),
        *(f"environment: {fault}" for fault in settings.faults()),
        f"device {_unless_refused(device)}, {os.cpu_count()} cores, {threads}",
        *_arithmetic(_unless_refused(device)),
        *map(tables.data_line, datasets.READERS),
        *_disk(),
        f"registered: {', '.join(f'{len(catalogue(kind))} {kind}' for kind in ('models', 'augment', 'losses'))}",
    ])  # fmt: skip


def _arithmetic(where: str) -> list[str]:
    """What the device can do of a step on a GPU, and the rates it reached now, which plans start from."""
    from kdlab.training.ceilings import ceilings

    if where.startswith("("):
        return []
    found = ceilings(where)
    with contextlib.suppress(SpecError):  # a disk that refuses has a line of its own
        Store().put(machine_name(where.startswith("cuda")), found._asdict())
    rates = f"{2e-9 * found.multiply_adds:,.0f} GFLOP/s in matrix products, {4e-9 * found.numbers:,.1f} GB/s copied"
    return [f"arithmetic: {rates}", *(_card(where) if where.startswith("cuda") else [])]


def _card(where: str) -> list[str]:
    """What a GPU is, and which of the ways of training fast it has."""
    import torch

    from kdlab.training.ceilings import ceilings

    card, half = torch.cuda.get_device_properties(where), torch.cuda.is_bf16_supported()
    rate = f"{2e-9 * ceilings(where, 'bfloat16').multiply_adds:,.0f} GFLOP/s" if half else "not supported"
    return [
        f"GPU {card.name}: {card.total_memory / 2**30:.0f} GiB, bfloat16 {rate}",
        "on it: students of one architecture as one network; their steps as one CUDA graph, unless a run says why not",
    ]


def _disk() -> list[str]:
    """What is kept in the output folder, and whether there is room for more."""
    from kdlab.training.teacher_cache import limit

    store = Store()
    keys = store.keys()
    bad = {key: files for key in keys if (files := store.damaged(key))}
    for key, files in bad.items():
        store.set_aside(Damaged(key, ", ".join(files), "no longer match their checksums"))
    there = next(path for path in (home(), *home().parents) if path.exists())
    free, writable = shutil.disk_usage(there).free / 2**30, "writable" if os.access(there, os.W_OK) else "NOT WRITABLE"
    most = _unless_refused(lambda: f"{limit() / 1e9:g} GB")
    outputs = sum(path.stat().st_blocks * 512 for path in store.teacher_cache.glob("*")) / 1e9
    pixels = sum(path.stat().st_size for path in (home() / "data").glob("*.pixels")) / 1e9
    return [
        f"output {home()}: {free:.1f} GiB free, {writable}",
        f"store: {len(keys) - len(bad)} finished runs, {len(bad)} damaged and set aside",
        *(f"  damaged {key}: {', '.join(files)}" for key, files in bad.items()),
        f"kept teacher outputs: {outputs:.2f} of at most {most} (KDLAB_TEACHER_GB)",
        f"kept images of folders: {pixels:.2f} GB in {home() / 'data'}, made again when deleted",
    ]


def _unless_refused(value: Callable[[], Any]) -> Any:
    """What a variable of the environment decides; a wrong one has its own line."""
    try:
        return value()
    except SpecError:
        return "(see environment)"
