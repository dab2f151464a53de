"""What holds for every explorer in JupyterLab, on one page: keys, sliders, names, and what a saved notebook shows."""

import json
import re

import pytest

from .driving import IDLE, NOTEBOOK, Lab, slide

EXPLORERS = (
    "augmentationexplorer", "temperatureexplorer", "confidenceexplorer", "budgetexplorer", "livetrainer",
    "resultsbrowser", "ownimages",
)  # fmt: skip
COMMANDS = (*"ddmxabcvyzrjk123", "Shift+M", "Shift+V", "ArrowDown", "ArrowUp", "Enter")
KINDS = ("select", ".noUi-handle", ".widget-readout", "input[type=text]", "input[type=number]", "button",
         "input[type=checkbox]")  # fmt: skip


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
    box.locator(".kd-canvas").first.click(position={"x": 3, "y": 3})
    for key in COMMANDS[:9]:
        page.keyboard.press(key)
    assert page.evaluate(NOTEBOOK) == before, "a click on the picture"


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


def test_settings_are_copied_as_a_line_of_python(box):
    button = box.locator(".kd-copy")
    assert button.get_attribute("data-line") == box.locator(".kd-line code").text_content()
    button.click()
    box.get_by_role("button", name="Copied").wait_for()


def test_pictures_are_described(box):
    picture = box.locator(".kd-canvas").first
    assert 10 < len(picture.get_attribute("aria-label")) <= 150
    if told := picture.get_attribute("aria-describedby"):
        assert box.locator(f"#{told}").count() == 1


RANGES = "box => [...box.querySelectorAll('.kd-chart')].map(chart => chart.dataset.range)"
DRAWN = """box => [...box.querySelectorAll('.kd-chart')].every(
    chart => Math.abs(chart.querySelector('.kd-plot svg')?.clientWidth - chart.clientWidth) < 2)"""
UNREADABLE = """box => [...box.querySelectorAll('.kd-chart, .kd-tiles')].flatMap(part => {
    const room = part.getBoundingClientRect();
    return [...part.querySelectorAll('text, b, p, span, button')].filter(word => word.textContent).map(word => {
        const { left, right, width } = word.getBoundingClientRect();
        const size = parseFloat(getComputedStyle(word).fontSize) * (word.getScreenCTM?.().d || 1);
        return [word.textContent, size, width && (left < room.left - 1 || right > room.right + 1)];
    }).filter(([, size, outside]) => size < 11 || outside);
})"""


@pytest.mark.parametrize("width, height", [(1280, 720), (390, 844)])
def test_charts_are_vector_graphics_whose_text_can_be_read(box, width, height):
    page = box.page
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("window.jupyterapp.shell.collapseLeft()")
    box.scroll_into_view_if_needed()  # JupyterLab lays out only what is seen
    page.wait_for_function(DRAWN, arg=box.element_handle())
    assert box.locator(".kd-canvas :is(canvas, object, img):not(.kd-images img)").count() == 0, "images of data only"
    assert box.evaluate(UNREADABLE) == []


def test_axes_stay_when_a_slider_moves(box):
    before = box.evaluate(RANGES)
    for handle in box.locator(".widget-slider:not(:has([disabled])) .noUi-handle:visible").all():
        for key in ("ArrowLeft", "ArrowLeft", "ArrowRight"):
            handle.press(key)
            box.page.evaluate(IDLE)
            assert box.evaluate(RANGES) == before, f"{handle.get_attribute('aria-label')}, {key}"


def test_a_chart_tells_its_values_and_zooms(explorers):
    page = explorers.page
    page.set_viewport_size({"width": 1280, "height": 900})
    box = page.locator(".kd-temperatureexplorer")
    chart = box.locator(".kd-chart").nth(1)
    chart.scroll_into_view_if_needed()
    plot, tip, whole = chart.get_by_role("application"), chart.locator(".kd-tip"), chart.get_attribute("data-range")
    plot.press("ArrowRight")
    assert "gradient of KL" in tip.inner_text()
    plot.press("+")
    near = chart.get_attribute("data-range")
    assert near != whole
    slide(box.locator(".widget-slider").first, 2)
    page.evaluate(IDLE)
    assert chart.get_attribute("data-range") == near, "what is looked at closely stays while a slider moves"
    for _ in range(20):  # a key that comes while the plot is drawn anew goes to the one that was there
        plot.press("0")
        if chart.get_attribute("data-range") == whole:
            break
        page.wait_for_timeout(100)
    assert chart.get_attribute("data-range") == whole
    plot.hover(position={"x": 100, "y": 60})  # waits while the plot is drawn anew, as bounding_box does not
    page.mouse.down()
    plot.hover(position={"x": 160, "y": 65})
    plot.hover(position={"x": 220, "y": 70})
    page.mouse.up()
    assert json.loads(chart.get_attribute("data-range"))["y"] == json.loads(whole)["y"] != near, "a drag along one axis"
    assert chart.get_attribute("data-range") != whole
    plot.dblclick(position={"x": 150, "y": 60})
    assert chart.get_attribute("data-range") == whole
    bars = box.locator(".kd-chart").first.get_by_role("application")
    bars.hover(position={"x": 150, "y": 25})
    assert re.search(r", (teacher|student): \d", box.locator(".kd-tip:visible").inner_text())


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
        page.locator(f".kd-{name}").evaluate("box => box.scrollIntoView({block: 'start'})")
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
