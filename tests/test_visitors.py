"""A classroom page: a visitor sees the bundled data and the folders the host names, and no words about JupyterLab."""

import contextlib
import json
import sys

import ipywidgets
import pandas as pd
import pytest
import typer.testing

from kdlab import widgets
from kdlab.cli import serve
from kdlab.cli.app import app
from kdlab.cli.classroom import as_page
from kdlab.data import visitors
from kdlab.errors import SpecError
from kdlab.lab.store import Store
from kdlab.widgets.runs import read as reading


@pytest.fixture
def named(tmp_path, monkeypatch):
    """A folder that the host names, in a visitor's kernel."""
    folder = tmp_path / "shown"
    folder.mkdir()
    monkeypatch.setenv(visitors.VISITORS, visitors.named([folder]))
    return str(folder)


def test_a_visitor_chooses_among_folders_and_can_type_no_path(named, tmp_path):
    explorer = widgets.OwnImages()
    explorer.widget()
    offered = dict(explorer.control["folder"].options)
    assert offered["shown"] == named and set(offered) == {"choose one", "shown", "example of bundled images"}
    assert not {"checkpoint", "classes"} & set(explorer.control), "which name files"
    assert {type(explorer.control[name]).__name__ for name in ("folder", "teacher", "student")} == {"Dropdown"}
    for hidden in (tmp_path, tmp_path / "shown" / "..", "/"):
        explorer.set(folder=str(hidden))
        assert "must be one of those that this page offers" in explorer.message.value
        assert str(tmp_path) not in explorer.message.value
    explorer.set(folder=offered["example of bundled images"])
    assert explorer.failure is None and "class" in explorer.picture.value


WATCHED: list[str] = []  # what is opened, listed or imported while a visitor types
watching = False


def _watch(event: str, given: tuple) -> None:
    if watching and event in (
        "open",
        "import",
        "os.listdir",
        "os.scandir",
        "os.mkdir",
        "os.rename",
        "os.remove",
        "subprocess.Popen",
    ):
        WATCHED.append(f"{event} {given!r}")


sys.addaudithook(_watch)


@contextlib.contextmanager
def watched():
    global watching
    WATCHED.clear()
    watching = True
    try:
        yield
    finally:
        watching = False


EXPLORERS = ("AugmentationExplorer", "TemperatureExplorer", "ConfidenceExplorer", "BudgetExplorer", "LiveTrainer",
             "ResultsBrowser", "OwnImages")  # fmt: skip
FREE = (ipywidgets.Text, ipywidgets.Textarea, ipywidgets.FileUpload, ipywidgets.TagsInput)  # a Combobox is a Text


def test_a_visitor_can_type_words_in_two_fields_alone(named):
    pair = widgets.trained_pair("quick", progress=False)  # comes with the package
    made = [getattr(widgets, name)(*[pair] * (number < 3)) for number, name in enumerate(EXPLORERS)]
    assert {type(explorer) for explorer in made} == {
        one for one in list(vars(widgets).values()) if isinstance(one, type) and issubclass(one, widgets.Explorer)
    } - {widgets.Explorer}
    free = {
        (type(explorer).__name__, name)
        for explorer in made for name, control in explorer.controls().items() if isinstance(control, FREE)
    }  # fmt: skip
    assert free == {("ResultsBrowser", "where"), ("ResultsBrowser", "name")}


def test_what_a_visitor_types_is_neither_read_nor_imported_nor_written(named, tmp_path, monkeypatch):
    (tmp_path / "canary.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    explorer = widgets.ResultsBrowser()
    explorer.widget()
    typed = [f"data=folder:{tmp_path}/canary", f"{tmp_path}/canary.py", "model=canary:Net", "method=canary:Loss",
             "@canary", "__import__('canary')", f"key=../../{tmp_path}/canary.py", "'canary"]  # fmt: skip
    with watched():
        open(tmp_path / "canary.py").close()
        assert len(WATCHED) == 1, "the watch sees what is opened"
        WATCHED.clear()
        for words in typed:
            explorer.control["where"].value = words
            explorer.control["name"].value = f"../canary{len(words)}"
            explorer.control["export"].click()
    assert explorer.settings["where"] == typed[-1]
    assert not [line for line in WATCHED if "canary" in line] and "canary" not in sys.modules
    assert sorted(path.name for path in tmp_path.iterdir() if "canary" in path.name) == ["canary.py"]


def test_the_trainer_runs_no_code_of_the_machine(named):
    trainer = widgets.LiveTrainer(profile="smoke")
    trainer.widget()
    for name in ("teacher", "student"):
        assert type(trainer.control[name]).__name__ == "Dropdown"
        assert not any(":" in network for network in trainer.control[name].options)


def test_runs_on_the_host_s_own_folders_stay_theirs(named, tmp_path):
    secret, shown = f"folder:{tmp_path}/secret?size=32", f"folder:{named}?size=32"
    assert [visitors.may_see(data) for data in ("fashion", "cifar10", shown, secret)] == [True, True, True, False]


def test_at_home_nothing_is_held_back(tmp_path):
    assert visitors.may_see(f"folder:{tmp_path}") and not visitors.here() and visitors.folders() == ()
    visitors.check_folder("/")
    explorer = widgets.OwnImages()
    explorer.widget()
    assert "checkpoint" in explorer.control


def test_the_list_of_runs_is_filtered(named, monkeypatch):
    rows = {"a": "fashion", "b": "folder:/private?size=8", "c": f"folder:{named}"}
    made = iter(rows.values())
    monkeypatch.setattr(reading, "of_ledger", lambda row, store: {"data": next(made)})
    monkeypatch.setattr(reading, "run_facts", lambda spec: {})
    monkeypatch.setattr(reading, "arm_names", lambda facts: {key: key for key in facts})
    published = {key: type("Row", (), {"spec": None})() for key in rows}
    monkeypatch.setattr(reading.sources, "elsewhere", lambda store: published)
    assert list(reading.read(Store()).table.index) == ["a", "c"]


def test_a_visitor_downloads_and_writes_nothing(named, tmp_path):
    from kdlab.widgets.results import table

    link = table.download(pd.DataFrame({"x": [1]}), "runs.csv")
    assert link.startswith('<a download="runs.csv" href="data:text/csv;base64,') and not list(tmp_path.rglob("*.csv"))


def test_the_host_names_folders_that_exist(tmp_path):
    assert json.loads(visitors.named([tmp_path])) == [str(tmp_path)]
    with pytest.raises(SpecError, match="--folder must name a folder, but got"):
        visitors.named([tmp_path / "none"])


def test_folders_need_the_page(tmp_path):
    done = typer.testing.CliRunner().invoke(app, ["lab", "--folder", str(tmp_path)])
    assert isinstance(done.exception, SpecError) and "--folder needs --voila" in str(done.exception)


def test_the_page_gets_the_folders(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(serve, "run", lambda *given: started.append(given) or 0)
    serve.voila(browser=False, folders=[str(tmp_path)])
    command, environment, _ = started[0]
    assert json.loads(environment[visitors.VISITORS]) == [str(tmp_path)]
    assert command[3].endswith(serve.PAGE) and command[3] != str(serve.NOTEBOOKS / serve.PAGE)


def test_the_page_speaks_of_no_menus_and_links_to_nothing(tmp_path):
    page = json.loads(as_page(serve.NOTEBOOKS / serve.PAGE, tmp_path).read_text())
    text = "\n".join("".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "markdown")
    for word in ("Run All Cells", "](", "this cell", "notebook", "parameter", "`profile`"):
        assert word not in text, word
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert sum(title[3].isdigit() for title in titles) == 7, "all explorers are there"
    whole = json.loads((serve.NOTEBOOKS / serve.PAGE).read_text())
    code = ["".join(c["source"]) for c in whole["cells"] if c["cell_type"] == "code"]
    assert ["".join(c["source"]) for c in page["cells"] if c["cell_type"] == "code"] == code
