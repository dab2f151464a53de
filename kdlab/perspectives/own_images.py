"""Which augmentation to distil with on one's own images: the study, its answer in words, and a folder to keep."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdlab import data, plotting, stats
from kdlab.augment import label_safety
from kdlab.errors import SpecError, check_integer, choose
from kdlab.lab.datasheet import file_name
from kdlab.paths import absolute, home, write_file
from kdlab.perspectives import advice, recipes
from kdlab.perspectives.notebook_parameters import MOST_SEEDS
from kdlab.perspectives.places import described
from kdlab.perspectives.profiles import profile
from kdlab.perspectives.studies import Study
from kdlab.plotting.look import style
from kdlab.registry import catalogue
from kdlab.spec import Checkpoint
from kdlab.stats import Contrast, Verdict

LABELS, CONTROL = "ce", "weak2"
METRIC = "val_accuracy"
FEW = 200  # val images below which one of them counts for half a point and more
AUGMENTATIONS = ("jda", "rotation")


@dataclass(frozen=True)
class Answer:
    """What a study says.

    Args:
        chosen: the augmentation to distil with; None where none is shown to be better than two weak views.
        lines: in words: what to do, how sure that is, what it was measured with, and at last the test score.
        health: whether the runs are fit to give an answer (``stats.health_line``).
        verdicts: of the augmentations against two weak views.
        ranked: one row per arm: seeds, val accuracy with its 95 % t-interval, and the cost of a run.
    """

    chosen: str | None
    lines: tuple[str, ...]
    health: str
    verdicts: list[Verdict]
    ranked: pd.DataFrame

    @property
    def text(self) -> str:
        """The health of the runs, and the lines."""
        return "\n".join([self.health, *self.lines])


def own_images(
    name: str, *, teacher: str | Checkpoint = "resnet8_s2_w16", student: str = "resnet8_s2_w8",
    augmentations: Sequence[str] = AUGMENTATIONS, seeds: int = 6, epochs: float | None = None,
) -> Study:  # fmt: skip
    """Each augmentation against two weak views of equal cost, judged on val; and a student that learns from labels.

    Args:
        name: ``folder:PATH``, or any data set.
        teacher: a model as a profile names it, to be trained on these images; or a file of weights.
        student: a model.
        augmentations: registered policies.
        seeds: how many, >= 2.
        epochs: of a student, and of a teacher that is trained here. None makes as many steps as the regime of ``quick``
            has, which its students need to converge (``kdlab.perspectives.budgets``).

    Raises:
        SpecError: for what cannot run, before anything trains.
    """
    if not augmentations:
        raise SpecError("augmentations must name at least one policy to compare with two weak views.")
    for policy in augmentations:
        choose("augmentations", policy, catalogue("augment"))
    check_integer("seeds", seeds, 2, MOST_SEEDS)
    trained = {} if isinstance(teacher, Checkpoint) else {"teacher": teacher}
    lengths = {} if epochs is None else {"epochs": float(epochs), "teacher_epochs": float(epochs)}
    # All arms see the whole set: no share of it, which the profile's few-shot notebook has, bounds a step.
    whole = profile("quick").replace(fractions=(1.0,), step_fractions=(1.0,))
    size = whole.replace(data=name, student=student, seeds=seeds, **trained, **lengths)
    kd = recipes.kd(size)
    if isinstance(teacher, Checkpoint):
        kd = kd.replace(teacher=teacher)
    rich = [policy for policy in dict.fromkeys(augmentations) if policy != "weak"]
    arms = {LABELS: recipes.ce(size), CONTROL: recipes.weak2(kd)}
    arms |= {policy: recipes.augmented(kd, size, policy) for policy in rich}
    contrasts = [
        Contrast(f"{style(policy)['label']} − {CONTROL}", {policy: 1, CONTROL: -1}, metric=METRIC,
                 reference="two weak views") for policy in rich
    ]  # fmt: skip
    return Study("custom", size, arms, contrasts)


def answer(study: Study, table: pd.DataFrame) -> Answer:
    """Which augmentation to distil with, how sure that is, and what else a reader should know.

    Arms are ranked and chosen on val. Test is told once, in the last line: of the chosen arm, which is not the best of
    the test scores, beside two weak views, which were listed before the runs and stand where nothing was chosen.

    Args:
        study: from ``own_images``.
        table: its runs.
    """
    verdicts, bar = study.verdicts(table), study.bar()
    ranked = stats.arm_table(table, METRIC).drop(columns="diverged")
    names = {v.contrast.name: next(iter(v.contrast.weights)) for v in verdicts}
    lost = list(stats.at_chance(ranked[METRIC], bar))
    lost = lost if CONTROL in lost else []  # then nothing can be compared with it
    better = [v for v in verdicts if v.outcome == "supported"] if not lost else []
    chosen = names[max(better, key=lambda v: v.effect).contrast.name] if better else None
    lines = [_advice(chosen, verdicts, names)] if not lost else [_nothing(lost, bar)]
    if not lost:
        lines += [v.reason for v in verdicts]
    notes = {policy: label_safety(study.profile.data, policy) for policy in names.values()}
    lines += [f"{policy}: {note}." for policy, note in notes.items() if note]
    lines += [_levels(table, ranked, bar), *_few(bar, study), *_cost(table, ranked), *on_the_map(study)]
    lines += [_test(chosen, table)] if not lost else []
    return Answer(chosen, tuple(lines), stats.health_line(study.health(table)), verdicts, ranked)


def _nothing(lost: list[str], bar) -> str:
    return (
        f"Nothing can be said: {', '.join(lost)} are not above chance ({bar['val_share']:.1f} % of val is one class). "
        "Train longer, take more images, or look at what was read: `kdlab data NAME`."
    )


def _advice(chosen: str | None, verdicts: Sequence[Verdict], names) -> str:
    """The first sentence: what to do."""
    worse = [names[v.contrast.name] for v in verdicts if v.outcome == "contradicted"]
    leave = f" Leave out {', '.join(worse)}: worse than two weak views." if worse else ""
    if chosen:
        effect = next(v.effect for v in verdicts if names[v.contrast.name] == chosen)
        return f"Distil with {chosen}: {effect:+.1f} points on val over two weak views of equal cost.{leave}"
    spread = min((v.detectable for v in verdicts if np.isfinite(v.detectable)), default=np.nan)
    needed, seeds = [v.needed for v in verdicts if v.needed], max(v.n for v in verdicts)
    text = "None of these augmentations is shown to beat two weak views of equal cost"
    text += f"; {seeds} seeds can show {spread:.1f} points at best" if np.isfinite(spread) else ""
    text += f", and half a point would take {min(needed)} seeds or more." if needed else "."
    return text + leave


def _test(chosen: str | None, table: pd.DataFrame) -> str:
    """The test score of what is chosen, and of two weak views; of no other arm."""
    test, seeds = table.groupby("arm")["test_accuracy"].mean(), table["seed"].nunique()
    scored = (f"{chosen} {test[chosen]:.1f} %, " if chosen else "") + f"two weak views {test[CONTROL]:.1f} %"
    return f"Test, told once and used for no choice: {scored} (mean of {seeds} seeds)."


def _levels(table: pd.DataFrame, ranked: pd.DataFrame, bar) -> str:
    """What the numbers stand beside: teacher, labels alone, a linear model, chance."""
    taught = table.groupby("seed")["teacher_val_accuracy"].first().mean() if "teacher_val_accuracy" in table else np.nan
    words = [f"teacher {taught:.1f} %"] if np.isfinite(taught) else []
    words += [f"{arm} {row[METRIC]:.1f} %" for arm, row in ranked.iterrows()]
    return f"On val: {', '.join(words)}; a linear model {bar['val_accuracy']:.1f} %, chance {bar['val_share']:.1f} %."


def _few(bar, study: Study) -> list[str]:
    if bar["val_images"] >= FEW:
        return []
    each = 100 / bar["val_images"]
    return [
        f"Val has {bar['val_images']} images only: one of them is {each:.2g} points, the same for all seeds. More "
        "images would say more than more seeds."
    ]


def _cost(table: pd.DataFrame, ranked: pd.DataFrame) -> list[str]:
    """What an arm costs beside labels alone, and what the study did."""
    own, plain = ranked.loc[CONTROL], ranked.loc[LABELS]
    rows = own["student_images"] / plain["student_images"]
    return [
        f"Two views of each image, augmented or not, are {rows:.2g} times the student images of one, "
        f"{own['student_images']:,.0f} a run, and as many answers of the teacher ({own['teacher_forwards']:,.0f}). "
        f"These {len(table)} students took {table['seconds'].sum() / 60:.1f} minutes of one core in their steps."
    ]


def on_the_map(study: Study) -> list[str]:
    """Where this set lies on the map, in a sentence: for a teacher of the same images, or one from a file.

    Args:
        study: from ``own_images``.

    Returns:
        One line; none where there is no map.
    """
    from_file = any(isinstance(spec.teacher, Checkpoint) for spec in study.arms.values())
    images = data.train_size(study.profile.data, study.profile.sizes)
    line = advice.brief(images, study.profile.budget.amount, known=not from_file)
    return [line] if line else []


def command(name: str, given: Mapping[str, Any]) -> str:
    """The line that asks the same again.

    Args:
        name: the data set.
        given: options of ``kdlab advise`` by name; None leaves one out.
    """
    words = ["kdlab", "advise", name]
    for key, value in given.items():
        if value is not None:
            words += [f"--{key.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def keep(study: Study, table: pd.DataFrame, command: str, folder: Path | str | None = None) -> Path:
    """Write the answer to a folder: in words, as a table and a figure, with specs, command, and a student's weights.

    Args:
        study: from ``own_images``.
        table: its runs.
        command: that gives the same answer again.
        folder: None takes ``own/<data>`` in the output folder.

    Returns:
        The folder, with ``answer.txt``, ``answer.png`` (``.svg``, ``.csv``: the table, ``.json``), ``specs.json``,
        ``command.txt``, and ``student/<key>/`` (``kdlab.lab.export``) of the chosen arm, else of two weak views. The
        table has what was measured on val; test stands in the answer alone.
    """
    from kdlab.lab.export import export

    found = answer(study, table)
    folder = absolute(folder) if folder else home() / "own" / file_name(study.profile.data)
    caption = " ".join((found.text.replace("\n", " "), f"Data: {described(study.profile.data)}."))
    alt = "Accuracy on val by arm, and the augmentations against two weak views"
    meta = {"command": command, "chosen": found.chosen}
    shown = table.drop(columns=[name for name in table if name.startswith("test_") or name == "agreement"])
    plotting.save(picture(study, table, found), folder, "answer", table=shown, caption=caption, alt=alt, meta=meta)
    write_file(folder / "answer.txt", f"{found.text}\n\n{found.ranked.round(2).to_string()}\n")
    specs = {arm: spec.to_dict() for arm, spec in study.arms.items()}
    write_file(folder / "specs.json", json.dumps({"seeds": list(study.profile.seeds), "arms": specs}, indent=1) + "\n")
    write_file(folder / "command.txt", command + "\n")
    first = table[(table["arm"] == (found.chosen or CONTROL)) & (table["source"] == "store")]
    if len(first):
        export(first["key"].iloc[0], folder / "student")
    return folder


def picture(study: Study, table: pd.DataFrame, found: Answer):
    """Val accuracy by arm with the linear model's line, and the contrasts beside it."""
    with plotting.theme():
        figure = plotting.figure(0.7 + 0.55 * len(study.arms), plotting.PAGE)
        dots, panel = figure.subplots(1, 2)
        label = "Val accuracy (%)"
        plotting.interval_dots(dots, table, list(study.arms), value=METRIC, label=label)
        low, high = dots.get_xlim()
        dots.set_xlim(max(low, -2), min(high, 102))  # of two seeds an interval is wider than all there is
        plotting.contrast_panel(panel, found.verdicts)
        plotting.accuracy_line(figure, study.bar()["val_accuracy"], label=label)
        plotting.first_look(figure, len(study.profile.seeds))
    return figure
