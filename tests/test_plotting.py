"""Figures: the same bytes each time, redrawn from their json alone, and nothing cut off or hidden."""

import csv
import json

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdlab import plotting, stats
from kdlab.paths import write_file
from kdlab.plotting import look

ARMS = ("ce", "kd", "weak2", "jda")
SUFFIXES = {"png", "svg", "csv", "json"}


def runs():
    """Accuracies with all their digits, one arm with a diverged run, and columns that json finds hard."""
    random = np.random.default_rng(0)
    rows = [
        {"arm": arm, "seed": seed, "fraction": fraction, "test_accuracy": 70 + 10 * fraction + random.normal()}
        for arm in ARMS
        for seed in range(4)
        for fraction in (0.1, 1.0)
    ]
    table = pd.DataFrame(rows)
    diverged = (table["arm"] == "kd") & (table["seed"] == 2) & (table["fraction"] == 1.0)
    return table.assign(
        diverged=diverged,
        test_accuracy=table["test_accuracy"].where(~diverged),
        test_nll=table["test_accuracy"].where(~diverged, np.inf) / 3,
        agreement=np.nan,
        teacher_key=["abc" if arm != "ce" else None for arm in table["arm"]],
    )


def verdicts(table):
    whole = table[table["fraction"] == 1.0]
    return stats.decide(
        whole,
        [
            stats.Contrast("JDA - weak2", {"jda": 1, "weak2": -1}),
            stats.Contrast("a long name that must wrap somewhere", {"kd": 1, "weak2": -1}, "no_gain"),
            stats.Contrast("KD - CE", {"kd": 1, "ce": -1}, role="positive control"),
        ],
    )


@plotting.theme()
def all_panels(table):
    """Every kind of panel in one figure."""
    figure = plotting.figure(6.0, plotting.PAGE)
    (dots, forest), (line, heat) = figure.subplots(2, 2)
    plotting.interval_dots(dots, table[table["fraction"] == 1.0], ARMS)
    plotting.contrast_panel(forest, verdicts(table))
    plotting.line_with_interval(line, table, "fraction", log=True, legend="", xlabel="Share of the training set")
    plotting.heatmap(heat, *gains())
    return figure


def gains():
    matrix = pd.DataFrame({"weak2": [0.4, np.nan], "jda": [1.2, -0.9]}, index=["kd", "ccd"])
    return matrix, matrix.abs() > 1


def save(figure, folder, table):
    written = plotting.save(
        figure, folder, "example", table=table, caption="A caption.", alt="A text.", meta={"seeds": [0, 1]}
    )
    return {suffix: path.read_bytes() for suffix, path in written.items()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The table, the folder and the four files of one figure with every kind of panel."""
    table, folder = runs(), tmp_path_factory.mktemp("saved")
    return table, folder, save(all_panels(table), folder, table)


# --- files -----------------------------------------------------------------------------------------------


def test_saving_twice_gives_the_same_bytes_and_only_the_four_files(tmp_path):
    table = runs()
    with plotting.theme():
        figure = plotting.figure()
        plotting.line_with_interval(figure.subplots(), table, "fraction", log=True)
    first = save(figure, tmp_path, table)
    assert set(first) == SUFFIXES
    assert save(figure, tmp_path, table) == first
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"example.{s}" for s in sorted(SUFFIXES)]


def test_drawing_again_under_the_users_own_settings_gives_the_same_bytes(tmp_path, saved):
    table, _, first = saved
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        assert save(all_panels(table), tmp_path, table) == first


def test_the_json_alone_redraws_the_same_figure(tmp_path, saved):
    table, folder, first = saved
    again, record = plotting.load(folder / "example.json")
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert record["caption"] == "A caption." and record["alt"] == "A text." and record["meta"] == {"seeds": [0, 1]}
    assert save(all_panels(again), tmp_path, again) == first


def test_json_is_strict_and_csv_holds_every_digit(saved):
    table, folder, first = saved

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(first["json"], parse_constant=refuse)
    with open(folder / "example.csv", newline="") as file:
        read = [float(row["test_accuracy"] or "nan") for row in csv.DictReader(file)]
    assert np.array_equal(read, table["test_accuracy"], equal_nan=True)


def test_a_named_index_is_kept_as_a_column(tmp_path):
    table = pd.DataFrame({"x": [1.5]}, index=pd.Index(["k1"], name="key"))
    save(plotting.figure(), tmp_path, table)
    assert plotting.load(tmp_path / "example.json")[0].to_dict("list") == {"key": ["k1"], "x": [1.5]}


def test_files_carry_their_description_and_no_date(saved):
    _, folder, first = saved
    with Image.open(folder / "example.png") as image:
        assert image.info["Description"] == "A text." and image.size == (1400, 1200)
    assert b"A text." in first["svg"] and b"dc:date" not in first["svg"]


def test_a_failed_write_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch):
    path = write_file(tmp_path / "a.json", "old")

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_file(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# --- look ------------------------------------------------------------------------------------------------


def test_no_two_arms_share_colour_or_marker():
    looks = [plotting.style(arm) for arm in look.LOOKS if arm != "weak"]  # weak2 is weak, twice
    assert len({entry["color"] for entry in looks}) == len({entry["marker"] for entry in looks}) == len(looks)


def test_unknown_arms_differ_from_known_ones_and_from_each_other():
    spare = [plotting.style(f"new {i}", i) for i in range(12)]
    assert len({(entry["color"], entry["marker"]) for entry in spare}) == 12
    assert not {e["color"] for e in spare} & {plotting.style(arm)["color"] for arm in look.LOOKS}


def test_watermark_is_drawn(tmp_path):
    plain = save(plotting.figure(), tmp_path, runs())
    marked = plotting.figure()
    plotting.watermark(marked, "smoke")
    assert marked.texts[0].get_text() == "smoke"
    assert save(marked, tmp_path, runs())["png"] != plain["png"]


# --- panels ----------------------------------------------------------------------------------------------


def test_nothing_is_cut_off():
    figure = all_panels(runs())
    with plotting.theme():
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= plotting.PAGE and box.y1 <= 6.0


@plotting.theme()
def test_dots_show_each_seed_and_the_t_interval():
    table = runs()
    table = table[table["fraction"] == 1.0]
    ax = plotting.interval_dots(plotting.figure().subplots(), table, ARMS)
    expected = stats.interval(table.loc[table["arm"] == "jda", "test_accuracy"])
    drawn = [line.get_xdata().tolist() for line in ax.lines]
    assert [expected.low, expected.high] in drawn and [expected.mean] in drawn
    assert table.loc[table["arm"] == "jda", "test_accuracy"].tolist() in drawn
    assert [t.get_text() for t in ax.get_yticklabels()] == ["CE", "KD\n3 of 4 seeds", "weak2", "JDA"]


@plotting.theme()
def test_diverged_runs_are_left_out_even_with_a_finite_accuracy():
    table = runs()[lambda t: t["fraction"] == 1.0].fillna({"test_accuracy": 10.0})
    ax = plotting.interval_dots(plotting.figure().subplots(), table, ARMS)
    assert ax.get_xlim()[0] > 50


@plotting.theme()
def test_line_over_a_factor_is_the_interaction_plot():
    table = runs()[lambda t: t["arm"].isin(["weak2", "jda"])]
    table = table.assign(teacher=np.where(table["fraction"] == 1.0, "jda", "weak"))
    ax = plotting.line_with_interval(
        plotting.figure().subplots(), table, "arm", by="teacher", order=["weak", "jda"], legend="teacher"
    )
    assert [t.get_text() for t in ax.get_xticklabels()] == ["weak2", "JDA"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["weak", "JDA"]


@plotting.theme()
def test_forest_says_the_outcome_and_shows_zero_and_margin():
    found = verdicts(runs())
    ax = plotting.contrast_panel(plotting.figure().subplots(), found)
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert all(v.outcome in label for v, label in zip(found, labels, strict=True))
    assert "positive control" in labels[2] and found[0].p_text in ax.texts[0].get_text()
    assert [(band.get_x(), band.get_x() + band.get_width()) for band in ax.patches] == [(-0.5, 0.5)] * len(found)
    low, high = ax.get_xlim()
    assert low < -0.5 and high > 0.5


@plotting.theme()
def test_forest_of_a_single_seed_draws_the_effect_without_an_interval():
    table = runs()[lambda t: t["seed"] == 0]
    ax = plotting.contrast_panel(plotting.figure().subplots(), verdicts(table))
    assert ax.texts[0].get_text().endswith("(n = 1)")


@plotting.theme()
def test_heatmap_marks_and_hatches():
    ax = plotting.heatmap(plotting.figure().subplots(), *gains())
    assert [t.get_text() for t in ax.texts] == ["+0.40", "+1.20*", "\u22120.90"]
    (hatched,) = ax.patches
    assert hatched.get_xy() == (0, 1) and hatched.get_hatch()
    assert ax.collections[0].get_clim() == (-1.2, 1.2)


def test_a_compact_heatmap_has_one_decimal_and_upright_names():
    ax = plotting.heatmap(plotting.figure().subplots(), *gains(), compact=True)
    assert [text.get_text() for text in ax.texts] == ["+0.4", "+1.2*", "\u22120.9"]
    assert all(tick.get_rotation() == 90 for tick in ax.get_xticklabels())


def test_effects_share_rows_and_hatch_what_is_not_there():
    values = pd.Series([1.0, 2.0, 3.0])
    figure = plotting.effects({"A": {"kd": values, "ccd": -values}, "B": {"ccd": values}}, ["a", "b"])
    left, right = figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["kd", "ccd"]
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == (1.5, -0.5)
    assert [line.get_xdata()[0] for line in left.lines if line.get_marker() == "D"] == [2.0, -2.0]
    assert len([patch for patch in right.patches if patch.get_hatch()]) == 1 and not left.patches


def test_many_contrasts_stand_in_two_columns():
    few, many = plotting.forest(list(verdicts(runs()))[:2]), plotting.forest((list(verdicts(runs())) * 9)[:9])
    assert len(few.axes) == 1 and len(many.axes) == 2 and many.get_figwidth() == plotting.PAGE
    assert [len(ax.get_yticks()) for ax in many.axes] == [5, 4]


def test_contrasts_of_another_unit_have_an_axis_of_their_own():
    table = pd.DataFrame(
        [{"arm": arm, "seed": seed, "diverged": False, "test_accuracy": 80.0 + seed * (arm == "a"), "sharp": 2.0 * seed}
         for arm in "ab" for seed in range(4)]
    )  # fmt: skip
    listed = [
        stats.Contrast("a - b", {"a": 1, "b": -1}),
        stats.Contrast("sharp: a - b", {"a": 1, "b": -1}, metric="sharp", unit="doublings"),
        stats.Contrast("b - a", {"b": 1, "a": -1}, unit="points of something"),
    ]
    axes = plotting.forest(stats.decide(table, listed)).axes
    assert [ax.get_xlabel() for ax in axes] == [f"Effect ({unit}), 95 % intervals" for unit in ("points", "doublings")]
    assert [len(ax.get_yticks()) for ax in axes] == [2, 1]
