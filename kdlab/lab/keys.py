"""Keys of runs and teachers: the spec without what cannot matter, plus what decides a result beyond it, hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kdlab import data
from kdlab.memo import memoised
from kdlab.registry import find
from kdlab.spec import Checkpoint, RunSpec

SCHEMA = 3  # raised when what every run draws, reads or counts changes
TRUTHS = ("nesterov", "adaptive")  # fields of an optimiser that are true or false


def from_data(spec: RunSpec) -> dict[str, Any]:
    """The parts of a normal form that only the data tell, and the teacher's key, which stands on them too."""
    data_parts = {"data": data.fingerprint(spec.data), "sizes": data.sizes(spec.data, spec.sizes), "steps": steps(spec)}
    return data_parts | ({"teacher": teacher_key(spec.teacher)} if spec.teacher is not None else {})


def normal(spec: RunSpec, data_parts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The spec with everything that cannot matter taken out, and what decides a result beyond it put in.

    Defaults of options are dropped; without augmented rows the policy is dropped; a budget in any unit becomes steps;
    the data becomes its fingerprint, the teacher its key; every registered part brings its revision.

    Args:
        spec: the run.
        data_parts: what ``from_data`` gives where the data are; None asks it here.
    """
    data_parts = from_data(spec) if data_parts is None else data_parts
    augmented = spec.ratio > 0 and spec.augmentation != "weak"
    parts = {"models": spec.model, "losses": spec.method, "augment": spec.augmentation if augmented else "weak"}
    entries = {kind: find(kind, name) for kind, name in parts.items()}

    def chosen(kind: str, options) -> dict:
        default = entries[kind].options
        return {k: float(v) if type(v) is int else v for k, v in options.items() if _flat(v) != _flat(default.get(k))}

    rule = {"lr": spec.optimiser.lr, "momentum": spec.optimiser.momentum, "weight_decay": spec.optimiser.weight_decay,
            "warmup": spec.optimiser.warmup, "schedule": spec.optimiser.schedule,
            "nesterov": spec.optimiser.nesterov and spec.optimiser.momentum > 0}  # fmt: skip
    if spec.optimiser.schedule == "step":
        rule["milestones"] = list(spec.optimiser.milestones)
    if spec.optimiser.rho:  # left out otherwise: runs of plain SGD keep the keys they had before there was SAM
        rule |= {"rho": spec.optimiser.rho, "adaptive": spec.optimiser.adaptive}
    plain: dict[str, Any] = {
        "schema": SCHEMA,
        **data_parts,
        "fraction": float(spec.fraction),
        "parts": parts,
        "revisions": {kind: entry.revision for kind, entry in entries.items()},
        "method_options": chosen("losses", spec.method_options),
        "views": spec.views,
        "originals_per_step": spec.budget.originals_per_step,
        "optimiser": {k: float(v) if isinstance(v, int | float) and k not in TRUTHS else v for k, v in rule.items()},
        "seed": spec.seed,
        "replicate": spec.replicate,
        "streams": spec.streams,
        "precision": spec.precision,
    }
    if wraps := entries["losses"].wraps:
        base = dict(entries["losses"].options | spec.method_options)[wraps]
        plain["revisions"]["base"] = find("losses", base).revision
    if spec.model_options:
        plain["model_options"] = chosen("models", spec.model_options)
    if augmented and spec.hard_labels != "all":
        plain["hard_labels"] = spec.hard_labels
    if augmented:
        plain |= {"ratio": float(spec.ratio), "augmentation_options": chosen("augment", spec.augmentation_options)}
    if spec.teacher is not None:
        plain |= {"teacher_view": spec.teacher_view, "teacher_precision": spec.teacher_precision}
    return plain


def _flat(value: Any) -> Any:
    """Lists for tuples: json knows no tuples, and a spec that came from json is the same spec."""
    return list(value) if isinstance(value, tuple) else value


def steps(spec: RunSpec) -> int:
    """Optimiser steps of a spec on its own training subset."""
    return spec.budget.steps(data.train_size(spec.data, spec.sizes, spec.fraction), spec.views)


@memoised
def run_key(spec: RunSpec) -> str:
    """The run's address: 16 hexadecimal digits of the hash of its normal form."""
    return digest(normal(spec))


def teacher_key(teacher: RunSpec | Checkpoint) -> str:
    """The key of a teacher: of its spec, or of its file's digest and architecture."""
    if isinstance(teacher, RunSpec):
        return run_key(teacher)
    revision = find("models", teacher.arch).revision
    chosen = {"options": dict(teacher.options), "weights": teacher.weights, "classes": list(teacher.classes)}
    chosen = {field: value for field, value in chosen.items() if value}
    return digest({"checkpoint": teacher.sha256, "arch": teacher.arch, "revision": revision} | chosen)


def digest(plain: dict) -> str:
    """The key that a normal form hashes to: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
