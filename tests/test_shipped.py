"""The pair of networks that comes with the package: it is that of quick, can be read, and trains anew to the same."""

import shutil

import numpy as np
import pytest

from kdlab import lab, perspectives
from kdlab.lab import shipped
from kdlab.lab.store import NEEDED, MissingRuns, Store
from kdlab.perspectives import recipes
from kdlab.training import predict
from kdlab.widgets import pair


def specs():
    """Teacher and student that explorers look through."""
    student = recipes.method(perspectives.profile("quick"), "kd").at_seed(0)
    return student.teacher, student


KEYS = [lab.run_key(spec) for spec in specs()]


def test_it_is_the_pair_of_quick_and_small():
    """When this fails, the regime or a revision has changed: train both, then kdlab.lab.shipped.ship(KEYS)."""
    assert shipped.shipped(KEYS) is not None, f"ship {KEYS}"
    files = [path for path in shipped.PLACE.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(KEYS)
    assert sum(path.stat().st_size for path in files) < 2e6


def test_its_networks_give_its_outputs(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path))
    monkeypatch.setattr(pair.lab, "run", lambda *args, **named: pytest.fail("nothing is trained"))
    trained = pair.trained_pair("quick")
    store = shipped.shipped(KEYS)
    for key, network in zip(KEYS, (trained.teacher, trained.student), strict=True):
        logits, stored = predict(network, trained.splits.val), store.logits(key)["val"]
        assert np.abs(logits - stored).max() < 1e-3  # bits differ between processors
        accuracy = 100 * (stored.argmax(1) == trained.splits.val.labels.numpy()).mean()
        assert accuracy == pytest.approx(store.read(key, "result")["val_accuracy"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # a minute: python -m pytest -m slow
def test_the_student_trains_anew_to_the_same_accuracy_within_a_point(monkeypatch, tmp_path):
    trained, store = pair.trained_pair("quick"), shipped.shipped(KEYS)
    logits = {split: predict(trained.teacher, getattr(trained.splits, split)) for split in ("val", "test")}
    documents = dict(zip(NEEDED, store.documents(KEYS[0]), strict=True))
    weights = {"student": store.weights(KEYS[0]), "method": {}}
    Store(tmp_path / "runs").write(KEYS[0], documents, weights | {"logits": logits})  # a teacher to train under
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path))
    row = lab.run([specs()[1]], workers=1, progress=False).iloc[0]
    there = shipped.shipped(KEYS).read(KEYS[1], "result")
    assert row.name == KEYS[1] and row["steps"] == there["steps"]
    assert abs(row["test_accuracy"] - there["test_accuracy"]) < 1
    assert pair.trained_pair("quick").specs["student"] == specs()[1]  # from the store now


def test_what_a_store_has_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path))
    opened = []
    monkeypatch.setattr(pair, "_open", lambda place, *rest: opened.append(place))
    pair.trained_pair("quick")
    for key in KEYS:
        shutil.copytree(shipped.PLACE / key, tmp_path / "runs" / key)
    pair.trained_pair("quick")
    assert opened == [str(shipped.PLACE), str(tmp_path / "runs")]


def test_a_damaged_file_is_not_looked_through(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "PLACE", tmp_path / "pair")
    shutil.copytree(shipped.Path(shipped.__file__).with_name("pair"), tmp_path / "pair")
    assert shipped.shipped(KEYS) is not None
    (tmp_path / "pair" / KEYS[1] / "student.safetensors").write_bytes(b"cut")
    assert shipped.shipped(KEYS) is None and shipped.shipped(KEYS[:1]) is not None
    assert shipped.shipped(["0" * 16]) is None


def test_shipping_replaces_what_was_there_and_keeps_the_logits_of_val(tmp_path):
    source = Store(tmp_path / "runs")
    logits = {"val": np.zeros((2, 3), np.float32), "test": np.ones((4, 3), np.float32)}
    documents = {"spec": {"spec": {}, "normal": {}}, "result": {"test_accuracy": 1.0, "curve": []},
                 "environment": {"digest": "d", "git": "g"}}  # fmt: skip
    weights = {"w": np.arange(3, dtype=np.float32)}
    source.write("a" * 16, documents, {"student": weights, "method": {}, "logits": logits})
    (tmp_path / "pair" / "stale").mkdir(parents=True)
    shipped.ship(["a" * 16], source, tmp_path / "pair")
    there = Store(tmp_path / "pair")
    assert [path.name for path in (tmp_path / "pair").iterdir()] == ["a" * 16] and there.damaged("a" * 16) == []
    assert list(there.logits("a" * 16)) == ["val"]
    with pytest.raises(MissingRuns, match="run b+ is not in the store"):
        shipped.ship(["b" * 16], source, tmp_path / "pair")
    assert there.has("a" * 16), "nothing was lost"
