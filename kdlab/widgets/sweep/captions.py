"""What the budget explorer says: of a point, of what is held fixed, of cost beside accuracy, and of what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from kdlab import perspectives
from kdlab.errors import SpecError
from kdlab.lab.store import Store
from kdlab.spec import Budget, RunSpec
from kdlab.widgets.runs.arms import COSTS
from kdlab.widgets.runs.panels import interval_words
from kdlab.widgets.sweep.commands import command, spec_of
from kdlab.widgets.sweep.lines import UNITS, Point, cost_words, seeds_words
from kdlab.widgets.sweep.selection import AXES, Scene, values

MOST_COMMANDS = 3
ORIGINS = {"published": "Published figures (profile quick: 6,000 train, 1,000 val, 5,000 test images)",
           "store": "Runs of your store", "given": "The given runs"}  # fmt: skip


def number(value: float) -> str:
    """``2.5``, ``59,520``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def axis(settings: Mapping[str, Any]) -> str:
    """Name of the horizontal axis, with its unit."""
    return UNITS[settings["unit"]] if settings["x"] == "budget" else AXES[settings["x"]]


def tell(point: Point, settings: Mapping[str, Any]) -> str:
    """The runs behind a point: arm, mean and interval, seeds, the beginnings of their keys, and what one costs."""
    lost = f", diverged: seed {seeds_words(point.diverged)}" if point.diverged else ""
    where = {"ratio": "% augmented rows", "shots": "% of the images", "budget": UNITS[settings["unit"]]}[settings["x"]]
    keys = ", ".join(run["key"][:8] for run in point.runs)
    return (
        f"{point.line} at {number(point.x)} {where}\n{interval_words(point.mean)}{lost}\n"
        f"seed {seeds_words(point.seeds)}: {keys}\n{cost_words(point)}"
    )


def held_words(scene: Scene, settings: Mapping[str, Any]) -> str:
    """What does not vary in the chart."""
    fixed, words = scene.fixed, {
        "ratio": "{} % augmented rows where a line is augmented", "shots": "{} % of the training images",
        "budget": f"{{}} {UNITS[settings['unit']]}",
    }  # fmt: skip
    return "; ".join(text.format(number(fixed[name])) for name, text in words.items() if name != settings["x"])


def words_of(scene: Scene, settings: Mapping[str, Any], source: str, store: Store) -> str:
    """All words under the chart, as an HTML fragment.

    Args:
        scene: what is shown.
        settings: of the explorer.
        source: ``"published"``, ``"store"`` or ``"given"``.
        store: where specs of stored runs are.
    """
    parts = [f"<p><b>Held fixed:</b> {held_words(scene, settings)}.</p>", _costs(scene, settings)]
    parts.append(f"<p>{escape(_origin(scene, source))}</p>")
    if scene.more:
        parts.append(f"<p>{scene.more} more lines: choose a method or an augmentation.</p>")
    if scene.twice:
        parts.append(f"<p>{scene.twice} runs are left out: another of their seed stands for the same point.</p>")
    return "\n".join([*parts, _missing(scene, settings, source, store)])


def _origin(scene: Scene, source: str) -> str:
    runs = [run for point in scene.points for run in point.runs]
    teachers = ", ".join(sorted({run["teacher"] for run in runs if isinstance(run["teacher"], str)})) or "none"
    seeds = seeds_words({run["seed"] for run in runs})
    return (
        f"{ORIGINS[source]}. Data and student: {runs[0]['where']}; teacher: {teachers}. Seeds {seeds} as thin lines, "
        "their means with 95 % t-intervals. Last epoch, nothing chosen on test."
    )


def _costs(scene: Scene, settings: Mapping[str, Any]) -> str:
    """Accuracy at each x beside the cost of a run, one row per line."""
    xs = sorted({p.x for p in scene.points})
    heads = [*map(number, xs), *COSTS.values()]
    rows = []
    for line in scene.lines:
        own = {p.x: p for p in scene.points if p.line == line}
        means = [f"{own[x].mean.mean:.1f}" if x in own and own[x].mean.n else "–" for x in xs]
        costs = [" to ".join(f"{v:,.0f}" for v in sorted({f(p.cost(c) for p in own.values()) for f in (min, max)}))
                 for c in COSTS]  # fmt: skip
        cells = "".join(f'<td class="kd-number">{text}</td>' for text in (*means, *costs))
        rows.append(f'<tr><th scope="row">{escape(line)}</th>{cells}</tr>')
    head = f'<th scope="col">mean accuracy (%) at {axis(settings)}</th>'
    head += "".join(f'<th scope="col" class="kd-number">{text}</th>' for text in heads)
    return f'<div class="kd-scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _missing(scene: Scene, settings: Mapping[str, Any], source: str, store: Store) -> str:
    """Where a line has no run that others have, and the commands that would make the first of them."""
    x, gaps = settings["x"], []
    at = {p.x for p in scene.points} | (set(values(scene.rows[x])) if x != "budget" else set())
    for line in sorted(scene.lines, key=lambda line: -sum(p.line == line for p in scene.points)):
        own = [p for p in scene.points if p.line == line]
        if x == "ratio" and not any(p.x > 0 for p in own):
            continue  # without a policy there is no share of it
        gaps += [(own[-1], value) for value in sorted(at - {p.x for p in own})]
    said = []
    for point, value in gaps[:MOST_COMMANDS]:
        code = _command(point, scene.fixed | {x: value}, settings["unit"], source, store)
        name = f"{point.line} at {number(value)}{'' if x == 'budget' else ' %'}"
        said.append(f"{escape(name)}{f': <code>{escape(code)}</code>' if code else ''}")
    if not said:
        return ""
    more = f"<br>and {len(gaps) - len(said)} more points." if len(gaps) > len(said) else ""
    return f"<p><b>No run yet</b> for<br>{'<br>'.join(said)}{more}</p>"


def _command(point: Point, at: dict[str, float], unit: str, source: str, store: Store) -> str:
    row, seeds, key = point.runs[-1], point.seeds, point.runs[-1]["key"]
    try:
        if source == "published":
            size, key = perspectives.profile("quick"), None
            spec = spec_of(size, row["method"], row["augmentation"], int(row["views"]), float(row["ratio"]) / 100)
        elif store.has(key):
            spec = RunSpec.from_dict(store.read(key, "spec")["spec"])
        else:
            return ""
        budget = Budget(float(f"{at['budget']:.6g}"), unit, spec.budget.originals_per_step)
        ratio = at["ratio"] / 100 if row["augmented"] else 0.0
        return command(spec.replace(ratio=ratio, fraction=at["shots"] / 100, budget=budget), seeds, key)
    except SpecError:  # such a run cannot be made
        return ""
