"""The explore notebook in JupyterLab: every explorer is driven as a person would, and what it shows must follow."""

import re

import psutil

from .conftest import fresh_page
from .driving import IDLE, picture, redrawn, slide, visit


def explorer(page, name: str):
    """The box of an explorer, in view."""
    box = page.locator(f".kd-{name}")
    box.wait_for()
    box.scroll_into_view_if_needed()
    return box


def image(box):
    return box.locator(".kd-canvas").first


def slider(box, label: str):
    return box.locator(".widget-slider", has=box.page.locator("label", has_text=re.compile(label)))


def press(box, name: str):
    box.locator("button", has_text=re.compile(rf"^\s*{name}\s*$")).click()  # an icon's glyph belongs to its role's name


def field(box, label: str):
    return (
        box.locator(".widget-inline-hbox", has=box.page.locator("label", has_text=re.compile(rf"^{label}$")))
        .locator("input, select")
        .first
    )


def choose(box, label: str, words: str, last: bool = False):
    """Take the first (or last) choice of a menu that holds some words, and that is not taken already."""
    field(box, label).locator("option", has_text=words).first.wait_for(state="attached")  # a menu follows the kernel
    taken = field(box, label).evaluate("menu => menu.selectedOptions[0].text")
    names = [name for name in field(box, label).locator("option").all_inner_texts() if words in name]
    names = [name for name in names if name.strip() != taken.strip()] or names
    field(box, label).select_option(label=names[-1 if last else 0])


def kept(box, screenshots, name: str):
    box.screenshot(path=screenshots / f"{name}.png")


def drive_pictures(page, screenshots):
    """The three explorers that look through the room."""
    box = explorer(page, "augmentationexplorer")
    with redrawn(image(box)):
        slide(slider(box, "probability"), 6)
    with redrawn(image(box)):
        press(box, "Reroll")
    with redrawn(image(box)):
        field(box, "policy").select_option("cutout")
    with redrawn(image(box)):
        slide(slider(box, "size"), 8)
    box.get_by_text("augmentation_options={'size': 16}").wait_for()  # the last step counts, however fast they came
    kept(box, screenshots, "augmentation")

    box = explorer(page, "temperatureexplorer")
    assert "T = 4.0" in box.inner_text()
    with redrawn(image(box)):
        slide(slider(box, "temperature"), 30)
    box.get_by_text(re.compile(r"T = (8|7)\.\d")).first.wait_for()
    with redrawn(image(box)):
        press(box, "Next image")
    kept(box, screenshots, "temperature")

    box = explorer(page, "confidenceexplorer")
    with redrawn(image(box)):
        slide(slider(box, "pair"), 40)
    with redrawn(image(box)):
        field(box, "weighting").select_option("normalised")
    box.get_by_text("CCD's own mean of 1.00").wait_for()
    kept(box, screenshots, "ccd")


def drive_trainer(page, server, screenshots):
    """Start, pause, continue, stop; then a run to the end, which is found in the store."""
    box = explorer(page, "livetrainer")
    field(box, "unit").select_option("steps")
    field(box, "budget").fill("100000")
    field(box, "budget").press("Tab")
    press(box, "Start")
    box.get_by_text(re.compile(r"student: step \d+")).wait_for()
    with redrawn(image(box)):
        pass
    press(box, "Pause")
    box.get_by_text("Paused.").wait_for()
    press(box, "Continue")
    box.get_by_text(re.compile(r"student: step \d+")).wait_for()
    press(box, "Stop")
    box.get_by_text("stopped and forgotten").wait_for()
    field(box, "budget").fill("40")
    field(box, "budget").press("Tab")
    box.get_by_text(re.compile("1 to train")).wait_for()
    press(box, "Start")
    box.get_by_text("Done. The run is in the store").wait_for()
    key = box.locator(".kd-caption code").last.inner_text()
    assert (server.out / "runs" / key / "done.json").exists()
    kept(box, screenshots, "trainer")
    return key


def drive_runs(page, server, key: str, screenshots):
    """Lines of the published runs, with words at their points; then the store, with the run that was just made."""
    box = explorer(page, "budgetexplorer")
    box.get_by_role("application").first.press("ArrowRight")
    assert "%" in box.locator(".kd-tip:visible").inner_text(), "a point tells its runs to the keyboard, too"
    with redrawn(image(box)):
        choose(box, "axis", "images")
    with redrawn(image(box)):
        slide(slider(box, "augmented rows"), -1)
    kept(box, screenshots, "budget")

    box = explorer(page, "resultsbrowser")
    press(box, "Refresh")
    with redrawn(image(box)):
        choose(box, "run", key[:8])
    assert key[:8] in box.inner_text()
    chart, cell = (
        box.locator(".kd-chart", has_text="Confusion, val").get_by_role("application"),
        field(box, "confusion"),
    )
    before, opened = cell.input_value(), set()
    with redrawn(image(box)):
        for key in ("Home", "ArrowRight"):
            chart.press(key)
            chart.press("Enter")
            box.page.evaluate(IDLE)
            opened.add(cell.input_value())
    assert opened - {before}, "a cell of the confusions opens its images"
    if cell.evaluate("menu => menu.selectedIndex"):
        with redrawn(image(box)):
            cell.select_option(index=0)  # the largest mistake
    box.page.evaluate(IDLE)  # the images that are clicked are those of this cell, however late they come
    with redrawn(image(box)):
        box.locator(".kd-open:has(img)").nth(1).click()
    label = box.locator(".kd-open:has(img)").nth(1).get_attribute("data-option")
    box.get_by_text(label.replace(", ", ", labelled "), exact=False).first.wait_for()
    assert box.locator(".kd-open:has(img)").nth(1).evaluate("button => button === document.activeElement")
    kept(box, screenshots, "results-images")
    with redrawn(image(box)):
        choose(box, "arm B", "", last=True)
    row = box.locator("tr:not(:has(.kd-mark)) .kd-open").first
    name = row.inner_text()
    with redrawn(image(box)):
        row.click()
    assert field(box, "arm A").evaluate("menu => menu.selectedOptions[0].text").replace("\u00a0", " ") == name
    press(box, "Export csv")
    box.get_by_text("rows written to").wait_for()
    assert list((server.out / "exports").glob("*.csv"))
    kept(box, screenshots, "results")


def drive_own(page, screenshots):
    """A folder that is not there, then one that is: look, plan, and change what was planned."""
    box = explorer(page, "ownimages")
    field(box, "folder").fill("no/such/folder")
    field(box, "folder").press("Enter")
    box.get_by_role("alert").wait_for()
    assert "does not exist" in box.get_by_role("alert").inner_text()
    with redrawn(image(box)):
        press(box, "Example")
    box.get_by_text("3 classes").wait_for()
    press(box, "Plan")
    box.get_by_text(re.compile(r"\d+ runs: 0 in the store")).wait_for()
    kept(box, screenshots, "own")
    field(box, "seeds").fill("2")
    field(box, "seeds").press("Tab")
    box.get_by_text(re.compile(r"\d+ runs: 0 in the store")).wait_for(state="detached")  # it was of other settings


def test_every_explorer_answers(lab, screenshots):
    page = lab.page
    page.set_viewport_size({"width": 1500, "height": 2400})  # an explorer and its words fit
    lab.open("explore.ipynb")
    assert lab.errors() == []
    drive_pictures(page, screenshots)
    key = drive_trainer(page, lab.server, screenshots)
    drive_runs(page, lab.server, key, screenshots)
    drive_own(page, screenshots)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
    for name in ("augmentationexplorer", "livetrainer", "budgetexplorer", "resultsbrowser", "ownimages"):
        kept(explorer(page, name), screenshots, f"dark-{name}")
    assert lab.errors() == []


def test_two_visitors_of_the_classroom_page_share_a_room_and_no_slider(classroom, page, browser, screenshots):
    with fresh_page(browser) as other:
        for visitor in (page, other):
            visit(visitor, classroom)
            explorer(visitor, "temperatureexplorer")
        assert rooms(classroom) == [2], "two kernels, of one process that has read everything"
        still = picture(image(explorer(other, "temperatureexplorer")))
        with redrawn(image(explorer(page, "temperatureexplorer"))):
            slide(slider(explorer(page, "temperatureexplorer"), "temperature"), 20)
        assert picture(image(explorer(other, "temperatureexplorer"))) == still, "each has an own slider"
        own = explorer(other, "ownimages")
        offered = [text.replace("\u00a0", " ") for text in field(own, "folder").locator("option").all_inner_texts()]
        assert offered == ["choose one", "example of bundled images"]
        assert own.get_by_text("its weights").count() == 0, "no path of the host's can be typed"
        page.screenshot(path=screenshots / "classroom.png")
    assert not (classroom.out / "runs").exists() or not list((classroom.out / "runs").iterdir()), "nothing trained"


def rooms(server) -> list[int]:
    """How many kernels each loaded room below a server has."""
    family = psutil.Process(server.process.pid).children(recursive=True)
    keepers = [one for one in family if "kdlab.widgets.room" in one.cmdline() and "--door" not in one.cmdline()]
    parents = {one.pid for one in keepers}
    return [len(one.children()) for one in keepers if one.ppid() not in parents]
