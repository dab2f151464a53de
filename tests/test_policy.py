"""The content-security policies of pages, and texts that would be more than text."""

import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from refusing import refused, shape
from test_docs import checks
from test_report import png, write_figure, write_lesson, write_study

from kdlab.errors import SpecError
from kdlab.report import documents, notebook_page, pages, policy

HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(1)>"'></title><a href="javascript:x()">&amp;{{ 7*7 }}"""
PLAIN = "words that mean no harm"
TABLE = '<style scoped>\n  td { color: red }\n</style><table><tr style="text-align: right;"><td>1</td></tr></table>'


def gallery(folder, words: str) -> str:
    """The page of two studies on two data sets and a failed one, all of whose texts are some words."""
    figures = folder / "figures"
    health = [{"word": words, "sentence": words, "remedy": words}]
    more = {"title": words, "question": words, "claim": words, "health": health, "profile": words}
    write_study(figures, "few_shot", "supported", **more)
    write_study(figures / "other", "few_shot", "undecided", data="other", data_title=words, **more)
    for path in figures.rglob("*.verdict.json"):
        study = json.loads(path.read_text())
        texts = dict.fromkeys(("name", "role", "unit", "reason", "stability"), words)
        path.write_text(json.dumps(study | {"verdicts": [v | texts for v in study["verdicts"]]}))
    for place in (figures, figures / "other"):
        write_figure(place, "few_shot-gain", f"{words} Data: {words}", words)
        record = json.loads((place / "few_shot-gain.json").read_text())
        meta = {"perspective": words, "profile": words, "overrides": {"data": words, "student": words}}
        (place / "few_shot-gain.json").write_text(json.dumps(record | {"meta": meta}))
    write_lesson(folder / "teaching", "01_start", f"# {words}\n\nSee {words}")
    pages.lessons(folder, folder / "teaching")
    (folder / "notebooks" / "broken.ipynb").write_text("{}")
    return pages.gallery(folder, teaching=folder / "teaching").read_text()


def test_the_gallery_works_under_its_policy_and_texts_stay_texts(tmp_path):
    hostile, plain = (gallery(tmp_path / name, words) for name, words in (("a", HOSTILE), ("b", PLAIN)))
    assert refused(plain) == [] == refused(hostile)
    assert shape(hostile) == shape(plain) and "{{ 7*7 }}" in hostile and hostile.count("<script") == 1
    assert len(shape(plain)) > 100 and plain.count(PLAIN) == hostile.count("alert(1)&lt;/script&gt;") > 20
    said = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', plain)[1]
    assert "default-src 'none'" in said and "unsafe" not in said and "http" not in said
    assert plain.index("Content-Security-Policy") < plain.index("<title>"), "it holds for what follows"


def notebook(folder, *outputs) -> str:
    cells = [new_markdown_cell("# Start"), new_code_cell("1", outputs=list(outputs), execution_count=1)]
    nbformat.write(new_notebook(cells=cells), folder / "01_start.ipynb")
    return notebook_page.html(folder / "01_start.ipynb", error=HOSTILE, place="teaching", beside=[None, None])


def test_a_page_of_a_notebook_works_under_its_policy(tmp_path):
    (tmp_path / "dot.png").write_bytes(png(2, 2))
    table = new_output("display_data", data={"text/html": TABLE, "text/plain": "1"})
    page = notebook(tmp_path, table, new_output("stream", text=HOSTILE))
    assert refused(page) == [] and "onerror=alert(1)&gt;" in page and "<img" not in page
    said = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "script-src 'none'" in said and "img-src data:" in said and "'unsafe-inline'" not in said


@pytest.mark.parametrize(
    "fragment",
    ["<script>alert(1)</script>", '<script src="https://x.example/a.js"></script>', "<p onclick='alert(1)'>x</p>",
     '<img src="https://x.example/a.png">', '<img src="//x.example/a.png">', '<img src="beside.png">',
     '<a href="javascript:alert(1)">x</a>', '<iframe src="https://x.example"></iframe>', '<base href="//x.example/">',
     '<form action="https://x.example"></form>', '<link rel="stylesheet" href="https://x.example/a.css">'],
)  # fmt: skip
def test_what_a_notebook_shows_can_run_and_load_nothing(tmp_path, fragment):
    page = notebook(tmp_path, new_output("display_data", data={"text/html": fragment, "text/plain": "1"}))
    assert len(refused(page)) == 1 and fragment.partition(" ")[0].partition(">")[0] in page


def test_a_style_or_script_of_other_text_is_refused():
    page = policy.guarded('<meta charset="utf-8"><style>a {}</style><p style="color: red"><script>1</script>', ["1"])
    assert refused(page) == [] and policy.guarded(page) == page
    for before, after in (("a {}", "b {}"), ("color: red", "color: tan"), ("<script>1", "<script>2")):
        assert len(refused(page.replace(before, after))) == 1
    assert len(refused(page.replace("'unsafe-hashes'", ""))) == 1 and refused("<p>") == ["there is no policy"]


def test_every_page_of_the_documentation_gets_a_policy(tmp_path):
    """As sphinx and its theme write pages: inline and beside, a form that searches, styles as attributes."""
    page = (
        '<!doctype html><html><head><meta charset="utf-8" /><link rel="stylesheet" href="_static/a.css">'
        '<link rel="search" href="search.html"></head><body><script>document.body.dataset.theme = "auto";</script>'
        '<svg style="display: none;"></svg><form action="search.html" method="get"></form><img src="_static/flow.svg">'
        '<script src="_static/b.js"></script></body></html>'
    )
    shown = notebook(tmp_path, new_output("display_data", data={"text/html": "<script>1</script>", "text/plain": "1"}))
    shown = re.sub('<meta http-equiv="Content-Security.*?>', "", shown)  # as published by an earlier kdlab
    for name, text in (("index.html", page), ("gallery/notebooks/few_shot.html", shown)):
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    checks.guard(tmp_path / "site")
    assert refused((tmp_path / "site" / "index.html").read_text()) == []
    assert refused((tmp_path / "site" / "gallery" / "notebooks" / "few_shot.html").read_text()) == ["script-src '1'"]


def test_a_perspective_of_a_verdict_is_no_path(tmp_path):
    write_study(tmp_path, "few_shot", "supported")
    path = tmp_path / "few_shot.verdict.json"
    path.write_text(path.read_text().replace('"few_shot"', '"../../secret"'))
    with pytest.raises(SpecError, match="'../../secret' cannot be the name of a perspective"):
        documents.verdicts(path)
