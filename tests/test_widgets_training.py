"""Training beside the notebook: pause, continue, stop and lose nothing; images of one's own and the answer."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kdlab import data, lab, stats, widgets
from kdlab.errors import SpecError
from kdlab.lab.process import alive
from kdlab.lab.retries import Lost
from kdlab.lab.store import Store
from kdlab.paths import CHECKOUT
from kdlab.perspectives import Study, profile, recipes
from kdlab.perspectives.own_images import CONTROL, LABELS, answer, on_the_map
from kdlab.spec import Checkpoint
from kdlab.widgets import background_run
from kdlab.widgets.background_run import BackgroundRun
from kdlab.widgets.custom_study import custom_study, example, samples
from kdlab.widgets.live_curves import curves

PATIENCE = 300  # seconds until something counts as broken


@pytest.fixture(autouse=True)
def smoke(monkeypatch):
    monkeypatch.setenv("KDLAB_PROFILE", "smoke")


@pytest.fixture(scope="module", autouse=True)
def no_process_left():
    """The warm process ends with this module."""
    yield
    if background_run._pool is not None:
        background_run._pool.shutdown(wait=True, cancel_futures=True)
        background_run._pool = None


def reached(step: int, background: BackgroundRun) -> threading.Event:
    """An event that comes when the last of some runs has done some steps (or has ended)."""
    event, key = threading.Event(), list(background.runs)[-1]
    before = background.on_progress

    def look():
        before()
        now = background.progress()[key]
        if now["step"] >= step or now["done"]:
            event.set()

    background.on_progress = look
    return event


def long_spec(steps: int = 4000, seed: int = 0):
    size = profile("smoke")
    spec = recipes.kd(size).at_seed(seed)
    return spec.replace(budget=type(spec.budget)(steps, "steps", spec.budget.originals_per_step))


class TestJob:
    def test_paused_and_continued_is_bit_for_bit_the_uninterrupted_run(self, tmp_path, monkeypatch):
        spec = long_spec(600)
        key = lab.run_key(spec)
        background = BackgroundRun([spec])
        event = reached(50, background)
        background.start()
        assert event.wait(PATIENCE)
        background.pause()
        assert background.wait(PATIENCE)
        store = Store()
        assert background.state == "paused" and not store.has(key) and store.checkpoint_path(key).exists()
        assert store.lease(key) is None, "a paused run is nobody's"
        assert 0 < store.load_checkpoint(key)[1]["step"] < 600
        background.start()
        assert background.wait(PATIENCE) and background.state == "done" and store.has(key)
        paused = store.logits(key)
        monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "whole"))
        lab.run([spec], workers=0, progress=False)
        for split, values in Store().logits(key).items():
            np.testing.assert_array_equal(values, paused[split])

    def test_what_is_forgotten_leaves_no_checkpoint(self):
        background = BackgroundRun([long_spec(seed=1)])
        event = reached(20, background)
        background.start()
        assert event.wait(PATIENCE)
        background.pause()
        assert background.wait(PATIENCE)
        background.forget()
        assert not list(Store().root.glob(".checkpoints/*")) and not list(Store().root.glob(".leases/*"))
        assert len(Store().keys()) == 1, "the teacher was finished and stays"

    def test_progress_tells_steps_losses_and_curves(self):
        background, seen = BackgroundRun([long_spec(1200, seed=2)]), []
        background.on_progress = lambda: seen.append(list(background.progress().values())[-1])
        background.start()
        assert background.wait(PATIENCE) and background.state == "done"
        trained = [now for now in seen if now.get("train_loss") is not None]
        assert trained and all(0 < now["train_loss"] < 20 for now in trained)
        assert [now["step"] for now in seen] == sorted(now["step"] for now in seen)
        last = list(background.progress().values())[-1]
        assert last["done"] and last["step"] == last["total"] == 1200 and len(last["curve"]) == 4

    def test_a_failure_is_kept_and_a_broken_process_replaced(self, monkeypatch):
        background = BackgroundRun([long_spec(30, seed=3)])
        monkeypatch.setattr(lab, "run", lambda *a, **k: (_ for _ in ()).throw(SpecError("no.")))
        background.start()
        assert background.wait(PATIENCE) and background.state == "failed" and str(background.error) == "no."
        monkeypatch.undo()
        monkeypatch.setenv("KDLAB_OUT", str(background.store.root.parent))
        with pytest.raises(Lost, match="it ended with exit code 1"):
            background_run.pool().submit(_die, [], background.store.root, None).result(PATIENCE)
        broken = BackgroundRun([long_spec(30, seed=3)])
        broken.start()
        assert broken.wait(PATIENCE)
        assert broken.state == "done"


def test_a_killed_kernel_loses_nothing(tmp_path):
    """The process that trains notices that its notebook is gone, keeps a checkpoint and ends."""
    script = (
        "import time\nfrom tests.test_widgets_training import long_spec\n"
        "from kdlab.widgets.background_run import BackgroundRun\n"
        "if __name__ == '__main__':\n"
        "    background = BackgroundRun([long_spec(100_000)]).start()\n"
        "    while list(background.progress().values())[-1]['step'] < 20: time.sleep(0.1)\n"
        "    print('training', flush=True)\n    time.sleep(600)\n"
    )
    (tmp_path / "kernel.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    kernel = subprocess.Popen([sys.executable, tmp_path / "kernel.py"], stdout=subprocess.PIPE, env=environment)
    assert kernel.stdout.readline() == b"training\n"
    store, key = Store(), lab.run_key(long_spec(100_000))
    worker = store.lease(key)
    kernel.kill()
    kernel.wait()
    kernel.stdout.close()
    deadline = time.monotonic() + PATIENCE
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive(worker), "nothing of it stays behind"
    assert store.load_checkpoint(key)[1]["step"] >= 20
    assert lab.plan([long_spec(100_000)]).missing[key] == "unfinished: goes on from its checkpoint"


def _die(runs, root, stop):
    os._exit(1)


def test_a_halt_stops_the_lab_cleanly():
    halt, spec = threading.Event(), long_spec(seed=4)
    halt.set()
    with pytest.raises(lab.Halted, match="checkpoints"):
        lab.run([spec], workers=1, progress=False, halt=halt)
    assert not list(Store().root.glob(".stop*"))


class TestLiveTrainer:
    def test_start_to_finish(self):
        trainer = widgets.LiveTrainer(amount=60, unit="steps")
        trainer.widget()
        assert "not trained yet" in trainer.picture.value
        usable = {n: not trainer.control[n].disabled for n in ("start", "pause", "resume", "stop", "method")}
        assert usable == {"start": True, "pause": False, "resume": False, "stop": False, "method": True}
        trainer.control["start"].click()
        assert trainer.control["start"].disabled and trainer.control["method"].disabled
        assert trainer.background.wait(PATIENCE)
        _settled(trainer)
        key = lab.run_key(trainer.spec())
        result = Store().read(key, "result")
        assert f"{result['test_accuracy']:.1f} % on test" in trainer.picture.value and key in trainer.picture.value
        assert trainer.bar.value == trainer.bar.max and not trainer.control["method"].disabled
        assert trainer.control["start"].disabled and trainer.where.value.startswith("Done."), "there is nothing to do"
        plain = recipes.kd(profile("smoke")).at_seed(0).replace(budget=trainer.spec().budget)
        assert trainer.spec() == recipes.augmented(plain, profile("smoke"), "jda")
        trainer.control["amount"].value = 61
        assert trainer.where.value == "" and not trainer.control["start"].disabled
        trainer.control["amount"].value = 60
        assert "in the store already" in trainer.where.value and trainer.control["start"].disabled

    def test_the_first_start_trains_something_new(self, monkeypatch):
        lab.run([recipes.kd(profile("smoke")).at_seed(0)], workers=0, progress=False)  # as the trained pair does
        trainer = widgets.LiveTrainer()
        trainer.widget()
        assert not trainer.control["start"].disabled
        assert "Teacher: " in trainer.picture.value and "which is in the store" in trainer.picture.value
        trainer.control["seed"].value = 3
        assert "of seed 3 is not trained yet, and Start trains it first" in trainer.picture.value
        assert "Trained already: that of seed 0." in trainer.picture.value

    def test_the_loss_that_is_seen_is_the_one_that_is_kept(self, monkeypatch):
        def seen():
            panels, _ = curves({key: spec}, key, trainer.latest, Store())
            (line,) = (mark for mark in panels[0].marks if mark.kind == "line")
            assert panels[0].title.startswith("Training loss")
            return list(line.x), list(line.y)

        trainer = widgets.LiveTrainer(amount=80, unit="steps", seed=2)
        trainer.widget()
        spec, lost = trainer.spec(), {}
        key = lab.run_key(spec)
        monkeypatch.setattr(Store, "lease", lambda store, _: lost)
        lost["curve"] = [{"step": 20, "train_loss": 3.0, "val_accuracy": 10.0}]
        trainer.latest[key] = 30, 2.5
        assert seen() == ([20, 30], [3.0, 2.5])
        lost["curve"] = [*lost["curve"], {"step": 40, "train_loss": 2.4, "val_accuracy": 12.0}]
        assert seen() == ([20, 40], [3.0, 2.4]), "the kept point takes its place"

    def test_pause_continue_stop(self):
        trainer = widgets.LiveTrainer(amount=5000, unit="steps", seed=1)
        trainer.widget()
        trainer.control["start"].click()
        event = reached(20, trainer.background)
        assert event.wait(PATIENCE)
        trainer.control["pause"].click()
        assert trainer.background.wait(PATIENCE)
        _settled(trainer)
        assert not trainer.control["resume"].disabled and "Paused" in trainer.where.value
        again = widgets.LiveTrainer(amount=5000, unit="steps", seed=1)
        again.widget()
        assert "goes on from its checkpoint" in again.picture.value, "another notebook finds it"
        trainer.control["resume"].click()
        trainer.control["stop"].click()
        assert trainer.background is None and not list(Store().root.glob(".checkpoints/*"))
        assert not trainer.control["start"].disabled

    def test_what_cannot_run_is_said_and_cannot_be_started(self):
        trainer = widgets.LiveTrainer(method="dkd", augmentation="cutmix")
        trainer.widget()
        assert "needs one class a row" in trainer.message.value and trainer.control["start"].disabled
        trainer.control["augmentation"].value = "jda"
        assert trainer.message.value == "" and not trainer.control["start"].disabled

    def test_none_is_the_profile_s_own_also_later(self):
        trainer = widgets.LiveTrainer(profile="smoke", student="resnet8")
        trainer.widget()
        trainer.set(amount=None, teacher=None)
        assert trainer.failure is None and trainer.spec().budget.amount == profile("smoke").budget.amount
        trainer.set(profile="quick")
        quick, spec = profile("quick"), trainer.spec()
        assert (spec.model, spec.teacher.model, spec.budget) == ("resnet8", quick.teacher, quick.budget)
        assert trainer.control["teacher"].value == quick.teacher and spec.sizes == quick.sizes
        with pytest.raises(SpecError, match="profile must be one of"):
            trainer.set(profile="quik")
        assert trainer.settings["profile"] == "quick"

    def test_a_button_is_no_way_around_what_cannot_run(self, caplog):
        trainer = widgets.LiveTrainer()
        trainer.widget()
        trainer.set(student="kd")
        trainer.control["pause"].click()
        assert not caplog.records and trainer.control["start"].disabled
        trainer.control["start"].click()  # as no browser lets one
        assert isinstance(trainer.failure, SpecError) and trainer.background is None

    def test_methods_of_pairs_get_pairs(self):
        assert widgets.LiveTrainer(method="ccd").spec().views == 2

    def test_its_twin_trains_and_draws(self):
        trainer = widgets.LiveTrainer(amount=20, unit="steps")
        drawing = trainer.show(False)
        assert Store().has(lab.run_key(trainer.spec())) and "on test" in drawing.caption
        assert drawing.html() == widgets.LiveTrainer(amount=20, unit="steps").draw().html(), (
            "nothing but the store counts"
        )

    def test_unknown_names_are_refused(self):
        with pytest.raises(SpecError, match="Did you mean 'resnet8x4'"):
            widgets.LiveTrainer(student="resnet8x")


def _settled(explorer) -> None:
    """Wait for the watching thread's last look."""
    for thread in threading.enumerate():
        if thread.name == "kdlab-watch":
            thread.join(PATIENCE)
    assert explorer.failure is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of thirty images, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLAB_OUT", str(tmp_path_factory.mktemp("images")))
        return example(30, (0, 5, 8))


def study(folder: str, **changes) -> Study:
    usual = {"folder": folder, "size": 28, "teacher": "resnet8_s2_w8", "checkpoint": "", "student": "resnet8_s2_w4"}
    return custom_study(**usual | {"augmentations": ("jda", "invert"), "seeds": 2, "epochs": 1.0} | changes)


class TestOwnImages:
    def test_arms_cost_the_same_and_share_the_teacher(self, folder):
        made = study(folder).arms
        assert list(made) == [LABELS, CONTROL, "jda", "invert"]
        labels = made.pop(LABELS)
        assert (labels.method, labels.teacher, labels.views, labels.budget) == ("ce", None, 1, made[CONTROL].budget)
        for spec in made.values():
            assert (spec.views, spec.data) == (2, f"folder:{folder}?size=28")
            assert (spec.budget, spec.teacher) == (made[CONTROL].budget, made[CONTROL].teacher)
        assert [s.ratio for s in made.values()] == [0.0, 0.5, 0.5]
        lab.plan(study(folder).specs)

    def test_the_answer_is_chosen_on_val(self, folder):
        custom = study(folder)
        lab.run(custom.specs, workers=0, progress=False, require_teacher=False)
        assert custom.finished
        table = custom.table()
        verdicts, said = answer(custom, table).verdicts, answer(custom, table).text
        for verdict, name in zip(verdicts, ("jda", "invert"), strict=True):
            wide = table.pivot(index="seed", columns="arm", values="val_accuracy")
            assert verdict.effect == pytest.approx((wide[name] - wide[CONTROL]).mean())
        assert "Nothing can be said" in said  # after one epoch
        better = table.copy()
        better["val_accuracy"] += 40
        control = better.loc[better.arm == CONTROL, "val_accuracy"].to_numpy()
        for name, sign in (("jda", 1), ("invert", -1)):
            better.loc[better.arm == name, "val_accuracy"] = control + sign * np.array([9.0, 9.2])
        found = answer(custom, better)
        said, verdicts = found.lines[0], found.verdicts
        assert said.startswith(f"Distil with jda: {9.1:+.1f} points") and found.chosen == "jda"
        assert "Leave out invert" in said
        test = table.groupby("arm").test_accuracy.mean()
        told = f"jda {test['jda']:.1f} %, two weak views {test[CONTROL]:.1f} %"
        assert told in found.lines[-1] and found.lines[-1].startswith("Test, told once")
        assert stats.overall(verdicts) == "contradicted"

    def test_networks_of_ones_own_with_options(self, folder):
        typed = {"teacher": "torchvision.models:resnet18?width_per_group=8", "student": "resnet8_s2_w4"}
        spec = study(folder, **typed, augmentations=("jda",), epochs=0.05, size=32).arms["jda"]
        assert spec.teacher.model == "torchvision.models:resnet18"
        assert spec.teacher.model_options == {"width_per_group": 8}

    def test_a_checkpoint_teaches(self, folder, tmp_path):
        teacher = study(folder, epochs=30.0).arms[CONTROL].teacher  # a file must be above chance
        lab.run([teacher], workers=0, progress=False)
        weights = Store().root / lab.run_key(teacher) / "student.safetensors"
        spec = study(folder, checkpoint=str(weights)).arms[CONTROL]
        assert isinstance(spec.teacher, Checkpoint) and spec.teacher.arch == "resnet8_s2_w8"
        (line,) = on_the_map(study(folder, checkpoint=str(weights)))
        assert line.startswith("On the map of Fashion-MNIST") and "the teacher of the file saw is not known" in line
        lab.run([spec], workers=0, progress=False)
        with pytest.raises(SpecError, match="teacher checkpoint .*none.pth does not exist"):
            study(folder, checkpoint=str(tmp_path / "none.pth"))

    def test_samples_count_the_images(self, folder):
        drawing = samples(f"folder:{folder}?size=28")
        source = data.describe(f"folder:{folder}?size=28")
        total = {split: len(source.labels[split]) for split in data.SPLITS}
        assert sum(total.values()) == 90
        assert re.findall(r"(train|val|test) (\d+) \(", drawing.caption) == [(k, str(n)) for k, n in total.items()]

    def test_the_widget_from_look_to_answer(self):
        small = {"teacher": "resnet8_s2_w8", "student": "resnet8_s2_w4"}
        explorer = widgets.OwnImages(seeds=2, epochs=0.5, augmentations=("invert",), **small)
        explorer.widget()
        assert explorer.message.value == "" and "No folder" in explorer.draw().alt
        explorer.control["try_example"].click()
        assert "<b>3 classes, grey images of 28 x 28 pixels</b>" in explorer.picture.value
        explorer.control["look"].click()
        assert "8 runs: 0 in the store, 8 to train" in explorer.plan_text.value
        assert "student images" in explorer.plan_text.value and "a guess: no run of" in explorer.plan_text.value
        explorer.control["run"].click()
        assert explorer.background.wait(PATIENCE)
        _settled(explorer)
        text = re.sub(r"<[^>]*>", "", explorer.picture.value)
        assert explorer.where.value.startswith("8 of 8 runs done; kept in ") and "On val: teacher" in text, text
        assert explorer.plan_text.value == "" and "invert" in text
        place = Path(explorer.where.value.split("; kept in ")[1])
        assert (place / "command.txt").read_text().startswith("kdlab advise folder:")
        explorer.set(seeds=3)
        assert explorer.where.value == "" and explorer.bar.value == 0, "where others stood"
        explorer.control["look"].click()
        assert "12 runs: 8 in the store, 4 to train" in explorer.plan_text.value
        explorer.control["seeds"].value = 2
        assert "On val: teacher" in explorer.picture.value and explorer.plan_text.value == "", "a foreign plan"

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"folder": "/nowhere"}, "does not exist"),
            ({"teacher": "resnet9"}, "Did you mean"),
            ({"augmentations": ()}, "must name at least one policy"),
            ({"augmentations": ("jdaa",)}, "Did you mean"),
            ({"teacher": "torchvision.models:resnet1"}, "has no resnet1"),
        ],
    )
    def test_mistakes_are_said_in_the_widget(self, folder, changes, said):
        explorer = widgets.OwnImages(folder=folder, size=28)
        explorer.widget()
        explorer.set(**changes)
        assert said in explorer.message.value and "Traceback" not in explorer.message.value
