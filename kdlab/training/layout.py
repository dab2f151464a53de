"""Which views a step needs and which of their rows are augmented, computed from a spec alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kdlab.registry import find, needs
from kdlab.spec import TURNS, RunSpec

WEAK = ("weak", ())


def reads_maps(spec: RunSpec) -> bool:
    """Whether the method reads more of the teacher than logits and embedding; foreign ones may."""
    method = find("losses", spec.method)
    return ":" in spec.method or bool({"features", "final"} & needs(method, spec.method_options))


def slot_shares(views: int, ratio: float) -> list[float]:
    """Share of augmented rows in each of an original's row slots, so that ``ratio`` of all rows are augmented.

    Slots fill one after another, the first slot last: with two views a ratio of 1/2 augments the whole second slot
    (joint augmentation), and above 1/2 some originals have both rows augmented. A larger ratio keeps every row that a
    smaller one augments.

    >>> slot_shares(2, 0.25), slot_shares(2, 0.75), slot_shares(4, 0.75)
    ([0.0, 0.5], [0.5, 1.0], [0.0, 1.0, 1.0, 1.0])
    """
    amount = ratio * views
    shares = [0.0] * views
    for filled, slot in enumerate([*range(1, views), 0]):
        shares[slot] = min(1.0, max(0.0, amount - filled))
    return shares


class ViewName(NamedTuple):
    """Which view: a policy with its options, a copy number, quarter turns, and whose entropy picks its rows."""

    policy: tuple
    copy: int
    turn: int = 0
    picker: str = ""


@dataclass(frozen=True)
class Layout:
    """The rows of a step: which views, how many rows of each. Arms of one layout share batch and teacher outputs.

    Args:
        augmentation, options, views, ratio: as in RunSpec.
        turns: ``"shared"`` or ``"own"`` for methods that see all four quarter turns of one crop, or of a crop each.
        hard_labels: as in RunSpec.
        picker: key of the network whose entropy picks the rows of augmented views, where one does.
    """

    augmentation: str
    options: tuple
    views: int
    ratio: float
    turns: str = ""
    hard_labels: str = "all"
    picker: str = ""

    @classmethod
    def of(cls, spec: RunSpec, key: str = "", teacher_key: str | None = None) -> Layout:
        """The layout of a spec; without augmented rows the policy does not matter.

        Args:
            spec: the run.
            key: its key, the picker of policies that pick by the student.
            teacher_key: its teacher's, the picker of policies that pick by the teacher.
        """
        turns = find("losses", spec.method).turns
        if spec.ratio == 0 or spec.augmentation == "weak":
            return cls("weak", (), spec.views, 0.0, turns)
        entry = find("augment", spec.augmentation)
        picker = ""
        if entry.picks:
            by = dict(entry.options | spec.augmentation_options)["by"]
            picker = key if by == "student" else teacher_key
        options = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in spec.augmentation_options.items())
        return cls(spec.augmentation, options, spec.views, spec.ratio, turns, spec.hard_labels, picker)

    def slots(self) -> Iterator[tuple[float, ViewName, ViewName]]:
        """For every slot: the share of its rows that is augmented, the view of its plain rows and of augmented ones."""
        if self.turns:
            for turn in range(TURNS):
                name = ViewName(WEAK, turn if self.turns == "own" else 0, turn)
                yield 0.0, name, name
            return
        for slot, share in enumerate(slot_shares(self.views, self.ratio)):
            yield share, ViewName(WEAK, slot), ViewName((self.augmentation, self.options), slot, picker=self.picker)

    def view_names(self) -> set[ViewName]:
        """The views that these rows are taken from."""
        slots = list(self.slots())
        return {plain for share, plain, _ in slots if share < 1} | {other for share, _, other in slots if share > 0}


def fusion_key(spec: RunSpec) -> tuple | None:
    """Runs of equal keys can step their students as one fused network; None where a student steps by itself.

    Only narrow networks gain by fusion (``narrow=True`` where they are registered), and a foreign method may reach into
    its student's layers. Students of SAM step by themselves too: their second pass is at weights that only one has.
    """
    method = find("losses", spec.method)
    narrow = find("models", spec.model).narrow
    if not narrow or ":" in spec.method or method.stage == "teacher" or spec.precision != "float32":
        return None
    if spec.optimiser.rho:
        return None
    rows = TURNS if method.turns else spec.views
    return spec.model, repr(sorted(spec.model_options.items())), rows, reads_maps(spec)


def stream_key(teacher_key: str, name: ViewName, mode: str) -> tuple | None:
    """Names a stream of teacher outputs, a record a step, within a cohort; None where a network picks the rows.

    Args:
        teacher_key: which teacher.
        name: which view.
        mode: what the teacher sees, as in RunSpec.
    """
    if mode == "clean":
        return teacher_key, mode
    (policy, options), copy, turn, picker = name
    revisions = tuple(find("augment", part).revision for part in (policy, "weak"))
    return None if picker else (teacher_key, mode, policy, repr(options), copy, turn, revisions)
