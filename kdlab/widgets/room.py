"""One loaded room for all visitors of a classroom page: a process that has read data and networks forks their kernels.

A kernel of its own imports torch and reads images and weights, which takes seconds and hundreds of megabytes. A forked
one has them at once and shares their memory, since nobody writes to them. ``kdlab.cli.classroom.room`` starts the room,
and prepares a kernel specification whose command is ``door``: a small process that asks the room for a kernel, passes
signals on to it, and ends with it.

    python -m kdlab.widgets.room SOCKET                       # the room
    python -m kdlab.widgets.room SOCKET --door CONNECTION     # a visitor's kernel
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import threading
import time

PATIENCE = 60  # seconds that a visitor waits for the room to open


def keep(place: str) -> None:
    """Load what visitors look at, then fork a kernel for each that comes in.

    Args:
        place: path of the socket to listen at; it is there before anything is loaded, so that early visitors wait.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for kernels: doors see their sockets close
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        _load()
        gc.collect()
        gc.freeze()  # a collection would write to what is shared
        while True:
            visitor, _ = listener.accept()
            asked = json.loads(visitor.makefile("r", encoding="utf-8").readline())
            if os.fork() == 0:
                listener.close()
                _serve(visitor, asked)
            visitor.close()


def _load() -> None:
    import ipykernel.kernelapp  # noqa: F401
    import ipywidgets  # noqa: F401
    import torch

    from kdlab import lab, perspectives, widgets
    from kdlab.lab.shipped import shipped
    from kdlab.lab.store import Store
    from kdlab.perspectives import recipes

    torch.set_num_threads(1)  # threads do not survive a fork
    with contextlib.suppress(Exception):  # whatever it is, the page says it in its own place
        student = recipes.method(perspectives.profile(), "kd").at_seed(0)
        keys = [lab.run_key(student.teacher), lab.run_key(student)]
        if shipped(keys) or all(map(Store().has, keys)):  # training takes too long to keep visitors waiting
            for explorer in (widgets.AugmentationExplorer, widgets.ConfidenceExplorer):
                explorer(widgets.trained_pair(progress=False)).draw()  # and with it, what drawing imports


def _serve(visitor: socket.socket, asked: dict) -> None:
    """The kernel of a visitor, in a process that has just been forked; does not return."""
    from ipykernel.kernelapp import IPKernelApp

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.argv = ["ipykernel_launcher", "-f", asked["connection"]]
    visitor.sendall(f"{os.getpid()}\n".encode())

    def until_the_door_shuts() -> None:
        with contextlib.suppress(OSError):
            visitor.recv(1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=until_the_door_shuts, name="kdlab-door", daemon=True).start()
    try:
        parent = int(asked["environment"].get("JPY_PARENT_PID") or 0)  # the class has read the room's, long ago
        IPKernelApp.launch_instance(argv=sys.argv[1:], parent_handle=parent)
    finally:
        os._exit(0)


def _inside(place: str) -> socket.socket:
    """A connection to the room, which may still be starting.

    Raises:
        OSError: when there is none after ``PATIENCE`` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        kernel = socket.socket(socket.AF_UNIX)
        try:
            kernel.connect(place)
            return kernel
        except (FileNotFoundError, ConnectionRefusedError):
            kernel.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def door(place: str, connection: str) -> None:
    """Ask the room for a kernel, and stand for it: signals go to it, and both end together.

    Args:
        place: path of the room's socket.
        connection: the connection file that Jupyter has written for the kernel.
    """
    with _inside(place) as kernel:
        asked = {"environment": dict(os.environ), "folder": os.getcwd(), "connection": connection}
        kernel.sendall(json.dumps(asked).encode() + b"\n")
        pid = int(kernel.makefile("r").readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        while kernel.recv(1):
            pass


if __name__ == "__main__":
    if len(sys.argv) == 2:
        keep(sys.argv[1])
    else:
        door(sys.argv[1], sys.argv[3])
