"""A real browser on real servers: Chromium drives JupyterLab and voila, which run on loopback behind a token.

Whatever is outside this machine cannot be reached from the browser, as in many a classroom. Servers and browser live as
long as this package's tests: playwright keeps an event loop running, which others need not have around.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdlab.cli import serve
from kdlab.cli.classroom import as_page

from .driving import Lab
from .servers import WAIT, Server, start

NAMES = ("chromium", "chromium-browser", "google-chrome")
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--disable-dev-shm-usage", OFFLINE]  # fmt: skip
# What a page may complain of on its console. Voila's page links icons on the web, which it also brings along; the
# policy of a class page forbids them before a name is looked up.
ALLOWED = (
    r"ERR_NAME_NOT_RESOLVED \(https://cdn\.jsdelivr\.net/npm/@fortawesome/",
    r"^Loading the stylesheet 'https://cdn\.jsdelivr\.net/npm/@fortawesome/",
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser: ``$CHROMIUM``, or what is on the path."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("install playwright (pip install -e '.[test]') to run the browser tests")
    named = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else NAMES)), None)
    if named and not found:
        pytest.fail(f"CHROMIUM must be the path of a browser, but got {named!r}")
    return found or pytest.skip("install chromium (Debian: apt-get install chromium) to run the browser tests")


@pytest.fixture(scope="package")
def browser(chromium):
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # root has none
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[*QUIET, *sandbox], timeout=WAIT * 1000)
        yield browser
        browser.close()


@contextlib.contextmanager
def fresh_page(browser):
    """A page with a fresh profile; what it complains of on its console fails the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(WAIT * 1000)
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda m: m.type == "error" and said.append(f"{m.text} ({m.location.get('url', '')})"))
    yield page
    page.context.close()
    complaints = [line for line in said if not any(re.search(pattern, line) for pattern in ALLOWED)]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def page(browser):
    """A page of the test's own."""
    with fresh_page(browser) as page:
        yield page


@pytest.fixture(scope="module")
def explorers(browser, jupyter) -> Iterator[Lab]:
    """The explore notebook in JupyterLab, run: one page for all tests of a module."""
    with fresh_page(browser) as page:
        lab = Lab(page, jupyter)
        lab.open("explore.ipynb")
        assert lab.errors() == []
        yield lab
        lab.shutdown()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """A git-ignored folder for what a page looked like."""
    folder = Path(__file__).parent / "screenshots"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="package")
def jupyter(chromium, tmp_path_factory) -> Iterator[Server]:
    """JupyterLab as ``kdlab lab`` starts it, on a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("jupyter")
    notebooks = folder / "notebooks"
    shutil.copytree(serve.NOTEBOOKS, notebooks, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    drive = "--LabApp.expose_app_in_browser=True"
    server = start(lambda port: [*serve.lab_command(port, False, notebooks), drive], folder, notebooks, "/api")
    yield server
    server.stop()


@pytest.fixture(scope="package")
def voila(chromium, tmp_path_factory) -> Iterator[Callable[[Path], Server]]:
    """Serves a copy of a notebook as ``kdlab lab --voila`` does; one server for each, kept until the end."""
    servers = {}

    def serve_page(notebook: Path) -> Server:
        if notebook not in servers:
            folder = tmp_path_factory.mktemp("voila")
            copy = as_page(notebook, folder)
            servers[notebook] = start(lambda port: serve.voila_command(port, notebook=copy), folder, copy, "/login")
        return servers[notebook]

    yield serve_page
    for server in servers.values():
        server.stop()


@pytest.fixture(scope="package")
def classroom(chromium, tmp_path_factory) -> Iterator[Server]:
    """The class page as ``kdlab lab --voila`` itself starts it: visitors, their loaded room, its own token."""
    folder = tmp_path_factory.mktemp("class")
    words = [sys.executable, "-m", "kdlab.cli", "lab", "--voila", "--no-browser", "--port"]
    # quick's pair comes with the package, so the room has it before the first visitor comes
    server = start(lambda port: [*words, str(port)], folder, folder, "/login", KDLAB_PROFILE="quick")
    server.token = re.search(r"token=(\w+)", (folder / "log").read_text())[1]
    yield server
    server.stop()


@pytest.fixture
def lab(page, jupyter) -> Iterator[Lab]:
    """JupyterLab in the page; its kernels end with the test."""
    lab = Lab(page, jupyter)
    yield lab
    lab.shutdown()
