"""Tables of README, docs/ and launcher, written between markers from figures, perspectives, registry and tests."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from kdlab.errors import SpecError
from kdlab.paths import CHECKOUT, write_file
from kdlab.perspectives import NAMES
from kdlab.registry import Entry
from kdlab.report.documents import by_perspective, data_sets, load_verdicts, record
from kdlab.report.overview import NAME, drawn
from kdlab.report.pages import processors
from kdlab.report.parts import by_knowledge, families, mixes_or_picks, preparing, summary
from kdlab.stats.verdicts import OUTCOMES

BLOCKS = ("verdicts", "methods", "augmentations")  # of the README, and of docs/methods.md and docs/augmentations.md
FEW = 4  # claims that a cell of the README's table tells one by one
SHORT = 3  # findings of an outcome that the answer at the head tells, one a perspective
LARGE = ("when_it_pays",)  # perspectives whose first figure stands at the head, as wide as the page
# Module-level names in tests/test_losses_*.py that list methods, and what being listed there proves.
PROOFS = {"RESTATED": "numpy", "AGAINST_TORCHDISTILL": "torchdistill", "GOLDEN": "golden vector"}


def markers(block: str) -> tuple[str, str]:
    """The two lines between which ``make readme`` writes a block."""
    return f"<!-- {block}:start -->", f"<!-- {block}:end -->"


def filled(text: str, blocks: Mapping[str, str], name: str) -> str:
    """A text with its blocks written anew.

    Args:
        text: with the markers of each block.
        blocks: name to what stands between its markers.
        name: of the file, for the refusal.

    Raises:
        SpecError: when the text has lost a marker.
    """
    for block, made in blocks.items():
        start, end = markers(block)
        before, opened, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (opened and closed):
            raise SpecError(f"{name} must hold the markers {start} and {end}.")
        text = f"{before}{start}\n{made}\n{end}{after}"
    return text


def write(path: Path | None = None, figures: Path | None = None) -> str:
    """Bring README, ``docs/`` and launcher up to date with the published figures, the registry and the perspectives.

    Args:
        path: the README; None takes the checkout's. The pages of methods and augmentations are ``docs/methods.md`` and
            ``docs/augmentations.md`` beside it, the launcher is ``notebooks/start.ipynb``, each if there.
        figures: the published set; None takes ``figures/`` beside the README.

    Returns:
        The README's text.

    Raises:
        SpecError: when one of them has lost a marker.
    """
    path = path or CHECKOUT / "README.md"
    verdicts, *tables = BLOCKS
    made = verdict_block(figures or path.parent / "figures")
    text = filled(path.read_text(encoding="utf-8"), {verdicts: made}, path.name)
    write_file(path, text)
    for block, make in zip(tables, (method_block, augmentation_block), strict=True):
        page = path.parent / "docs" / f"{block}.md"
        if page.is_file():
            write_file(page, filled(page.read_text(encoding="utf-8"), {block: make()}, page.name))
    launcher = path.parent / "notebooks" / "start.ipynb"
    if launcher.is_file():
        notebook = json.loads(launcher.read_text(encoding="utf-8"))
        (cell,) = (cell for cell in notebook["cells"] if cell["id"] == "reproduce")
        source = filled("".join(cell["source"]), {"perspectives": perspective_block()}, launcher.name)
        cell["source"] = source.splitlines(keepends=True)
        write_file(launcher, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    return text


def perspective_block() -> str:
    """One row per perspective: its title and its question."""
    modules = {name: importlib.import_module(f"kdlab.perspectives.{name}") for name in NAMES}
    rows = [(f"[{module.TITLE}](perspectives/{name}.ipynb)", module.QUESTION) for name, module in modules.items()]
    return _table(("perspective", "its question"), rows)


def verdict_block(figures: Path) -> str:
    """The answer in short, the verdicts, a column for each published data set, and the first figures."""
    studies = load_verdicts(figures)
    if not studies:
        return "_Nothing published yet: `make figures`, then `make publish`._"
    sets, perspectives = data_sets(studies), by_perspective(studies)
    verdicts = [f"found on {title}" for title in sets.values()] if len(sets) > 1 else ["what was found"]
    rows, images, large = [], [], []
    for own in perspectives:
        first = next(iter(own.values()))
        page = f"notebooks/perspectives/{first['perspective']}.ipynb"
        outcomes = [_found(own[name]) if name in own else "–" for name in sets]
        rows.append((f"[{first['title']}]({page})", first["claim"], *outcomes))
        there = [own[name] for name in sets if name in own and own[name]["figures"]]
        if first["perspective"] in LARGE:
            large += [f"<p>{_image(figures, study, '100%')}</p>\n" for study in there]
        else:
            images.append([_image(figures, study) for study in there])
    table = _table(("perspective", "claim", *verdicts), rows)
    places = {study["folder"]: study["data_title"] for study in studies}
    glance = [_overview(figures, place, title if len(sets) > 1 else "") for place, title in places.items()]
    gallery_line = "Captions, intervals and numbers are in the gallery, `figures/index.html`."
    # One set: two perspectives in a row; several: a row for each perspective.
    lines = [[image for own in images for image in own]] if len(sets) == 1 else images
    paragraphs = [line for own in lines for line in (f"<p>{' '.join(own)}</p>", "")]
    elsewhere = processors(figures)
    said = ["", f"On another processor: {elsewhere['sentence']}"] if elsewhere else []
    answers = [_in_short([s for s in studies if s["data"] == name], title) for name, title in sets.items()]
    head = [*filter(None, answers), *filter(None, glance), *large]
    return "\n".join([*head, table, "", *paragraphs, gallery_line, *said])


def _in_short(studies: Sequence[Mapping[str, Any]], title: str) -> str:
    """What was found on one data set, for who reads nothing else: counts, the first findings of each outcome, control.

    Of each outcome at most ``SHORT`` findings in points of accuracy, one a perspective: of what is supported the
    largest gains, of the rest those that their notebooks ask first. Empty without claims.
    """
    judged = [(study["title"], verdict) for study in studies for verdict in study["verdicts"]]
    claims = [(name, verdict) for name, verdict in judged if verdict["role"] == "claim"]
    if not claims:
        return ""
    counts = Counter(verdict["outcome"] for _, verdict in claims)
    seeds = {study["title"]: len(study["seeds"]) for study in studies if "seeds" in study}
    usual = Counter(seeds.values()).most_common(1)[0][0] if seeds else 0
    others = [f"*{name}*: {number}" for name, number in seeds.items() if number != usual]
    many = f", {usual} seeds" * bool(usual) + f" ({', '.join(others)})" * bool(others)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])
    lines = [
        f"**In short**, on {title}{many}: of {len(claims)} comparisons {told}. JDA is joint augmentation, many "
        "operations at once; two weak views are its control of equal cost.", "",
    ]  # fmt: skip
    for outcome in OUTCOMES:
        own = [(name, v) for name, v in claims if v["outcome"] == outcome and v.get("unit", "points") == "points"]
        if outcome == "supported":
            gains = [pair for pair in own if pair[1].get("expects", "positive") == "positive"]
            own = sorted(gains, key=lambda pair: -pair[1]["effect"])
        first: dict[str, str] = {}
        for name, verdict in own:
            first.setdefault(name, f"*{name}*: {_brief(verdict)}")
        if first:
            lines.append(f"- **{outcome.capitalize()}**. " + "; ".join([*first.values()][:SHORT]) + ".")
    controls = [verdict for _, verdict in judged if verdict["role"] == "positive control"]
    if controls:
        held = sum(verdict["outcome"] == "supported" for verdict in controls)
        lines.append(f"- **Does distillation work here at all?** {_brief(controls[0])}: {controls[0]['outcome']}. "
                     f"Positive controls that hold: {held} of {len(controls)}.")  # fmt: skip
    return "\n".join([*lines, ""])


def _brief(verdict: Mapping[str, Any]) -> str:
    """A verdict's effect in words, without its interval and outcome."""
    finding = verdict.get("finding", verdict["name"]).partition(f": {verdict['outcome']}")[0]
    return re.sub(r" \[[^\]]*\]", "", finding)


def _overview(figures: Path, place: str, title: str) -> str:
    """The figure of all claims of a data set, where it has been drawn."""
    if not drawn(figures / place):
        return ""
    stem = (Path(place) / NAME).as_posix()
    alt = escape(f"{title}: " * bool(title) + record(figures / f"{stem}.json")["alt"])
    return f'<p><img src="figures/{stem}.png" width="100%" alt="{alt}"></p>\n'


def _found(study: Mapping[str, Any]) -> str:
    """A study's verdict and what its claims came to; of many claims those that are decided, and how many are not."""
    claims = [v for v in study["verdicts"] if v["role"] == "claim"]
    told = claims if len(claims) <= FEW else [v for v in claims if v["outcome"] != "undecided"]
    left = len(claims) - len(told)
    lines = [v.get("finding", f"{v['name']}: {v['outcome']}") for v in told]  # older studies have no findings
    if left:
        lines.append(f"{left} {'others ' if told else 'comparisons '}undecided")
    return "<br>".join([f"**{study['overall']}**", *lines])


def _image(figures: Path, study: Mapping[str, Any], width: str = "49%") -> str:
    """A study's first figure."""
    stem = (Path(study["folder"]) / study["figures"][0]).as_posix()
    alt = record(figures / f"{stem}.json")["alt"]
    where = f" on {study['data_title']}" if study["folder"] else ""
    text = escape(f"{study['title']}{where}: {alt}")
    return f'<img src="figures/{stem}.png" width="{width}" alt="{text}">'


def method_block(tests: Path = CHECKOUT / "tests") -> str:
    """One row per method: what it does, what it needs, where it is from, and what its numbers were checked against.

    Args:
        tests: folder of the tests, which are read and not run.
    """
    proofs = checks(sorted(tests.glob("test_losses_*.py")))
    head = ("method", "what it does", "knowledge", "coupling", "needs", "reference", "numbers checked against")
    rows = []
    for entry in [*(e for group in by_knowledge().values() for e in group), *preparing()]:
        needs = ", ".join(entry.needs) or "nothing"
        proof = ", ".join(proofs.get(entry.name, ()))
        rows.append((f"`{entry.name}`", summary(entry), entry.knowledge, entry.coupling, needs,
                     reference(entry), proof))  # fmt: skip
    lines = (
        f"{len(rows)} methods; `kdlab methods` lists them in a terminal, `kdlab methods NAME` shows the formula. Each",
        "of them passes the property tests: gradients against finite differences, any order of rows, half precision,",
        "resume after a stop, and a golden digest of 50 steps. The last column names what its numbers were held",
        "against: *numpy* is the formula written out again, *torchdistill* is that library's loss, *golden vector* are",
        "stored numbers that were computed apart.",
    )
    return "\n".join([*lines, "", _table(head, rows)])


def augmentation_block() -> str:
    """One row per class of augmentations."""
    head = ("augmentation", "what it does", "mixes or picks")
    rows = [(", ".join(f"`{e.name}`" for e in own), summary(own[0]), mixes_or_picks(own[0])) for own in families()]
    return "\n".join([
        f"{sum(map(len, families()))} augmentations; `kdlab augmentations --data NAME` adds which of them may change "
        "the label of an image.", "", _table(head, rows),
    ])  # fmt: skip


def reference(entry: Entry) -> str:
    """What stands behind ``Reference:`` in a part's text; empty without such a paragraph."""
    for paragraph in entry.text.split("\n\n"):
        if paragraph.startswith("Reference:"):
            return " ".join(paragraph.removeprefix("Reference:").split())
    return ""


def checks(files: Iterable[Path]) -> dict[str, list[str]]:
    """What each method's numbers are checked against, read from the tests without running them.

    Args:
        files: tests with a dict ``RESTATED`` and perhaps tuples (or dicts) of the other names in ``PROOFS``.

    Returns:
        Method to words such as ``"numpy"``, in the order of ``PROOFS``.
    """
    listed: dict[str, set[str]] = {proof: set() for proof in PROOFS}
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for name in {t.id for t in targets if isinstance(t, ast.Name)} & set(PROOFS):
                listed[name] |= _named(node.value)
    every = sorted(set().union(*listed.values()))
    return {method: [word for proof, word in PROOFS.items() if method in listed[proof]] for method in every}


def _named(node: ast.expr) -> set[str]:
    """The strings that a literal lists: keys of dicts, items of tuples, lists and sets, also joined by ``|`` or +."""
    if isinstance(node, ast.BinOp):
        return _named(node.left) | _named(node.right)
    items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
    return {item.value for item in items if isinstance(item, ast.Constant)}


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
