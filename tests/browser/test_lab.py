"""JupyterLab at the launcher, and voila behind its token, in a real browser."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kdlab.cli import serve

from .driving import NOTEBOOK, redrawn, slide, visit

TINY = """
import io
import ipywidgets as widgets
from PIL import Image

def png(grey):
    file = io.BytesIO()
    Image.new("L", (64, 64), grey * 25).save(file, "png")
    return file.getvalue()

slider, image = widgets.IntSlider(3, 0, 10), widgets.Image(value=png(3), layout={"width": "64px"})
label, button = widgets.Label("grey 3"), widgets.Button(description="fail", icon="play")
slider.observe(lambda change: image.set_trait("value", png(change.new)), "value")
slider.observe(lambda change: label.set_trait("value", f"grey {change.new}"), "value")
button.on_click(lambda _: 1 / 0)
box = widgets.VBox([slider, image, label, button])
box.add_class("tiny")
box
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A notebook with a slider that paints an image, and a button that raises."""
    cells = [
        new_markdown_cell("# A tiny notebook\n\n$$L = T^2 \\, \\mathrm{KL}(p \\| q)$$ and inline $T = 4$."),
        new_code_cell(TINY),
    ]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    path = tmp_path_factory.mktemp("tiny") / "tiny.ipynb"
    nbformat.write(notebook, path)
    return path


def play(page, screenshot):
    """Move the tiny notebook's slider and see number and image follow."""
    box = page.locator(".tiny")
    box.get_by_text("grey 3").wait_for()
    with redrawn(box.locator("img")):
        slide(box, 4)
    box.get_by_text("grey 7").wait_for()
    box.screenshot(path=screenshot)


def test_the_launcher_opens_and_runs(lab, page, screenshots):
    page.goto(lab.server.link())  # as `kdlab lab` does: no notebook is named
    lab.ready(serve.LAUNCHER)
    page.screenshot(path=screenshots / "launcher.png")
    lab.open(serve.LAUNCHER)
    assert lab.errors() == []
    runs = len(list((lab.server.out / "runs").glob("*/done.json")))  # other tests of this server may have trained some
    page.get_by_text(re.compile(rf"^kdlab [\d.]+, finished runs in store and ledger: {runs}")).wait_for()
    assert page.locator(".Toastify__toast").count() == 0, "nobody is asked about news"


def test_a_link_of_the_launcher_opens_its_notebook(lab, page, screenshots):
    lab.open(serve.LAUNCHER, run=False)
    page.get_by_role("link", name="Few images").click()
    lab.ready("perspectives/few_shot.ipynb")
    page.screenshot(path=screenshots / "launcher-link.png")


RUN_CELL = """words => {
    const book = window.jupyterapp.shell.currentWidget.content;
    book.activeCellIndex = book.widgets.findIndex(cell => cell.model.sharedModel.getSource().includes(words));
    return window.jupyterapp.commands.execute('notebook:run-cell');
}"""


def test_a_lesson_is_predicted_revealed_and_scored(lab, page, screenshots):
    lab.open("teaching/01_soft_targets.ipynb")
    assert lab.errors() == []
    box, before = page.locator(".kd-predict").first, page.evaluate(NOTEBOOK)
    box.scroll_into_view_if_needed()
    reveal, choices = box.get_by_role("button", name="Reveal"), box.locator(".widget-toggle-buttons button")
    assert reveal.is_disabled(), "predict first"
    choices.nth(1).click()
    for key in "ddmxabr":
        page.keyboard.press(key)
    choices.first.focus()
    for key in "ddmxabr":
        page.keyboard.press(key)
    assert page.evaluate(NOTEBOOK) == before, "no key for JupyterLab got out of the question"
    reveal.click()
    said = box.locator(".kd-message").inner_text()
    right = said.startswith("Right.")
    assert f"({int(right)} of 1 right so far)" in said
    page.screenshot(path=screenshots / "lesson-predicted.png")
    page.evaluate(RUN_CELL, "quiz.score()")
    page.get_by_text(re.compile(rf"Predictions: 1 of \d+ made, {int(right)} of them right")).wait_for()


def test_a_slider_in_jupyterlab_paints(lab, page, tiny, screenshots):
    (lab.server.notebooks / "tiny.ipynb").write_bytes(tiny.read_bytes())
    lab.open("tiny.ipynb")
    play(page, screenshots / "tiny-lab.png")
    assert lab.errors() == []
    page.get_by_role("button", name="fail").click()
    page.wait_for_function("window.heard.length || document.querySelector('.jp-RenderedText[data-mime-type*=error]')")
    assert any("ZeroDivisionError" in line for line in lab.errors()), "errors in callbacks are heard"


def test_jupyterlab_wants_the_token(jupyter):
    assert jupyter.ask("/api/status", token=False)[0] == 403
    assert jupyter.ask("/lab", token=False)[0] == 302
    assert jupyter.ask("/api/status")[0] == 200


def test_voila_wants_the_token(voila, tiny, page):
    server = voila(tiny)
    assert server.ask("/", token=False)[0] == 302
    assert server.ask("/api/kernels/00000000-0000-0000-0000-000000000000", token=False)[0] == 403
    page.goto(server.link().partition("?")[0])
    page.get_by_text("Token authentication is enabled").wait_for()
    assert page.locator(".tiny").count() == 0


def test_a_slider_on_a_page_of_voila_paints(voila, tiny, page, screenshots):
    visit(page, voila(tiny))
    play(page, screenshots / "tiny-voila.png")
    page.screenshot(path=screenshots / "voila.png")
    assert page.get_by_text("import ipywidgets").count() == 0, "code is hidden"
