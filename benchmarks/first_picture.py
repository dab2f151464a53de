"""How long an explorer's first picture takes: seconds from a ready kernel until a real browser shows it.

    python benchmarks/first_picture.py [ROUNDS]

The profile is quick and the store is empty at first, as on the day of installing. In JupyterLab a notebook of one cell
that shows the augmentation explorer is run in a fresh kernel, by run, ROUNDS times (3): the first is cold (nothing was
read by this machine's other processes on purpose; its own disk cache may be warm), the others are warm. Then ``kdlab
lab --voila``: seconds from opening the page to its first explorer's picture, for the first visitor and for the next
ones, once the room is loaded. Prints each, beside the bar of 5 seconds; ends badly where a run was trained.
"""

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import sync_playwright

from kdlab.cli import serve
from tests.browser.conftest import NAMES, QUIET
from tests.browser.driving import Lab
from tests.browser.servers import WAIT, Server, start

BAR = 5.0  # seconds
PICTURE = ".kd-augmentationexplorer .kd-canvas .kd-tiles img"
RUN = "() => void window.jupyterapp.commands.execute('notebook:run-all-cells')"


def told(name: str, seconds: float) -> None:
    """A line of the result."""
    print(f"{name:40s} {seconds:6.1f} s   {seconds / BAR:.2f} of {BAR:g} s", flush=True)


def in_lab(page, server: Server) -> float:
    """Seconds from a ready kernel until the picture can be seen."""
    lab = Lab(page, server)
    lab.open("explore.ipynb", run=False)
    started = time.perf_counter()
    page.evaluate(RUN)
    page.locator(PICTURE).first.wait_for()
    seconds = time.perf_counter() - started
    lab.shutdown()
    return seconds


def in_voila(page, server: Server) -> float:
    """Seconds from opening the class page until the picture can be seen."""
    started = time.perf_counter()
    page.goto(server.link(), wait_until="commit")
    page.locator(PICTURE).first.wait_for()
    return time.perf_counter() - started


def trained(server: Server) -> list[str]:
    """What a server's store holds."""
    return [path.name for path in (server.out / "runs").glob("*/done.json")]


def main() -> None:
    """Time both, and look whether anything was trained."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    chromium = next(filter(None, map(shutil.which, NAMES)))
    with tempfile.TemporaryDirectory(prefix="kdlab-") as scratch, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[*QUIET, "--no-sandbox"])

        def ask(name: str, measure, server: Server) -> None:
            try:
                for number in range(rounds):
                    page = browser.new_page(viewport={"width": 1280, "height": 2400})
                    page.set_default_timeout(WAIT * 1000)
                    told(f"{name}, {'cold' if not number else f'warm, {number}'}", measure(page, server))
                    page.context.close()
                assert not trained(server), trained(server)
            finally:
                server.stop()

        folder = Path(scratch) / "lab"
        notebooks = folder / "notebooks"
        shutil.copytree(serve.NOTEBOOKS, notebooks)
        drive = "--LabApp.expose_app_in_browser=True"
        lab = [lambda port: [*serve.lab_command(port, False, notebooks), drive], folder, notebooks, "/api"]
        ask("JupyterLab, from a ready kernel", in_lab, start(*lab, KDLAB_PROFILE="quick"))
        folder = Path(scratch) / "class"
        folder.mkdir()
        words = [sys.executable, "-m", "kdlab.cli", "lab", "--voila", "--no-browser", "--port"]
        server = start(lambda port: [*words, str(port)], folder, folder, "/login", KDLAB_PROFILE="quick")
        server.token = re.search(r"token=(\w+)", (folder / "log").read_text())[1]
        ask("the class page, from opening it", in_voila, server)
        browser.close()


if __name__ == "__main__":
    main()
