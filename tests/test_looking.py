"""``kdlab figures --until decided``: seeds are numbered on, what is decided follows from them alone, time is kept."""

import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kdlab import lab, perspectives, stats
from kdlab.cli import figures as command
from kdlab.cli import looking
from kdlab.errors import SpecError

NAMES = ("few_shot", "joint_augmentation")


class House:
    """Runs that need no training: which seeds of which arms are finished, and their made-up accuracies.

    Args:
        effects: perspective to what each of its claims' own arms gain, in SD of their noise.
    """

    def __init__(self, monkeypatch, effects):
        self.done, self.asked, self.effects, self.stop_after = set(), [], effects, None
        monkeypatch.setattr(looking, "finished", lambda specs: {lab.run_key(s) for s in specs} <= self.done)
        monkeypatch.setattr(perspectives.Study, "table", lambda study: self.table(study))

    def train(self, *groups, halt):
        """``lab.run``: finishes the groups, or stops within the one after ``stop_after``."""
        self.asked.append([sorted({spec.seed for spec in group}) for group in groups])
        for group in groups:
            if self.stop_after is not None and len(self.asked) > self.stop_after:
                halt.set()
                self.done |= {lab.run_key(spec) for spec in group[: len(group) // 2]}
                raise lab.Halted
            self.done |= {lab.run_key(spec) for spec in group}

    def table(self, study):
        rows = []
        for seed in study.profile.seeds:
            for place, arm in enumerate(study.arms):
                noise = np.random.default_rng([seed, place]).normal()
                gain = self.effects[study.name] * sum(c.weights.get(arm, 0) > 0 for c in study.contrasts)
                rows.append({"arm": arm, "seed": seed, "diverged": False, "test_accuracy": 80 + gain + noise})
        return pd.DataFrame(rows)


@pytest.fixture
def studies():
    return {name: perspectives.study(name, "quick") for name in NAMES}


def stages(studies):
    return perspectives.by_seed([spec for study in studies.values() for spec in study.specs])


def first_decided(house, study):
    """The number of seeds at which the claims are decided for the first time, looking at each number from 2 on."""
    for n in range(2, looking.LAST + 2):
        table = house.table(looking.sequential(study, range(n)))
        found = stats.decide(table, study.contrasts, design="sequential")
        if all(v.outcome != "undecided" for v in found if v.contrast.role == "claim"):
            return n
    return None


def test_whole_seeds_are_numbered_on_until_each_study_is_decided(monkeypatch, studies, capsys):
    house = House(monkeypatch, {"few_shot": 2.0, "joint_augmentation": 9.0})
    expected = {name: max(4, first_decided(house, study)) for name, study in studies.items()}
    assert 4 < expected["joint_augmentation"] < expected["few_shot"] < 40, "or the test shows nothing"
    grown = looking.until_decided(studies, stages(studies), 1e6, time.monotonic(), house.train)
    assert {name: study.profile.seeds for name, study in grown.items()} == {
        name: tuple(range(n)) for name, n in expected.items()
    }
    assert {study.profile.design for study in grown.values()} == {"sequential"}
    assert house.asked == [[[0], [1], [2], [3]], *([[seed]] for seed in range(4, expected["few_shot"]))]
    drawn = [looking.sequential(studies[name], range(n)) for name, n in expected.items()]
    keys = {lab.run_key(spec) for study in drawn for spec in study.specs}
    assert house.done == keys, "a decided study gets no more seeds"
    said = capsys.readouterr().out
    assert "few_shot, 4 seeds: undecided: " in said and "every claim is decided: no more seeds." in said


def test_an_interrupted_command_comes_to_the_same_end(monkeypatch, studies, capsys):
    study = {"few_shot": studies["few_shot"]}
    house = House(monkeypatch, {"few_shot": 2.0})
    whole = looking.until_decided(study, stages(study), 1e6, time.monotonic(), house.train)
    house.done, house.asked, house.stop_after = set(), [], 3
    cut = looking.until_decided(study, stages(study), 1e6, time.monotonic(), house.train)
    assert cut["few_shot"].profile.seeds == tuple(range(6)), "of the seventh only half of the runs are there"
    assert "not decided: few_shot. The same command goes on from here." in capsys.readouterr().out
    house.stop_after, house.asked = None, []
    again = looking.until_decided(study, stages(study), 1e6, time.monotonic(), house.train)
    assert again["few_shot"].profile == whole["few_shot"].profile
    assert house.asked[0] == [[6]], "what is there is not asked for again"


def test_time_that_is_up_leaves_what_is_whole_and_draws_no_single_seed(monkeypatch, studies):
    house = House(monkeypatch, dict.fromkeys(NAMES, 0.0))
    grown = looking.until_decided(studies, stages(studies), 0.0, time.monotonic() - 1, house.train)
    assert {s.profile.seeds for s in grown.values()} == {(0, 1, 2, 3)} and len(house.asked) == 1
    house.done, house.asked, house.stop_after = set(), [], 0
    assert looking.until_decided(studies, stages(studies), 1e6, time.monotonic(), house.train) == {}


def test_seeds_that_chose_the_regime_are_never_added(monkeypatch, studies, capsys):
    study = {"few_shot": looking.sequential(studies["few_shot"], range(96))}
    house = House(monkeypatch, {"few_shot": 0.0})
    monkeypatch.setattr(looking, "undecided", lambda study: ["one"])
    grown = looking.until_decided(study, stages(study), 1e6, time.monotonic(), house.train)
    assert grown["few_shot"].profile.seeds == tuple(range(100))
    assert "seed 99 was the last" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, seconds", [("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("1.5 h", 5400), ("45S", 45), ("1d 2h", 93600)]
)
def test_lengths_of_time(text, seconds):
    assert looking.duration(text) == seconds


@pytest.mark.parametrize("text", ["2", "0h", "two hours", "-1h", "1h30", "h", "", "1e3s", "1h,30m"])
def test_what_is_no_length_of_time(text):
    with pytest.raises(
        SpecError, match="--at-most must be a length of time above 0 .* such as 90m, 2h or 1h30m, but got"
    ):
        looking.duration(text)


def test_one_option_without_the_other():
    assert looking.time_limit(None, None) is None and looking.time_limit("decided", "2h") == 7200
    with pytest.raises(SpecError, match="--until decided needs --at-most, a length of time such as 2h"):
        looking.time_limit("decided", None)
    with pytest.raises(SpecError, match="--at-most 2h needs --until decided"):
        looking.time_limit(None, "2h")
    with pytest.raises(SpecError, match="--until must be one of .*decided.*, but got 'decide'. Did you mean 'decided'"):
        looking.time_limit("decide", "2h")


def test_the_plan_says_what_a_further_seed_costs(capsys):
    given = {"seeds": 3}
    assert command.figures(["few_shot"], "smoke", given, [], only_plan=True, until="decided", at_most="2h")
    said = capsys.readouterr().out
    assert "then whole seeds from 3 on, one after another (about " in said
    assert "until every claim is decided or 2.0 hours are over: the sequential t-test judges" in said
    assert command.figures(["few_shot"], "quick", {}, [], only_plan=True, until="decided", at_most="1s")
    assert "more than --at-most, 1 second: not all of these seeds would be whole" in capsys.readouterr().out


def test_notebooks_get_their_own_seeds_and_the_design(monkeypatch, studies, capsys):
    started = {}

    class Runs(command.NotebookRuns):
        def start(self, names):
            started.update({name: dict(self.parameters[name]) for name in names})

        def gallery(self):
            return True

    house = House(monkeypatch, dict.fromkeys(NAMES, 0.0))
    monkeypatch.setattr(command, "NotebookRuns", Runs)
    monkeypatch.setattr(lab, "run", lambda *groups, halt, **_: house.train(*groups, halt=halt))
    house.stop_after = 1
    options = {"until": "decided", "at_most": "1h"}
    assert command.figures(list(NAMES), "quick", {"seeds": 3}, ["epochs=90"], **options)
    both = {"design": "sequential", "epochs": 90}
    assert started == {"few_shot": both | {"seeds": [0, 1, 2, 3]}, "joint_augmentation": both | {"seeds": [0, 1, 2]}}
    assert "time is up, and not decided" in capsys.readouterr().out


@pytest.mark.parametrize("profile, finished", [("quick", 0), ("quick", 2), ("quick", 3), ("quick", 4), ("smoke", 0)])
def test_the_first_notebook_is_drawn_early_at_the_seeds_that_are_whole(monkeypatch, profile, finished):
    """From two seeds on, and not when all runs are there from the start; a third that is there is not left out."""
    drawn = []

    def run_notebook(name, size, folder, parameters):
        drawn.append((name, parameters.get("seeds")))
        return SimpleNamespace(error="")

    def train(*groups, after, **_):
        specs = [spec for group in groups for spec in group]
        seeds = sorted({spec.seed for spec in specs})
        for upto in range(finished, len(seeds) + 1):
            after({lab.run_key(spec) for spec in specs if spec.seed in seeds[:upto]})

    monkeypatch.setattr(command.notebooks, "run_notebook", run_notebook)
    monkeypatch.setattr(command.pages, "gallery", lambda folder: folder)
    monkeypatch.setattr(command.pages, "lessons", lambda folder: [])
    monkeypatch.setattr(lab, "run", train)
    assert command.figures(["few_shot", "ratio_sweep"], profile, {}, [])
    early = [("few_shot", list(range(max(finished, 2))))] if profile == "quick" and finished < 4 else []
    assert drawn[: len(early)] == early and sorted(drawn[len(early) :]) == [("few_shot", None), ("ratio_sweep", None)]


def test_captions_and_conclusions_say_which_test(studies):
    study = studies["few_shot"]
    looked = looking.sequential(study, range(6))
    assert "sequential t-test" in looked.caption("contrasts") and "confidence sequences" in looked.caption("contrasts")
    assert "sequential" not in study.caption("contrasts")
    table = pd.DataFrame([
        {"arm": arm, "seed": seed, "test_accuracy": 80 + np.random.default_rng([seed, place]).normal()}
        for place, arm in enumerate(study.arms) for seed in range(6)
    ])  # fmt: skip
    for one, words in ((looked, True), (dataclasses.replace(study, profile=study.profile.replace(seeds=6)), False)):
        verdicts = stats.decide(table, one.contrasts, design=one.profile.design)
        assert ("Seeds were added while looking" in one.conclusion(verdicts)) == words
        assert all((v.design == "sequential") == words for v in verdicts)
    assert looked._overrides()["design"] == "sequential" and "design" not in study._overrides()
    with pytest.raises(SpecError, match="design must be one of"):
        perspectives.study("few_shot", "quick", design="looking")
