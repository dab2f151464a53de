"""The perspective notebooks: how they are built, and that figures come from the store and from nothing else."""

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest

from kdlab import lab, perspectives, plotting, stats
from kdlab.lab.store import MissingRuns
from kdlab.perspectives import NAMES
from kdlab.report import notebooks

SECTIONS = [
    "The claim", "Contrasts", "What would refute it", "Parameters", "Run", "Figures", "Table", "Verdict", "Limits",
    "Exercises", "Check",
]  # fmt: skip
PARAMETERS = dict.fromkeys(perspectives.PARAMETERS)


def read(name: str) -> nbformat.NotebookNode:
    """A notebook, valid."""
    notebook = nbformat.read(notebooks.NOTEBOOKS / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


def prose(notebook: nbformat.NotebookNode) -> str:
    """All its Markdown, with single spaces."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return " ".join(text.replace("\n> ", " ").split())


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Its code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_perspective_has_a_notebook_and_no_other_lies_there():
    assert {path.stem for path in notebooks.NOTEBOOKS.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestForm:
    def test_is_committed_without_traces_of_a_run(self, name):
        notebook = read(name)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        assert notebook.metadata.kernelspec.name == "python3"
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code(notebook))
        assert all("-" in cell.id or cell.id.isalpha() for cell in notebook.cells), "ids are words, not random"

    def test_takes_the_same_parameters_as_the_others(self, name):
        assert notebooks.parameters(notebooks.NOTEBOOKS / f"{name}.ipynb") == PARAMETERS
        body = ast.parse(next(c.source for c in code(read(name)) if "parameters" in c.metadata.get("tags", []))).body
        assert all(isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant) for line in body)

    def test_code_cells_are_short_calls(self, name):
        for cell in code(read(name)):
            assert len(cell.source.splitlines()) <= 12, cell.id
            assert not any(isinstance(n, ast.FunctionDef | ast.ClassDef) for n in ast.walk(ast.parse(cell.source)))

    def test_about_half_is_prose_in_the_usual_order(self, name):
        cells = read(name).cells
        share = sum(cell.cell_type == "markdown" for cell in cells) / len(cells)
        assert 0.35 <= share <= 0.7
        headings = [c.source.splitlines()[0] for c in cells if c.cell_type == "markdown" and c.source.startswith("#")]
        title = importlib.import_module(f"kdlab.perspectives.{name}").TITLE
        assert headings == [f"# {title}", *(f"## {section}" for section in SECTIONS)]

    def test_says_what_the_code_decides(self, name):
        module, text = importlib.import_module(f"kdlab.perspectives.{name}"), prose(read(name))
        for words in (module.QUESTION, module.CLAIM, module.REFUTED_BY):
            assert words in text
        assert "](http" not in text and "$$" not in text

    def test_limits_of_grey_images_are_no_limits_of_others(self, name):
        (limits,) = (cell.source for cell in read(name).cells if cell.id == "limits")
        for point in " ".join(limits.split()).split(" - "):
            assert "grey" not in point or "such as Fashion-MNIST's" in point or "than on colour ones" in point, point

    def test_shows_every_figure(self, name):
        sources = "\n".join(cell.source for cell in code(read(name)))
        for figure in {"contrasts", *importlib.import_module(f"kdlab.perspectives.{name}").FIGURES}:
            assert f'"{name}-{figure}.png"' in sources

    def test_a_figure_is_told_in_one_short_sentence(self, name):
        study = perspectives.study(name, "smoke")
        for figure in {"contrasts", *study.module.FIGURES}:
            alt = study.alt(figure)
            assert study.caption(figure).startswith(f"{alt} ") and alt.endswith(".") and 20 < len(alt) <= 150, alt

    def test_lists_the_contrasts_before_it_trains_and_checks_at_the_end(self, name):
        ids = [cell.id for cell in read(name).cells]
        assert ids.index("contrasts") < ids.index("parameters") < ids.index("study") < ids.index("listed")
        assert ids.index("listed") < ids.index("run")
        assert ids[-1] == "check" and "assert" in read(name).cells[-1].source


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A home with the smoke runs of one perspective, trained once."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLAB_OUT", str(folder))
        perspectives.study("ratio_sweep", "smoke").run(progress=False)
    return folder


@pytest.fixture
def study(trained, monkeypatch):
    """The perspective that ``trained`` has the runs of."""
    monkeypatch.setenv("KDLAB_OUT", str(trained))
    return perspectives.study("ratio_sweep", "smoke")


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_saving_twice_gives_the_same_bytes(study, tmp_path):
    study.save(study.table(), tmp_path / "one")
    study.save(study.table(), tmp_path / "two")
    once = contents(tmp_path / "one")
    assert len(once) == 4 * 3 + 1 and once == contents(tmp_path / "two")


def test_a_figure_is_redrawn_from_its_json_alone(study, tmp_path, monkeypatch):
    document = study.save(study.table(), tmp_path / "saved")
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "empty"))
    for name in document["figures"]:
        path = tmp_path / "saved" / f"{name}.json"
        table, record = plotting.load(path)
        same = {part: record[part] for part in ("caption", "alt", "meta")}
        files = plotting.save(perspectives.redraw(path), tmp_path / "again", name, table=table, **same)
        for suffix, file in files.items():
            assert file.read_bytes() == path.with_suffix(f".{suffix}").read_bytes(), (name, suffix)


@pytest.mark.parametrize("lost", ["one run", "all runs"])
def test_without_its_runs_nothing_is_drawn(study, trained, tmp_path, monkeypatch, lost):
    shutil.copytree(trained, tmp_path / "robbed")
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "robbed"))
    runs = tmp_path / "robbed" / "runs"
    shutil.rmtree(runs / study.table()["key"].iloc[-1] if lost == "one run" else runs)
    with pytest.raises(MissingRuns, match="not in the store"):
        study.save(study.table())
    assert not study.folder().exists()


def test_the_check_at_the_end_can_fail(study, tmp_path, capsys):
    sources = {read(name).cells[-1].source for name in NAMES}
    assert len(sources) == 1, "one check for all"
    table = study.table()
    names = {"lab": lab, "plotting": plotting, "study": study, "table": table, "folder": tmp_path}
    names["document"] = study.save(table, tmp_path)
    exec(*sources, dict(names))
    assert capsys.readouterr().out == "3 figures, 10 runs, 0 from the ledger\n"
    with pytest.raises(AssertionError, match="lacks a seed"):
        exec(*sources, names | {"table": table.iloc[1:]})
    with pytest.raises(AssertionError, match="shows other runs"):
        exec(*sources, names | {"table": table.iloc[::-1]})
    path = tmp_path / "ratio_sweep-shares.json"
    accuracy = f'"test_accuracy": {table["test_accuracy"].iloc[0]}'
    assert accuracy in path.read_text()
    path.write_text(path.read_text().replace(accuracy, '"test_accuracy": 99.9', 1))
    with pytest.raises(AssertionError, match="differs from store and ledger"):
        exec(*sources, names)


def test_what_is_in_the_store_is_drawn_without_torch(study, tmp_path):
    script = (
        "import sys\nfrom kdlab import perspectives\n"
        "study = perspectives.study('ratio_sweep')\ntable = study.run()\nstudy.summary(table)\n"
        f"study.save(table, {str(tmp_path)!r})\nassert not {{'torch', 'torchvision'}} & set(sys.modules)"
    )
    environment = os.environ | {"KDLAB_PROFILE": "smoke"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing to train" in done.stdout and (tmp_path / "ratio_sweep.verdict.json").exists()


def test_summary_has_cost_beside_accuracy(study):
    table = study.table()
    summary = study.summary(table)
    assert list(summary.index) == list(study.arms)
    one, seeds = summary.loc["share 0.5"], table[table["arm"] == "share 0.5"]
    mean = stats.interval(seeds["test_accuracy"])
    assert (one.test_accuracy, one.low, one.high, one.seeds) == (mean.mean, mean.low, mean.high, 2)
    assert (one.student_images, one.teacher_forwards, one.steps) == (1200, 1200, 20)
    assert one.seconds == pytest.approx(seeds["seconds"].median()) and one.seconds > 0
    assert summary.loc["copies 0, equal epochs", "student_images"] == 600


def test_summary_leaves_out_what_diverged(study):
    table = study.table()
    hit = (table["arm"] == "share 1") & (table["seed"] == 0)
    table.loc[hit, "test_accuracy"], table.loc[hit, "diverged"] = float("nan"), True
    one = study.summary(table).loc["share 1"]
    other = table[(table["arm"] == "share 1") & (table["seed"] == 1)]
    assert one.seeds == 1 and one.test_accuracy == other["test_accuracy"].item()


@pytest.mark.parametrize(
    "effect, outcome", [(2.0, "supported"), (-2.0, "contradicted"), (0.0, "undecided"), (0.0, "negligible")]
)
def test_conclusion_reads_well_whichever_way_it_falls(effect, outcome):
    noise = (10 if outcome == "undecided" else 1) * np.array([0.1, -0.2, 0.15, -0.1, 0.05, 0.0])
    arms = {"a": effect, "b": 0.0}
    rows = [
        {"arm": arm, "seed": seed, "diverged": False, "test_accuracy": 80 + mean + (jitter if arm == "a" else 0.0)}
        for arm, mean in arms.items() for seed, jitter in enumerate(noise)
    ]  # fmt: skip
    listed = [
        stats.Contrast("A − B", {"a": 1, "b": -1}),
        stats.Contrast("B − A", {"b": 1, "a": -1}, role="positive control"),
    ]
    verdicts = stats.decide(pd.DataFrame(rows), listed)
    text = perspectives.study("ratio_sweep", "quick").conclusion(verdicts)
    claim = "effect claimed" if outcome == "negligible" else "claim"
    assert f"The {claim} is {outcome} on these data" in text and verdicts[0].reason in text
    assert ("can hardly speak" in text) == (effect >= 0), "the control failed where B does not beat A"
    assert "smoke" not in text
    assert "evidence of nothing" in perspectives.study("ratio_sweep", "smoke").conclusion(verdicts)


def test_the_verdict_file_says_what_the_verdicts_say(study, tmp_path):
    table = study.table()
    document = study.save(table, tmp_path)
    saved = json.loads((tmp_path / "ratio_sweep.verdict.json").read_text())
    assert saved == document and saved["overall"] == stats.overall(study.verdicts(table))
    assert saved["runs"] == table["key"].nunique() and saved["seeds"] == [0, 1]
