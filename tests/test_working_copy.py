"""Copies of the notebooks: what was run follows a new version, what was edited stays, and nothing committed changes."""

import copy
import json
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from kdlab.cli import serve
from kdlab.cli.working_copy import LIST, SAVED, VIEW, pictures_for_widgets, working_copy


@pytest.fixture
def source(tmp_path):
    """Two notebooks in two folders."""
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    write(folder / "one.ipynb", "1 + 1")
    write(folder / "deep" / "two.ipynb", "2 + 2")
    (folder / ".ipynb_checkpoints").mkdir()
    write(folder / ".ipynb_checkpoints" / "one-checkpoint.ipynb", "0")
    return folder


def write(path, code: str, **outputs) -> None:
    notebook = new_notebook(cells=[new_code_cell(code, id="cell", **outputs)])
    nbformat.write(notebook, path)


def code(path) -> str:
    return nbformat.read(path, 4).cells[0].source


def ran(path) -> None:
    """Run and save, as far as a file shows it."""
    write(path, code(path), execution_count=3, outputs=[new_output("execute_result", {"text/plain": "4"})])


def test_all_notebooks_are_copied_and_no_checkpoint(source, tmp_path):
    place = tmp_path / "made" / "here"
    assert working_copy(source, place) == []
    assert sorted(p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()) == [
        LIST, "deep/two.ipynb", "one.ipynb"
    ]  # fmt: skip
    assert (place / "one.ipynb").read_bytes() == (source / "one.ipynb").read_bytes()


def test_what_was_only_run_follows_a_new_version(source, tmp_path):
    place = tmp_path / "place"
    working_copy(source, place)
    ran(place / "one.ipynb")
    assert working_copy(source, place) == [] and "execute_result" in (place / "one.ipynb").read_text(), "it is kept"
    write(source / "one.ipynb", "1 + 3")
    assert working_copy(source, place) == [] and code(place / "one.ipynb") == "1 + 3"


def test_what_was_edited_stays_and_is_named(source, tmp_path):
    place = tmp_path / "place"
    working_copy(source, place)
    write(place / "one.ipynb", "mine")
    assert working_copy(source, place) == [], "nothing new, nothing to say"
    write(source / "one.ipynb", "theirs")
    for _ in range(2):
        assert working_copy(source, place) == ["one.ipynb"] and code(place / "one.ipynb") == "mine"
    (place / "one.ipynb").unlink()
    assert working_copy(source, place) == [] and code(place / "one.ipynb") == "theirs", "deleted is asked for anew"


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_without_its_list_nothing_that_differs_is_overwritten(source, tmp_path, damage):
    place = tmp_path / "place"
    working_copy(source, place)
    write(place / "one.ipynb", "mine")
    (place / LIST).write_text(damage)
    assert working_copy(source, place) == ["one.ipynb"] and code(place / "one.ipynb") == "mine"


def test_the_server_gets_the_copies(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "out"))
    started = []
    monkeypatch.setattr(serve, "run", lambda command, environment: started.append(command) or 0)
    assert serve.lab(browser=False) == 0
    place = tmp_path / "out" / "notebooks"
    assert f"--ServerApp.root_dir={place}" in started[0] and f"copies in {place}" in capsys.readouterr().out
    there = {p.relative_to(serve.NOTEBOOKS) for p in serve.NOTEBOOKS.rglob("*.ipynb")}
    assert {p.relative_to(place) for p in place.rglob("*.ipynb")} >= {
        p for p in there if ".ipynb_checkpoints" not in p.parts
    }


def saved(*outputs, metadata=None) -> dict:
    """What Jupyter saves of a notebook with these outputs."""
    notebook = new_notebook(cells=[new_code_cell("x", outputs=list(outputs))], metadata=metadata or {})
    return {"type": "notebook", "content": json.loads(json.dumps(notebook))}


def test_a_saved_widget_is_its_picture():
    widget = {VIEW: {"model_id": "a"}, SAVED: "<img>", "text/plain": "x"}
    model = saved(new_output("display_data", widget), metadata={"widgets": {"state": {}}})
    pictures_for_widgets(model, path="a.ipynb", contents_manager=None)
    (cell,) = model["content"]["cells"]
    assert cell["outputs"][0]["data"] == {SAVED: "<img>", "text/plain": "x"}
    assert "widgets" not in model["content"]["metadata"]


def test_other_widgets_and_files_are_left_alone():
    bar = {VIEW: {"model_id": "b"}, "text/plain": "a bar of tqdm's"}
    model = saved(new_output("display_data", bar), new_output("stream", text="words"), metadata={"widgets": {"s": 1}})
    before = copy.deepcopy(model)
    pictures_for_widgets(model)
    assert model == before
    for other in ({"type": "file", "content": "text"}, {"type": "directory", "content": None}):
        pictures_for_widgets(other)


def test_jupyter_finds_the_hook_by_its_name():
    import importlib

    module, _, name = serve.HOOK.rpartition(".")
    assert getattr(importlib.import_module(module), name) is pictures_for_widgets
    assert f"--ContentsManager.pre_save_hook={serve.HOOK}" in serve.lab_command(8888)


def test_a_read_only_place_is_told_in_words(source, tmp_path):
    from kdlab.errors import SpecError

    place = tmp_path / "file"
    shutil.copy(source / "one.ipynb", place)
    with pytest.raises(SpecError, match="cannot write to"):
        working_copy(source, place)
