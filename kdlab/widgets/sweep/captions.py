"""Captions of the budget explorer: of a point, of what is held fixed, of costs, and of runs that are missing."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from kdlab.errors import SpecError
from kdlab.lab.store import Store
from kdlab.perspectives import recipes
from kdlab.spec import Budget, RunSpec
from kdlab.widgets.runs.arms import COSTS
from kdlab.widgets.runs.panels import interval_text
from kdlab.widgets.sweep.commands import command
from kdlab.widgets.sweep.lines import UNITS, Point, cost_text, seeds_text
from kdlab.widgets.sweep.selection import AXES, Selection, published_profile, values

MOST_COMMANDS = 3
ORIGINS = {"store": "Runs of your store", "given": "The given runs"}


def number(value: float) -> str:
    """``2.5``, ``59,520``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def axis(settings: Mapping[str, Any]) -> str:
    """Name of the horizontal axis, with its unit."""
    return UNITS[settings["unit"]] if settings["x"] == "budget" else AXES[settings["x"]]


def point_caption(point: Point, settings: Mapping[str, Any]) -> str:
    """The runs behind a point: arm, mean and interval, seeds, the beginnings of their keys, and what one costs."""
    lost = f", diverged: seed {seeds_text(point.diverged)}" if point.diverged else ""
    where = {"ratio": "% augmented rows", "shots": "% of the images", "budget": UNITS[settings["unit"]]}[settings["x"]]
    keys = ", ".join(run["key"][:8] for run in point.runs)
    return (
        f"{point.line} at {number(point.x)} {where}\n{interval_text(point.mean)}{lost}\n"
        f"seed {seeds_text(point.seeds)}: {keys}\n{cost_text(point)}"
    )


def held_fixed(chosen: Selection, settings: Mapping[str, Any]) -> str:
    """What does not vary in the chart."""
    fixed, texts = chosen.fixed, {
        "ratio": "{} % augmented rows where a line is augmented", "shots": "{} % of the training images",
        "budget": f"{{}} {UNITS[settings['unit']]}",
    }  # fmt: skip
    return "; ".join(text.format(number(fixed[name])) for name, text in texts.items() if name != settings["x"])


def caption(chosen: Selection, settings: Mapping[str, Any], source: str, store: Store) -> str:
    """Everything under the chart, as an HTML fragment.

    Args:
        chosen: the selection.
        settings: of the explorer.
        source: ``"published"``, ``"store"`` or ``"given"``.
        store: where specs of stored runs are.
    """
    parts = [f"<p><b>Held fixed:</b> {held_fixed(chosen, settings)}.</p>", _costs(chosen, settings)]
    parts.append(f"<p>{escape(_origin(chosen, source))}</p>")
    if chosen.more:
        parts.append(f"<p>{chosen.more} more lines: choose a method or an augmentation.</p>")
    if chosen.twice:
        parts.append(f"<p>{chosen.twice} runs are left out: another of their seed stands for the same point.</p>")
    return "\n".join([*parts, _missing(chosen, settings, source, store)])


def _origin(chosen: Selection, source: str) -> str:
    runs = [run for point in chosen.points for run in point.runs]
    teachers = ", ".join(sorted({run["teacher"] for run in runs if isinstance(run["teacher"], str)})) or "none"
    seeds = seeds_text({run["seed"] for run in runs})
    return (
        f"{ORIGINS.get(source) or _published()}. Data and student: {runs[0]['where']}; teacher: {teachers}. "
        f"Seeds {seeds} as thin lines, their means with 95 % t-intervals. Last epoch, nothing chosen on test."
    )


def _published() -> str:
    size = published_profile()
    train, val, test = size.sizes
    return f"Published figures (profile {size.name}: {train:,} train, {val:,} val, {test:,} test images)"


def _costs(chosen: Selection, settings: Mapping[str, Any]) -> str:
    """Accuracy at each x beside the cost of a run, one row per line."""
    xs = sorted({p.x for p in chosen.points})
    heads = [*map(number, xs), *COSTS.values()]
    rows = []
    for line in chosen.lines:
        own = {p.x: p for p in chosen.points if p.line == line}
        means = [f"{own[x].mean.mean:.1f}" if x in own and own[x].mean.n else "–" for x in xs]
        costs = [" to ".join(f"{v:,.0f}" for v in sorted({f(p.cost(c) for p in own.values()) for f in (min, max)}))
                 for c in COSTS]  # fmt: skip
        cells = "".join(f'<td class="kd-number">{text}</td>' for text in (*means, *costs))
        rows.append(f'<tr><th scope="row">{escape(line)}</th>{cells}</tr>')
    head = f'<th scope="col">mean accuracy (%) at {axis(settings)}</th>'
    head += "".join(f'<th scope="col" class="kd-number">{text}</th>' for text in heads)
    return f'<div class="kd-scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _missing(chosen: Selection, settings: Mapping[str, Any], source: str, store: Store) -> str:
    """Where a line has no run that others have, and the commands that would make the first of them."""
    x, gaps = settings["x"], []
    at = {p.x for p in chosen.points} | (set(values(chosen.rows[x])) if x != "budget" else set())
    for line in sorted(chosen.lines, key=lambda line: -sum(p.line == line for p in chosen.points)):
        own = [p for p in chosen.points if p.line == line]
        if x == "ratio" and not any(p.x > 0 for p in own):
            continue  # without a policy there is no share of it
        gaps += [(own[-1], value) for value in sorted(at - {p.x for p in own})]
    lines = []
    for point, value in gaps[:MOST_COMMANDS]:
        code = _command(point, chosen.fixed | {x: value}, settings["unit"], source, store)
        name = f"{point.line} at {number(value)}{'' if x == 'budget' else ' %'}"
        lines.append(f"{escape(name)}{f': <code>{escape(code)}</code>' if code else ''}")
    if not lines:
        return ""
    more = f"<br>and {len(gaps) - len(lines)} more points." if len(gaps) > len(lines) else ""
    return f"<p><b>No run yet</b> for<br>{'<br>'.join(lines)}{more}</p>"


def _command(point: Point, at: dict[str, float], unit: str, source: str, store: Store) -> str:
    row, seeds, key = point.runs[-1], point.seeds, point.runs[-1]["key"]
    try:
        if source == "published":
            size, key = published_profile(), None
            share = float(row["ratio"]) / 100 if row["augmentation"] != "weak" else None
            spec = recipes.method(size, row["method"], {})
            spec = recipes.with_views(spec, size, row["augmentation"], int(row["views"]), share)
        elif store.has(key):
            spec = RunSpec.from_dict(store.read(key, "spec")["spec"])
        else:
            return ""
        budget = Budget(float(f"{at['budget']:.6g}"), unit, spec.budget.originals_per_step)
        ratio = at["ratio"] / 100 if row["augmented"] else 0.0
        return command(spec.replace(ratio=ratio, fraction=at["shots"] / 100, budget=budget), seeds, key)
    except SpecError:  # such a run cannot be made
        return ""
