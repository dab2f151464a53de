"""The ledger: rows that are the same bytes wherever they meet, bad ones refused, and no seed of two environments."""

import base64
import io
import json
import lzma
import sys

import numpy as np
import pandas as pd
import pytest

from kdlab import data, lab, paths, perspectives, report, widgets
from kdlab.cli import app
from kdlab.errors import SpecError
from kdlab.lab import answers, environment, ledger, merging, running, sources
from kdlab.lab.keys import normal, run_key
from kdlab.lab.store import MissingRuns, Store
from kdlab.perspectives.studies import Study
from kdlab.spec import Budget, RunSpec
from kdlab.stats import Contrast

TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(4, "steps", 32), role="teacher")
KD = TEACHER.replace(role="student", method="kd", teacher=TEACHER)
JDA = KD.replace(views=2, augmentation="jda", ratio=0.5)
ARMS = {"kd": KD, "jda": JDA}
HERE, THERE = "aaaaaaaa", "12e45678"  # a digest that a careless reader takes for a number


@pytest.fixture(autouse=True)
def this_machine(monkeypatch):
    """The environment that a plan would train in, without asking torch."""
    monkeypatch.setattr(environment, "environment", lambda: {"digest": HERE})


def made(*specs, where=HERE, store=None, diverged=False, **changes) -> list[str]:
    """Finish runs without training them: answers, and with them accuracies, are drawn for run and environment."""
    store = store or Store()
    for spec in specs:
        random = np.random.default_rng([int(run_key(spec), 16), *where.encode()])
        labels = data.describe(spec.data).labels["test"][: spec.sizes[2]]
        logits = random.normal(size=(len(labels), 10)).astype(np.float32)
        accuracy = 100 * float((logits.argmax(1) == labels).mean())
        result = {
            "steps": 4, "student_images": 128 * spec.views, "teacher_forwards": 0, "seconds": round(random.random(), 3),
            "diverged": diverged, "diverged_at": 3 if diverged else None, "agreement": float("nan"),
            "test_accuracy": float("nan") if diverged else accuracy, "val_accuracy": 100 / 3,
            "teacher_val_accuracy": 50.0,
            "curve": [{"step": 4, "train_loss": 2.3, "val_accuracy": 100 / 3}],
        } | changes  # fmt: skip
        documents = {"spec": {"spec": spec.to_dict(), "normal": normal(spec)}, "result": result,
                     "environment": {"digest": where, "git": "v1"}}  # fmt: skip
        store.write(run_key(spec), documents, {"logits": {"test": logits}})
    return [run_key(spec) for spec in specs]


def elsewhere(tmp_path, *specs, where=THERE, name="far", **changes):
    """A ledger file that another machine has exported."""
    store = Store(tmp_path / "machines" / f"{name}-{where}")
    made(*specs, where=where, store=store, **changes)
    path = tmp_path / f"{name}.csv.xz"
    merging.export(path, store=store)
    return path


def seeds(*numbers, arms=ARMS):
    return [spec.at_seed(seed) for seed in numbers for spec in arms.values()]


def edited(path, change, name="edited"):
    """A copy of a ledger file after a change of its table."""
    table = pd.read_csv(io.BytesIO(lzma.decompress(path.read_bytes())), dtype=str, keep_default_na=False)
    copy = path.with_name(f"{name}.csv.xz")
    copy.write_bytes(lzma.compress(change(table).to_csv(index=False).encode()))
    return copy


def the_ledger():
    return {path.name: path.read_bytes() for path in ledger.files()}


@pytest.fixture
def kdlab(monkeypatch, capsys):
    """A command: its exit code, and what it said."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["kdlab", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            app.main()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out + said.err

    return call


# --- rows ---------------------------------------------------------------------------------------------------------


def test_a_row_says_what_the_run_says(tmp_path):
    (key,) = made(KD)
    made(JDA, diverged=True)
    path, store = tmp_path / "rows.csv.xz", Store()
    merging.export(path)
    row = ledger.read(path)[key, HERE]
    saved, result, made_with = store.documents(key)
    assert (row.spec, row.environment, row.revision) == (saved, made_with["digest"], "v1")
    assert json.dumps(row.result, sort_keys=True) == json.dumps(result, sort_keys=True)  # NaN, null and true as well
    labels = data.describe("fashion").labels["test"][:500]
    right = store.logits(key)["test"].argmax(1) == labels
    assert row.right().tolist() == right.tolist() and 0 < right.sum() < 500
    first = base64.b64decode(row.test_right)[0]
    assert [bool(first >> (7 - n) & 1) for n in range(8)] == right[:8].tolist(), "the highest bit is the first image"
    assert not ledger.read(path)[run_key(JDA), HERE].right().any()


def test_the_same_rows_are_the_same_bytes_and_two_halves_make_the_whole(tmp_path):
    whole, half = tmp_path / "whole.csv.xz", [tmp_path / "a" / "x.csv.xz", tmp_path / "b" / "x.csv.xz"]
    keys = made(*seeds(0, 1, 2))
    made(KD.at_seed(3), extra=1.5)  # a number that the others do not have
    merging.export(whole)
    merging.export(half[0], keys[::2])
    merging.export(half[1], [*keys[1::2], keys[0], run_key(KD.at_seed(3))])
    for number, order in enumerate((half, half[::-1])):
        merging.merge(order, tmp_path / f"merged{number}.csv.xz")
        assert (tmp_path / f"merged{number}.csv.xz").read_bytes() == whole.read_bytes()
    assert "0 of 7 rows are new" in merging.merge([whole], tmp_path / "merged0.csv.xz")
    merging.merge(half)  # into the ledger, both into the file of their name
    assert the_ledger() == {"x.csv.xz": whole.read_bytes()}
    assert [p.name for p in paths.ledger().iterdir()] == ["x.csv.xz"], "nothing is left lying about"


def test_answers_come_from_store_and_ledger_alike(tmp_path):
    merging.merge([elsewhere(tmp_path, KD)])
    (key,) = made(KD)
    from_store, from_ledger = lab.test_right(key), lab.test_right(key, THERE)
    assert from_store.dtype == from_ledger.dtype == bool and from_store.shape == from_ledger.shape == (500,)
    assert (from_store == lab.test_right(key, HERE)).all() and (from_store != from_ledger).any()
    assert 100 * from_store.mean() == pytest.approx(lab.table([KD])["test_accuracy"].item())
    with pytest.raises(MissingRuns, match="of environment ffffffff is neither in the store"):
        lab.test_right(key, "ffffffff")


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(key="0" * 16), "line 2 .*its spec does not hash to its key"),
        (lambda t: t.drop(columns=["curve", "test_right"]), "lacks the columns test_right, curve"),
        (lambda t: t.drop(columns="steps"), "line 2 .*lacks 'steps'"),
        (lambda t: t.assign(val_accuracy='"high"'), "val_accuracy cannot be 'high'"),
        (lambda t: t.assign(diverged="1"), "diverged cannot be 1"),
        (lambda t: t.assign(environment=""), "names no environment"),
        (lambda t: t.assign(spec=""), "lacks 'spec'"),
        (lambda t: t.assign(test_accuracy="99.5"), "test accuracy is 99.5, but test_right makes it"),
        (lambda t: t.assign(test_right=t["test_right"].str[:40]), "does not fit 500 test images"),
        (lambda t: t.assign(test_right="?" + t["test_right"].str[1:]), "line 2"),
        (lambda t: pd.concat([t, t]), "line 4: run .* stands twice"),
    ],
)
def test_a_file_that_is_wrong_is_refused_and_nothing_is_written(tmp_path, change, words):
    good = elsewhere(tmp_path, *seeds(0))
    merging.merge([good])
    before = the_ledger()
    with pytest.raises(SpecError, match=words) as refused:
        merging.merge([elsewhere(tmp_path, *seeds(1), name="fine"), edited(good, change)])
    assert "edited.csv.xz" in str(refused.value) and the_ledger() == before


@pytest.mark.parametrize(
    ("limit", "change", "words"),
    [
        ({"LARGEST": 1000}, lambda text: text, "unpacks to more than 1,000 bytes"),
        ({"UNPACKING": 1000}, lambda text: text, "Memory usage limit exceeded"),
        ({}, lambda text: text + b"\n" * 9, "it holds empty lines"),
        ({}, lambda text: b"a" * 5_000_000, "a line of it is longer than 2,000,000 bytes"),
        ({}, lambda text: b"," * 1000 + b"\n", "has 1,001 columns, and at most 1,000 are read"),
        ({}, lambda text: text[: text.find(b"\n")] + b"\n" + b",\n" * 100_000, "line 2 has 2 cells, and the first 16"),
        ({}, lambda text: text.replace(b'{""', b"[" * 100_000, 1), "nested deeper than 100 levels"),
    ],
)
def test_a_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch, limit, change, words):
    text = lzma.decompress(elsewhere(tmp_path, *seeds(0)).read_bytes())
    (tmp_path / "bomb.csv.xz").write_bytes(lzma.compress(change(text), preset=0))
    for name, value in limit.items():
        monkeypatch.setattr(ledger, name, value)
    with pytest.raises(SpecError, match=f"bomb.csv.xz.*{words}"):
        ledger.read(tmp_path / "bomb.csv.xz")


def test_a_cut_file_is_refused(tmp_path):
    path = elsewhere(tmp_path, *seeds(0))
    for content in (path.read_bytes()[:-30], b"", b"key,spec\n", path.read_bytes()[:40]):
        path.write_bytes(content)
        with pytest.raises(SpecError, match="far.csv.xz is cut short or no csv in xz"):
            merging.merge([path])
    with pytest.raises(SpecError, match="no.csv.xz cannot be read: No such file"):
        merging.merge([tmp_path / "no.csv.xz"])
    with pytest.raises(SpecError, match="a ledger file is named NAME.csv.xz, but got .*rows.csv'"):
        merging.merge([tmp_path / "rows.csv"])
    assert the_ledger() == {}


def forged(path, change):
    """A copy whose specs were changed and whose keys fit their normal forms still."""

    def forge(table):
        documents = [json.loads(text) for text in table["spec"]]
        for document in documents:
            change(document)
        keys = [ledger.digest(document["normal"]) for document in documents]
        return table.assign(spec=[json.dumps(document) for document in documents], key=keys)

    return edited(path, forge)


def test_a_spec_that_is_another_run_is_refused_whether_its_data_are_here_or_not(tmp_path):
    def another_seed(document):
        document["spec"]["seed"] = 7

    def another_version(document):
        document["normal"]["schema"] = 1

    def gone(document):
        document["spec"]["data"] = "cifar100"
        document["normal"]["data"] = "0" * 32

    def gone_and_another_method(document):
        gone(document)
        document["spec"]["method"] = "ccd"

    good = elsewhere(tmp_path, KD)
    for change, named in ((another_seed, "seed"), (another_version, "schema")):
        with pytest.raises(SpecError, match=f"does not hash to that key here.*they differ in .*{named}"):
            merging.merge([forged(good, change)])
    with pytest.raises(SpecError, match="they differ in parts"):
        merging.merge([forged(good, gone_and_another_method)])
    assert the_ledger() == {}
    said = merging.merge([forged(good, gone)])
    assert "1 of 1 rows are new" in said and "1 rows: data 'cifar100' are not here" in said


def test_a_row_that_contradicts_what_is_here_is_refused(tmp_path):
    made(KD)
    (tmp_path / "other").mkdir()
    same = elsewhere(tmp_path, KD, where=HERE, seconds=100.0, name="same")  # how long it took says nothing
    assert "1 of 1 rows are new" in merging.merge([same])
    other = edited(same, lambda t: t.assign(val_accuracy="12.5"))
    words = f"run {run_key(KD)} of environment {HERE} is here with other numbers: val_accuracy 33.3.* here, 12.5 there"
    with pytest.raises(SpecError, match=words):  # than the ledger's
        merging.merge([other])
    next(iter(ledger.files())).unlink()
    with pytest.raises(SpecError, match=words):  # than the store's
        merging.merge([other])
    with pytest.raises(SpecError, match="is here with other numbers"):  # two files of one call
        merging.merge(
            [elsewhere(tmp_path, JDA, name="x"), edited(tmp_path / "x.csv.xz", lambda t: t.assign(steps="5"))]
        )
    assert the_ledger() == {}
    merging.merge([edited(elsewhere(tmp_path, KD), lambda t: t.assign(val_accuracy="12.5"))])  # of another environment
    assert len(ledger.by_key()[run_key(KD)]) == 1


def test_a_disk_that_refuses_leaves_the_ledger_as_it_was(tmp_path, monkeypatch):
    merging.merge([elsewhere(tmp_path, *seeds(0))])
    before = the_ledger()
    elsewhere(tmp_path, *seeds(0, 1))

    def refuse(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paths.os, "replace", refuse)
    with pytest.raises(SpecError, match="cannot write to .*far.csv.xz: No space left on device"):
        merging.merge([tmp_path / "far.csv.xz"])
    assert the_ledger() == before and len(list(paths.ledger().iterdir())) == 1


# --- tables and plans ---------------------------------------------------------------------------------------------


def origins(specs):
    """Source and environment of each run of a table, in its order."""
    found = lab.table(specs)
    return list(zip(found["source"], found["environment"], strict=True))


def test_a_table_takes_from_the_ledger_what_the_store_lacks_and_a_seed_from_one_environment(tmp_path):
    zero, one, two, three = (seeds(n) for n in range(4))
    merging.merge([elsewhere(tmp_path, *zero, *one, two[0])])
    made(*three, *one, zero[0], two[1])
    both = [("ledger", THERE)] * 2
    assert origins(zero) == both, "the store has but one run of this seed: the ledger has them all"
    assert origins(one) == origins(three) == [("store", HERE)] * 2, "the store comes first"
    assert origins([*zero, *one]) == [*both, *[("store", HERE)] * 2]
    with pytest.raises(MissingRuns, match="1 of 2 runs are not in the store"):
        lab.table(two)  # each run is somewhere, and yet they are no seed
    everything = lab.table()
    assert everything["source"].value_counts().to_dict() == {"store": 6, "ledger": 2}
    assert lab.table([zero[1]])["test_accuracy"].item() == everything["test_accuracy"][run_key(zero[1])]


def test_store_and_ledger_of_one_environment_make_a_seed_together(tmp_path):
    merging.merge([elsewhere(tmp_path, KD, where=HERE)])
    made(JDA)
    assert origins([KD, JDA]) == [("ledger", HERE), ("store", HERE)]
    merging.merge([elsewhere(tmp_path, JDA, where=THERE, name="more")])
    assert origins([KD, JDA]) == [("ledger", HERE), ("store", HERE)]
    merging.merge([elsewhere(tmp_path, KD, where=THERE, name="last")])
    assert len(set(origins([KD, JDA]))) <= 2 and len({place for _, place in origins([KD, JDA])}) == 1


def test_a_store_of_two_environments_gives_way_to_a_whole_seed_of_the_ledger(tmp_path):
    made(KD, where="bbbbbbbb")
    made(JDA, where="cccccccc")
    assert origins([KD, JDA]) == [("store", "bbbbbbbb"), ("store", "cccccccc")]
    merging.merge([elsewhere(tmp_path, KD, JDA)])
    assert origins([KD, JDA]) == [("ledger", THERE)] * 2


def test_a_plan_trains_whole_seeds_and_teachers_only_for_students(tmp_path):
    zero, one, two = (seeds(n) for n in range(3))
    merging.merge([elsewhere(tmp_path, *zero, one[0])])
    merging.merge([elsewhere(tmp_path, two[0], where=HERE, name="mine")])
    todo = lab.plan([*zero, *one, *two], from_ledger=True)
    teachers = [run_key(TEACHER.at_seed(seed)) for seed in (1, 2)]
    assert todo.ledger == {*map(run_key, [*zero, two[0]])} and set(todo.cached) == todo.ledger
    assert set(todo.missing) == {*teachers, *map(run_key, [*one, two[1]])}
    assert sum(len(cohort.runs) for cohort in todo.cohorts) == 5
    assert "8 runs: 0 in the store, 3 in the ledger, 5 to train" in todo.describe()
    assert "all 2 runs are from the ledger" in lab.plan(zero, from_ledger=True).describe()
    assert len(lab.plan(zero).missing) == 3, "whoever needs weights trains them"
    assert run_key(TEACHER) in lab.plan([*zero, TEACHER], from_ledger=True).missing
    made(two[1], where="bbbbbbbb")  # from here it would be a seed of two environments
    assert run_key(two[0]) in lab.plan(two, from_ledger=True).missing


def test_each_group_of_a_plan_has_its_own_seeds(tmp_path):
    merging.merge([elsewhere(tmp_path, *seeds(0))])
    extra = KD.replace(method="ccd", views=2, augmentation="jda", ratio=0.5)
    todo = lab.plan([KD, JDA], [JDA, extra], from_ledger=True)
    assert todo.ledger == {run_key(KD)} and {run_key(JDA), run_key(extra)} < set(todo.missing)


def test_a_study_is_drawn_from_the_ledger_without_training(tmp_path, monkeypatch):
    size = perspectives.profile("smoke", seeds=[0, 1])
    study = Study("own", size, ARMS, [Contrast("jda − kd", {"jda": 1, "kd": -1})])
    assert not study.finished
    merging.merge([elsewhere(tmp_path, *seeds(0, 1))])
    monkeypatch.setattr(running, "_train", None)
    assert study.finished
    table = study.run(progress=False)
    assert (table["source"] == "ledger").all() and table["arm"].tolist() == ["kd", "kd", "jda", "jda"]
    far = Store(tmp_path / "machines" / f"far-{THERE}")
    gains = [far.read(run_key(JDA.at_seed(s)), "result")["test_accuracy"]
             - far.read(run_key(KD.at_seed(s)), "result")["test_accuracy"] for s in (0, 1)]  # fmt: skip
    (verdict,) = study.verdicts(table)
    assert list(verdict.differences.values()) == pytest.approx(gains) and not any("environ" in f for f in verdict.flags)
    assert Store().keys() == []


# --- commands, publishing, explorers ------------------------------------------------------------------------------


def test_commands_export_merge_and_say_where_a_run_is_from(kdlab, tmp_path, monkeypatch):
    keys = made(*seeds(0))
    path = tmp_path / "mine.csv.xz"
    assert kdlab("runs", "export", path) == (0, f"2 runs, 2 of them new, in {path}\n")
    assert "source" not in kdlab("runs")[1]
    code, said = kdlab("runs", "export", tmp_path / "none.csv.xz", "--profile", "smoke", "--study", "few_shot")
    assert code == 2 and "no such run is finished" in said and not (tmp_path / "none.csv.xz").exists()
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "another"))
    assert kdlab("runs", "merge", path) == (0, f"2 of 2 rows are new in {paths.ledger() / 'mine.csv.xz'}\n")
    made(KD.at_seed(1))
    said = kdlab("runs")[1]
    assert said.count(" ledger\n") + said.rstrip().endswith(" ledger") >= 1 and said.count(" store") == 1
    assert keys[0] in kdlab("runs", "source=ledger", "method=kd")[1]
    assert kdlab("runs", "table", "source=store")[1].count("\n") >= 2
    assert "views: 1 | 2" in kdlab("compare", *keys)[1]
    code, said = kdlab("export", keys[0])
    assert code == 2 and "is a row of the ledger, which holds no weights" in said
    path.write_bytes(path.read_bytes()[:-9])
    code, said = kdlab("runs", "merge", path)
    assert code == 2 and "is cut short" in said and "Traceback" not in said


def test_runs_whose_data_are_gone_are_left_out_and_said(tmp_path, monkeypatch):
    made(*seeds(0))
    monkeypatch.setattr(data, "fingerprint", lambda name: "another" if name == "fashion" else "")
    answers.truth.cache_clear()
    with pytest.raises(SpecError, match="nothing to export.*have changed since this run"):
        merging.export(tmp_path / "gone.csv.xz")
    assert not (tmp_path / "gone.csv.xz").exists()


def finished_figures(folder, table):
    """What a notebook leaves in a profile's folder, as far as publishing reads it."""
    (folder / "figures").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    study = {"perspective": "few_shot", "title": "few", "question": "?", "claim": "It is.", "overall": "undecided",
             "profile": folder.name, "figures": [], "verdicts": []}  # fmt: skip
    (folder / "figures" / "few_shot.verdict.json").write_text(json.dumps(study))
    table.reset_index().to_csv(folder / "figures" / "few_shot-gain.csv", index=False)


def test_publishing_adds_the_runs_behind_the_figures_and_drops_none(tmp_path):
    made(*seeds(0), TEACHER, KD.at_seed(9))
    target, kept = tmp_path / "figures", ledger.of_store(Store(), run_key(KD.at_seed(9)))
    ledger.add(target / "ledger" / "smoke-fashion.csv.xz", [kept])
    finished_figures(paths.home() / "smoke", lab.table(seeds(0)))
    for _ in range(2):
        report.publish("smoke", target)
        rows = ledger.read(target / "ledger" / "smoke-fashion.csv.xz")
        assert {key for key, _ in rows} == {*map(run_key, [*seeds(0), TEACHER, KD.at_seed(9)])}
    assert [p.name for p in (target / "ledger").iterdir()] == ["smoke-fashion.csv.xz"]
    before = (target / "ledger" / "smoke-fashion.csv.xz").read_bytes()
    store = Store()
    store.root.rename(store.root.with_name("lost"))
    with pytest.raises(MissingRuns, match="is neither in the store"):
        report.publish("smoke", target)
    assert (target / "ledger" / "smoke-fashion.csv.xz").read_bytes() == before


def test_figures_drawn_from_the_ledger_are_published_as_its_rows(tmp_path):
    merging.merge([elsewhere(tmp_path, *seeds(0))])
    finished_figures(paths.home() / "smoke", lab.table(seeds(0)))
    report.publish("smoke", tmp_path / "figures")
    assert ledger.read(tmp_path / "figures" / "ledger" / "smoke-fashion.csv.xz") == ledger.read(tmp_path / "far.csv.xz")


def test_explorers_show_the_rows_of_the_ledger_as_such(tmp_path):
    from kdlab.widgets import BudgetExplorer, ResultsBrowser

    merging.merge([elsewhere(tmp_path, *seeds(0, 1))])
    shown = ResultsBrowser(run=run_key(KD)).static()
    assert "4 runs of 4 in 2 arms, 4 of them from the ledger" in shown.caption
    assert "seed 0, from the ledger, on fashion" in shown.caption
    assert len(BudgetExplorer(runs="store").table("store")) == 4


def test_without_a_ledger_nothing_is_read(monkeypatch):
    monkeypatch.delenv("KDLAB_LEDGER")
    monkeypatch.setattr(paths, "CHECKOUT", paths.CHECKOUT / "nowhere")
    assert ledger.files() == [] and ledger.by_key() == {} and sources.elsewhere(Store()) == {}
    with pytest.raises(SpecError, match="there is no checkout here.*--into, or set KDLAB_LEDGER"):
        merging._target(paths.absolute("x.csv.xz"), None)


@pytest.mark.parametrize("field", ["method", "model", "augmentation"])
@pytest.mark.parametrize("data_here", [True, False])
def test_a_row_that_names_a_program_does_not_have_it_imported(field, data_here, kdlab, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'was here')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def another_program(document):
        document["spec"][field] = "theirs:Thing"
        kinds = {"method": "losses", "model": "models", "augmentation": "augment"}
        document["normal"]["parts"][kinds[field]] = "theirs:Thing"
        if not data_here:
            document["spec"]["data"], document["normal"]["data"] = "cifar100", "0" * 32

    code, said = kdlab("runs", "merge", forged(elsewhere(tmp_path, KD), another_program))
    assert code == 0 and "theirs:Thing: no part of kdlab, and not imported" in said
    key = next(iter(ledger.by_key()))
    for words in (["runs"], ["runs", "verify"], ["runs", "gc"], ["compare", key, key], ["doctor"], ["export", key]):
        kdlab(*words)
    widgets.ResultsBrowser(run=key).widget()
    assert not (tmp_path / "was here").exists() and "theirs" not in sys.modules


@pytest.mark.parametrize(
    ("part", "field", "value", "said"),
    [
        ("spec", "seed", 7, "has the seed 7, but its key 0"), ("spec", "method", "theirs:Other", "has the method"),
        ("normal", "parts", None, "none that can be read"), ("normal", "parts", {"x": 1}, "none that can be read"),
    ],
)  # fmt: skip
def test_a_row_that_names_a_program_says_one_run(part, field, value, said, tmp_path):
    def change(document):
        document["spec"]["method"] = document["normal"]["parts"]["losses"] = "theirs:Thing"
        document[part][field] = value

    with pytest.raises(SpecError, match=said):
        merging.merge([forged(elsewhere(tmp_path, KD), change)])
