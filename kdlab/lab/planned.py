"""A spec with everything resolved that planning, training and tables ask of it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from kdlab.lab.keys import run_key, steps, teacher_key
from kdlab.memo import memoised
from kdlab.registry import AugmentationInfo, MethodInfo, find, needs
from kdlab.spec import Checkpoint, RunSpec
from kdlab.training.layout import Layout, fusion_key, reads_maps


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """A spec and what follows from it, resolved once; two of one key are the same run.

    Args:
        spec: the run.
        key: its address in the store.
        steps: of the optimiser.
        teacher: the teacher where it is a run of its own, else None.
        teacher_key: of the teacher, a run or a checkpoint; None without one.
        method, augmentation: what the registry knows of them.
        layout: what decides the rows of a step.
        fusion_key: runs of one key can be stepped as one fused network; None for those that cannot.
        reads_maps: whether the method reads stage maps of the teacher.
    """

    spec: RunSpec
    key: str
    steps: int
    teacher: PlannedRun | None
    teacher_key: str | None
    method: MethodInfo
    augmentation: AugmentationInfo
    layout: Layout
    fusion_key: tuple | None
    reads_maps: bool

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The teacher where it is a file of weights."""
        return self.spec.teacher if isinstance(self.spec.teacher, Checkpoint) else None

    @property
    def teacher_model(self) -> str | None:
        """The name of the teacher's network; None without a teacher."""
        return self.teacher.spec.model if self.teacher else self.checkpoint.arch if self.checkpoint else None

    @property
    def needs(self) -> set[str]:
        """What the method needs, with what the method it wraps needs."""
        return needs(self.method, self.spec.method_options)

    @property
    def rows(self) -> int:
        """Rows that the student sees in a step."""
        return self.spec.budget.originals_per_step * self.spec.views

    def __repr__(self) -> str:
        spec = self.spec
        return f"<PlannedRun {self.key}: {spec.method}, {spec.model} on {spec.data}, seed {spec.seed}>"

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlannedRun) and self.key == other.key


@memoised
def planned(spec: RunSpec) -> PlannedRun:
    """Resolve a spec that can run (``validation.check``), and its teacher."""
    own, above = run_key(spec), teacher_key(spec.teacher) if spec.teacher else None
    return PlannedRun(
        spec, own, steps(spec),
        planned(spec.teacher) if isinstance(spec.teacher, RunSpec) else None, above,
        find("losses", spec.method), find("augment", spec.augmentation),
        Layout.of(spec, own, above), fusion_key(spec), reads_maps(spec),
    )  # fmt: skip


def lineage(spec: RunSpec) -> list[RunSpec]:
    """The run and the runs it learns from, teachers first."""
    return [*lineage(spec.teacher), spec] if isinstance(spec.teacher, RunSpec) else [spec]
