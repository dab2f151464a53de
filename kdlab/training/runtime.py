"""Settings of the process that trains: device, threads, memory, determinism, signals, eval mode."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading

import torch

from kdlab import settings
from kdlab.errors import SpecError


def device() -> str:
    """``$KDLAB_DEVICE``, else the first of cuda and cpu that is there.

    Raises:
        SpecError: when the variable names no device, or one that torch does not find.
    """
    name = os.environ.get("KDLAB_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    settings.device(name)
    kind, _, number = name.partition(":")
    found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(number or 0) >= found:
        what = f"only {found} of the kind" if found else f"no {kind} device"
        raise SpecError(f"KDLAB_DEVICE is {name!r}, but torch finds {what} here; unset it to take what there is.")
    return name


def keep_memory() -> None:
    """Set glibc's malloc to hold on to a step's freed memory instead of returning it to the system.

    Fetching the same pages anew in each step costs a tiny student a fifth of its time. Other C libraries are left as
    they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        trim, mmap = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
        mallopt(trim, 1 << 30)
        mallopt(mmap, 1 << 30) or mallopt(mmap, 1 << 25)  # older ones take 32 MiB at most


@contextlib.contextmanager
def one_thread():
    """Train on one torch thread: tiny networks are no faster on two, and sums keep their order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def evaluating(model: torch.nn.Module):
    """The model in eval mode and without gradients; its training mode is restored at the end."""
    training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(training)


@contextlib.contextmanager
def deterministic(where: str):
    """Where ``$KDLAB_DETERMINISTIC`` is 1, have a GPU give the same bits twice, with slower kernels; a CPU does anyway.

    Args:
        where: the device.
    """
    if not where.startswith("cuda"):
        yield
        return
    if os.environ.get("KDLAB_DETERMINISTIC", "0") != "1":
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True  # shapes are fixed: the fastest kernels are found once
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = before
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


@contextlib.contextmanager
def interrupts_held():
    """Defer Ctrl-C to the end of a step: a network saved in mid-step cannot go on bit for bit.

    Only signals that would raise KeyboardInterrupt are deferred; those that a worker ignores stay ignored.

    Yields:
        A function that returns whether Ctrl-C came. A second Ctrl-C raises at once.
    """
    came = []

    def hold(number, frame):
        if came:
            raise KeyboardInterrupt
        came.append(number)

    main = threading.current_thread() is threading.main_thread()
    raising = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is signal.default_int_handler]
    for number in raising if main else ():
        signal.signal(number, hold)
    try:
        yield lambda: bool(came)
    finally:
        for number in raising if main else ():
            signal.signal(number, signal.default_int_handler)
