"""The teaching notebooks: their form as committed, what they hide, how they are made, and that they run."""

import ast
import html
import importlib
import json
import os
import re
import statistics

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kdlab.errors import SpecError
from kdlab.paths import home
from kdlab.report import notebook_page, notebooks
from kdlab.teaching import builder

MINUTES = {"01": 45, "02": 45, "03": 60, "04": 60, "05": 60, "06": 60, "07": 75, "08": 60, "09": 60, "10": 75}
MAP_SEEDS = [0, 1, 2]  # of lesson 09: a seed of the map takes long
LESSONS = sorted(builder.TEACHING.glob("*.ipynb"))
SOLUTIONS = sorted((builder.TEACHING / "solutions").glob("*.ipynb"))
CHEAP = builder.TEACHING / "01_soft_targets.ipynb"  # trains nothing but the shared pair
IGNORED = "nbval-ignore-output"
ANSWERS = "kdlab.teaching.answers."
# Folders of some machine, and addresses in its memory.
MACHINE = re.compile(r"/(home|root|Users|tmp|var|work|mnt)/|[A-Z]:\\|0x[0-9a-f]{6,}")


def read(path):
    """A notebook, valid, as it is in the file."""
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    """All its Markdown."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", [])


def texts(notebook):
    """Everything that its outputs say in words."""
    for cell in code(notebook):
        for output in cell.outputs:
            if output.output_type == "stream":
                yield output.text
            else:
                yield from (value for kind, value in output.get("data", {}).items() if kind.startswith("text/"))


def exercises(notebook):
    """Its headings of exercises."""
    return re.findall(r"^### (Exercise \d+: .+)$", prose(notebook), flags=re.M)


def calls(cell, method, of="quiz"):
    """The calls of ``quiz.<method>`` in a cell, or of a method of something else."""
    found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    return [call for call in found if ast.unparse(call.func) == f"{of}.{method}"]


def name(path):
    return f"{path.parent.name}/{path.stem}"


def test_lessons_in_order_each_with_solutions():
    assert [path.stem[:2] for path in LESSONS] == list(MINUTES)
    assert [path.name for path in SOLUTIONS] == [path.name for path in LESSONS]
    assert builder.notebooks() == LESSONS + SOLUTIONS


def test_the_launcher_lists_every_lesson_with_its_minutes_and_their_number():
    start = prose(read(builder.TEACHING.parent / "start.ipynb"))
    rows = re.findall(r"^\| \[(\d+)\. [^]]+\]\(teaching/(\S+)\) \| (\d+) \|", start, flags=re.M)
    assert rows == [(str(int(path.stem[:2])), path.name, str(MINUTES[path.stem[:2]])) for path in LESSONS]
    words = {9: "nine", 10: "ten", 11: "eleven", 12: "twelve"}
    assert f"in {words[len(rows)]} classes." in start


def test_the_lessons_that_train_are_named_wherever_that_is_told():
    training = re.compile(r"\b(?:lab\.run|study\.run|arm\.train_step)\(")
    trains = [path for path in LESSONS if training.search("\n".join(cell.source for cell in code(read(path))))]
    for path in LESSONS:
        said = re.search(r"\bit trains (?!nothing)", read(path).cells[0].source)
        assert bool(said) == (path in trains), path.stem
    numbers = [path.stem[:2] for path in trains]
    listed = "{}, {}, {} and {} train small students"
    docs = (builder.TEACHING.parents[1] / "docs" / "lessons.md").read_text(encoding="utf-8")
    assert f"Lessons {listed.format(*numbers)}" in docs
    start = " ".join(prose(read(builder.TEACHING.parent / "start.ipynb")).split())
    assert f"Classes {listed.format(*map(int, numbers))}" in start


def test_lesson_four_counts_its_students():
    notebook = read(LESSONS[3])
    (cell,) = (cell for cell in code(notebook) if cell.id == "arms")
    arms = next(node.value for node in ast.parse(cell.source).body if ast.unparse(node).startswith("arms = "))
    assert len(arms.keys) * len(notebooks.parameters(LESSONS[3])["seeds"]) == 20
    assert "it trains twenty small students" in notebook.cells[0].source


@pytest.mark.parametrize("path", LESSONS + SOLUTIONS, ids=name)
class TestEveryNotebook:
    def test_belongs_to_no_machine(self, path):
        notebook = read(path)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        assert notebook.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}
        assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
        assert all(re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", cell.id) for cell in notebook.cells), "ids are words"
        for text in texts(notebook):
            assert not (found := MACHINE.search(text)), f"{found}: {text[:200]}"

    def test_is_committed_executed_from_top_to_bottom(self, path):
        cells = code(read(path))
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))

    def test_outputs_are_few_small_and_without_trouble(self, path):
        assert path.stat().st_size < builder.LIMIT
        outputs = [output for cell in code(read(path)) for output in cell.outputs]
        assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)
        assert {kind for o in outputs for kind in o.get("data", {})} <= set(builder.KEPT), "static only"

    def test_pictures_say_what_they_show(self, path):
        for cell in code(read(path)):
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    alt = output.metadata.get("image/png", {}).get("alt") or output.data.get("text/plain", "<")
                    assert len(alt) > 20 and not alt.startswith("<"), cell.id

    def test_parameters_are_literals_and_the_first_code(self, path):
        known = notebooks.parameters(path)
        assert known["profile"] == "quick" and known["interactive"] is None
        first = code(read(path))[0]
        assert tagged(first, "parameters")
        assert all(isinstance(node, ast.Assign) for node in ast.parse(first.source).body)

    def test_code_cells_are_short(self, path):
        lines = {cell.id: len(cell.source.splitlines()) for cell in code(read(path))}
        assert max(lines.values()) <= 12 and statistics.median(lines.values()) <= 8, lines

    def test_links_lead_somewhere(self, path):
        text = prose(read(path))
        assert "http" not in text
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (path.parent / target).is_file(), target

    def test_what_depends_on_a_run_is_not_compared(self, path):
        for cell in code(read(path)):
            if ".show(interactive)" in cell.source or "widgets.trained_pair(" in cell.source:
                assert tagged(cell, IGNORED), cell.id


@pytest.mark.parametrize("path", LESSONS, ids=name)
class TestLesson:
    def test_begins_with_what_a_lecturer_asks(self, path):
        title, goals, *_ = read(path).cells
        heading, summary, facts = title.source.split("\n\n")[:3]
        assert re.fullmatch(rf"# {path.stem[:2]} .+", heading)
        assert summary.endswith((".", "?")) and len(summary) < 250
        for word in ("For: ", f"Class: about {MINUTES[path.stem[:2]]} min", "Needs: ", "Runs in about "):
            assert word in facts
        assert len(re.findall(r"^- ", goals.source, flags=re.M)) == 3
        assert "**A plan for the lecturer.**" in goals.source and "`quiz.reveal()`" in goals.source
        words = re.findall(r'<abbr title="([^"]{20,})">[^<]+</abbr>', goals.source.partition("**Words**")[2])
        assert len(words) >= 4, "a glossary to hover over"

    def test_is_about_half_prose(self, path):
        notebook = read(path)
        share = sum(cell.cell_type == "markdown" for cell in notebook.cells) / len(notebook.cells)
        words = len(prose(notebook).split())
        assert 0.35 <= share <= 0.7
        assert words / (words + sum(len(cell.source.split()) for cell in code(notebook))) > 0.5

    def test_ends_with_summary_exercises_and_reading(self, path):
        text = prose(read(path))
        last = ["Summary", "Exercises", "What to read next"]
        assert re.findall(r"^## (.+)$", text, flags=re.M)[-3:] == last
        reading = text.rpartition("## What to read next")[2]
        assert len(re.findall(r"^- .+(?:\n  .+)*\b(?:19|20)\d\d\b", reading, flags=re.M)) >= 2, "papers with their year"
        title = read(path).cells[0].source.splitlines()[0].removeprefix("# ")
        assert text.endswith(f"To cite this lesson: kdlab, *{title}*, 2026, a notebook of the kdlab workbench.")
        number = LESSONS.index(path) + 1
        if number < len(LESSONS):
            assert f"]({LESSONS[number].name})" in reading

    def test_new_seeds_in_the_ledger_change_no_number(self, path):
        read_from = [call for cell in code(read(path)) for call in calls(cell, "study", "perspectives")]
        assert all(ast.literal_eval(call.args[1]) == "standard" for call in read_from)
        fixed = notebooks.parameters(path)
        for call in read_from:
            (seeds,) = [given.value.id for given in call.keywords if given.arg == "seeds"]
            assert fixed[seeds] == (MAP_SEEDS if call.args[0].value == "when_it_pays" else [0, 1, 2, 3, 4])

    def test_asks_before_it_tells_and_asserts_what_it_says(self, path):
        sources = [cell.source for cell in code(read(path))]
        assert sum(source.startswith("quiz.predict(") for source in sources) >= 2
        assert sum("assert" in source for source in sources) >= 2

    def test_exercises_wait_for_answers(self, path):
        notebook = read(path)
        numbers = [heading.partition(":")[0] for heading in exercises(notebook)]
        assert numbers == [f"Exercise {n + 1}" for n in range(len(numbers))] and 3 <= len(numbers) <= 4
        said = [text.strip() for text in texts(notebook) if "not answered yet" in text]
        assert said == [f"{number}: not answered yet" for number in numbers]
        assert f"](solutions/{path.name})" in prose(notebook)


@pytest.mark.parametrize("path", LESSONS, ids=name)
class TestAnswersAreHidden:
    def test_no_code_above_a_prediction_holds_its_answer(self, path):
        questions, above, asked = importlib.import_module(ANSWERS + path.stem[3:]).ANSWERS.questions, [], []
        for cell in code(read(path)):
            for call in calls(cell, "predict"):
                (name,) = map(ast.literal_eval, call.args)
                assert cell.source == f'quiz.predict("{name}")', "the question's name and nothing else"
                assert questions[name].right not in above and questions[name].why not in above
                asked.append(name)
            above += [n.value for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Constant)]
        assert asked == list(questions), "each asked once, in the order of the module"

    def test_exercise_cells_hold_no_solution(self, path):
        cells = [(cell, call) for cell in code(read(path)) for call in calls(cell, "check")]
        assert len(cells) == len(importlib.import_module(ANSWERS + path.stem[3:]).ANSWERS.exercises)
        for number, (cell, call) in enumerate(cells, 1):
            answer, checked = ast.parse(cell.source).body
            assert ast.unparse(answer) == "answer = None" and checked.value is not None
            assert [ast.unparse(argument) for argument in call.args] == [str(number), "answer"]
            assert all(isinstance(given.value, ast.Name) for given in call.keywords), "names, and nothing computed"

    def test_pictures_of_questions_fold_the_answer_away(self, path):
        for cell in code(read(path)):
            if calls(cell, "predict"):
                (output,) = cell.outputs
                before = output.data["text/markdown"].partition("<details>")[0]
                assert before.startswith("**Predict.**") and "**" not in before.removeprefix("**Predict.**")

    def test_the_page_folds_it_away_too(self, path):
        page = notebook_page.html(path, error=None, place="teaching", beside=[None, None])
        shown = re.sub(r"<details>.*?</details>", "", page, flags=re.S)
        for question in importlib.import_module(ANSWERS + path.stem[3:]).ANSWERS.questions.values():
            why = question.why.split(". ")[0]
            assert why in html.unescape(page) and why not in html.unescape(shown)

    def test_the_score_is_told_after_the_last_exercise(self, path):
        assert code(read(path))[-1].source == "quiz.score()"


@pytest.mark.parametrize("path", SOLUTIONS, ids=name)
def test_solutions_are_right(path):
    notebook, lesson = read(path), read(builder.TEACHING / path.name)
    heading, summary = notebook.cells[0].source.split("\n\n")[:2]
    assert heading == lesson.cells[0].source.split("\n\n")[0] + ": solutions" and summary.endswith(".")
    assert exercises(notebook) == exercises(lesson)
    said = "\n".join(texts(notebook))
    for exercise in exercises(notebook):
        assert f"{exercise.partition(':')[0]}: right\n" in said
    checks = [cell.source for cell in code(notebook) if "quiz.check(" in cell.source]
    assert all("assert quiz.check(" in source for source in checks)


# ---- how they are made -----------------------------------------------------------------------------------------------


def draft(path, *sources):
    """A notebook with traces of an earlier run."""
    cells = [new_markdown_cell("# 99 A draft", id="title")]
    for number, source in enumerate(sources):
        cells.append(new_code_cell(source, id=f"cell-{number}", metadata={"tags": ["kept"], "collapsed": True}))
    nbformat.write(new_notebook(cells=cells, metadata={"papermill": {"duration": 1}, "widgets": {}}), path)
    return path


def test_refresh_keeps_what_a_second_run_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "out"))
    trains = (
        "import os\nfrom kdlab.paths import home\nrun = home() / 'runs' / 'a1'\n"
        "print('from the store' if run.exists() else 'training', home(), os.environ['KDLAB_INTERACTIVE'])\n"
        "run.mkdir(parents=True, exist_ok=True)\n(run / 'done.json').touch()"
    )
    shows = "from IPython.display import Image, display\ndisplay({'text/plain': 'a', 'x/y': 'b'}, raw=True)\n1 + 1"
    path = draft(tmp_path / "draft.ipynb", trains, shows)
    builder.refresh(path)
    notebook = read(path)
    first, second = code(notebook)
    assert first.outputs == [new_output("stream", name="stdout", text="from the store out 0\n")]
    assert [dict(output.data) for output in second.outputs] == [{"text/plain": "a"}, {"text/plain": "2"}]
    assert [cell.execution_count for cell in (first, second)] == [1, 2]
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and dict(first.metadata) == {"tags": ["kept"]}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["draft.ipynb", "out"], "nothing else is left behind"


@pytest.mark.parametrize(
    "source, said",
    [
        ("1 / 0", "draft.ipynb, cell 'cell-0': ZeroDivisionError: division by zero"),
        ("import sys\nprint('beware', file=sys.stderr)", "draft.ipynb, cell 'cell-0' wrote to stderr: beware"),
    ],
)
def test_refresh_leaves_the_file_alone_when_a_cell_misbehaves(tmp_path, source, said):
    path = draft(tmp_path / "draft.ipynb", source)
    before = path.read_bytes()
    with pytest.raises(SpecError, match=re.escape(said)):
        builder.refresh(path)
    assert path.read_bytes() == before


def test_widgets_and_unknown_names_are_refused(monkeypatch):
    view = new_output("display_data", data={builder.WIDGET: {"model_id": "1"}, "text/plain": "VBox()"})
    with pytest.raises(SpecError, match="shows a widget"):
        builder._output("a cell", view)
    with pytest.raises(SpecError, match="'01_soft_targets'"):
        builder.refresh_all(["01_soft_target"])


def test_paths_of_this_machine_get_names(monkeypatch):
    said = builder._without_paths(f"{home() / 'runs'} {builder.CHECKOUT / 'kdlab'}")
    assert said == f"{os.path.join('out', 'runs')} {os.path.join('kdlab', 'kdlab')}"


# ---- that they run ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store that both runs share, so that the pair of the smoke profile is trained once."""
    return tmp_path_factory.mktemp("trained")


@pytest.mark.parametrize("interactive", [False, True])
def test_a_lesson_runs_through_papermill_with_and_without_controls(trained, tmp_path, monkeypatch, interactive):
    import papermill

    monkeypatch.setenv("KDLAB_OUT", str(trained))
    monkeypatch.setenv("KDLAB_INTERACTIVE", "1")
    given = {"profile": "smoke"} | ({} if interactive else {"interactive": False})
    quiet = {"kernel_name": "python3", "progress_bar": False, "extra_arguments": ["--IPKernelApp.log_level=50"]}
    papermill.execute_notebook(str(CHEAP), str(tmp_path / "out.ipynb"), given, cwd=str(CHEAP.parent), **quiet)
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    assert any(builder.WIDGET in output.get("data", {}) for output in outputs) == interactive
