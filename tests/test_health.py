"""Health before verdicts: every finding is met by runs that have it, and by none that have not."""

import numpy as np
import pandas as pd
import pytest

from kdlab import lab, plotting, stats
from kdlab.lab import baseline
from kdlab.lab.right import right_of
from kdlab.lab.rows import val_rise
from kdlab.spec import Budget, RunSpec

BAR = {"val_accuracy": 70.0, "val_share": 10.0, "val_images": 500, "test_accuracy": 69.0}
JDA = stats.Contrast("JDA - weak2", {"jda": 1.0, "weak2": -1.0})


def runs(**changes):
    """Two arms of three healthy seeds, with some columns changed in the first."""
    rows = [
        {"arm": arm, "seed": seed, "key": f"{arm}{seed}", "diverged": False, "val_accuracy": 80.0 + seed,
         "test_accuracy": 80.0 + seed, "val_rise": 0.4, "teacher_val_accuracy": 85.0}
        for arm in ("jda", "weak2") for seed in range(3)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    for name, value in changes.items():
        table.loc[table["arm"] == "jda", name] = value
    return table


def words(table, right=None, contrasts=(JDA,), bar=BAR):
    return [finding.word for finding in stats.health(table, contrasts, bar, right)]


def test_healthy_runs_say_so_in_a_line():
    assert words(runs()) == []
    assert stats.health_line([]).startswith("Health: nothing found against these runs")


@pytest.mark.parametrize(
    "changes, word, said",
    [
        ({"val_accuracy": 11.0, "val_rise": 0.0}, "at chance", "jda (11.0 %) on val is not above chance (10.0 %"),
        (
            {"val_accuracy": 65.0},
            "below the linear model",
            "jda (65.0 %) on val is below a linear model on the pixels (70",
        ),
        ({"val_rise": 1.2}, "not converged", "jda (+1.2) points on val over the last quarter"),
        ({"teacher_val_accuracy": 79.0}, "teacher below student", "jda (79.0 % against 81.0 %)"),
        (
            {"teacher_val_accuracy": 60.0, "val_accuracy": 55.0},
            "teacher below the linear model",
            "reaches 70.0 % on val",
        ),
    ],
)
def test_each_finding_has_its_word_its_numbers_and_a_remedy(changes, word, said):
    found = stats.health(runs(**changes), [JDA], BAR)
    (finding,) = (one for one in found if one.word == word)
    assert len(found) == 1 + (changes.get("val_accuracy") == 55.0), "students of that teacher are below it too"
    assert finding.word == word and said in finding.sentence and finding.remedy.endswith(".")
    line = stats.health_line([finding])
    assert line == f"Health: {word}: {finding.sentence} {finding.remedy}" == stats.health_line([vars(finding)])


def test_where_the_thresholds_lie():
    assert words(runs(val_rise=1.0)) == [] and words(runs(val_rise=1.01)) == ["not converged"]
    # 10 % of 500 images is chance; 13.4 % is above it at 1 % (P(X >= 67) = 0.008), 13.2 % is not (0.012)
    assert words(runs(val_accuracy=13.4)) == ["below the linear model"] and words(runs(val_accuracy=13.2)) == [
        "at chance"
    ]
    assert words(runs(val_accuracy=70.0)) == [] and words(runs(val_accuracy=69.9)) == ["below the linear model"]
    # a linear model on all images is no bar for a student on a tenth of them
    assert (
        words(runs(val_accuracy=60.0).assign(fraction=0.1)) == [] != words(runs(val_accuracy=60.0).assign(fraction=1.0))
    )


def test_what_diverged_is_left_out_and_what_is_not_known_is_not_looked_at():
    table = runs()
    table.loc[0, ["diverged", "val_accuracy", "val_rise"]] = [True, 1.0, 99.0]
    assert words(table) == []
    assert words(runs(val_accuracy=1.0, val_rise=0.0), bar={}) == []
    assert words(runs().drop(columns=["val_rise", "teacher_val_accuracy"])) == []
    assert words(runs(teacher_val_accuracy=float("nan"))) == []


def test_images_are_too_few_where_their_noise_is_larger_than_the_margin():
    def right(differing, images):
        return lambda key: (np.arange(images) % differing != 0) if key.startswith("jda") else np.ones(images, bool)

    assert words(runs(), right(10, 5000)) == []  # sqrt(0.1 / 5000) is 0.45 points
    assert words(runs(), right(10, 3000)) == ["test too small"]  # 0.58
    on_val = stats.Contrast("JDA - weak2", {"jda": 1.0, "weak2": -1.0}, metric="val_accuracy")
    assert words(runs(), right(10, 5000), [on_val]) == ["val too small"]  # sqrt(0.1 / 500) is 1.4 points
    assert words(runs(), right(10, 5000), [on_val], BAR | {"val_images": 5000}) == []


def test_the_rise_on_val_is_that_of_the_last_quarter():
    curve = [{"step": step, "val_accuracy": value} for step, value in ((25, 50.0), (50, 70.0), (75, 78.0), (100, 80.5))]
    assert val_rise(curve) == 2.5
    assert np.isnan(val_rise(curve[-1:])) and np.isnan(val_rise([])) and np.isnan(val_rise([curve[0], curve[-1]]))


def test_a_run_of_the_store_image_by_image(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path))
    spec = RunSpec(sizes=(100, 50, 80), model="resnet8_s2_w4", method="ce", budget=Budget(8, "steps", 10))
    table = lab.run([spec], progress=False)
    (key,) = table.index
    right = right_of(key)
    assert right.shape == (80,) and 100 * right.mean() == pytest.approx(table["test_accuracy"].item())
    assert right_of("0" * 16) is None
    points = [point["val_accuracy"] for point in lab.Store().read(key, "result")["curve"]]
    assert table["val_rise"].item() == pytest.approx(points[-1] - points[-2])
    assert baseline.bar_of(key, lab.Store()) == {}, "nothing is fitted for a look"
    fitted = baseline.bar(spec.data, spec.sizes)
    assert fitted["val_images"] == 50 and baseline.bar_of(key, lab.Store()) == fitted


@plotting.theme()
def test_the_linear_model_is_a_line_where_accuracy_has_an_axis():
    figure = plotting.figure(2, plotting.PAGE)
    dots, lines, other = figure.subplots(1, 3)
    plotting.interval_dots(dots, runs())
    plotting.line_with_interval(lines, runs().assign(x=1.0), "x")
    other.set_xlabel("Effect")
    plotting.accuracy_line(figure, 69.0)
    assert any(list(line.get_xdata()) == [69.0, 69.0] for line in dots.lines) and dots.get_xlim()[0] < 69
    assert any(list(line.get_ydata()) == [69.0, 69.0] for line in lines.lines)
    assert not other.lines and dots.texts[-1].get_text() == "linear model"


@pytest.mark.parametrize("seeds, words", [(1, "1 seed: a first look"), (4, "4 seeds: a first look"), (6, "")])
def test_few_seeds_are_a_first_look(seeds, words):
    figure = plotting.figure()
    plotting.first_look(figure, seeds)
    assert figure.get_suptitle() == words
