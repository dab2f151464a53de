"""``kdlab doctor``: the environment that runs would be made in, and the state of the store."""

from __future__ import annotations

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
        *map(tables.data_line, datasets.READERS),
        *_disk(),
        f"registered: {', '.join(f'{len(catalogue(kind))} {kind}' for kind in ('models', 'augment', 'losses'))}",
    ])  # fmt: skip


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
