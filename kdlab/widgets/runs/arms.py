"""Arms, which are runs that differ in the seed alone: what decided them, what they are called, and how they look."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from kdlab import stats
from kdlab.plotting.look import LOOKS, SPARE_COLOURS, SPARE_MARKERS, style

ACCURACIES = {"test_accuracy": "test accuracy", "val_accuracy": "val accuracy"}
TEACHER = "teacher_val_accuracy"
COSTS = {"student_images": "student images", "teacher_forwards": "teacher forwards", "steps": "steps"}
UNNAMED = ("steps", "files", "method", "augmentation", "views", "ratio", "seed")  # in an arm's name only through others


# ---- what decided a run ----------------------------------------------------------------------------------------------


def run_facts(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the seed that decided a run, flat and without what cannot matter, in the spec's own names.

    Args:
        saved: a run's ``spec.json``.
    """
    spec, normal = saved["spec"], saved["normal"]
    exact = {name: normal.get(name, {}) for name in ("model_options", "method_options", "augmentation_options")}
    revisions = {f"revisions.{kind}": number for kind, number in normal.get("revisions", {}).items()}
    return _facts(spec | exact, spec["seed"]) | {"steps": normal["steps"], "files": normal["data"]} | revisions


def _facts(spec: Mapping[str, Any], seed: int) -> dict[str, Any]:
    if "sha256" in spec:
        return {"model": spec["arch"], "file": spec["sha256"][:8]} | _options("model_options", spec["options"])
    augmented = spec["ratio"] > 0 and spec["augmentation"] != "weak"
    policy, teacher, budget = spec["augmentation"] if augmented else "weak", spec["teacher"], spec["budget"]
    ratio = float(spec["ratio"]) if augmented else 0.0
    facts = {
        "what": f"{spec['method']} {view_name(policy, spec['views'], ratio)}", "data": spec["data"],
        "sizes": " / ".join(map(str, spec["sizes"] or ["all"])), "fraction": float(spec["fraction"]),
        "model": spec["model"], "method": spec["method"], "augmentation": policy, "views": spec["views"],
        "ratio": ratio, "budget": budget_name(budget["amount"], budget["unit"]),
        "originals_per_step": budget["originals_per_step"], "replicate": spec["replicate"],
        "precision": spec["precision"], "file": None, "seed": "its own" if spec["seed"] == seed else spec["seed"],
    }  # fmt: skip
    if augmented:
        facts |= {"hard_labels": spec["hard_labels"]} | _options("augmentation_options", spec["augmentation_options"])
    plain_sgd = {"rho": 0.0, "adaptive": False}  # which a spec does not say of itself
    for group in ("model_options", "method_options", "optimiser"):
        facts |= _options(group, (plain_sgd if group == "optimiser" else {}) | spec[group])
    if teacher:
        facts |= {"teacher_view": spec["teacher_view"]}
        facts |= {f"teacher.{name}": value for name, value in _facts(teacher, seed).items()}
    return facts


def _options(group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{group}.{name}": value for name, value in options.items()}


def row_facts(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the row of a table says of the facts, for runs whose specs are not at hand.

    Args:
        row: columns as in ``lab.table``; with a column ``arm``, other words for an arm keep it apart.
    """
    augmented = row["ratio"] > 0 and row["augmentation"] != "weak"
    policy, ratio, views = row["augmentation"] if augmented else "weak", float(row["ratio"]), int(row["views"])
    facts = {
        "what": f"{row['method']} {view_name(policy, views, ratio)}", "data": row["data"],
        "fraction": float(row["fraction"]), "model": row["student"], "method": row["method"], "augmentation": policy,
        "views": views, "ratio": ratio, "replicate": int(row["replicate"]), "steps": int(row["steps"]),
        "budget": budget_name(row["budget_amount"], row["budget_unit"]),
        "originals_per_step": round(row["student_images"] / (row["steps"] * views)),
    }  # fmt: skip
    return facts if pd.isna(row["teacher"]) else facts | {"teacher.model": row["teacher"]}


# ---- names and looks -------------------------------------------------------------------------------------------------


def view_name(augmentation: str, views: int, ratio: float) -> str:
    """``weak``, ``weak2``, ``jda``, or ``jda 25 % of 2 views`` where half of two views is not what is augmented."""
    if ratio <= 0 or augmentation == "weak":
        return "weak" if views == 1 else f"weak{views}"
    return augmentation if (views, ratio) == (2, 0.5) else f"{augmentation} {100 * ratio:.3g} % of {views} views"


def budget_name(amount: float, unit: str) -> str:
    """``5 epochs``, ``59,520 student images``."""
    return f"{amount:,.4g} {unit}".replace("_", " ") if amount < 1000 else f"{amount:,.0f} {unit}".replace("_", " ")


def arm_key(facts: Mapping[str, Any], without: Iterable[str] = ("budget", "what")) -> str:
    """Facts as one text, the same for all runs of an arm; a budget counts by its steps, whatever its unit."""
    return json.dumps({k: v for k, v in facts.items() if k not in without}, sort_keys=True, default=str)


def arm_names(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A name for each run's arm: method and views, and what of it is unusual among these runs.

    Args:
        facts: by key of the run.

    Returns:
        Key to name; two keys have the same name exactly when their arm is the same.
    """
    arms = {key: arm_key(own) for key, own in facts.items()}
    in_epochs = sorted(arms, key=lambda key: not facts[key]["budget"].endswith("epochs"))  # the usual way to say it
    first = {arms[key]: key for key in reversed(in_epochs)}
    usual = usual_values(facts[key] for key in first.values())
    names = {arm: ", ".join([facts[key]["what"], *unusual(facts[key], usual)]) for arm, key in first.items()}
    taken = Counter(names.values())
    unique = {arm: name if taken[name] == 1 else f"{name} ({first[arm][:8]})" for arm, name in names.items()}
    return {key: unique[arm] for key, arm in arms.items()}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """In how many things two arms differ, and which: what is decided together counts once.

    Args:
        one, other: facts, of ``run_facts``.

    Returns:
        Names such as ``"augmentation"`` (with its ratio and options), ``"method"`` (with its options), ``"teacher"``.
    """
    apart = {name for name in (*one, *other) if one.get(name) != other.get(name)}
    return {_thing(name) for name in apart} - {""}


def _thing(name: str) -> str:
    """What a fact is part of; empty for one that follows from others."""
    group = name.split(".")[0]
    together = {"ratio": "augmentation", "hard_labels": "augmentation", "augmentation_options": "augmentation",
                "method_options": "method", "model_options": "model", "teacher_view": "teacher", "steps": "budget",
                "budget": "", "what": "", "files": "", "revisions": ""}  # fmt: skip
    return together.get(group, group)


def usual_values(runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The most frequent value of each fact among those who have it."""
    counts: dict[str, Counter] = {}
    values: dict[tuple[str, str], Any] = {}
    for facts in runs:
        for name, value in facts.items():
            counts.setdefault(name, Counter())[repr(value)] += 1
            values[name, repr(value)] = value
    return {name: values[name, max(c, key=lambda v: (c[v], v))] for name, c in counts.items()}


def unusual(facts: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """What sets facts apart from the usual ones, in words; options of method and policy are always among them."""
    own = ("method_options.", "augmentation_options.")  # those that are the part's defaults are not among the facts
    names = [n for n in facts if n == "teacher.what" or n.rsplit(".")[-1] not in ("what", *UNNAMED)]
    return [_phrase(n, facts[n]) for n in names if n.startswith(own) or facts[n] != usual.get(n)]


def _phrase(name: str, value: Any) -> str:
    if name.startswith("teacher."):
        inner = name.removeprefix("teacher.")
        return f"teacher {str(value).removeprefix('ce ') if inner == 'what' else _phrase(inner, value)}"
    phrases = {"data": f"{value}", "model": f"{value}", "budget": f"{value}", "sizes": f"{value} images",
             "originals_per_step": f"{value} originals a step", "teacher_view": f"teacher sees {value} view",
             "hard_labels": f"hard labels on {value} rows", "file": f"file {value}"}  # fmt: skip
    if name == "fraction":
        return f"{100 * value:g} % of images"
    plain = f"{value:g}" if isinstance(value, float) else value
    return phrases.get(name, f"{name.rsplit('.')[-1]}={plain}" if "_options." in name else f"{name} {plain}")


def look_of(method: str, view: str) -> dict[str, str] | None:
    """How an arm is drawn in the figures; None for one that has no look there.

    Args:
        method: its name.
        view: from ``view_name``.
    """
    plain = {("ce", "weak"): "ce", ("kd", "weak"): "kd", ("ccd", "jda"): "ccd", ("fitnet", "jda"): "fitnet"}
    known = plain.get((method, view)) or (view if method == "kd" and view in LOOKS else None)
    return style(known) if known else None


def looks(arms: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Looks of all arms of a picture by (method, view); markers repeat only when there are more arms than markers."""
    made: list[dict[str, str]] = []
    markers = (*SPARE_MARKERS, *dict.fromkeys(marker for _, _, marker in LOOKS.values()))
    for place, (method, view) in enumerate(arms):
        look, taken = look_of(method, view), {other["marker"] for other in made}
        if look is None or look["marker"] in taken:
            marker = next((m for m in markers if m not in taken), markers[place % len(markers)])
            color = SPARE_COLOURS[place % len(SPARE_COLOURS)]
            look = {"color": color, "marker": marker, "linestyle": "--", "label": ""}
        made.append(look)
    return made


def arms_table(table: pd.DataFrame, metric: str = "test_accuracy") -> pd.DataFrame:
    """One row per arm.

    Args:
        table: runs with a column ``arm``.
        metric: the column that gets an interval.

    Returns:
        Indexed by arm: ``seeds`` that finished, ``diverged`` ones, means of both accuracies and of the teachers' on
        val, in percent, the metric's 95 % t-interval ``low`` to ``high``, and the median cost of a run.
    """
    made = stats.arm_table(table, metric, [*(m for m in ACCURACIES if m != metric), TEACHER])
    columns = ["seeds", "diverged", *ACCURACIES, "low", "high", TEACHER, *COSTS]
    return made.reindex(columns=columns).rename_axis("arm")
