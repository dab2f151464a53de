"""The perspective on CCD: what its arms share, whose weights it shows, what its costs count, what it draws."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from kdlab import lab, perspectives, plotting
from kdlab.lab.replay import Replay
from kdlab.losses.ccd import CCD
from kdlab.perspectives import ccd, few_shot, joint_augmentation, weight_shares
from kdlab.spec import Budget

OWN = {"weights", "pairs"}  # figures that show more than the table


# --- arms and contrasts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", ["quick", "standard"])
def test_ccd_arms_differ_from_kd_and_jda_in_the_weights_alone(depth):
    profile = perspectives.profile(depth)
    arms = ccd.arms(profile)
    own = {name: spec for name, spec in arms.items() if spec.method == "ccd"}
    assert set(own) == {"ccd", "ccd normalised", "ccd constant", "ccd shuffled", "ccd centred"}
    assert all(spec.replace(method="kd", method_options={}) == arms["jda"] for spec in own.values())
    assert len({lab.run_key(spec) for spec in own.values()}) == 5
    others = joint_augmentation.arms(profile)
    assert all(arms[name] == others[name] for name in ("ce", "kd", "weak2", "jda", "kd again"))
    assert lab.run_key(arms["ccd"]) == lab.run_key(few_shot.arms(profile)[few_shot.arm("ccd", 1.0)])


def test_hsakd_learns_at_equal_epochs_from_the_same_teacher_with_heads():
    arms = ccd.arms(perspectives.profile("standard"))
    assert arms["hsakd"].budget == arms["ccd"].budget and arms["hsakd"].teacher == arms["hsakd heads"]
    assert arms["hsakd heads"].teacher == arms["teacher"] == arms["ccd"].teacher
    assert (arms["hsakd"].views, arms["ccd"].views) == (4, 2)


def test_a_network_without_stages_is_compared_without_hsakd(monkeypatch):
    monkeypatch.setattr(ccd, "refusal", lambda spec: "no stages")
    assert not {"hsakd", "hsakd heads"} & set(ccd.arms(perspectives.profile("smoke")))


def test_the_claim_is_that_it_helps_by_its_weights_and_not_by_their_mean():
    listed = {c.name: c for c in ccd.contrasts(perspectives.profile("quick"))}
    claims = [dict(c.weights) for c in listed.values() if c.role == "claim"]
    assert claims == [{"ccd": 1, other: -1} for other in ("jda", "ccd shuffled", "ccd constant")]
    assert [c.role for c in listed.values()][3:] == ["positive control", "null control"]
    assert listed["CCD − (KD + JDA)"].sentence(0.5, "") == "CCD gains 0.50 points over KD + JDA"


# --- who gets weight ----------------------------------------------------------------------------------------------


def test_groups_by_hand():
    pairs = pd.DataFrame({
        "label": [0, 0, 1, 1], "first": [0, 0, 1, 0], "second": [0, 1, 1, 0], "weight": [2.0, 1.0, 1.8, 0.4],
        "centred": [2.0, 1.0, 1.8, 0.4], "operations": [["a", "b"], ["a"], ["b", "b"], []],
    })  # fmt: skip
    rows = {(r["by"], r["name"]): (r["pairs"], r["weight"]) for r in weight_shares.shares(pairs, ("bag", "coat"))}
    assert rows == {
        ("class", "bag"): (2, 1.5), ("class", "coat"): (2, 1.1),
        ("teacher", "right on both"): (2, 1.9), ("teacher", "wrong on the augmented"): (1, 1.0),
        ("teacher", "wrong on both"): (1, 0.4),
        ("operation", "a"): (2, 0.4),  # 1.5 - 1.1
        ("operation", "b"): (2, 1.2),  # 1.9 - 0.7
    }  # fmt: skip
    raw, centred = weight_shares.spread(pairs)
    assert raw["mean"] == 1.3 and raw["sd"] == pytest.approx(np.std([2, 1, 1.8, 0.4]), abs=1e-6)
    assert raw["shares"] == centred["shares"] and sum(raw["shares"]) == 1
    assert [place for place, share in enumerate(raw["shares"]) if share] == [8, 20, 36, 39]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A home with the smoke runs of the perspective, an epoch long."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLAB_OUT", str(folder))
        perspectives.study("ccd", "smoke", epochs=1, teacher_epochs=2).run(progress=False)
    return folder


@pytest.fixture
def study(trained, monkeypatch):
    monkeypatch.setenv("KDLAB_OUT", str(trained))
    return perspectives.study("ccd", "smoke", epochs=1, teacher_epochs=2)


def test_replayed_weights_are_those_of_training(study, monkeypatch):
    spec, seen, made = study.arms["ccd"].replace(budget=Budget(13, "steps", 30)), [], CCD.weights

    def recorded(self, teacher, batch):
        weights = made(self, teacher, batch)
        seen.append((batch.label[batch.view == 1].tolist(), weights[batch.view == 1].tolist()))
        return weights

    monkeypatch.setattr(CCD, "weights", recorded)
    lab.run([spec], workers=0, progress=False, require_teacher=False)
    training = list(seen)
    assert len(training) == 13  # more than an epoch of 10 steps
    pairs = Replay(spec).pairs(10_000)  # no more than the run has
    replayed = [(rows["label"].tolist(), rows["weight"].tolist()) for _, rows in pairs.groupby("step")]
    assert replayed == training and np.ptp(pairs["weight"]) > 0


def test_replay_by_hand(study):
    """Labels, choices, weights and pictures of a pair, from its two images and the teacher."""
    import torch

    replay = Replay(study.arms["ccd"])
    pairs = replay.pairs(60)
    assert len(pairs) == 60 and pairs["step"].tolist() == [0] * 30 + [1] * 30
    teacher, train = next(iter(replay.views.teachers.values())), replay.views.train
    for row in (3, 47):
        pair = pairs.loc[row]
        images = torch.from_numpy(replay.images(pair.step, pair.origin).copy())
        assert images.dtype == torch.uint8 and images.shape == (2, 1, 28, 28)
        with torch.no_grad():
            t = teacher(train.normalise(images)).numpy().astype(float)
        cosine = t[0] @ t[1] / np.sqrt((t[0] @ t[0]) * (t[1] @ t[1]))
        assert pair.weight == pytest.approx(1 + cosine, abs=1e-4)
        assert [pair["first"], pair["second"]] == t.argmax(1).tolist()
        assert pair.label == train.labels[replay.views.index[pair.origin]]


def test_shown_pairs_are_of_the_outer_tenths(study):
    pairs = Replay(study.arms["ccd"]).pairs(weight_shares.PAIRS)
    shown = study.measured()["pairs"]
    assert [picture["end"] for picture in shown] == ["most"] * 6 + ["least"] * 6
    low, high = np.quantile(pairs["weight"], [0.11, 0.89])
    assert all(picture["weight"] >= high for picture in shown[:6])
    assert all(picture["weight"] <= low for picture in shown[6:])
    assert weight_shares.pixels(shown[0]).shape == (2, 28, 28)


# --- costs --------------------------------------------------------------------------------------------------------


def test_costs_count_the_heads_and_their_training(study):
    found, arms = ccd.costs(study.table()), study.arms
    assert list(found.index) == ["KD + JDA", "CCD", "HSAKD"]
    steps = 10  # 320 images, 30 a step, 1 epoch; the heads train for 2
    assert found["student images"].tolist() == [60 * steps, 60 * steps, 120 * steps]
    assert found["during"].tolist() == [60 * steps, 60 * steps, 120 * steps]
    assert found["before"].tolist() == [0, 0, 120 * 2 * steps]
    assert (found.loc["CCD", list(ccd.HELD)] == found.loc["KD + JDA", list(ccd.HELD)]).all()
    heads = sum(v.numel() for k, v in lab.Store().weights(lab.run_key(arms["hsakd heads"]), "method").items()
                if not k.endswith(("running_mean", "running_var", "num_batches_tracked")))  # fmt: skip
    assert found.loc["HSAKD", "teacher's heads"] == heads > found.loc["HSAKD", "teacher"]
    assert found.loc["CCD", "student's heads"] == 0 < found.loc["HSAKD", "student's heads"]


# --- figures ------------------------------------------------------------------------------------------------------


def test_figures_are_saved_and_redrawn_from_their_json_alone(study, tmp_path, monkeypatch):
    document = study.save(study.table(), tmp_path / "saved")
    assert document["figures"] == [f"ccd-{name}" for name in ("arms", "weights", "pairs", "costs", "contrasts")]
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "empty"))
    for name in document["figures"][1:4]:
        path = tmp_path / "saved" / f"{name}.json"
        table, record = plotting.load(path)
        assert ("measured" in record["meta"]) == (name.removeprefix("ccd-") in OWN)
        same = {part: record[part] for part in ("caption", "alt", "meta")}
        files = plotting.save(perspectives.redraw(path), tmp_path / "again", name, table=table, **same)
        for suffix, file in files.items():
            assert file.read_bytes() == path.with_suffix(f".{suffix}").read_bytes(), (name, suffix)


def test_one_teacher_is_enough_and_without_one_the_figures_say_so(study, tmp_path, monkeypatch):
    table, verdicts = study.table(), study.verdicts(study.table())
    both = study.measured()
    assert {row["seed"] for row in both["weights"]["groups"]} == {0, 1}
    one = ccd.measure(dataclasses.replace(study.profile, seeds=(7, 1)))
    assert {row["seed"] for row in one["weights"]["groups"]} == {1}
    assert one["weights"]["groups"] == [row for row in both["weights"]["groups"] if row["seed"] == 1]
    assert json.loads(json.dumps(one)) == one
    drawn = ccd.figures(table, verdicts, study.profile, one)
    assert [ax.get_title() for ax in drawn["weights"].axes][1:] == [
        "By the teacher's answers", "By class", "By operation that fired",
    ]  # fmt: skip
    assert sum(len(ax.images) for ax in drawn["pairs"].axes) == 24
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path))
    assert ccd.measure(study.profile) == {}
    drawn = ccd.figures(table, verdicts, study.profile, {})
    for name in OWN:
        assert "No teacher" in drawn[name].axes[0].texts[0].get_text()
