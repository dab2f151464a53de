"""Captions of the live trainer: of a run, of its teacher, and of what it came to."""

from __future__ import annotations

from html import escape

import numpy as np

from kdlab import lab
from kdlab.lab.shipped import shipped
from kdlab.lab.store import Store
from kdlab.spec import RunSpec

SEEDS = 10  # whose teachers are looked for
SHIPPED = (
    " The one that comes with the package was trained elsewhere, with other bits; a student's key would not tell under "
    "which of them it was trained. So it is there to look through."
)


def run_name(spec: RunSpec) -> str:
    """What a run is called in the picture: method, augmentation, budget and seed."""
    policy = f" + {spec.augmentation}" if spec.ratio > 0 else (" + weak2" if spec.views == 2 else "")
    return f"{spec.method}{policy}, {spec.budget.amount:g} {spec.budget.unit.replace('_', ' ')}, seed {spec.seed}"


def teacher_text(spec: RunSpec, store: Store) -> str:
    """Whether a teacher is trained first, as an HTML fragment: each seed has its own, as in every comparison.

    Args:
        spec: of the student.
        store: where teachers are.
    """
    if not isinstance(teacher := spec.teacher, RunSpec):
        return "No teacher is trained for it."
    name = f"{escape(teacher.model)} of seed {teacher.seed}"
    if store.has(lab.run_key(teacher)):
        return f"Teacher: {name}, which is in the store."
    there = [str(seed) for seed in range(SEEDS) if store.has(lab.run_key(teacher.at_seed(seed)))]
    instead = f" Trained already: that of seed {', '.join(there)}." if there else ""
    ours = SHIPPED if shipped([lab.run_key(teacher)]) else ""
    return f"<b>Each seed has its own teacher: {name} is not trained yet, and Start trains it first.</b>{instead}{ours}"


def caption(key: str, spec: RunSpec, store: Store) -> str:
    """What would be trained, or what a finished run came to and cost, as an HTML fragment.

    Args:
        key: of the run.
        spec: of the run.
        store: where it is, once it is finished.
    """
    if not store.has(key):
        plan = escape(lab.plan([spec]).describe()).replace("\n", "<br>")
        return f"{teacher_text(spec, store)}<br>{plan}"
    r = store.read(key, "result")
    if r["diverged"]:
        return f"<b>This run diverged at step {r['diverged_at']}.</b> It stays in the store as such."
    from_teacher = f", agrees with its teacher on {r['agreement']:.1f} %" if np.isfinite(r["agreement"]) else ""
    level = r.get("teacher_val_accuracy", np.nan)
    if np.isfinite(level):
        from_teacher += f"; on val it has {r['val_accuracy']:.1f} %, its teacher {level:.1f} %"
    return (
        f"<b>{run_name(spec)}: {r['test_accuracy']:.1f} % on test</b> (last epoch, scored once){from_teacher}. "
        f"It cost {r['student_images']:,} student images, {r['teacher_forwards']:,} teacher forwards, "
        f"{r['steps']:,} steps and {r['seconds']:.0f} s. One seed is an anecdote: "
        f"<code>kdlab run {spec.method} --seeds 6</code> makes evidence.<br>Run <code>{key}</code>"
    )
