"""Every stored file in turn is cut, flipped, emptied, deleted, swapped or unreadable, for every reader in turn.

What a reader then says is what it said before, or it leaves the run out and names it, or it refuses in a sentence. What
trains gives the same bits as ever. The short form takes each file with one fault and each fault with one file; ``make
faults`` takes all of them.
"""

import builtins
import contextlib
import errno
import io
import itertools
import json
import os
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from safetensors import safe_open
from stores import signed
from test_widgets_results import write_run

from kdlab import data, lab, paths, perspectives
from kdlab.cli import figures
from kdlab.cli.app import app
from kdlab.cli.doctor import doctor
from kdlab.data import decoded
from kdlab.errors import SpecError
from kdlab.lab import baseline, damage, export, keys, ledger, merging, sources, tidying, worker
from kdlab.lab.planned import planned
from kdlab.lab.store import Store
from kdlab.spec import Budget, RunSpec
from kdlab.widgets import ResultsBrowser
from kdlab.widgets.runs.read import read as explored

TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(3, "steps", 32), role="teacher")
STUDENT = TEACHER.replace(role="student", method="kd", teacher=TEACHER)
APART = TEACHER.at_seed(1)
FILES = [f"{name}.json" for name in ("spec", "result", "environment", "data", "cost", "done")]
FILES += [f"{name}.safetensors" for name in ("student", "logits", "method")]
FAULTS = ("cut", "flipped", "emptied", "deleted", "swapped", "folder", "bad sector")
PAIRS = list(itertools.product(FILES, FAULTS))
chance = random.Random(0)
SHORT = {(FILES[n % len(FILES)], FAULTS[n % len(FAULTS)]) for n in range(len(FILES))} | {("result.json", "flipped")}


def cases(pairs, short):
    """Those of the short form, and the others behind a mark."""
    return [pair if pair in short else pytest.param(*pair, marks=pytest.mark.faults) for pair in pairs]


@contextlib.contextmanager
def harmed(path, how, other):
    """A file harmed as disks, crashes and people do it; the other one is of the same kind."""
    content = path.read_bytes()
    if how == "swapped":
        path.write_bytes(other.read_bytes()), other.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif how == "flipped":
        place = chance.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how in ("deleted", "folder"):
        path.unlink()
    if how == "folder":
        path.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        if how == "bad sector":
            bad = path.stat().st_ino  # the file that lies there now, not one that takes its place
            for module, name in ((builtins, "open"), (io, "open"), (safetensors, "safe_open")):
                patched.setattr(module, name, unless(path, bad, getattr(module, name)))
            patched.setattr(os, "pread", unless_of(bad, os.pread))
        yield


def unless(path, bad, opened):
    def refuse(file, *given, **options):
        if str(file) == str(path) and os.path.exists(path) and os.stat(path).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(file, *given, **options)

    return refuse


def unless_of(bad, read):
    def refuse(number, *given):
        if os.fstat(number).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(number, *given)

    return refuse


def train(store, *specs):
    return lab.run(specs or [STUDENT, APART], workers=0, progress=False, store=store, require_teacher=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with a teacher, its student and a run apart, and what everybody reads from it while it is whole."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KDLAB_OUT", str(folder))
        patched.setenv("KDLAB_LEDGER", str(folder / "ledger"))
        train(Store())
        said = {name: reader(Store()) for name, reader in READERS.items()}
    return folder, said


@pytest.fixture
def store(trained, tmp_path, monkeypatch):
    """A copy of it, which may be harmed."""
    shutil.copytree(trained[0], tmp_path / "mine")
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "mine"))
    return Store()


# ---- readers: each gives, by run, what must not be wrong -------------------------------------------------------------


def table_of(frame):
    """By key a run's row without times."""
    plain = frame.drop(columns=["seconds"]).astype(object).where(frame.notna(), None)
    return {key: tuple(row) for key, row in zip(plain.index, plain.itertuples(index=False), strict=True)}


def by_runs(store):
    return table_of(lab.table(store=store))


def by_explorers(store):
    return table_of(explored(store).table)


def by_ledger(store):
    return {row.key: row for row in merging.rows_of(store, store.keys())[0]}


def each(store, read):
    """What a reader gives for each run; a refusal in a sentence that names one is as good."""
    found, keys = {}, store.keys()
    for key in keys:
        try:
            found[key] = read(key)
        except SpecError as error:
            assert any(f"run {one} " in str(error) for one in keys) and "\n" not in str(error), str(error)
    return found


def by_answers(store):
    return each(store, lambda key: sources.test_right(key, store=store).tobytes())


def by_weights(store):
    return each(store, lambda key: bits(store, key))


def by_export(store):
    """The files that are written; everything in them is data of the run."""

    def files(key):
        export.export(key, store.root.parent / "exported")
        folder = store.root.parent / "exported" / key
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
        with safe_open(folder / "student.safetensors", "np") as file:  # the order of its header is chance
            return files | {name: file.get_tensor(name).tobytes() for name in file.keys()} | file.metadata()

    return each(store, files)


def by_doctor(store):
    """Runs that it counts; it harms none."""
    said = doctor()
    there = store.keys()
    assert f"store: {len(there)} finished runs" in said, said
    return dict.fromkeys(there, "sound")


def by_training(store):
    """What is asked for is all there, and after a look at the whole store so is everything."""
    first = table_of(train(store))
    tidying.verify(store)
    again = table_of(train(store, STUDENT, APART, TEACHER))
    assert {key: again[key] for key in first} == first and tidying.verify(store)[1]
    return {key: (again[key], bits(store, key)) for key in again}


READERS = {
    "runs": by_runs, "explorers": by_explorers, "ledger": by_ledger, "answers": by_answers, "weights": by_weights,
    "export": by_export, "doctor": by_doctor, "run and figures": by_training,
}  # fmt: skip


def bits(store, key):
    """Answers and weights of a run, and its metrics."""
    weights = {name: value.numpy().tobytes() for name, value in sorted(store.weights(key).items())}
    result = {name: value for name, value in store.read(key, "result").items() if name not in ledger.TIMED}
    return store.logits(key)["val"].tobytes(), store.logits(key)["test"].tobytes(), weights, json.dumps(result)


# ---- finished runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "how"), cases(PAIRS, SHORT))
def test_no_reader_uses_a_harmed_file_of_a_run(trained, tmp_path, monkeypatch, capsys, file, how):
    key, other = lab.run_key(TEACHER), lab.run_key(APART)
    for number, (name, reader) in enumerate(READERS.items()):
        folder = tmp_path / str(number)
        shutil.copytree(trained[0] / "runs", folder / "runs")
        monkeypatch.setenv("KDLAB_OUT", str(folder))
        store = Store()
        with harmed(store.root / key / file, how, store.root / other / file):
            found = reader(store)
        whole = trained[1][name]
        assert found.keys() <= whole.keys()
        for run, said in found.items():
            assert said == whole[run], f"{name} used {file} of run {run}, which was {how}"
        lost, said = whole.keys() - found.keys(), capsys.readouterr().err
        if how != "deleted" or file != "done.json":  # a run without its marker never was one
            assert all(run in said or name in ("answers", "weights", "export") for run in lost), (name, lost, said)


# ---- commands --------------------------------------------------------------------------------------------------------


def command(*words):
    try:
        return app([*words], standalone_mode=False)
    except SystemExit as left:
        return left.code


def raised(store, key):
    """Raise a digit of a run's result, which nothing but a checksum can tell."""
    path = store.root / key / "result.json"
    text = path.read_text()
    place = text.index('"test_accuracy": ') + len('"test_accuracy": ')
    path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    return f"run {key} is damaged: result.json cannot be read (it no longer matches its checksum)."


def test_the_table_and_an_explorer_name_a_harmed_run(store, capsys):
    key = lab.run_key(APART)
    said = raised(store, key)
    command("runs", "--csv", str(store.root.parent / "runs.csv"))
    heard = capsys.readouterr()
    assert said in heard.err and "2 runs written" in heard.out
    assert key not in (store.root.parent / "runs.csv").read_text()
    said = raised(store, lab.run_key(STUDENT))
    browser = ResultsBrowser()
    browser.widget()
    assert said in capsys.readouterr().err
    assert f"1 cannot be read and is left out: {lab.run_key(STUDENT)[:8]}." in browser.table.value


def test_a_distillation_names_a_harmed_run_and_trains_it_again(capsys):
    words = ["run", "ce", "--profile", "smoke", "--student", "resnet8_s2_w4", "--steps", "2", "--workers", "0"]
    command(*words)
    before, [key] = capsys.readouterr().out, Store().keys()
    said, whole = raised(Store(), key), before.splitlines()[-1]
    command(*words)
    heard = capsys.readouterr()
    assert said in heard.err and heard.out.splitlines()[-1].split()[:4] == whole.split()[:4]


def test_figures_name_a_harmed_run_and_train_it_again(monkeypatch, capsys):
    monkeypatch.setattr(figures.notebooks, "run_notebook", lambda *given: SimpleNamespace(error=""))
    monkeypatch.setattr(figures.pages, "gallery", lambda folder: folder)
    monkeypatch.setattr(figures.pages, "lessons", lambda folder: [])
    specs = [one for spec in perspectives.study("few_shot", "smoke").specs for one in lab.lineage(spec)]
    for spec in specs:
        write_run(spec, 1.0)
    there, key = Store().keys(), next(lab.run_key(spec) for spec in specs if spec.teacher is None)
    said, before = raised(Store(), key), (Store().root / key / "result.json").read_bytes()
    assert command("figures", "few_shot", "--profile", "smoke", "--workers", "0") == 0
    assert said in capsys.readouterr().err and Store().sound(key)
    assert (Store().root / key / "result.json").read_bytes() != before and there == Store().keys()


@pytest.mark.parametrize("first", [TEACHER, APART])
def test_two_runs_in_each_other_s_place_are_both_set_aside(store, capsys, first):
    one, two = (store.root / lab.run_key(spec) for spec in (first, STUDENT))
    before = {path.name: bits(store, path.name) for path in (one, two)}
    one.rename(store.root / "between"), two.rename(one), (store.root / "between").rename(two)
    assert not {one.name, two.name} & set(lab.table(store=store).index)
    assert f"done.json cannot be read (it is that of run {two.name})" in capsys.readouterr().err
    train(store, first, STUDENT)
    assert {path.name: bits(store, path.name) for path in (one, two)} == before


def test_any_flipped_bit_of_a_number_is_seen(store):
    key = lab.run_key(APART)
    path = store.root / key / "result.json"
    whole = path.read_text()
    digits = [place for place, sign in enumerate(whole) if sign.isdigit()]
    for place in digits[:: max(1, len(digits) // 40)]:
        path.write_text(whole[:place] + str(9 - int(whole[place])) + whole[place + 1 :])
        with pytest.raises(damage.Damaged, match="result.json .*no longer matches its checksum"):
            store.documents(key)
    path.write_text(whole)
    assert store.damaged(key) == []


# ---- what stands beside the runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [pytest.param(how, marks=pytest.mark.faults) if how in ("cut", "emptied") else how
                                 for how in FAULTS])  # fmt: skip
def test_no_run_goes_on_from_a_harmed_checkpoint(store, tmp_path, how, capsys):
    spec, other, stop = APART.at_seed(2), APART.at_seed(3), tmp_path / "stop"
    stop.touch()
    for one in (spec, other):
        worker.train_cohort([planned(one)], store.root, stop)
    key, path = lab.run_key(spec), store.checkpoint_path(lab.run_key(spec))
    assert store.load_checkpoint(key)[1]["step"] == 1
    with harmed(path, how, store.checkpoint_path(lab.run_key(other))):
        assert store.steps_done(key) in ((0,) if how in ("deleted", "emptied", "folder", "bad sector") else (0, 1))
        assert key in lab.plan([spec], store=store).missing
        train(store, spec)
    assert how == "deleted" or f"run {key} is damaged: its checkpoint" in capsys.readouterr().err
    whole = Store(tmp_path / "whole")
    train(whole, spec)
    assert bits(store, key) == bits(whole, key)


def test_a_checkpoint_s_every_bit_counts(store):
    key = lab.run_key(APART.at_seed(2))
    store.save_checkpoint(key, {"a": torch.arange(4.0)}, {"step": 1})
    path = store.checkpoint_path(key)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert store.load_checkpoint(key) is None, place
    path.write_bytes(whole)
    assert store.load_checkpoint(key)[1] == {"step": 1}


def test_a_run_does_not_go_on_with_what_another_environment_computed(store, capsys):
    key = lab.run_key(APART.at_seed(2))
    store.save_checkpoint(key, {"a": torch.ones(1)}, {"step": 1}, "here")
    assert store.load_checkpoint(key, "here") is not None
    assert store.load_checkpoint(key, "elsewhere") is None and "another environment" in capsys.readouterr().err
    assert store.load_checkpoint(key, "here") is not None, "whose it is can still use it"


@pytest.mark.parametrize("how", FAULTS)
def test_small_documents_are_whole_their_own_or_made_again(store, how, capsys):
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(store.root / ".linear")
    names = [f".linear/{number}" for number in "ab"]
    for number, name in enumerate(names):
        store.put(name, {"val_accuracy": 50.0 + number})
    paths = [store.root / f"{name}.json" for name in names]
    with harmed(paths[0], how, paths[1]):
        found = store.get(names[0])
        assert found in (None, {"val_accuracy": 50.0}), "a flipped space between words is no harm"
        store.put(names[0], {"val_accuracy": 50.0})
    assert store.get(names[0]) == {"val_accuracy": 50.0}


@pytest.mark.parametrize("how", [pytest.param(how, marks=pytest.mark.faults) if how in ("cut", "emptied", "deleted")
                                 else how for how in FAULTS])  # fmt: skip
def test_no_student_learns_from_harmed_teacher_outputs(store, tmp_path, how):
    more = STUDENT.replace(views=2), STUDENT.replace(method="dkd")
    kept = sorted(store.teacher_cache.iterdir(), key=lambda path: path.stat().st_size)
    assert kept
    train(store, STUDENT.replace(views=2, augmentation="jda", ratio=0.5))
    kept = sorted(store.teacher_cache.iterdir())
    assert len(kept) > 1
    for path, other in zip(kept, [*kept[1:], kept[0]], strict=True):
        with contextlib.ExitStack() as stack:
            if path.is_file() and other.is_file():
                stack.enter_context(harmed(path, how, other))
    train(store, *more)
    whole = Store(tmp_path / "whole")
    train(whole, *more)
    for spec in more:
        assert bits(store, lab.run_key(spec)) == bits(whole, lab.run_key(spec))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two streamed folders of one shape, and what is known of each while all is whole."""
    root, random = tmp_path_factory.mktemp("folders"), np.random.default_rng(0)
    for folder, label, number in itertools.product("ab", "xy", range(12)):
        (root / folder / label).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256 if folder == "a" else 128, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / folder / label / f"{number}.png")
    names = [f"folder:{root / folder}?stream=yes" for folder in "ab"]
    return names, [known(name) for name in names]


def known(name):
    train = data.load(name).train
    return train.mean, train.std, train.fingerprint, train.labels.tolist()


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("kind", [".counts", ".digests"])
def test_what_is_kept_of_a_streamed_folder_is_its_own_or_made_again(folders, kind, how):
    decoded._in_memory.clear()
    names, whole = folders
    assert [known(name) for name in names] == whole
    kept = sorted((paths.home() / "data").glob(f"*{kind}"))
    assert len(kept) == 2 and tidying.verify()[1]
    with harmed(kept[0], how, kept[1]):
        if (kind, how) not in ((".digests", "flipped"), (".digests", "swapped")):  # of no consequence; keys tell
            assert tidying.verify()[1] == (how == "deleted")
        for name, before in zip(names, whole, strict=True):
            assert known(name) == before
    assert tidying.verify()[1] == (how != "folder"), "it was made again, where nothing lies in its place"


def test_any_raised_count_is_seen(folders):
    [name, _], [whole, _] = folders
    known(name)
    [path] = (paths.home() / "data").glob("*.counts")
    text = path.read_text()
    for place in [place for place, sign in enumerate(text) if sign.isdigit()][:: len(text) // 20]:
        path.write_text(text[:place] + str(9 - int(text[place])) + text[place + 1 :])
        assert known(name) == whole and path.read_text() == text


# ---- the ledger ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [how for how in FAULTS if how not in ("deleted", "swapped")])
def test_a_harmed_ledger_is_named_by_all_and_used_by_none(store, tmp_path, how):
    path = ledger.paths.ledger() / "runs.csv.xz"
    path.parent.mkdir()
    merging.export(path, store=store)
    [key] = [lab.run_key(APART)]
    shutil.rmtree(store.root / key)
    assert key in lab.table(store=store).index
    ledger._by_key.cache_clear()
    with harmed(path, how, path):
        for reader in (by_runs, by_explorers):
            with pytest.raises(SpecError, match=f"ledger {path}") as caught:
                reader(store)
            assert "\n" not in str(caught.value)
        assert baseline.bar_of(key, store) == {} and len(train(store)) == 2, "what asks for no row needs none"


def test_every_bit_of_a_ledger_counts(store, tmp_path):
    path = tmp_path / "runs.csv.xz"
    merging.export(path, store=store)
    whole, rows = path.read_bytes(), ledger.read(path)
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            assert ledger.read(path) == rows, f"a flip at byte {place} went unseen"
        except SpecError as error:
            assert str(path) in str(error)


# ---- other versions --------------------------------------------------------------------------------------------------


def of_schema(store, key, number, drop=()):
    """Rewrite a run as a kdlab of another schema would have written it, under the key that it would have had."""
    folder = store.root / key
    saved = json.loads((folder / "spec.json").read_text())
    saved["normal"]["schema"] = number
    for name in drop:
        del saved["spec"][name]
    (folder / "spec.json").write_text(json.dumps(saved))
    new = ledger.digest(saved["normal"])
    folder.rename(store.root / new)
    signed(store.root / new, schema=number)
    return new


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_of_a_newer_kdlab_is_named_left_out_and_never_harmed(store, capsys):
    key = of_schema(store, lab.run_key(APART), keys.SCHEMA + 1)
    before = content(store.root / key)
    (store.root / key / "result.json").unlink()  # whatever its layout is, it is none of ours
    del before["result.json"]
    for reader in READERS.values():
        assert key not in reader(store)
    said = capsys.readouterr().err
    assert f"run {key} was written by a newer kdlab (schema {keys.SCHEMA + 1}; this one reads up to" in said
    assert content(store.root / key) == before and not (store.root / damage.FOLDER).exists()


def test_nothing_of_a_newer_kdlab_s_run_is_removed(store, capsys):
    key = of_schema(store, lab.run_key(APART), keys.SCHEMA + 1)
    (store.root / key / "layout.of.tomorrow").touch()
    before = content(store.root / key)
    for words in (["verify"], ["gc"], ["gc", "--yes"], ["verify"]):
        command("runs", *words)
        assert content(store.root / key) == before and not (store.root / damage.FOLDER).exists(), words
    assert "nothing to remove" in capsys.readouterr().out


def test_a_run_of_an_older_kdlab_is_read_or_named_and_stays(store, capsys):
    older = of_schema(store, lab.run_key(APART), keys.SCHEMA - 1)
    assert older in lab.table(store=store).index and capsys.readouterr().err == ""
    lacking = of_schema(store, lab.run_key(STUDENT), keys.SCHEMA - 2, ["augmentation"])
    before = content(store.root / lacking)
    for reader in READERS.values():
        assert lacking not in reader(store)
    said = capsys.readouterr().err
    assert f"run {lacking} is damaged: spec.json lacks" in said and "is left out" in said
    assert content(store.root / lacking) == before and not (store.root / damage.FOLDER).exists()


def test_a_flipped_schema_number_is_damage_and_no_other_version(store, capsys):
    key = lab.run_key(APART)
    path = store.root / key / "done.json"
    path.write_text(path.read_text().replace(f'"schema": {keys.SCHEMA}', f'"schema": {keys.SCHEMA + 4}'))
    assert key not in lab.table(store=store).index and (store.root / damage.FOLDER).exists()
    assert len(train(store, APART)) == 1
