"""How sphinx makes the site: `make docs`. A warning is an error there."""

import re
import shutil
import sys
from pathlib import Path

from docutils import nodes
from sphinx.errors import ExtensionError

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]

import checks  # noqa: E402
import costs  # noqa: E402
import formulas  # noqa: E402
import reference  # noqa: E402
import tables  # noqa: E402

import kdlab  # noqa: E402
from kdlab import report  # noqa: E402

project, author, version = "kdlab", "The kdlab authors", kdlab.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["made/*.md"]  # which other pages include
myst_heading_anchors = 3
suppress_warnings = ["ref.python"]  # two folders may both have a Runs; the text is right whichever a type links to

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # attributes in a list; else they are described a second time
default_role = "code"
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "kdlab"
html_static_path = ["_static"]
html_css_files = ["kdlab.css"]
html_copy_source = html_show_sphinx = False
html_show_search_summary = False  # which a browser may not fetch from a disk
html_show_copyright = False
pygments_style, pygments_dark_style = "default", "github-dark"

CODE = re.compile(r"(``.*?``)")


def plainly(app, what, name, obj, options, lines):
    """Formulas stand in docstrings as a person types them: |x| is an absolute value, not a substitution."""
    for number, line in enumerate(lines):
        parts = [part if part.startswith("``") else part.replace("|", "\\|") for part in CODE.split(line)]
        lines[number] = re.sub(r"^Reference:", "**Reference:**", "".join(parts))


def signature(app, what, name, obj, options, words, returned):
    """Defaults that are made anew for each object have no words that Python could read."""
    return words and words.replace("<factory>", "..."), returned


def skip_fields(app, what, name, obj, skip, options):
    """Leave out the fields of named tuples, which the class itself describes."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def draw(app, doctree):
    """Draw the formulas among the literals of a page."""
    for node in [*doctree.findall(nodes.literal)]:
        if drawn := formulas.mathml(node.astext()):
            node.replace_self(nodes.raw("", f'<span class="formula">{drawn}</span>', format="html"))


def gallery(app):
    """Put the published gallery into the site, with the lessons as they are committed now."""
    target, figures = Path(app.outdir) / "gallery", HERE.parent / "figures"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(figures, target, ignore=shutil.ignore_patterns("*.py", "ledger", "__pycache__"))
    report.lessons(target)
    page = report.gallery(target, figures=target)
    back = '<header>\n<p class="links"><a href="../index.html">Documentation</a></p>'
    page.write_text(page.read_text(encoding="utf-8").replace("<header>", back, 1), encoding="utf-8")


def finish(app, exception):
    """Complete the site, and refuse it where it would need a network or has a dead link."""
    if exception is None and app.builder.format == "html":
        gallery(app)
        checks.guard(Path(app.outdir))
        if found := checks.faults(Path(app.outdir)):
            raise ExtensionError("\n".join(["the site is not whole:", *found]))


def setup(app):
    reference.write(HERE.parent / "kdlab", HERE / "made" / "api")
    (HERE / "made" / "verdicts.md").write_text(tables.verdicts(HERE.parent / "figures"), encoding="utf-8")
    (HERE / "made" / "lessons.md").write_text(tables.lessons(HERE.parent / "notebooks" / "teaching"), encoding="utf-8")
    (HERE / "made" / "costs.md").write_text(costs.markdown(), encoding="utf-8")
    app.connect("autodoc-process-docstring", plainly, priority=400)  # before napoleon, which is at 500
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("doctree-read", draw)
    app.connect("build-finished", finish)
