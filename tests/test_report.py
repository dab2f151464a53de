"""Batch runs of real (tiny) notebooks, the pages made from them, publishing, and the README's verdict table."""

import json
import re
import struct
import zlib
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kdlab import pages, readme, report
from kdlab.registry import SpecError, catalogue, preparations

CHECKOUT = Path(__file__).resolve().parents[1]
# papermill and its kernel client leave sockets and event loops to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

# What a browser would fetch: sources, style sheets, imports, fonts. Plain links to papers are no loading.
LOADS = re.compile(r"""<script|<link|<iframe|@import|url\(|src=["'](?!data:|[\w./-]+["'])""", re.IGNORECASE)


def write_notebook(folder: Path, name: str, *sources: str) -> Path:
    """A notebook with the usual parameters cell, then the given cells."""
    defaults = 'profile = None\nout_dir = None\nseeds = None\nrate = 0.5\nwords = ["a", "b"]'
    cells = [new_markdown_cell(f"# {name}"), new_code_cell(defaults, metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def png(width: int, height: int) -> bytes:
    """The smallest honest png: grey, all black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + bytes(width)) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write_study(figures: Path, perspective: str, outcome: str, effect: float = 0.8) -> None:
    """What a finished notebook leaves in the figures folder."""
    figures.mkdir(parents=True, exist_ok=True)
    name = f"{perspective}-gain"
    record = {"name": name, "caption": "Accuracy <gain>, 6 seeds.", "alt": f"Dots of {perspective}"}
    (figures / f"{name}.json").write_text(json.dumps(record))
    (figures / f"{name}.png").write_bytes(png(650, 360))
    (figures / f"{name}.svg").write_text("<svg/>")
    (figures / f"{name}.csv").write_text("arm,seed\n")
    verdict = {"name": "JDA - weak2", "role": "claim", "unit": "points", "n": 6, "outcome": outcome}
    verdict |= {"effect": effect, "low": effect - 0.5, "high": effect + 0.5, "reason": "Six seeds say so."}
    study = {"perspective": perspective, "title": perspective.replace("_", " "), "question": "Is it so?"}
    study |= {"claim": "It is.", "overall": outcome, "profile": "quick", "figures": [name], "verdicts": [verdict]}
    (figures / f"{perspective}.verdict.json").write_text(json.dumps(study))


@pytest.fixture
def notebooks(tmp_path):
    return tmp_path / "notebooks"


def test_parameters_are_read_without_running(notebooks):
    path = write_notebook(notebooks, "good")
    expected = {"profile": None, "out_dir": None, "seeds": None, "rate": 0.5, "words": ["a", "b"]}
    assert report.parameters(path) == expected


def test_typed_parameters_become_python_values(notebooks):
    path = write_notebook(notebooks, "good")
    given = ["rate=1e-3", "seeds=10", "words=[1, 2]", "profile=smoke"]
    assert report.check(path, given) == {"rate": 1e-3, "seeds": 10, "words": [1, 2], "profile": "smoke"}
    assert report.check(path, ["seeds=false", "words=None"]) == {"seeds": False, "words": None}


def test_mistakes_in_parameters_are_refused(notebooks):
    path = write_notebook(notebooks, "good")
    with pytest.raises(SpecError, match="Did you mean 'seeds'"):
        report.check(path, ["seed=3"])
    with pytest.raises(SpecError, match="key=value, but got 'seeds'"):
        report.check(path, ["seeds"])
    with pytest.raises(SpecError, match="Did you mean 'good'"):
        report.parameters(notebooks / "goood.ipynb")


def test_exactly_one_parameters_cell(notebooks):
    path = write_notebook(notebooks, "twice")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(new_code_cell("rate = 1", metadata={"tags": ["parameters"]}))
    nbformat.write(notebook, path)
    with pytest.raises(SpecError, match="one cell tagged 'parameters', but has 2"):
        report.parameters(path)


def test_a_good_notebook_is_marked_done(notebooks, tmp_path):
    picture = "from IPython.display import Image\nImage(data=bytes.fromhex(%r), format='png', alt='A dot')"
    write_notebook(notebooks, "good", "print(profile, seeds, out_dir)", picture % png(2, 2).hex())
    folder = tmp_path / "out" / "smoke"
    outcome = report.run_notebook("good", "smoke", folder, {"seeds": 3}, notebooks=notebooks)
    assert outcome.error == ""
    marker = json.loads((folder / "notebooks" / "good.done.json").read_text())
    assert marker["parameters"] == {"profile": "smoke", "out_dir": str(folder / "figures"), "seeds": 3}
    assert not pages.unfinished(folder / "notebooks")

    page = (folder / "notebooks" / "good.html").read_text()
    assert "smoke 3 ./figures" in page and "data:image/png;base64" in page
    assert str(folder) not in page, "a published page must not tell where the author's files lie"
    assert not LOADS.search(page)


@pytest.mark.parametrize(
    ("source", "said"), [("1 / 0", "ZeroDivisionError: division by zero"), ("import os; os._exit(1)", "Kernel died")]
)
def test_a_broken_notebook_is_kept_and_not_marked(notebooks, tmp_path, source, said):
    write_notebook(notebooks, "broken", source, "print('never reached')")
    folder = tmp_path / "out" / "smoke"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "notebooks" / "broken.done.json").write_text("{}")  # of an earlier, better run
    outcome = report.run_notebook("broken", "smoke", folder, notebooks=notebooks)
    assert said in outcome.error
    assert pages.unfinished(folder / "notebooks") == ["broken"]
    assert "did not finish" in (folder / "notebooks" / "broken.html").read_text()

    write_study(folder / "figures", "broken", "supported")
    page = pages.gallery(folder).read_text()
    assert "! failed" in page and 'href="notebooks/broken.html"' in page
    assert "supported" not in page.split("<body>")[1], "numbers of an earlier run are not shown beside a failure"
    with pytest.raises(SpecError, match="broken"):
        report.publish("smoke")


def test_gallery_shows_verdicts_in_words_and_loads_nothing(tmp_path):
    figures = tmp_path / "figures"
    write_study(figures, "ratio_sweep", "undecided")
    write_study(figures, "joint_augmentation", "supported")
    write_study(figures, "few_shot", "contradicted", effect=float("nan"))
    page = pages.gallery(tmp_path).read_text()
    for words in ("✓ supported", "✕ contradicted", "? undecided", "+0.30 to +1.30, 6 seeds", "not known"):
        assert words in page
    assert page.index('id="joint_augmentation"') < page.index('id="ratio_sweep"') < page.index('id="few_shot"')
    assert 'alt="Dots of few_shot"' in page and 'width="650" height="360"' in page
    assert "Accuracy &lt;gain&gt;" in page, "captions are text, not markup"
    assert not LOADS.search(page) and "://" not in page
    for link in re.findall(r'(?:href|src)="([^"#]+)"', page):
        assert (tmp_path / link).is_file(), link


def test_a_running_notebook_is_not_called_failed(notebooks, tmp_path):
    write_notebook(notebooks, "few_shot")
    page = pages.gallery(tmp_path).read_text()
    assert "… not finished" in page and "failed" not in page.split("<body>")[1]


def test_an_empty_gallery_says_so(tmp_path):
    assert "No notebook has finished yet" in pages.gallery(tmp_path).read_text()


def test_smoke_is_called_smoke(tmp_path):
    write_study(tmp_path / "figures", "few_shot", "supported")
    path = tmp_path / "figures" / "few_shot.verdict.json"
    path.write_text(path.read_text().replace('"quick"', '"smoke"'))
    assert "no evidence" in pages.gallery(tmp_path).read_text()


def test_publish_replaces_all_but_the_regime(tmp_path):
    source, target = tmp_path / "out" / "quick", tmp_path / "figures"
    write_study(source / "figures", "few_shot", "supported")
    (source / "notebooks").mkdir()
    (source / "notebooks" / "few_shot.html").write_text("page")
    target.mkdir()
    (target / "regime.csv").write_text("width,gap\n")
    (target / "renamed-since.png").write_bytes(b"old")
    for _ in range(2):
        report.publish("quick", target)
        names = {path.name for path in target.iterdir()}
        assert {"index.html", "few_shot-gain.png", "few_shot.verdict.json", "regime.csv", "notebooks"} <= names
        assert "renamed-since.png" not in names
    page = (target / "index.html").read_text()
    assert 'src="few_shot-gain.png"' in page and 'href="notebooks/few_shot.html"' in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "out"], "nothing is left lying about"


def test_nothing_to_publish_is_an_error(tmp_path):
    with pytest.raises(SpecError, match="make figures PROFILE=quick"):
        report.publish("quick", tmp_path / "figures")


def test_tuning_is_published_and_kept(tmp_path):
    source, target = tmp_path / "out" / "quick", tmp_path / "figures"
    write_study(source / "figures", "few_shot", "supported")
    (source / "tuning.csv").write_text("method,chosen\nkd,True\n")
    report.publish("quick", target)
    (source / "tuning.csv").unlink()
    report.publish("quick", target)
    assert (target / "tuning.csv").read_text() == "method,chosen\nkd,True\n"
    (source / "tuning.csv").write_text("method,chosen\nat,True\n")
    report.publish("quick", target)
    assert "at,True" in (target / "tuning.csv").read_text()


# --- the README's tables ------------------------------------------------------------------------------------------


def test_readme_tables_are_written_between_the_markers(tmp_path):
    write_study(tmp_path / "figures", "few_shot", "undecided")
    path = tmp_path / "README.md"
    path.write_text("before\n" + "\n".join("\nstale\n".join(readme.markers(b)) for b in readme.BLOCKS) + "\nafter\n")
    text = readme.write(path)
    assert text == readme.write(path) == path.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "stale" not in text
    assert "| It is. | **undecided** |" in text
    assert '<img src="figures/few_shot-gain.png" width="49%" alt="Dots of few_shot">' in text
    path.write_text("\n".join(readme.markers("verdicts")))
    with pytest.raises(SpecError, match="README.md must hold the markers <!-- methods:start -->"):
        readme.write(path)


def test_the_readme_has_not_drifted(tmp_path):
    """`make readme` writes the tables; this fails when figures, methods or a table changed without it."""
    text = (CHECKOUT / "README.md").read_text()
    copy = tmp_path / "README.md"
    copy.write_text(text)
    assert readme.write(copy, CHECKOUT / "figures") == text, "run `make readme`"


def rows(block: str) -> dict[str, list[str]]:
    """First cell to the other cells of a Markdown table."""
    cells = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in block.splitlines() if line.startswith("| `")]
    return {first: rest for first, *rest in cells}


def test_every_method_has_a_row_with_its_source():
    table = rows(readme.method_block())
    assert table.keys() == {f"`{name}`" for name in catalogue("losses")}
    assert {len(cells) for cells in table.values()} == {6}
    assert table["`kd`"][1:4] == ["logits", "agnostic", "teacher"]
    assert (
        table["`kd`"][4].startswith("Hinton, Vinyals and Dean, Distilling the Knowledge")
        and "numpy" in table["`kd`"][5]
    )
    assert list(table)[-1] in {f"`{name}`" for name in preparations()}


def test_every_augmentation_has_a_row():
    table = rows(readme.augmentation_block())
    assert {name for names in table for name in re.findall("`(.*?)`", names)} == set(catalogue("augment"))
    assert table["`mixup`"][1] == "mixes" and table["`jda`"][0].startswith("JDA")


def test_checks_are_read_from_the_tests_without_running_them(tmp_path):
    (tmp_path / "test_losses_a.py").write_text(
        'raise SystemExit\nRESTATED = {"kd": kd, "at": at}\nRESTATED |= {"sp": sp}\nGOLDEN = ("at",)\nOTHER = ("ce",)'
    )
    (tmp_path / "test_losses_b.py").write_text(
        'RESTATED: dict = {"ccd": ccd} | {"dkd": dkd}\nAGAINST_TORCHDISTILL = ("kd", *MORE)\nGOLDEN = {"dkd": 1}'
    )
    assert readme.checks(sorted(tmp_path.glob("*.py"))) == {
        "at": ["numpy", "golden vector"], "ccd": ["numpy"], "dkd": ["numpy", "golden vector"],
        "kd": ["numpy", "torchdistill"], "sp": ["numpy"],
    }  # fmt: skip
