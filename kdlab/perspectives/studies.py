"""Studies: arms, seeds and contrasts listed in advance, from the runs to the table, the verdicts and the figures."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from kdlab import lab, plotting, stats
from kdlab.data import describe, sizes
from kdlab.errors import DAMAGES, SpecError, Unfit, choose, damaged
from kdlab.lab import baseline
from kdlab.lab.datasheet import file_name, heading
from kdlab.lab.measured import own_columns
from kdlab.lab.right import right_in
from kdlab.lab.rows import finished
from kdlab.paths import absolute, write_file
from kdlab.perspectives import NAMES, places
from kdlab.perspectives.conclusions import conclusion
from kdlab.perspectives.profiles import PROFILES, Profile, profile
from kdlab.spec import RunSpec

CONTRASTS = (
    "The contrasts listed before the runs, with their paired 95 % intervals. Bands are the margins within which an "
    "effect is negligible."
)

LOOKED = {"fixed": "", "sequential": ", added while looking (verdicts by the sequential t-test)"}
BARS = {"fixed": "95 % t-intervals", "sequential": "95 % t-intervals, those of contrasts 95 % confidence sequences"}


@dataclass(frozen=True)
class Study:
    """Arms, seeds and contrasts that were listed before the first run.

    Attributes:
        name: of the perspective, or any other.
        profile: seeds, data, sizes and budgets.
        arms: arm name to its spec at the first seed.
        contrasts: of arms, listed in advance.
        module: the perspective's texts and figures; a study without one is run, decided and summarised, but neither
            drawn nor saved.
    """

    name: str
    profile: Profile
    arms: Mapping[str, RunSpec]
    contrasts: Sequence[stats.Contrast]
    module: ModuleType | None = None

    def __repr__(self) -> str:
        sizes = f"{len(self.arms)} arms, {len(self.profile.seeds)} seeds, {len(self.contrasts)} contrasts"
        return f"<Study {self.name!r} of profile {self.profile.name!r}: {sizes}>"

    @property
    def specs(self) -> list[RunSpec]:
        """All runs: every arm at every seed."""
        return [spec.at_seed(seed) for seed in self.profile.seeds for spec in self.arms.values()]

    @property
    def measures(self) -> tuple[str, ...]:
        """What is measured of the runs afterwards, besides their accuracy (``kdlab.lab.measured``)."""
        return getattr(self.module, "MEASURES", ())

    @property
    def finished(self) -> bool:
        """Whether all runs are in the store, or rows of the ledger stand for them."""
        return finished(self.specs)

    def run(self, workers: int | None = None, progress: bool = True) -> pd.DataFrame:
        """Train what is missing in the store and in the ledger, one whole seed after another, and return the table.

        Args:
            workers: processes; None takes the profile's own number.
            progress: show a progress bar.
        """
        size = self.profile
        options: dict[str, Any] = {"workers": size.workers if workers is None else workers, "progress": progress}
        options["require_teacher"] = size.requires_teacher
        seeds = by_seed(self.specs)
        lab.run(*seeds, from_ledger=True, **options)
        if self.measures:
            lab.measure(*seeds, names=self.measures, **options)
        return self.table()

    def table(self) -> pd.DataFrame:
        """One row per arm and seed, a run of the store or a row of the ledger, as ``source`` says; never trains.

        Raises:
            MissingRuns: when a seed is whole in neither.
        """
        runs = [(arm, spec.at_seed(seed)) for arm, spec in self.arms.items() for seed in self.profile.seeds]
        found = lab.table([spec for _, spec in runs])
        found = own_columns(found.loc[[lab.run_key(spec) for _, spec in runs]], self.measures)
        return found.reset_index().assign(arm=[arm for arm, _ in runs])

    def verdicts(self, table: pd.DataFrame) -> list[stats.Verdict]:
        """Decide the contrasts."""
        return stats.decide(table, self.contrasts, right_in(table), self.profile.design)

    def bar(self) -> dict[str, Any]:
        """What a linear model reaches on the study's data, as of ``lab.baseline.bar``; fitted in seconds, once."""
        return baseline.bar(self.profile.data, self.profile.sizes)

    def health(self, table: pd.DataFrame) -> list[stats.Finding]:
        """What is wrong with the runs, before a verdict is read from them; nothing where all is well."""
        return stats.health(table, self.contrasts, self.bar(), right_in(table))

    def measured(self) -> dict[str, Any]:
        """What figures show beside the table, by figure name: JSON-like, made anew from networks of the store."""
        return self.module.measure(self.profile) if hasattr(self.module, "measure") else {}

    def figures(
        self, table: pd.DataFrame, verdicts: list[stats.Verdict] | None = None, measured: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Draw the perspective: figure name to matplotlib Figure.

        Args:
            table: from ``table`` or ``run``.
            verdicts: of it; None decides the contrasts.
            measured: from ``measured``; None measures.
        """
        line, measured = self.bar()["test_accuracy"], self.measured() if measured is None else measured
        return _figures(self.module, table, verdicts or self.verdicts(table), self.profile, line, measured)

    def summary(self, table: pd.DataFrame) -> pd.DataFrame:
        """Accuracy beside cost, one row per arm, as of ``stats.arm_table``, with the mean val accuracy of the teachers.

        Args:
            table: from ``table`` or ``run``.
        """
        return stats.arm_table(table, means=["teacher_val_accuracy"]).drop(columns="diverged")

    def conclusion(self, verdicts: list[stats.Verdict], table: pd.DataFrame | None = None) -> str:
        """The outcome in words, as Markdown: health, the claim, what to be careful about, each contrast's sentence.

        Args:
            verdicts: from ``verdicts``.
            table: their runs, for the line on their health; None leaves that out.
        """
        findings = None if table is None else self.health(table)
        return conclusion(verdicts, findings, smoke=self.profile.name == "smoke")

    def folder(self, given: Path | str | None = None) -> Path:
        """Where figures go: the given folder, or ``figures`` in the profile's (``places.folder``).

        Raises:
            SpecError: for what names no folder.
        """
        if given is not None and not isinstance(given, str | Path):
            raise SpecError(f"out_dir must be the path of a folder, but got {given!r}.")
        return absolute(given) if given else places.folder(self.profile) / "figures"

    def save(self, table: pd.DataFrame, folder: Path | str | None = None) -> dict[str, Any]:
        """Write figures, their data and the verdict.

        Args:
            table: from ``table`` or ``run``.
            folder: None takes the profile's, as of ``folder``.

        Returns:
            The verdict document that ``<name>.verdict.json`` holds.
        """
        folder, bar = self.folder(folder), self.bar()
        verdicts, findings, measured = self.verdicts(table), self.health(table), self.measured()
        names = []
        for name, figure in self.figures(table, verdicts, measured).items():
            names.append(f"{self.name}-{name}")
            plotting.save(
                figure, folder, names[-1], caption=self.caption(name), alt=self.alt(name),
                table=table.drop(columns=["seconds", "revision"], errors="ignore"),  # these differ between machines
                meta={"perspective": self.name, "figure": name, "profile": self.profile.name,
                      "overrides": self._overrides(), "linear": bar["test_accuracy"]}
                | ({"measured": measured[name]} if name in measured else {}),
            )  # fmt: skip
        document = {
            "perspective": self.name, "profile": self.profile.name, "title": self.module.TITLE,
            "data": file_name(self.profile.data), "data_title": places.data_title(self.profile.data),
            "question": self.module.QUESTION, "claim": self.module.CLAIM, "overall": stats.overall(verdicts),
            "health": [vars(finding) for finding in findings],
            "verdicts": json.loads(stats.as_table(verdicts).to_json(orient="records", double_precision=15)),
            "figures": names, "runs": int(table["key"].nunique()), "seeds": list(self.profile.seeds),
            "design": self.profile.design,
        }  # fmt: skip
        write_file(folder / f"{self.name}.verdict.json", json.dumps(document, indent=1))
        return document

    def _overrides(self) -> dict[str, Any]:
        """What differs from the named profile, so that a figure can be redrawn from its json."""
        base, own = PROFILES[self.profile.name], self.profile
        fields = ("seeds", "data", "student", "teacher", "design")
        changed = {f: getattr(own, f) for f in fields if getattr(own, f) != getattr(base, f)}
        if (own.budget, own.teacher_budget) != (base.budget, base.teacher_budget):  # all, so that no folder is read
            b, t = own.budget, own.teacher_budget
            changed |= {"epochs": b.amount, "teacher_epochs": t.amount, "originals": b.originals_per_step}
        return changed

    def alt(self, name: str) -> str:
        """Alternative text: the first sentence of the caption; the table of verdicts has the numbers."""
        return re.split(r"(?<=\.)\s", self.shows(name), maxsplit=1)[0]

    def shows(self, name: str) -> str:
        """What a figure shows: the first sentences of its caption."""
        return ({"contrasts": CONTRASTS} | self.module.FIGURES)[name]

    def caption(self, name: str) -> str:
        """Data, networks, formula, budget, seeds, interval and selection rule, in that order."""
        p = self.profile
        train, lengths = getattr(self.module, "lengths", _lengths)(p)
        _, val, test = sizes(p.data, p.sizes)
        return (
            f"{self.shows(name)} Data: {places.described(p.data)}, "
            f"{train:,} train, {val:,} val and {test:,} test images; {heading(describe(p.data))}. "
            f"{lengths} {self.module.FORMULA} "
            f"{len(p.seeds)} seeds{LOOKED[p.design]}, each with its own teacher, initial weights, order and "
            f"augmentation; points are seeds, bars {BARS[p.design]}, effects are paired by seed; the dotted line is a "
            "linear model. "
            "Last epoch, test set scored once; nothing was selected on it."
        )


def study(name: str, profile_name: str | None = None, **overrides: Any) -> Study:
    """A perspective ready to plan, run and draw.

    Args:
        name: one of ``NAMES``.
        profile_name: smoke, quick, standard, full or paper; None means ``$KDLAB_PROFILE``, else quick.
        **overrides: profile fields to change (``seeds``, ``data``, ``student``, ``teacher``), and ``epochs`` or
            ``steps`` of a student, ``teacher_epochs``, ``originals`` a step; None leaves one alone. A perspective with
            ``lengths`` of its own takes no epochs or steps, one with ``SEEDS`` no more seeds than that unless asked.

    Raises:
        SpecError: for an unknown perspective, profile, field or value, before anything trains; ``Unfit`` where this
            perspective has no answer with these data or lengths, and others may have.
    """
    module, size = _module(name), profile(profile_name, **overrides)
    if hasattr(module, "lengths"):  # its own: what would change them changes nothing
        given = [field for field in ("epochs", "steps", "teacher_epochs") if overrides.get(field) is not None]
        if given:
            raise Unfit(f"{given[0]}: {name} has budgets of its own, but got {overrides[given[0]]!r}; leave it out.")
    if hasattr(module, "SEEDS") and overrides.get("seeds") is None:
        size = size.replace(seeds=size.seeds[: module.SEEDS])
    return Study(name, size, module.arms(size), module.contrasts(size), module)


def _lengths(size: Profile) -> tuple[int, str]:
    """Training images, and the networks with how long they train, for a caption."""
    b, t = size.budget, size.teacher_budget
    return sizes(size.data, size.sizes)[0], (
        f"Teacher {size.teacher} ({t.amount:g} epochs), student {size.student} ({b.amount:g} epochs, "
        f"{b.originals_per_step} originals a step)."
    )


def by_seed(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """The specs of each seed together, so that what is interrupted has left whole seeds."""
    return [[spec for spec in specs if spec.seed == seed] for seed in dict.fromkeys(spec.seed for spec in specs)]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"kdlab.perspectives.{choose('perspective', name, NAMES)}")


def redraw(path: Path | str):
    """The Figure of a saved json file, from its records alone: no store, no training.

    Args:
        path: a figure's json file.

    Raises:
        SpecError: for a record that is damaged or of another version.
    """
    table, record = plotting.load(path)
    try:
        meta = record["meta"]
        module, size = _module(meta["perspective"]), profile(meta["profile"], **meta["overrides"])
        verdicts = stats.decide(table, module.contrasts(size), design=size.design)
        measured = {meta["figure"]: meta["measured"]} if "measured" in meta else {}
        return _figures(module, table, verdicts, size, meta.get("linear"), measured)[meta["figure"]]
    except SpecError:
        raise
    except DAMAGES as error:
        raise damaged(absolute(path), error) from error


def _figures(
    module: ModuleType, table: pd.DataFrame, verdicts: list[stats.Verdict], size: Profile, linear: float | None,
    measured: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The perspective's own figures and the forest plot of its contrasts, with what must stand on all of them.

    That is the linear model's test accuracy, where there is an axis for it, the number of seeds where it is small, and
    "smoke" across those of that profile.
    """
    beside = (measured,) if hasattr(module, "measure") else ()
    with plotting.theme():
        made = module.figures(table, verdicts, size, *beside) | {"contrasts": plotting.forest(verdicts)}
        for figure in made.values():
            if linear is not None:
                plotting.accuracy_line(figure, linear)
            plotting.first_look(figure, len(size.seeds))
    for figure in made.values() if size.name == "smoke" else ():
        plotting.watermark(figure, "smoke")
    return made
