"""What holds for every explorer in JupyterLab, on one page: its keys are its own."""

import pytest

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


def test_a_notebook_can_be_saved_from_an_explorer(explorers):
    page = explorers.page
    page.evaluate("window.saved = 0; window.jupyterapp.shell.currentWidget.context.saveState.connect(() => saved++)")
    page.locator(".kd-ownimages select").last.focus()
    page.keyboard.press("Control+s")
    page.wait_for_function("window.saved > 0")
