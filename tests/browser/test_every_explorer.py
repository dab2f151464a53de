"""What holds for every explorer in JupyterLab, on one page: keys, sliders, names, and what a saved notebook shows."""

import json

import pytest

from .driving import Lab

EXPLORERS = (
    "augmentationexplorer", "temperatureexplorer", "confidenceexplorer", "budgetexplorer", "livetrainer",
    "resultsbrowser", "ownimages",
)  # fmt: skip
COMMANDS = (*"ddmxabcvyzrjk123", "Shift+M", "Shift+V", "ArrowDown", "ArrowUp", "Enter")
KINDS = ("select", ".noUi-handle", ".widget-readout", "input[type=text]", "input[type=number]", "button",
         "input[type=checkbox]")  # fmt: skip
NOTEBOOK = """() => JSON.stringify([...window.jupyterapp.shell.currentWidget.content.widgets].map(
    cell => [cell.model.id, cell.model.type, cell.model.sharedModel.getSource()]))"""


@pytest.fixture(params=EXPLORERS)
def box(request, explorers):
    """The box of an explorer, in view."""
    box = explorers.page.locator(f".kd-{request.param}")
    box.wait_for()
    box.scroll_into_view_if_needed()
    return box


def test_jupyterlab_has_keys_that_change_a_notebook(explorers):
    page = explorers.page
    before = page.evaluate(NOTEBOOK)
    page.locator("p", has_text="Seven explorers, each with one question").click()
    page.keyboard.press("b")
    page.wait_for_function(f"before => ({NOTEBOOK})() !== before", arg=before)
    for _ in "dd":
        page.keyboard.press("d")
    page.wait_for_function(f"before => ({NOTEBOOK})() === before", arg=before)


def test_keys_in_an_explorer_change_nothing_in_the_notebook(explorers, box):
    page, tried = box.page, []
    before = page.evaluate(NOTEBOOK)
    for kind in KINDS:
        control = box.locator(f"{kind}:enabled:visible" if kind not in KINDS[1:3] else f"{kind}:visible").first
        if control.count():
            tried.append(kind)
            value = control.input_value() if kind.startswith("input") and "checkbox" not in kind else None
            control.focus()
            for key in COMMANDS:
                if key != "Enter" or kind in (".noUi-handle", "select"):  # elsewhere it does what it is for
                    page.keyboard.press(key)
            if value is not None:
                control.fill(value)
            assert page.evaluate(NOTEBOOK) == before, kind
    assert {"select", "button"} & set(tried)
    box.locator(".kd-canvas img").first.click(position={"x": 3, "y": 3})
    for key in COMMANDS[:9]:
        page.keyboard.press(key)
    assert page.evaluate(NOTEBOOK) == before, "a click on the picture"


IDLE = """async () => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    for (let round = 0; round < 3; round++) {  // an answer of the kernel may make a widget send its latest value
        await kernel.requestKernelInfo();
        await new Promise(done => setTimeout(done, 50));
    }
}"""
SHOWN = """handle => {
    const slider = handle.closest('.widget-slider');
    return [slider.querySelector('label').textContent.trim(), slider.querySelector('.widget-readout').textContent];
}"""


def test_sliders_are_named_tell_what_they_show_and_may_go_to_their_ends(box):
    for handle in box.locator(".widget-slider:not(:has([disabled])) .noUi-handle:visible").all():
        for key in ("End", "ArrowLeft", "Home", "ArrowRight"):
            handle.press(key)
            box.page.evaluate(IDLE)
            assert box.get_by_role("alert").count() == 0, f"{key}: {box.get_by_role('alert').all_inner_texts()}"
            name, value = handle.evaluate(SHOWN)
            assert handle.get_attribute("aria-label") == name != ""
            assert handle.get_attribute("aria-valuetext") == value != ""


def test_one_heading_each(box):
    title = box.locator(".kd-title").text_content()
    assert box.get_attribute("aria-label") == title and box.get_attribute("role") == "group"
    assert box.locator("h1, h2").count() == 0
    assert box.page.locator(".jp-RenderedMarkdown h2", has_text=title).count() == 1


def test_pictures_are_described(box):
    picture = box.locator(".kd-canvas img").first
    assert 10 < len(picture.get_attribute("alt")) <= 150
    if told := picture.get_attribute("aria-describedby"):
        assert box.locator(f"#{told}").count() == 1


@pytest.mark.parametrize("width, height", [(1280, 720), (390, 844)])
@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_how_it_looks(explorers, screenshots, theme, width, height):
    page = explorers.page
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("window.jupyterapp.shell.collapseLeft()")
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
                  f"JupyterLab {theme}")  # fmt: skip
    page.wait_for_function(f"document.body.dataset.jpThemeLight === '{str(theme == 'Light').lower()}'")
    for name in EXPLORERS:
        page.locator(f".kd-{name}").scroll_into_view_if_needed()
        page.screenshot(path=screenshots / f"every-{name}-{theme.lower()}-{width}.png")


def test_a_notebook_can_be_saved_from_an_explorer(explorers):
    page = explorers.page
    page.evaluate("window.saved = 0; window.jupyterapp.shell.currentWidget.context.saveState.connect(() => saved++)")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator(".kd-ownimages select").last.focus()
    page.keyboard.press("Control+s")
    page.wait_for_function("window.saved > 0")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    shown = json.loads((explorers.server.notebooks / "explore.ipynb").read_text())
    outputs = [o for cell in shown["cells"] for o in cell.get("outputs", []) if "text/html" in o.get("data", {})]
    assert len(outputs) == len(EXPLORERS) and not any("widget-view" in kind for o in outputs for kind in o["data"])


def test_a_saved_notebook_opens_with_pictures(explorers, browser, screenshots):
    """In a fresh browser and with a fresh kernel, as on the next day."""
    from .conftest import fresh_page

    with fresh_page(browser) as page:
        Lab(page, explorers.server).open("explore.ipynb", run=False)
        page.get_by_text("Temperature explorer. This is a picture of it: run this cell to play.").wait_for()
        assert page.get_by_text("model not found").count() == 0
        picture = page.locator(".jp-OutputArea-output img[alt*='Soft labels'], .jp-OutputArea-output img[alt*='soft']")
        picture.first.scroll_into_view_if_needed()
        assert picture.first.evaluate("image => image.naturalWidth") > 500
        page.screenshot(path=screenshots / "reopened.png")
