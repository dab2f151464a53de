"""The notebooks in a browser: JupyterLab to explore and learn, voila to show one of them to a class.

The server is a process of its own; this module writes its command line, finds a port, and waits until it is stopped.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kdlab.cli.classroom import as_page, room
from kdlab.cli.working_copy import working_copy
from kdlab.data.visitors import VISITORS, named
from kdlab.errors import SpecError, check_integer
from kdlab.paths import CHECKOUT, home

NOTEBOOKS = CHECKOUT / "notebooks"
LAUNCHER, PAGE = "start.ipynb", "explore.ipynb"
HOOK = "kdlab.cli.working_copy.pictures_for_widgets"
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104  only by --share, behind a token
PORTS_TRIED = 50
# JupyterLab asks every newcomer whether to fetch news from the web; here the answer is no until its settings say yes.
SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
# The page of a class talks to its own server alone, and stands in no other site's frame. Scripts and styles in it are
# voila's and the explorers': widgets write styles as they go, and JupyterLab's settings are checked by code made there.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
SHARED = (
    "Shared: everyone in this network who has the link can open the page and use it. Visitors share what is loaded,\n"
    "and each takes about 0.25 GB more of this machine's memory. Nothing is encrypted. Stop with Ctrl-C when class is\n"
    "over."
)


def lab(port: int = 8888, browser: bool = True, notebooks: Path = NOTEBOOKS) -> int:
    """JupyterLab at the launcher notebook, on this machine only, until it is stopped; with copies of the notebooks.

    Args:
        port: of this machine; the next free one is taken, and named, when it is in use.
        browser: open a browser.
        notebooks: the originals; copies of them, in ``home()/notebooks``, are served.

    Returns:
        The exit code of JupyterLab.

    Raises:
        SpecError: for a port that cannot be opened, or when the launcher is missing.
    """
    _find(notebooks / LAUNCHER)
    port, place = free_port(port), home() / "notebooks"
    kept = working_copy(notebooks, place)
    print(f"Notebooks: copies in {place}; the originals stay as they are.", flush=True)
    for name in kept:
        print(f"  {name}: yours is kept, though kdlab has a newer one; delete yours to get it.", flush=True)
    with tempfile.TemporaryDirectory(prefix="kdlab-") as folder:
        return run(lab_command(port, browser, place), environment(Path(folder)))


def voila(
    port: int = 8888, browser: bool = True, share: bool = False, notebook: Path = NOTEBOOKS / PAGE,
    folders: Sequence[str] = (),
) -> int:  # fmt: skip
    """One notebook as a page of text, figures and sliders, without its code, behind a random token.

    Args:
        port: of this machine; the next free one is taken, and named, when it is in use.
        browser: open a browser.
        share: listen on all of this machine's addresses instead of loopback alone.
        notebook: the notebook to serve. Every visitor gets a kernel of their own.
        folders: of images that visitors may use; of the rest of the disk they see nothing but the bundled data.

    Returns:
        The exit code of voila.

    Raises:
        SpecError: for a port that cannot be opened, or when the notebook or a folder is missing.
    """
    _find(notebook)
    visitors = {VISITORS: named(folders)}
    host, token = EVERYWHERE if share else LOOPBACK, secrets.token_hex(8)  # can be typed from a projector
    port = free_port(port, host)
    local = page_url(LOOPBACK, port, token)
    print(f"The page: {page_url(_address(), port, token) if share else local}", flush=True)
    if share:
        print(SHARED, flush=True)
    with tempfile.TemporaryDirectory(prefix="kdlab-") as folder:
        around = environment(Path(folder), token) | visitors
        with room(Path(folder), around) as more:
            return run(
                voila_command(port, host, as_page(notebook, Path(folder))),
                around | more,
                (lambda server: _browse(local, port, server)) if browser else None,
            )


def lab_command(port: int, browser: bool = True, notebooks: Path = NOTEBOOKS) -> list[str]:
    """The command line of JupyterLab, which prints its address and makes a token by itself."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={notebooks}"]
    command += [f"--ServerApp.ip={LOOPBACK}", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--LabApp.default_url=/lab/tree/{LAUNCHER}", "--LabApp.log_level=WARN", "--ServerApp.log_level=WARN"]
    command.append(f"--ContentsManager.pre_save_hook={HOOK}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in most containers; the server listens on loopback only
        command.append("--allow-root")
    return command if browser else [*command, "--no-browser"]


def voila_command(port: int, host: str = LOOPBACK, notebook: Path = NOTEBOOKS / PAGE) -> list[str]:
    """The command line of voila.

    Its token comes from ``environment``: the command line of a process can be read by every user of a machine.
    """
    command = [sys.executable, "-m", "voila", str(notebook), "--no-browser", "--Voila.auto_token=True"]
    command += [f"--Voila.ip={host}", f"--Voila.port={port}", "--Voila.port_retries=0", "--Voila.log_level=WARN"]
    # A browser that loses its connection ends no kernel: those without one are stopped after ten minutes.
    return [*command, "--MappingKernelManager.cull_idle_timeout=600", "--MappingKernelManager.cull_interval=60"]


def environment(folder: Path, token: str = "") -> dict[str, str]:
    """The environment of a server.

    Args:
        folder: where Jupyter shall find settings that are ours; the user's own stay as they are, and win.
        token: what a visitor must show; empty leaves it to the server.
    """
    settings = folder / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
    headers = {"Voila": {"tornado_settings": {"headers": {"Content-Security-Policy": POLICY}}}}
    (folder / "voila.json").write_text(json.dumps(headers), encoding="utf-8")
    paths = [str(folder), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    ours = {"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}
    return os.environ | ours | ({"JUPYTER_TOKEN": token} if token else {})


def page_url(host: str, port: int, token: str) -> str:
    """The complete address of a page."""
    return f"http://{host}:{port}/?token={token}"


def free_port(port: int, host: str = LOOPBACK) -> int:
    """The first free port from ``port`` on; a word is printed when it is another one.

    Raises:
        SpecError: when ``port`` is none, may not be opened, or has no free one among those that follow.
    """
    check_integer("port", port, 1, 65535)
    last = min(port + PORTS_TRIED, 65535)
    for candidate in range(port, last + 1):
        try:
            with socket.create_server((host, candidate)):
                pass
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise SpecError(f"port must be one that you may open, but got {port}: {error.strerror}.") from error
        if candidate != port:
            print(f"Port {port} is taken; this is port {candidate}.", flush=True)
        return candidate
    raise SpecError(f"port must be a free one, but got {port}, and all up to {last} are taken.")


def run(
    command: list[str], environment: dict[str, str], started: Callable[[subprocess.Popen], None] | None = None
) -> int:
    """Run a server until it ends; Ctrl-C is left to it, and SIGTERM is passed on to it.

    Args:
        command: its command line.
        environment: all of its environment.
        started: called with the process once it runs.

    Returns:
        Its exit code.
    """
    server = subprocess.Popen(command, env=environment)
    try:
        with _ctrl_c_left_to_the_server():
            if started:
                started(server)
            return server.wait()
    finally:
        if server.poll() is None:  # a kill reached us, not the server
            server.terminate()  # it stops its kernels first
            server.wait()


@contextlib.contextmanager
def _ctrl_c_left_to_the_server() -> Iterator[None]:
    # The terminal sends Ctrl-C to both. JupyterLab asks whether it is meant, and stops kernels; dying first would leave
    # it without a terminal to ask at. Not SIG_IGN, which the server would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _browse(url: str, port: int, server: subprocess.Popen) -> None:
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            webbrowser.open(url)  # voila would do it without the token
            return
        time.sleep(0.2)


def _address() -> str:
    """This machine's address in its network; the name it gives itself when there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address kept for documentation; UDP sends nothing on connect
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def _find(notebook: Path) -> None:
    if not notebook.is_file():
        raise SpecError(f"there is no notebook {notebook}; run this from a checkout of kdlab.")
