"""The pictures of the explorers in README and docs: each as JupyterLab shows it, driven in a real browser.

    .venv/bin/python docs/pictures.py

Written to ``docs/_static/explorers``, the upper part of each. Explorers of finished runs show those of the store and of
the ledger; the trainer trains a short run, in a copy of the store. Needs chromium, as browser tests do. Look at what
comes out.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from kdlab.cli import serve  # noqa: E402
from kdlab.paths import home  # noqa: E402
from kdlab.widgets import custom_study  # noqa: E402
from tests.browser.conftest import QUIET  # noqa: E402
from tests.browser.driving import Lab, redrawn, slide  # noqa: E402
from tests.browser.servers import start  # noqa: E402
from tests.browser.test_explore import choose, explorer, field, image, press, slider  # noqa: E402

FOLDER = CHECKOUT / "docs" / "_static" / "explorers"
LOOKS = {"viewport": {"width": 1180, "height": 1300}, "device_scale_factor": 1.5}
HIGHEST = 800  # pixels of the page
DATA, PHOTOS = "fashion", "photos"


def augmentation(page):
    """A joint policy on a few images."""
    return explorer(page, "augmentationexplorer")


def temperature(page):
    """A temperature at which the other classes show."""
    box = explorer(page, "temperatureexplorer")
    with redrawn(image(box)):
        slide(slider(box, "temperature"), 4)
    return box


def confidence(page):
    """The weights of pairs."""
    return explorer(page, "confidenceexplorer")


def budget(page):
    """Accuracy over training images, from the published runs."""
    box = explorer(page, "budgetexplorer")
    with redrawn(image(box)):
        choose(box, "axis", "images")
    return box


def trainer(page):
    """A student that has been trained."""
    box = explorer(page, "livetrainer")
    field(box, "unit").select_option("steps")
    field(box, "budget").fill("400")
    field(box, "budget").press("Tab")
    press(box, "Start")
    box.get_by_text("Done. The run is in the store").wait_for()
    return box


def results(page):
    """Two arms of one teacher: their curves, and what they get wrong."""
    box = explorer(page, "resultsbrowser")
    return box.locator(".kd-chart").first


def own(page):
    """A folder of images, looked at."""
    box = explorer(page, "ownimages")
    with redrawn(image(box)):
        field(box, "folder").fill(PHOTOS)
        field(box, "folder").press("Enter")
    box.get_by_text("3 classes").first.wait_for()
    return box


EXPLORERS = (augmentation, temperature, confidence, budget, trainer, results, own)


def runs(out: Path) -> None:
    """Links to the runs of the bundled data: a store of its own, whatever else there is."""
    for folder in (home() / "runs").glob("[0-9a-f]*"):
        if json.loads((folder / "spec.json").read_text())["spec"]["data"] == DATA:
            shutil.copytree(folder, out / "runs" / folder.name, copy_function=os.link)


def shot(page, first) -> bytes:
    """An explorer from one of its parts on, or from its top, as wide as it is."""
    first.evaluate("part => { part.style.scrollMarginTop = '16px'; part.scrollIntoView({block: 'start'}); }")
    page.wait_for_timeout(1500)
    whole = first.locator("xpath=ancestor-or-self::*[@role='group'][@aria-label]").first.bounding_box()
    top = max(whole["y"], first.bounding_box()["y"] - 12)
    height = min(whole["y"] + whole["height"] - top, HIGHEST)
    return page.screenshot(clip=whole | {"y": top, "height": height})


def keep(shot: bytes, path: Path) -> None:
    """A screenshot in 256 colours, which is a third of the bytes and looks the same."""
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Start JupyterLab, run the explore notebook, and take the pictures."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home()) as temporary, sync_playwright() as driver:
        notebooks = Path(temporary) / "notebooks"
        shutil.copytree(serve.NOTEBOOKS, notebooks)
        runs(Path(temporary) / "out")
        shutil.copytree(custom_study.example(), notebooks / PHOTOS)
        places = {
            "KDLAB_OUT": str(Path(temporary) / "out"),
            "KDLAB_PROFILE": "quick",
            "KDLAB_LEDGER": str(CHECKOUT / "figures" / "ledger"),
        }
        seen = "--LabApp.expose_app_in_browser=True"
        folder = Path(temporary) / "server"
        folder.mkdir()
        server = start(
            lambda port: [*serve.lab_command(port, False, notebooks), seen], folder, notebooks, "/api", **places
        )
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=[*QUIET, "--no-sandbox"])
        try:
            page = browser.new_page(**LOOKS)
            page.set_default_timeout(180_000)
            lab = Lab(page, server)
            lab.open("explore.ipynb")
            for take in EXPLORERS:
                keep(shot(page, take(page)), FOLDER / f"{take.__name__}.png")
                print(take.__name__, flush=True)
            lab.shutdown()
        finally:
            browser.close()
            server.stop()


if __name__ == "__main__":
    main()
