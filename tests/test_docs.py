"""The sources of the documentation name what exists, and what is said of the built site is looked at.

Building it takes sphinx and a minute (`make docs`, where a warning is an error); nothing here needs either.
"""

import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

import kdlab
from kdlab import widgets
from kdlab.paths import CHECKOUT
from kdlab.registry import catalogue

DOCS = CHECKOUT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
MADE = {
    "made/verdicts.md",
    "made/lessons.md",
    "made/costs.md",
    "made/api/index",
    "made/api/index.rst",
}  # when it is built


def source(name: str):
    """A module of docs/, as its conf.py imports it."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference, checks, tables, formulas = map(source, ("reference", "checks", "tables", "formulas"))


def resolve(name: str) -> object:
    """What a dotted name stands for."""
    found, *rest = name.split(".")
    found = importlib.import_module(found)
    for part in rest:
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("typed, tex", [
    ("L = L_KD + mean_{chw} (f_i - g_i)^2", r"L = L_{\mathrm{KD}} + \mathrm{mean}_{chw} (f_{i} - g_{i})^{2}"),
    ("sum_ij q_j|i log q_j|i / B^2", r"\sum_{ij} q_{j\vert i} \mathrm{log} q_{j\vert i} / B^{2}"),
    ("T^2 KL(t || s) >= 1e-5", r"T^{2} \mathrm{KL}(t \parallel s) \ge 10^{-5}"),
    ("D'_ij = x . y ~ N(0, sigma)", r"D^{\prime}_{ij} = x \cdot y \sim N(0, \sigma)"),
    ("p^t_y - e^(-2 g) = q_first", r"p^{t}_{y} - e^{-2 g} = q_{\mathrm{first}}"),
])  # fmt: skip
def test_a_formula_is_drawn_as_it_is_typed(typed, tex):
    assert formulas.is_formula(typed)
    assert formulas.tex(typed).replace(r"\,", "").replace(" ", "") == tex.replace(" ", "")
    assert formulas.mathml(typed).startswith("<math ")


def test_what_is_no_formula_stays_as_it_is_typed():
    code = ("Batch.of(labels, views=2)", "num_ops=3, magnitude=5", "role == 'x'", "share of a class = a word", "kd")
    assert not any(map(formulas.mathml, code))
    assert formulas.is_formula("L = a § b") and formulas.mathml("L = a § b") is None, "an unknown sign"


def test_every_formula_of_a_method_is_drawn():
    texts = [" ".join(entry.text.split()) for entry in catalogue("losses").values()]
    typed = {formula for text in texts for formula in re.findall(r"``(L = .+?)``", text)}
    plain = {formula for formula in typed if not formulas.mathml(formula)}
    assert len(typed) > 30 and plain == {"L = mean_i CE(cos(h_i, h_1..O) / T, original of i)"}, "which is half words"


def test_the_front_door_is_whole_and_all_of_it_exists():
    shown = re.findall(r"^\.\. auto\w+:: (\S+)$", PAGES["front-door"], re.M)
    offered = {f"kdlab.{name}" for name in kdlab.__all__ if not isinstance(getattr(kdlab, name), type(sys))}
    assert set(shown) == offered - {"kdlab.__version__"} and len(shown) == len(set(shown))
    for name in shown:
        kind = re.search(rf"auto(\w+):: {name}$", PAGES["front-door"], re.M)[1]
        found = resolve(name)
        base = found.__mro__[-2] if isinstance(found, type) else None
        assert kind == ("function" if base is None else "exception" if base is BaseException else "class")
        assert found.__doc__


def test_the_reference_has_every_module_once(tmp_path):
    reference.write(CHECKOUT / "kdlab", tmp_path)
    pages = {path.stem: path.read_text() for path in tmp_path.glob("*.rst")}
    shown = [name for text in pages.values() for name in re.findall(r"^\.\. automodule:: (\S+)$", text, re.M)]
    there = {
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
        for path in (CHECKOUT / "kdlab").rglob("*.py")
    }
    assert len(shown) == len(set(shown))
    run = {"kdlab.cli.__main__", "kdlab.teaching.__main__", "kdlab.data.make_fashion", "kdlab.widgets.room"}
    assert there - set(shown) == run
    assert set(shown) <= there
    assert re.findall(r"^   (\w+)$", pages["index"], re.M)[:5] == ["losses", "augment", "models", "stats", "plotting"]
    assert pages.keys() - {"index"} == set(re.findall(r":doc:`(\w+)`", pages["index"]))
    (tmp_path / "gone.rst").write_text("of a folder that was there")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.rst")}
    reference.write(CHECKOUT / "kdlab", tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.rst")} == {
        name: when for name, when in before.items() if name != "gone.rst"
    }


@pytest.mark.parametrize("page", PAGES)
def test_names_links_and_includes_of_a_page_are_there(page):
    text = PAGES[page]
    for name in re.findall(r"`(kdlab(?:\.\w+)+)`", text):
        resolve(name)
    for module, names in re.findall(r"^from (kdlab[\w.]*) import (.+)$", text, re.M):
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name) or importlib.import_module(f"{module}.{name}")
    plain = re.sub(r"^```(?!\{).*?^```", "", text, flags=re.S | re.M)
    links = re.findall(r"\]\(([^)#:]+)\)", plain) + re.findall(r"^```\{include\} (\S+)$", plain, re.M)
    links += re.findall(r'<img[^>]* src="([^"]+)"', plain)
    assert [link for link in links if link not in MADE and not (DOCS / link).is_file()] == []
    for path in re.findall(r"`((?:kdlab|tests|notebooks|figures|docs|benchmarks)/[\w/.-]*)`", plain):
        assert (CHECKOUT / path).exists() or path == "figures/ledger/", path


def test_every_page_is_in_the_menu():
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", PAGES["index"], re.S | re.M)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert set(listed) - MADE == PAGES.keys() - {"index"} and len(listed) == len(set(listed))


def test_the_readme_is_for_a_first_visit_and_leads_to_the_pages():
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    assert text.index("<!-- verdicts:start -->") < text.index("make figures")
    linked = re.findall(r"\]\(((?:docs|notebooks|figures)/[^)#]*|[A-Z]+(?:\.md)?)\)", text)
    assert [path for path in linked if not (CHECKOUT / path).exists()] == []
    for name in ("own-data", "own-teacher", "own-loop", "machines", "methods", "augmentations", "commands", "house"):
        assert f"docs/{name}.md" in linked


def test_only_the_readme_says_how_long_make_figures_takes():
    length = re.compile(r"\d+\s(?:minute|hour)s?\b|\bfor\shours\b|\ba\sfew\s(?:minute|hour)s\b")
    texts = {path: path.read_text(encoding="utf-8") for path in [*DOCS.glob("*.md"), CHECKOUT / "CONTRIBUTING.md"]}
    for path in (CHECKOUT / "notebooks").rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts[path] = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    told = [
        (path.name, part) for path, text in texts.items() for part in re.split(r"\n\s*\n", text)
        if "make figures" in part and length.search(part)
    ]  # fmt: skip
    assert told == []
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (part,) = (part for part in re.split(r"\n\s*\n", readme) if "make figures PROFILE" in part)
    assert len(length.findall(part)) >= 3


def test_the_readme_shows_a_picture_of_each_explorer():
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r'<img src="(docs/_static/explorers/\w+\.png)" width="\d+%" alt="([^":]+): [^"]+">', text)
    titles = {getattr(widgets, name).TITLE for name in widgets.__all__ if hasattr(getattr(widgets, name), "TITLE")}
    assert {title for _, title in shown} == titles - {widgets.Explorer.TITLE}
    assert {CHECKOUT / path for path, _ in shown} == set((DOCS / "_static" / "explorers").iterdir())


def test_tables_of_verdicts_and_lessons():
    shown = tables.verdicts(CHECKOUT / "figures").splitlines()
    studies = tables.load_verdicts(CHECKOUT / "figures")
    ids = re.findall(r' id="([\w-]+)"', (CHECKOUT / "figures" / "index.html").read_text(encoding="utf-8"))
    assert len(shown) == 2 + len({study["perspective"] for study in studies}) > 2
    for row in shown[2:]:
        assert re.search(r'href="gallery/index.html#([\w-]+)"', row)[1] in ids and "**" in row
    lessons = tables.lessons(CHECKOUT / "notebooks" / "teaching").splitlines()
    assert len(lessons) == 2 + len(list((CHECKOUT / "notebooks" / "teaching").glob("*.ipynb")))
    for row in lessons[2:]:
        page, _, in_class, runs, *counts = row.strip("| ").split(" | ")
        assert page.startswith("<a href=") and re.fullmatch(r"\d+ min", in_class) and re.fullmatch(r"\d+ s", runs)
        assert len(counts) == 3 and all(int(count) > 0 for count in counts)
    assert tables.verdicts(DOCS) == "Nothing is published yet.\n"


def test_what_would_need_a_network_or_leads_nowhere_is_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "good.css").write_text("a { background: url(data:image/png;base64,AA) } b { background: url('x.png') }")
    good = (
        '<link rel="stylesheet" href="good.css?v=1"><a href="https://example.org">by hand</a><a href="#here">x</a>'
        '<a href="sub/">y</a><img src="data:image/png;base64,AA"><a class="z" href="mailto:a@b">z</a>'
    )
    (tmp_path / "index.html").write_text(good)
    assert checks.faults(tmp_path) == []
    bad = (
        '<script async src="https://cdn.example/x.js"></script><img alt="" src="//cdn.example/y.png">'
        '<style>@import "http://fonts.example/f.css"; p { background: url(https://cdn.example/z.png) }</style>'
        '<a href="../gone.html#x">gone</a><img src="lost.png">'
    )
    (tmp_path / "sub" / "page.html").write_text(bad)
    (tmp_path / "bad.css").write_text("@font-face { src: url(https://fonts.example/a.woff2) }")
    assert checks.faults(tmp_path) == [
        f"{Path('sub/page.html')} loads {address}"
        for address in (
            "https://cdn.example/x.js", "//cdn.example/y.png", "http://fonts.example/f.css", "https://cdn.example/z.png"
        )
    ] + [
        f"{Path('sub/page.html')} points at {address}, which is not there" for address in ("../gone.html", "lost.png")
    ] + ["bad.css loads https://fonts.example/a.woff2"]  # fmt: skip


def test_what_a_thousand_runs_cost_follows_from_the_ledger(monkeypatch):
    import statistics

    from kdlab.lab import ledger

    monkeypatch.delenv("KDLAB_LEDGER", raising=False)
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    told = importlib.import_module("costs").markdown()
    rows = [row for path in ledger.files() for row in ledger.read(path).values()]
    (place, _), *_ = Counter(row.environment for row in rows).most_common()
    rows = [row for row in rows if row.environment == place]
    alike = [row for row in rows if f"{row.result['student_images']:.2g}" == "2.3e+05"]
    kind = {"method": "kd", "model": "resnet8_s2_w8"}
    kd = [row.result["seconds"] for row in alike if kind.items() <= row.spec["spec"].items()]
    (line,) = (text for text in told.splitlines() if text.startswith("| student by KD | `resnet8_s2_w8` | 230,000 |"))
    assert line.split(" | ")[3:5] == [str(len(kd)), f"{statistics.median(kd) / 3.6:.1f}"]
    assert "| one GPU | 0.18 | an H200 with 16 cores" in told  # no seconds of a GPU among those of cores
