"""Explorers for everyone: ends of sliders are legal, pictures have words, small text can be read, keys are named."""

import html
import re
import shutil

import numpy as np
import pytest

from kdlab import lab, metrics, widgets
from kdlab.lab import shipped
from kdlab.lab.store import Store
from kdlab.perspectives import few_shot
from kdlab.plotting import style
from kdlab.plotting.look import LOOKS
from kdlab.widgets.charts import colours
from kdlab.widgets.charts.chart import Panel
from kdlab.widgets.charts.twin import parts
from kdlab.widgets.line import line
from kdlab.widgets.page import STYLE
from kdlab.widgets.results import run

LONGEST = 150  # characters of an alternative text
NAMES = ("AugmentationExplorer", "TemperatureExplorer", "ConfidenceExplorer", "BudgetExplorer", "LiveTrainer",
         "ResultsBrowser", "OwnImages")  # fmt: skip
# Deuteranopia, in linear RGB: Machado, Oliveira and Fernandes, A physiologically-based model for simulation of color
# vision deficiency, IEEE TVCG 2009, severity 1.0.
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))


@pytest.fixture(scope="module")
def explorers(tmp_path_factory):
    """Every explorer with its controls, on the pair that comes with the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLAB_OUT", str(tmp_path_factory.mktemp("access")))
        trained = widgets.trained_pair("quick", progress=False)  # comes with the package
        made = {}
        for name in NAMES:
            kind = getattr(widgets, name)
            made[name] = kind(trained) if name in NAMES[:3] else kind()
            made[name].widget()
        made["store"] = Store()
        yield made


def test_from_an_empty_store_every_first_picture_is_there_and_nothing_trains(explorers):
    for name in NAMES:
        assert "kd-canvas" in explorers[name].picture.value and explorers[name].failure is None, name
    assert "comes with the package was trained elsewhere" in explorers["LiveTrainer"].picture.value, (
        "why Start trains it"
    )
    assert explorers["store"].keys() == [] and not list(explorers["store"].root.glob(".*/*"))


def ends(control) -> list:
    """Both ends of a slider or number field, and one step inside each."""
    if hasattr(control, "options"):
        values = [value for _, value in control.options] if isinstance(control.options[0], tuple) else control.options
        return [values[0], values[min(1, len(values) - 1)], values[-2 if len(values) > 1 else -1], values[-1]]
    step = control.step or 1
    low, high, inside = control.min, control.max, (control.min + step, control.max - step)
    if hasattr(control, "base"):  # what JavaScript sends: a power, with its last digit
        return [control.base**exponent for exponent in (low, *inside, high)]
    return [low, *inside, high]


def panels(explorer) -> list[Panel]:
    """The charts that are shown."""
    return [part for row in explorer.saved.rows for cell in row for part in parts(cell) if isinstance(part, Panel)]


def ranges(explorer) -> list[tuple]:
    return [(axis.low, axis.high) for panel in panels(explorer) for axis in (panel.x, panel.y)]


@pytest.mark.parametrize("name", NAMES)
def test_every_item_of_a_chart_has_its_place_and_words(explorers, name):
    for panel in panels(explorers[name]):
        for mark in panel.marks:
            assert len(mark.x) == len(mark.y) > 0, (panel.title, mark.kind)
            assert len(mark.told) in (0, len(mark.x)) and len(mark.x2) == len(mark.y2) in (0, len(mark.x))
            assert (mark.kind in ("segments", "rects")) == bool(len(mark.x2))


@pytest.mark.parametrize("name", NAMES)
def test_every_slider_may_go_to_its_ends(explorers, name):
    explorer, tried = explorers[name], 0
    axes = ranges(explorer)
    for setting, control in explorer.control.items():
        if "Slider" in type(control).__name__ and not control.disabled:
            before = control.value
            for value in ends(control):
                control.value = value
                assert explorer.failure is None, f"{setting} = {value!r}: {explorer.failure}"
                assert ranges(explorer) == axes, f"{setting} = {value!r}: no axis jumps"
                tried += 1
            control.value = before
    assert tried or name in ("ResultsBrowser", "OwnImages")


@pytest.mark.parametrize("name", NAMES)
def test_pictures_have_short_words_and_their_numbers_beside_them(explorers, name):
    shown = explorers[name].picture.value
    alt = re.search(r'class="kd-canvas" role="group" aria-label="([^"]*)"', shown)[1]
    assert 10 < len(alt) <= LONGEST
    if told := re.search(r'aria-describedby="([^"]+)"', shown):
        described = shown.partition(f'id="{told[1]}"')[2]
        assert described and ("<table>" in described or "yet" in alt or "not trained yet" in shown)
    else:
        assert "yet" in alt, "there is nothing to tell"


@pytest.mark.parametrize("name", NAMES)
def test_the_copied_line_shows_the_same_again(explorers, name):
    explorer = explorers[name]
    if name == "TemperatureExplorer":
        explorer.set(temperature=7.0, image=3)
    code = html.unescape(re.search(r'data-line="([^"]*)"', explorer.line.value)[1])
    again = eval(code, {"widgets": widgets})
    assert again.settings == explorer.settings
    assert name != "TemperatureExplorer" or code == (
        "widgets.TemperatureExplorer(widgets.trained_pair('quick'), image=3, temperature=7.0)"
    )
    if name not in NAMES[4:6]:  # whose stores have been read, and are another's by now
        assert again.draw().html() == explorer.draw().html()


@pytest.fixture(scope="module")
def browsed(tmp_path_factory):
    """A results browser of a store elsewhere: the pair that comes with the package."""
    folder = tmp_path_factory.mktemp("browsed")
    shutil.copytree(shipped.PLACE, folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLAB_LEDGER", str(folder / "ledger"))
        explorer = widgets.ResultsBrowser(folder / "runs", method="kd", metric="val_accuracy")
        explorer.widget()
        assert explorer.failure is None, explorer.failure
        yield explorer


def test_the_numbers_of_the_results_browser_are_those_of_all_its_charts(browsed):
    told, key = browsed.saved.numbers, browsed.selection().run
    result, logits = browsed.store.read(key, "result"), browsed.store.logits(key)["val"]
    labels = browsed.answers(key, browsed.selection()).labels
    ends = f"<td>{result['steps']}</td><td>{result['val_accuracy']:.4g}</td>"
    assert told.count(ends) == 2, "the arm's curve and the opened run's"
    for row in metrics.confusion(logits, labels):
        assert "".join(f"<td>{n}</td>" for n in row) in told
    filled = [(n, c, a) for n, c, a in zip(*(metrics.reliability(logits, labels)[name]
              for name in ("count", "confidence", "accuracy")), strict=True) if n]  # fmt: skip
    assert len(filled) > 5
    for n, confidence, accuracy in filled:
        assert f"<td>{int(n)}</td><td>{confidence:.4g}</td><td>{accuracy:.4g}</td>" in told


def test_of_many_classes_each_has_its_likeliest_mistake_told():
    labels = np.repeat(np.arange(20), 4)
    logits = np.eye(20)[np.where(np.arange(80) % 4 == 0, (labels + 1) % 20, labels)]
    told = run.numbers({}, (), logits, labels, [f"c{n}" for n in range(20)])
    assert '<th scope="row">c3</th><td>4</td><td>3</td><td>c4</td><td>1</td>' in told and "curves" in told


def test_the_copied_line_of_a_store_elsewhere_can_be_run(browsed):
    code = html.unescape(re.search(r'data-line="([^"]*)"', browsed.line.value)[1])
    assert code.startswith(f"widgets.ResultsBrowser({str(browsed.store.root)!r}, ")
    again = eval(code, {"widgets": widgets})
    assert again.store.root == browsed.store.root and again.settings == browsed.settings


def test_a_line_that_cannot_hold_a_table_says_so(browsed):
    explorer = widgets.BudgetExplorer(lab.table(store=browsed.store))
    assert line(explorer) == "widgets.BudgetExplorer(source)  # source: what it was given here"


@pytest.mark.parametrize("name", NAMES)
def test_every_control_has_a_name(explorers, name):
    for setting, control in explorers[name].control.items():
        assert control.description.strip(), setting


@pytest.mark.parametrize(
    "color", sorted({look[1] for look in LOOKS.values()} | {colours.PLAIN, colours.CHANGED, "#9A9A9A"})
)
def test_small_coloured_text_can_be_read(color):
    assert colours.contrast(colours.readable(color)) >= 4.5
    assert colours.readable(color) == color.lower() or colours.contrast(color) < 4.5, "what can be read stays"


def test_contrast_is_that_of_wcag():
    assert colours.contrast("#ffffff") == pytest.approx(1.0)
    assert colours.contrast("#000000") == pytest.approx(21.0)
    assert colours.contrast("#767676") == pytest.approx(4.54, abs=0.01)  # the lightest grey that passes


LIGHT, DARK_LAB, DARK_PAGE = range(3)  # JupyterLab's and a page's; JupyterLab dark; a dark page without a theme


def own_colours() -> list[dict[str, str]]:
    """What ``page.css`` sets, by name, as each theme has it; JupyterLab's own colours, where it has one, aside."""
    blocks = re.findall(r"\.kdlab \{([^}]*--kd-[^}]*)\}", STYLE.read_text())
    found = [{name: (fallback or plain) for name, fallback, plain in
              re.findall(r"--kd-(\w+): (?:var\([^,]*, (#\w+)\)|(#\w+))", block)} for block in blocks]  # fmt: skip
    assert len(found) == 3
    found[DARK_LAB] |= {"card": colours.DARK, "shade": colours.DARK}
    return [found[LIGHT], found[LIGHT] | found[DARK_LAB], found[LIGHT] | found[DARK_PAGE]]


@pytest.mark.parametrize("theme, names", [
    (LIGHT, ("ink", "soft", "link", "bad", "good", "small")), (DARK_LAB, ("bad", "good", "small")),
    (DARK_PAGE, ("ink", "soft", "link", "bad", "good", "small")),
])  # fmt: skip
def test_badges_links_and_soft_text_can_be_read_in_both_themes(theme, names):
    there = own_colours()[theme]
    for name in names:
        for behind in ("card", "shade"):
            assert colours.contrast(there[name], there[behind]) >= 4.5, f"--kd-{name} on --kd-{behind}"
    assert colours.contrast(there["card"], there["good"]) >= 4.5, "a mark's letter on its colour"


def seen(color: str) -> np.ndarray:
    """CIE Lab of a colour as a deuteranope sees it."""
    share = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    white = np.array([0.95047, 1.0, 1.08883])
    xyz = np.array(XYZ) @ np.clip(np.array(DEUTERANOPIA) @ linear, 0, 1) / white
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_lines_of_few_images_differ_for_deuteranopes():
    colors = [style(arm)["color"] for arm in few_shot.BASES]
    apart = [np.linalg.norm(seen(a) - seen(b)) for i, a in enumerate(colors) for b in colors[:i]]
    assert min(apart) > 20
    assert np.linalg.norm(seen("#7A7A7A") - seen("#009E73")) < 12, "what they were: a grey and a green"
