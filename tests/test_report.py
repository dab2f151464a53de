"""Batch runs of real (tiny) notebooks, the pages made from them, publishing, and the README's verdict table."""

import json
import re
import shutil
import struct
import sys
import zlib
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from refusing import refused
from typer.main import get_command

from kdlab import lab, plotting, report, stats
from kdlab.cli.app import app
from kdlab.cli.figures import figures
from kdlab.errors import SpecError
from kdlab.paths import CHECKOUT
from kdlab.registry import catalogue, preparations
from kdlab.report import draw_overview, notebook_page, pages, readme

# What a browser would fetch: scripts, sources, style sheets, imports, fonts. Plain links to papers are no loading, and
# neither is a script that stands in the page.
LOADS = re.compile(r"""<script[^>]*\ssrc|<link|<iframe|@import|url\(|src=["'](?!data:|[\w.][\w./-]*["'])""", re.I)


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


def write_figure(figures: Path, name: str, caption: str, alt: str, width: int = 650) -> None:
    """The four files of a figure."""
    (figures / f"{name}.json").write_text(json.dumps({"name": name, "caption": caption, "alt": alt}))
    (figures / f"{name}.png").write_bytes(png(width, 360))
    (figures / f"{name}.svg").write_text("<svg/>")
    (figures / f"{name}.csv").write_text("arm,seed\n")


def write_study(figures: Path, perspective: str, outcome: str, effect: float | None = 0.8, **more) -> None:
    """What a finished notebook leaves in the figures folder; without ``data``, as before there were two data sets."""
    figures.mkdir(parents=True, exist_ok=True)
    name = f"{perspective}-gain"
    write_figure(figures, name, "Accuracy <gain>, 6 seeds.", f"Dots of {perspective}")
    verdict = {"name": "JDA - weak2", "role": "claim", "unit": "points", "n": 6, "outcome": outcome}
    low, high = (None, None) if effect is None else (effect - 0.5, effect + 0.5)
    verdict |= {"effect": effect, "low": low, "high": high, "reason": "Six seeds say so."}
    study = {"perspective": perspective, "title": perspective.replace("_", " "), "question": "Is it so?"}
    study |= {
        "claim": "It is.",
        "overall": outcome,
        "profile": "quick",
        "figures": [name],
        "verdicts": [verdict],
    } | more
    (figures / f"{perspective}.verdict.json").write_text(json.dumps(study))


def write_lesson(folder: Path, name: str, *texts: str) -> Path:
    """A teaching notebook as committed: Markdown, and one executed cell, which must not be executed again."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs = [new_output("stream", text=f"seen before in {folder}\n")]
    cells = [new_markdown_cell(text) for text in texts] + [new_code_cell("1 / 0", outputs=outputs, execution_count=1)]
    nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def links(page: str) -> list[str]:
    """What the links and pictures of a page lead to, without places in the page itself."""
    return re.findall(r'(?:href|src)="(?!data:)([^"#]+)', page)


@pytest.fixture(autouse=True)
def teaching(tmp_path, monkeypatch):
    """A folder for lessons, which stand in for the checkout's."""
    monkeypatch.setattr(pages, "TEACHING", tmp_path / "teaching")
    return tmp_path / "teaching"


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
    assert "badge supported" not in page and "+0.80" not in page, "numbers of an earlier run are not shown"
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
    assert len(links(page)) == 3 * 7, "thumbnail, enlargement, picture and four files of each"
    for link in links(page):
        assert (tmp_path / link).is_file(), link


@pytest.mark.parametrize("load", ['<script defer src="a.js">', "<link rel=a>", 'src="//a"', "url(a)", 'src="http:a"'])
def test_loading_would_be_noticed(load):
    assert LOADS.search(load) and not LOADS.search("<script>let src = 1;</script>")


def test_the_gallery_can_be_filtered(tmp_path):
    write_study(tmp_path / "figures", "ratio_sweep", "undecided")
    write_study(tmp_path / "figures", "few_shot", "undecided")
    page = pages.gallery(tmp_path).read_text()
    buttons = dict(re.findall(r'<button [^>]*value="(\w+)" aria-pressed="false"( disabled)?>', page))
    assert {name for name, disabled in buttons.items() if not disabled} == {"ratio_sweep", "few_shot", "undecided"}
    assert {name for name, disabled in buttons.items() if disabled} == {"supported", "contradicted", "negligible"}, (
        "nothing to show"
    )
    assert re.search(r'value="undecided".*?>\? undecided <span class="tally">2<', page)
    assert '<div id="filter" role="search" hidden>' in page, "without a script there is nothing to press"
    assert 'role="status" aria-live="polite"' in page


def test_the_script_finds_what_it_asks_for(tmp_path):
    """Filter and enlargement hang on names in the page; a renamed one would fail in the browser alone."""
    write_study(tmp_path / "figures", "few_shot", "undecided")
    body = pages.gallery(tmp_path).read_text().split("<body>")[1]
    page, script = body.split("<script>")
    ids = set(re.findall(r'id="([^"]+)"', page))
    asked = set(re.findall(r'ById\("([\w-]+)"\)', script))
    assert asked == {"filter", "summary", "shown"} and asked | {"few_shot", "row-few_shot", "few_shot-gain"} <= ids
    assert '<section id="few_shot" data-outcome="undecided" data-show="few_shot" data-set="fashion">' in page
    assert "dataset" in script and {"show", "set", "outcome"} == set(re.findall(r'chosen\("(\w+)"', script))
    for name in ("about", "says", "frame"):
        assert f'querySelector(".{name}")' in script and f'class="{name}"' in page
    assert re.search(r'<figure [^>]*>\s*<a href="figures/few_shot-gain.svg"[^>]*><img', page)
    assert page.count("<dialog") == 1 and 'method="dialog"' in page


def test_a_figure_has_its_caption_in_parts_and_its_verdict(tmp_path):
    write_study(tmp_path / "figures", "few_shot", "contradicted")
    caption = "Gain over KD, at T = 4. Hatched: impossible. Data: Fashion-MNIST. Teacher & student."
    write_figure(tmp_path / "figures", "few_shot-gain", caption, "Dots")
    page = pages.gallery(tmp_path).read_text()
    figure = re.search("<figcaption .*?</figcaption>", page, re.DOTALL).group()
    assert '<p class="says">Gain over KD, at T = 4.</p>\n<p>Hatched: impossible.</p>' in figure
    assert "<p>Data: Fashion-MNIST. Teacher &amp; student.</p>" in figure
    assert '<span class="badge contradicted">✕ contradicted</span>' in figure


@pytest.mark.parametrize(
    ("overrides", "more"),
    [
        ({}, ""),
        ({"seeds": [0, 1, 2]}, " --seeds 3"),
        ({"seeds": [0, 1, 2], "design": "sequential"}, " --until decided"),
        ({"data": "cifar10", "epochs": 30, "teacher_epochs": 60}, " --data cifar10 --epochs 30 --teacher-epochs 60"),
        ({"data": "folder:/home/me/photos?color=grey"}, " --data 'folder:PATH?color=grey'"),
        ({"student": "a:B?width=4"}, " --student 'a:B?width=4'"),
    ],
)
def test_a_figure_says_how_to_draw_it_anew(tmp_path, overrides, more):
    write_study(tmp_path / "figures", "few_shot", "undecided")
    record = tmp_path / "figures" / "few_shot-gain.json"
    assert "Run it" not in pages.gallery(tmp_path).read_text(), "a record of before says too little"
    meta = {"perspective": "few_shot", "profile": "standard", "overrides": overrides}
    record.write_text(json.dumps(json.loads(record.read_text()) | {"meta": meta}))
    page = pages.gallery(tmp_path).read_text()
    assert f"<code>kdlab figures few_shot --profile standard{more}</code>" in unescape(page) and "/home" not in page
    options = {name for param in get_command(app).commands["figures"].params for name in param.opts}
    assert set(re.findall(r"--[\w-]+", more)) <= options


def test_code_is_linked_where_the_page_lies_in_the_checkout(tmp_path):
    assert pages.code("few_shot", CHECKOUT / "figures") == "../kdlab/perspectives/few_shot.py"
    assert pages.code("few_shot", tmp_path) == "" == pages.code("nothing", CHECKOUT / "figures")


def test_no_word_of_a_published_caption_is_lost():
    captions = {path: json.loads(path.read_text()).get("caption") for path in (CHECKOUT / "figures").glob("*-*.json")}
    assert len(captions) >= 10
    for path, caption in captions.items():
        shown = pages._figure(path.with_suffix(""), CHECKOUT / "figures")
        parts = [shown["says"], shown["reading"], shown["made"]]
        assert " ".join(filter(None, parts)) == caption
        assert parts[2].startswith("Data: ") and "seeds" not in parts[0], "what is seen first is not how it was made"


@pytest.mark.parametrize(
    ("widths", "layouts"),
    [([650, 650], "half half"), ([1400, 650], "broad alone"), ([650, 1400, 650, 650], "alone broad half half"),
     ([650, 650, 650], "half half alone")],
)  # fmt: skip
def test_narrow_figures_stand_side_by_side(widths, layouts):
    figures = [{"width": width} for width in widths]
    pages._lay_out(figures)
    assert [figure["layout"] for figure in figures] == layouts.split()


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_can_be_read_in_light_and_dark():
    light, dark = re.findall(r":root \{(.*?)\}", (notebook_page.TEMPLATES / "style.css").read_text(), re.DOTALL)
    outcomes = stats.OUTCOMES
    pairs = [(ink, back) for ink in ("ink", "soft", "link", *outcomes) for back in ("page", "card")]
    pairs += [(ink, "card") for ink in ("keyword", "string", "number")] + [(o, f"{o}-back") for o in outcomes]
    pairs += [("ink", "contradicted-back"), ("link", "contradicted-back")]  # notices, and links in them
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6});", scheme))
        for ink, back in pairs:
            low, high = sorted((luminance(colours[ink]), luminance(colours[back])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, back)
        low, high = sorted((luminance(colours["edge"]), luminance(colours["card"])))
        assert (high + 0.05) / (low + 0.05) >= 3, "the edge of a button must be seen"


@pytest.fixture
def lesson_pages(tmp_path, teaching):
    """Pages of three lessons and a solution, by their place; beside them lay the page of a notebook that is gone."""
    write_lesson(teaching, "02_views", "## Two <views>\n\nBack to [one](01_start.ipynb#Why).")
    below = "*Why* `T` > 1,\nsee [two](02_views.ipynb).\n\nMore."
    write_lesson(teaching, "01_start", "Welcome.", "# 1. **Soft** labels", below)
    kept = "[a](../perspectives/few_shot.ipynb), [b](solutions/03_end.ipynb), [c](https://example.org/x.ipynb)"
    bare = "[gone](../start.ipynb), [away](../../README.md)"
    write_lesson(teaching, "03_end", f"# End\n\n![dot](dot.png)\n\n| a |\n\nLast. {kept}, {bare}")
    (teaching / "dot.png").write_bytes(png(2, 2))
    write_lesson(teaching / "solutions", "03_end", "# Solved\n\nBack to [it](../03_end.ipynb).")
    write_lesson(teaching / ".ipynb_checkpoints", "01_start-checkpoint", "# Old")
    folder = tmp_path / "profile" / "notebooks" / "teaching"
    folder.mkdir(parents=True)
    for suffix in (".html", ".ipynb"):
        (folder / f"00_gone{suffix}").write_text("renamed since")
    written = pages.lessons(tmp_path / "profile")
    assert set(written) == set(folder.rglob("*.html")), "the page of a notebook that is gone goes as well"
    assert {path.with_suffix(".ipynb") for path in written} == set(folder.rglob("*.ipynb"))
    return {path.relative_to(folder).as_posix(): path.read_text() for path in written}


def test_lessons_are_shown_as_committed(tmp_path, lesson_pages):
    assert list(lesson_pages) == ["01_start.html", "02_views.html", "03_end.html", "solutions/03_end.html"]
    for page in lesson_pages.values():
        assert "seen before in ." in page and "ZeroDivisionError" not in page, "nothing is executed"
        assert str(tmp_path) not in page and not LOADS.search(page)
    assert "<title>1. Soft labels: executed notebook</title>" in lesson_pages["01_start.html"]
    assert 'src="data:image/png;base64' in lesson_pages["03_end.html"], "a picture beside the notebook is embedded"


def test_a_page_offers_its_notebook(tmp_path, teaching, lesson_pages):
    for place, page in lesson_pages.items():
        copy = tmp_path / "profile" / "notebooks" / "teaching" / place
        offered = re.findall(r'<a href="([^"]+)" download>Download this notebook</a>', page)
        assert offered == [copy.with_suffix(".ipynb").name]
        assert (copy.parent / offered[0]).read_bytes() == (teaching / place).with_suffix(".ipynb").read_bytes()
    published = CHECKOUT / "figures" / "notebooks" / "teaching"
    for page in published.rglob("*.html"):
        [offered] = re.findall(r'<a href="([^"]+)" download>', page.read_text(encoding="utf-8"))
        assert (page.parent / offered).resolve() == CHECKOUT / "notebooks" / "teaching" / page.relative_to(
            published
        ).with_suffix(".ipynb")
    source = write_lesson(teaching, "04_study", "# A perspective")
    assert "download" not in notebook_page.html(source).split("<body")[1], "its page shows a run, not the notebook"


def test_a_published_page_that_would_be_the_same_is_taken(tmp_path, teaching, lesson_pages, monkeypatch):
    home = tmp_path / "checkout"
    shutil.copytree(tmp_path / "profile" / "notebooks", home / "figures" / "notebooks")
    monkeypatch.setattr(pages, "CHECKOUT", home)
    made, plain = [], pages.html
    monkeypatch.setattr(pages, "html", lambda source, **options: made.append(source.stem) or plain(source, **options))
    again = {path: path.read_text(encoding="utf-8") for path in pages.lessons(tmp_path / "again")}
    assert made == [] and list(again.values()) == list(lesson_pages.values())
    notebook = teaching / "02_views.ipynb"
    notebook.write_text(notebook.read_text(encoding="utf-8").replace("\n", "\n ", 1), encoding="utf-8")
    pages.lessons(tmp_path / "again")
    assert made == ["02_views"], "another notebook, another page"


def test_lessons_lead_to_each_other(lesson_pages):
    first, second, last, solution = map(links, lesson_pages.values())
    assert first == ["../../index.html", "01_start.ipynb", "02_views.html", "02_views.html"]
    assert second == ["../../index.html", "02_views.ipynb", "01_start.html", "01_start.html", "03_end.html"]
    assert last == ["../../index.html", "03_end.ipynb", "../few_shot.html", "solutions/03_end.html",
                    "https://example.org/x.ipynb", "02_views.html"]  # fmt: skip
    assert solution == ["../../../index.html", "03_end.ipynb", "../03_end.html"]
    assert 'href="01_start.html#Why"' in lesson_pages["02_views.html"]
    assert 'rel="next" href="03_end.html">End →' in lesson_pages["02_views.html"]
    assert "gone, away" in lesson_pages["03_end.html"], "what is not published beside it keeps its words alone"
    assert 'href="../../index.html#learn"' in lesson_pages["01_start.html"]


def test_the_gallery_lists_the_lessons(tmp_path, teaching, lesson_pages):
    write_lesson(teaching, "04_new", "# Not yet a page")
    page = (pages.gallery(tmp_path / "profile")).read_text()
    listed = re.findall(r'<li><a href="([^"]+)">(.*?)</a><p class="soft">(.*?)</p></li>', page)
    assert listed == [
        ("notebooks/teaching/01_start.html", "1. Soft labels", "Why T &gt; 1, see two."),
        ("notebooks/teaching/02_views.html", "Two &lt;views&gt;", "Back to one."),
        ("notebooks/teaching/03_end.html", "End", "Last. a, b, c, gone, away"),
    ]
    assert '<a href="#learn">' in page and '<section id="learn">' in page
    for link in links(page):
        assert (tmp_path / "profile" / link).is_file(), link


def test_without_lessons_there_is_nothing_to_learn(tmp_path, teaching):
    assert pages.lessons(tmp_path) == [] and not (tmp_path / "notebooks").exists()
    teaching.mkdir()
    assert pages.lessons(tmp_path) == []
    assert "learn" not in pages.gallery(tmp_path).read_text().split("<body>")[1]


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """Pages of the checkout's own lessons, by their path."""
    written = pages.lessons(tmp_path_factory.mktemp("committed"), CHECKOUT / "notebooks" / "teaching")
    return {path: path.read_text() for path in written}


def test_the_committed_lessons_load_nothing_and_lead_somewhere(committed):
    for path, page in committed.items():
        assert not LOADS.search(page) and str(CHECKOUT) not in page and refused(page) == []
        for link in links(page):
            target = (path.parent / link).resolve()
            inside = "teaching" in target.parts
            assert not inside or target.is_file(), f"{path.stem} links to a notebook that is not there: {link}"


def test_every_formula_of_a_lesson_can_be_drawn(committed):
    pytest.importorskip("latex2mathml")
    assert [path.stem for path, page in committed.items() if "$$" in page] == []


def test_formulas_are_drawn_without_a_script(teaching, monkeypatch):
    source = write_lesson(teaching, "01_start", "# T\n\n$a < b$ and `$HOME or $PATH`\n\n$$\\frac{1}{T}$$\n\nFor $ 5.")
    converter = SimpleNamespace(convert=lambda tex, display: f'<math display="{display}">{len(tex)}</math>')
    monkeypatch.setitem(sys.modules, "latex2mathml.converter", converter)
    page = notebook_page.html(source, place="teaching")
    assert '<math display="inline">5</math> and <code>$HOME or $PATH</code>' in page, "code is no formula"
    assert '<span class="formula"><math display="block">11</math></span>' in page and "For $ 5." in page
    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    assert "$a &lt; b$" in notebook_page.html(source, place="teaching"), "without the package TeX is left as it is"


def test_figures_end_with_the_lessons(tmp_path, teaching, monkeypatch):
    write_lesson(teaching, "01_start", "# Start\n\nHere.")
    monkeypatch.setattr(lab, "run", lambda *groups, **options: None)
    assert figures(["few_shot"], "smoke", {}, [])
    folder = tmp_path / "out" / "smoke"
    assert (folder / "notebooks" / "teaching" / "01_start.html").is_file()
    assert 'href="notebooks/teaching/01_start.html"' in (folder / "index.html").read_text()


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


def test_publish_replaces_all_but_the_regime(tmp_path, teaching):
    source, target = tmp_path / "out" / "quick", tmp_path / "figures"
    write_study(source / "figures", "few_shot", "supported")
    (source / "notebooks").mkdir()
    (source / "notebooks" / "few_shot.html").write_text("page")
    target.mkdir()
    (target / "regime.csv").write_text("width,gap\n")
    (target / "looks.csv").write_text("effect,test\n")
    (target / "cpus.py").write_text("# a script\n")
    for name in ("another.py", "another.csv"):  # whatever a script is called
        (target / name).write_text("kept")
    for ending in ("png", "csv", "json"):
        (target / f"renamed-since.{ending}").write_bytes(b"old")
    for _ in range(2):
        report.publish("quick", target)
        names = {path.name for path in target.iterdir()}
        assert {"index.html", "few_shot-gain.png", "few_shot.verdict.json", "regime.csv", "notebooks"} <= names
        assert {"looks.csv", "cpus.py", "another.py", "another.csv"} <= names
        assert not [name for name in names if name.startswith("renamed-since")]
    page = (target / "index.html").read_text()
    assert 'src="few_shot-gain.png"' in page and 'href="notebooks/few_shot.html"' in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "out"], "nothing is left lying about"

    write_lesson(teaching, "01_start", "# Start\n\nHere.")
    report.publish("quick", target)
    assert "Start" in (target / "notebooks" / "teaching" / "01_start.html").read_text()
    assert 'href="notebooks/teaching/01_start.html"' in (target / "index.html").read_text()


def test_gallery_and_readme_tell_what_another_processor_changes(tmp_path):
    write_study(tmp_path, "few_shot", "supported")
    assert "processor" not in report.gallery(tmp_path, figures=tmp_path).read_text()
    row = {"perspective": "few_shot", "contrast": "JDA − <weak2>", "role": "claim", "seeds": 4, "low": 0.1, "high": 0.9,
           "effect": 0.5, "outcome": "supported", "low_2": -0.1, "high_2": 0.7, "effect_2": 0.3, "within": True,
           "outcome_2": "undecided", "moved": -0.2}  # fmt: skip
    same = row | {"outcome_2": "supported", "effect_2": 0.6, "moved": 0.1, "within": False}
    pd.DataFrame([row, same]).to_csv(tmp_path / "cpus.csv", index=False)
    said = "1 of 2 outcomes differ, effects moved by 0.15 points in the middle and 0.20 at most, and in 1 of 2"
    page = report.gallery(tmp_path, figures=tmp_path).read_text()
    assert said in page and "JDA − &lt;weak2&gt;" in page and page.count("+0.30 points") == 1
    assert said in readme.verdict_block(tmp_path)


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


# --- two data sets ------------------------------------------------------------------------------------------------

CIFAR = {"data": "cifar10", "data_title": "CIFAR-10"}


def two_sets(figures: Path) -> None:
    """A published set of two perspectives, and another data set that has one of them."""
    write_study(figures, "ratio_sweep", "undecided")
    write_study(figures, "few_shot", "contradicted")
    write_study(figures / "cifar10", "few_shot", "supported", effect=1.2, **CIFAR)


def test_the_gallery_shows_both_sets_side_by_side(tmp_path):
    two_sets(tmp_path)
    page = pages.gallery(tmp_path, figures=tmp_path).read_text()
    sections = re.findall(r'<section id="(\S+)" data-outcome="(\w+)" data-show="(\w+)" data-set="(\w+)">', page)
    assert sections == [
        ("ratio_sweep", "undecided", "ratio_sweep", "fashion"), ("few_shot", "contradicted", "few_shot", "fashion"),
        ("cifar10-few_shot", "supported", "few_shot", "cifar10"),
    ]  # fmt: skip
    heads = re.findall(r'<th scope="col" data-set="(\w+)">On (.*?)</th>', page)
    assert heads == [("fashion", "Fashion-MNIST"), ("cifar10", "CIFAR-10")]
    few, ratio = (
        re.search(rf'<tr id="row-{name}">.*?</tr>', page, re.S).group() for name in ("few_shot", "ratio_sweep")
    )
    assert re.findall(r'href="#(\S+)"><span class="badge (\w+)"', re.sub(r">\s+<", "><", few)) == [
        ("few_shot", "contradicted"), ("cifar10-few_shot", "supported")
    ]  # fmt: skip
    assert "not there" in ratio and "not there" not in few
    assert re.findall(r'name="set" value="(\w+)" aria-pressed="false">(.*?)<', page) == heads
    assert re.findall(r'name="show" value="(\w+)"', page) == ["ratio_sweep", "few_shot"], "one button a perspective"
    assert re.findall(r'<figure id="(\S+)"', page) == ["ratio_sweep-gain", "few_shot-gain", "cifar10-few_shot-gain"]
    assert len(set(re.findall(r'\bid="([^"]+)"', page))) == len(re.findall(r'\bid="([^"]+)"', page))
    assert 'src="cifar10/few_shot-gain.png"' in page and "few shot on CIFAR-10" in page
    for link in links(page):
        assert (tmp_path / link).is_file(), link


def test_one_set_has_no_word_of_sets(tmp_path):
    write_study(tmp_path / "figures", "few_shot", "supported", **CIFAR)
    page = pages.gallery(tmp_path).read_text().split("<script>")[0]
    assert 'name="set"' not in page and "CIFAR-10" not in page and '<th scope="col">Verdict</th>' in page


def test_the_readme_has_a_column_for_each_set(tmp_path):
    write_study(tmp_path, "few_shot", "contradicted")
    assert "| claim | what was found |" in readme.verdict_block(tmp_path)
    two_sets(tmp_path)
    block = readme.verdict_block(tmp_path)
    assert "| perspective | claim | found on Fashion-MNIST | found on CIFAR-10 |" in block
    told = "JDA - weak2: "
    assert f"| It is. | **contradicted**<br>{told}contradicted | **supported**<br>{told}supported |" in block
    assert f"| It is. | **undecided**<br>{told}undecided | – |" in block
    pairs = [re.findall(r'src="(\S+)" width="49%" alt="(.*?)"', part) for part in block.split("<p>")[1:]]
    assert pairs == [
        [("figures/ratio_sweep-gain.png", "ratio sweep: Dots of ratio_sweep")],
        [("figures/few_shot-gain.png", "few shot: Dots of few_shot"),
         ("figures/cifar10/few_shot-gain.png", "few shot on CIFAR-10: Dots of few_shot")],
    ]  # fmt: skip


def test_all_claims_stand_in_one_figure_of_page_and_readme(tmp_path):
    figures = tmp_path / "figures"
    write_study(figures, "few_shot", "contradicted", effect=-3.0, seeds=[0, 1, 2])
    write_study(figures, "ratio_sweep", "undecided", effect=None)
    path = figures / "few_shot.verdict.json"
    study = json.loads(path.read_text())
    control = study["verdicts"][0] | {"name": "KD - CE", "role": "positive control"}
    none = study["verdicts"][0] | {"name": "no more", "expects": "no_gain", "outcome": "supported", "margin": 0.5}
    path.write_text(json.dumps(study | {"verdicts": [*study["verdicts"], none, control]}))
    assert "overview" not in readme.verdict_block(figures) + pages.gallery(tmp_path).read_text()
    assert draw_overview(figures) == figures / "overview.png"
    table, record = plotting.load(figures / "overview.json")
    assert table["name"].tolist() == ["JDA - weak2", "JDA - weak2", "no more (no gain)"], "claims, no controls"
    assert table["outcome"].tolist() == ["undecided", "contradicted", "supported"]
    assert table["effect"].tolist()[1:] == [-3, -3] and table[["effect", "low", "high"]].iloc[0].isna().all()
    assert "All 3 claims" in record["alt"] and "1 contradicted" in record["alt"] and "3 seeds" in record["caption"]
    before = {p.name: p.read_bytes() for p in figures.glob("overview.*")}
    draw_overview(figures)
    assert {p.name: p.read_bytes() for p in figures.glob("overview.*")} == before
    page, block = pages.gallery(tmp_path).read_text(), readme.verdict_block(figures)
    assert '<img src="figures/overview.png"' in page and record["alt"] in page and record["alt"] in block
    assert block.index("overview.png") < block.index("| perspective |")
    assert draw_overview(tmp_path / "empty") is None


def test_the_readme_begins_with_the_answer(tmp_path):
    write_study(tmp_path, "few_shot", "undecided", seeds=[0, 1, 2])
    write_study(tmp_path, "ratio_sweep", "undecided", seeds=[0, 1, 2])
    write_study(tmp_path, "ccd", "undecided", seeds=[0, 1])
    claim = json.loads((tmp_path / "few_shot.verdict.json").read_text())["verdicts"][0] | {"expects": "positive"}

    def found(name: str, effect: float, outcome: str, **more) -> dict:
        said = f"{name} gains {effect} points [+0.1, +9.0] over CE: {outcome}"
        return claim | {"name": name, "effect": effect, "outcome": outcome, "finding": said} | more

    verdicts = {
        "few_shot": [found("A", 1.0, "supported"), found("B", 3.0, "supported"), found("C", 0.1, "negligible")],
        "ratio_sweep": [found("D", 2.0, "supported"), found("E", 9.0, "supported", expects="no_gain")],
        "ccd": [found("F", 0.4, "undecided"), found("K", 7.0, "supported", role="positive control")],
    }
    for name, own in verdicts.items():
        path = tmp_path / f"{name}.verdict.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"verdicts": own}))
    answer = readme.verdict_block(tmp_path).split("<p>")[0].split("| perspective")[0].strip().splitlines()
    assert answer == [
        "**In short**, on Fashion-MNIST, 3 seeds (*ccd*: 2): of 6 comparisons 4 supported, 1 negligible, 1 undecided. "
        "JDA is joint augmentation, many operations at once; two weak views are its control of equal cost.",
        "",
        "- **Supported**. *few shot*: B gains 3.0 points over CE; *ratio sweep*: D gains 2.0 points over CE.",
        "- **Negligible**. *few shot*: C gains 0.1 points over CE.",
        "- **Undecided**. *ccd*: F gains 0.4 points over CE.",
        "- **Does distillation work here at all?** K gains 7.0 points over CE: supported. "
        "Positive controls that hold: 1 of 1.",
    ]


def test_the_readme_tells_what_was_found_and_counts_the_undecided_of_many(tmp_path):
    write_study(tmp_path, "few_shot", "undecided")
    path = tmp_path / "few_shot.verdict.json"
    study = json.loads(path.read_text())
    claim = study["verdicts"][0]
    control = claim | {"name": "KD - CE", "role": "positive control", "finding": "KD gains 3 points"}
    found = claim | {"name": "DIST", "outcome": "supported", "finding": "DIST gains 0.6 points: supported"}
    for few, rest in ((1, ["JDA - weak2: undecided"]), (4, ["4 others undecided"])):
        path.write_text(json.dumps(study | {"verdicts": [control, found, *[claim] * few]}))
        cell = "<br>".join(["**undecided**", "DIST gains 0.6 points: supported", *rest])
        assert f"| It is. | {cell} |" in readme.verdict_block(tmp_path)
    path.write_text(json.dumps(study | {"verdicts": [claim] * 5}))
    assert "**undecided**<br>5 comparisons undecided |" in readme.verdict_block(tmp_path)


def contents(folder: Path, *beside: str) -> dict[str, bytes]:
    """The files of a published set; other sets, gallery and lessons are left out."""
    files = [p for p in folder.rglob("*") if p.is_file() and not {*p.relative_to(folder).parts} & {*beside, "teaching"}]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files if p.name != "index.html"}


def test_publishing_one_set_leaves_the_other(tmp_path, teaching):
    write_lesson(teaching, "01_start", "# Start\n\nHere.")
    target, page = (
        tmp_path / "figures",
        '<a href="../index.html#few_shot">home</a> <a href="teaching/01_start.html">1</a>',
    )
    target.mkdir()
    for folder, outcome, more in (("quick", "undecided", {}), ("quick-cifar10", "supported", CIFAR)):
        write_study(tmp_path / "out" / folder / "figures", "few_shot", outcome, **more)
        (tmp_path / "out" / folder / "notebooks").mkdir()
        (tmp_path / "out" / folder / "notebooks" / "few_shot.html").write_text(page)
    (target / "regime.csv").write_text("width,gap\n")
    report.publish("quick", target)
    first = contents(target)
    assert {"few_shot-gain.png", "regime.csv", "notebooks/few_shot.html"} <= first.keys()

    report.publish("quick", target, data="cifar10")
    second = contents(target / "cifar10")
    assert contents(target, "cifar10") == first, "published names and files stay"
    assert second.keys() == first.keys() - {"regime.csv"}
    linked = links(second["notebooks/few_shot.html"].decode())
    assert linked == ["../../index.html", "../../notebooks/teaching/01_start.html"]
    assert all((target / "cifar10" / "notebooks" / link).is_file() for link in linked)
    assert b'index.html#cifar10-few_shot"' in second["notebooks/few_shot.html"]
    gallery = (target / "index.html").read_text()
    assert 'href="cifar10/notebooks/few_shot.html"' in gallery and 'id="cifar10-few_shot"' in gallery

    (target / "cifar10" / "regime.csv").write_text("of its own")
    (target / "cifar10" / "renamed-since.png").write_bytes(b"old")
    for data in (None, "cifar10"):
        report.publish("quick", target, data=data)
    assert contents(target, "cifar10") == first
    assert contents(target / "cifar10") == second | {"regime.csv": b"of its own"}
    with pytest.raises(SpecError, match="'quick-cifar100'. Run `make figures PROFILE=quick DATA=cifar100` first"):
        report.publish("quick", target, data="cifar100")


# --- the tables of README and docs --------------------------------------------------------------------------------

README_AND_TABLES = ("README.md", "docs/methods.md", "docs/augmentations.md")


def test_readme_tables_are_written_between_the_markers(tmp_path):
    write_study(tmp_path / "figures", "few_shot", "undecided")
    path, methods, augmentations = (tmp_path / name for name in README_AND_TABLES)
    methods.parent.mkdir()
    for page, block in zip((path, methods, augmentations), readme.BLOCKS, strict=True):
        page.write_text("before\n" + "\nstale\n".join(readme.markers(block)) + "\nafter\n")
    text = readme.write(path)
    assert text == readme.write(path) == path.read_text()
    for said in (text, methods.read_text(), augmentations.read_text()):
        assert said.startswith("before\n") and said.endswith("\nafter\n") and "stale" not in said
    assert readme.method_block() in methods.read_text()
    assert readme.augmentation_block() in augmentations.read_text()
    assert "| It is. | **undecided**<br>JDA - weak2: undecided |" in text
    assert '<img src="figures/few_shot-gain.png" width="49%" alt="few shot: Dots of few_shot">' in text
    methods.write_text("no markers")
    with pytest.raises(SpecError, match="methods.md must hold the markers <!-- methods:start -->"):
        readme.write(path)
    methods.unlink()
    augmentations.unlink()
    readme.write(path)  # of a set published elsewhere


def test_the_readme_has_not_drifted(tmp_path):
    """`make readme` writes the tables; this fails when figures, methods or a table changed without it."""
    for name in (*README_AND_TABLES, "notebooks/start.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / name)
    readme.write(tmp_path / "README.md", CHECKOUT / "figures")
    for name in (*README_AND_TABLES, "notebooks/start.ipynb"):
        assert (tmp_path / name).read_bytes() == (CHECKOUT / name).read_bytes(), f"{name}: run `make readme`"


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
