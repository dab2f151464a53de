"""Charts as data: what the browser gets, colours on a dark page, and the twin that matplotlib draws of the same."""

import io
import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kdlab.plotting.look import LOOKS
from kdlab.widgets.charts import colours
from kdlab.widgets.charts.axes import draw, drawing
from kdlab.widgets.charts.chart import Axis, Mark, Panel, about, bars, names, rule
from kdlab.widgets.charts.tiles import Images, Share, Tiles, Words
from kdlab.widgets.charts.twin import GAP, LARGER, WIDTH, picture
from kdlab.widgets.drawing import Drawing
from kdlab.widgets.page import head


def test_the_browser_gets_numbers_that_json_knows():
    line = Mark("line", [1.0, np.nan, 100.0], np.array([0.123456789, math.inf, 2]), "#0072B2", told=["a", "b", '"c" <'])
    panel = Panel("A & B", Axis(0.5, 20, log=True), Axis(1, 0, bold=0, ticks={0: "null"}, held=True), [line])
    html = Drawing([[panel]], "words").html()
    assert "A &amp; B" in html and "&lt;" in html and '"c" <' not in html
    data = json.loads(json.dumps(panel.data(), allow_nan=False))
    (mark,) = data["marks"]
    assert mark["x"] == [1.0, None, 100.0] and mark["y"] == [0.12346, None, 2.0]
    assert (mark["c"], mark["d"]) == ("#0072B2", colours.on_dark("#0072B2"))
    assert data["y"] == {"range": [1.0, 0.0], "bold": 0, "ticks": [[0.0, "null"]], "held": True}


def test_bars_start_at_zero_and_share_the_height_of_their_name():
    marks = bars([("teacher", [0.2, -0.3], "#0072B2"), ("student", [0.4, 0.1], "#D55E00")], ["bag", "coat"])
    assert [m.name for m in marks] == ["teacher", "student"] and marks[0].told[1] == "coat, teacher: -0.3"
    for mark, values in zip(marks, ([0.2, -0.3], [0.4, 0.1]), strict=True):
        assert mark.x == [0, 0] and mark.x2 == values
    ends = [(mark.y[k], mark.y2[k]) for k in range(2) for mark in marks]  # from above to below
    assert all(end < start for (_, end), (start, _) in zip(ends[:-1], ends[1:], strict=True))
    down = names(["bag", "coat"])
    assert down.low > max(e for _, e in ends) and down.high < min(s for s, _ in ends)


def test_a_range_shows_all_finite_values():
    assert about([1, 3, math.nan, math.inf]) == (0.88, 3.12)
    assert about([5.0]) == (4.5, 5.5) and about([]) == (0 - 0.06, 1.06)


@pytest.mark.parametrize("color", sorted({look[1] for look in LOOKS.values()} | {colours.PLAIN, colours.CHANGED}))
def test_colours_of_the_figures_can_be_seen_on_a_dark_page(color):
    assert colours.contrast(colours.on_dark(color), colours.DARK) >= 4.5


def test_greys_stay_apart_on_a_dark_page():
    ce, kd = (colours.on_dark(LOOKS[arm][1]) for arm in ("ce", "kd"))
    assert kd == "#ffffff" and 1.5 < colours.contrast(ce, kd) < 3


def test_the_twin_has_the_same_axes_and_marks():
    across, up = Axis(1, 100, "steps", log=True, ticks={1: "one", 100: "hundred"}), Axis(0, 10, "loss")
    dots = Mark("points", [10.0], [5.0], "#D55E00", name="dot", size=30)
    panel = Panel("title", across, up, [rule(across, y=2.0, color="#0072B2", name="level"), dots])
    with drawing():
        ax = draw(Figure(figsize=(4, 3), dpi=100), panel, 56, 2)
        assert ax.get_xlim() == (1, 100) and ax.get_ylim() == (0, 10) and ax.get_xscale() == "log"
        assert [t.get_text() for t in ax.get_xticklabels()] == ["one", "hundred"]
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["level", "dot"]
        assert ax.collections[0].get_segments()[0].tolist() == [[1, 2], [100, 2]]
    pixels = np.array(Image.open(io.BytesIO(picture([[panel]]))))
    rows, columns = np.nonzero((pixels == (0xD5, 0x5E, 0x00)).all(2))
    height = 240 * LARGER + 56
    middle = GAP + (56 + height - 54) / 2  # between title with legend, and the axis with its label
    assert pixels.shape[1] == WIDTH and len(rows) > 200 and abs(np.median(rows) - middle) < 8


def test_tiles_are_images_and_words():
    image = np.arange(3 * 40 * 20, dtype=np.uint8).reshape(3, 40, 20)
    tiles = Tiles(
        [[Words("<bag>", bold=True), Images([image, image], 80, "#D55E00", "✕"), Share("7 %", 0.07, "#0072B2")]]
    )
    html = tiles.html()
    assert html.count("<img") == 2 and "&lt;bag&gt;" in html and "width:7.0%" in html and "✕" in html
    assert Image.open(io.BytesIO(picture([[tiles]]))).size[0] == WIDTH


def test_the_script_travels_with_the_page():
    assert "kdlabCharts" in head("") and "http" not in head("").replace("http://www.w3.org", "")
