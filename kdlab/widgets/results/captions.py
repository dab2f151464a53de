"""Captions of the results browser: of two arms, of a run, and of runs that could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from kdlab import stats
from kdlab.lab.measured import REVISIONS
from kdlab.lab.sources import LEDGER
from kdlab.plotting.look import few_seeds
from kdlab.widgets.drawing import Drawing
from kdlab.widgets.results.selection import Selection
from kdlab.widgets.results.table import origin
from kdlab.widgets.runs.arms import ACCURACIES, COSTS, TEACHER
from kdlab.widgets.runs.controls import FILL, nothing
from kdlab.widgets.runs.read import Runs

HINDSIGHT = "These arms were chosen after seeing results: this is a hint, and a claim listed in advance is a test."
OMITTED = ("what", "files", "steps")  # a name, a digest, and what stands among the costs
ONE_SIDED = ("hard_labels", "teacher_view")  # nothing differs where only one arm has them


def count_text(chosen: Selection) -> str:
    """``12 runs of 390 in 2 arms``."""
    runs, arms = len(chosen.table), len(chosen.arms)
    taken = int((chosen.table["source"] == LEDGER).sum())
    words = f", {taken:,} of them from the ledger" if taken else ""
    return f"{runs:,} run{'s' * (runs != 1)} of {len(chosen.runs.table):,} in {arms:,} arm{'s' * (arms != 1)}{words}"


def verdict_text(verdict: stats.Verdict | None, chosen: Selection, findings: Sequence[stats.Finding] = ()) -> str:
    """Health, the sentence of the verdict behind its badge, and what a reader must know about the rows."""
    if verdict is None:
        return f"<p><b>A</b> is {escape(chosen.first)}. Choose another arm as B to compare them.</p>"
    badge = f'<span class="kd-badge kd-{verdict.outcome}">{verdict.outcome}</span>'
    flags = "".join(f"<br>Note: {escape(flag)}." for flag in verdict.flags)
    first, second = escape(chosen.first), escape(chosen.second)
    who = f"<b>A</b> is {first}, <b>B</b> is {second}; the question is whether A is better."
    who += f"<br>{escape(stats.health_line(findings))}" + (f"<br>{told}." if (told := few_seeds(verdict.n)) else "")
    return f"<p>{who}<br>{badge} {escape(verdict.reason)}{flags}<br>{HINDSIGHT}</p>"


def difference_text(chosen: Selection) -> str:
    """A table of the facts in which two arms differ, and of their costs."""
    if chosen.first == chosen.second:
        return ""
    pair = [chosen.of(arm) for arm in (chosen.first, chosen.second)]
    a, b = (chosen.runs.facts[runs.index[0]] for runs in pair)
    both = {n for n in (*a, *b) if n.rsplit(".")[-1] in ONE_SIDED and not (n in a and n in b)}
    names = [n for n in dict.fromkeys([*a, *b]) if n.rsplit(".")[-1] not in OMITTED and n not in both]
    names = [n for n in names if a.get(n) != b.get(n)]
    rows = {n: [str(facts.get(n, "none")) for facts in (a, b)] for n in names}
    rows |= {text: [f"{runs[cost].median():,.0f}" for runs in pair] for cost, text in COSTS.items()}
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(text)}</td>" for text in texts)}</tr>'
        for name, texts in rows.items()
    )
    head = '<tr><th></th><th scope="col">A</th><th scope="col">B</th></tr>'
    return f"<h3>What differs, and what it costs</h3>\n<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def run_text(chosen: Selection) -> str:
    """Arm, seed, accuracies and cost of the run that is opened."""
    row = chosen.table.loc[chosen.run]
    accuracies = ", ".join(f"{text} {row[name]:.2f} %" for name, text in ACCURACIES.items())
    accuracies = "it diverged" if row["diverged"] else accuracies
    if (level := row.get(TEACHER, float("nan"))) == level:
        accuracies += f", its teacher's val accuracy {level:.2f} %"
    return (
        f"<h3>Run {chosen.run[:8]}</h3>\n"
        f"<p>{escape(row['arm'])}, seed {row['seed']}{origin(row['source'])}, on {escape(row['data'])}: "
        f"{accuracies}; {row['steps']:,} steps, {row['student_images']:,} student images, {row['seconds']:.0f} s. "
        "Confusions and reliability are of the val images: the test set is scored once and not looked into. "
        f"Key <code>{chosen.run}</code>.</p>"
    )


def measured_text(chosen: Selection) -> str:
    """What was measured of the opened run afterwards, beside the means of both arms; empty where nothing was."""
    table, run = chosen.table, chosen.table.loc[chosen.run]
    columns = {"this run": table.loc[[chosen.run]]}
    columns |= {letter: chosen.of(arm) for letter, arm in dict(A=chosen.first, B=chosen.second).items()}
    parts = []
    for measure in REVISIONS:
        own = [name for name in table if name.startswith(f"{measure}.") and name != f"{measure}.revision"]
        numbers = [name for name in own if run[name] == run[name]]
        if not numbers:
            continue
        body = "".join(
            f'<tr><th scope="row">{escape(name.partition(".")[2].replace(".", ", ").replace("_", " "))}</th>'
            + "".join(f"<td>{rows[name].mean():.4g}</td>" for rows in columns.values()) + "</tr>"
            for name in numbers
        )  # fmt: skip
        many = f"{len(numbers)} number{'s' * (len(numbers) != 1)}"
        head = "<tr><th></th>" + "".join(f'<th scope="col">{name}</th>' for name in columns) + "</tr>"
        parts.append(
            f'<details class="kd-numbers"><summary>Measured afterwards: {measure} ({many})</summary>'
            f'<div class="kd-scroll" tabindex="0" role="region" aria-label="{measure}">\n'
            f"<table><thead>{head}</thead><tbody>{body}</tbody></table></div></details>"
        )
    return "\n".join(parts)


def unreadable_text(runs: Runs) -> str:
    """Which runs are left out since their files cannot be read; empty when there are none."""
    if not (lost := list(runs.unreadable)):
        return ""
    keys = ", ".join(key[:8] for key in lost[:4]) + (" …" if len(lost) > 4 else "")
    return f"{len(lost)} cannot be read and {'is' if len(lost) == 1 else 'are'} left out: {keys}."


def nothing_text(runs: Runs) -> Drawing:
    """In place of a picture, where no run passes the filters or the store is empty."""
    if len(runs.table):
        text = f"None of the {len(runs.table):,} runs here passes these filters."
        return nothing(text, "Set a filter back to <code>all</code>, or empty the field <code>where</code>.")
    train = f"Train some: <code>{FILL}</code>, or one by <code>kdlab run kd</code>. Then press Refresh."
    return nothing("The store holds no finished run yet.", f"{train} {unreadable_text(runs)}")
