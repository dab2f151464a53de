"""Servers for the browser tests: on loopback, behind a random token, with a home and a store of their own."""

import contextlib
import http.client
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from kdlab.cli import serve

WAIT = 180.0  # seconds until something counts as broken; a machine may be busy with other work


@dataclass
class Server:
    """A running server: where it is, what opens it, and the folders it has been given.

    Args:
        process: what to stop.
        port: on loopback.
        token: a visitor must show it.
        folder: everything it writes is in here: ``home/``, ``out/`` (the store's home), ``log``.
        notebooks: the copy that it serves.
    """

    process: subprocess.Popen
    port: int
    token: str
    folder: Path
    notebooks: Path

    @property
    def out(self) -> Path:
        """``$KDLAB_OUT`` of its kernels."""
        return self.folder / "out"

    def link(self, path: str = "/") -> str:
        """The complete address of a page, with the token."""
        return f"http://{serve.LOOPBACK}:{self.port}{quote(path)}?token={self.token}"

    def ask(self, path: str, method: str = "GET", token: bool = True) -> tuple[int, str]:
        """Status and body of a request that follows no redirect; without the token if so wanted."""
        connection = http.client.HTTPConnection(serve.LOOPBACK, self.port, timeout=WAIT)
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Authorization": f"token {self.token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def wait(self, path: str) -> None:
        """Return when a path that asks for no token answers 200; fail with the log when it does not."""
        deadline = time.monotonic() + WAIT
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.ask(path, token=False)[0] == 200:
                    return
            time.sleep(0.2)
        pytest.fail(f"the server did not answer:\n{(self.folder / 'log').read_text()[-4000:]}")

    def stop(self) -> None:
        """End it, and with it its kernels."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # a kernel that did not listen
        self.process.wait()


def start(command: Callable[[int], list[str]], folder: Path, notebooks: Path, ready: str, **variables: str) -> Server:
    """Start a server whose home, settings and store are in a folder of its own.

    Args:
        command: gives the command line for a port.
        folder: an empty one.
        notebooks: what it serves.
        ready: a path that answers 200 once it serves, also without the token.
        **variables: of the environment, where they are to be others.
    """
    token, port = secrets.token_hex(16), serve.free_port(20000 + secrets.randbelow(20000))
    home = folder / "home"
    home.mkdir()
    places = {
        "HOME": home,
        "IPYTHONDIR": home / "ipython",
        "KDLAB_OUT": folder / "out",
        "KDLAB_LEDGER": folder / "ledger",
        "MPLCONFIGDIR": home / "mpl",
    }
    places |= {f"JUPYTER_{part}_DIR": home / part for part in ("CONFIG", "DATA", "RUNTIME")}
    environment = serve.environment(folder / "settings", token) | {k: str(v) for k, v in places.items()}
    environment |= {"KDLAB_PROFILE": "smoke"} | variables
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            command(port), env=environment, cwd=folder, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    server = Server(process, port, token, folder, notebooks)
    try:
        server.wait(ready)
    except BaseException:
        server.stop()
        raise
    return server
