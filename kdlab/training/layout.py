"""What decides the rows of a step, before any of them is made. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kdlab.memo import by_identity
from kdlab.registry import find, needs
from kdlab.spec import RunSpec

if TYPE_CHECKING:
    from torch import Tensor

WEAK = ("weak", ())
TURNS = 4


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


class View(NamedTuple):
    """The rows of one view.

    Attributes:
        x: normalised images, (n, C, H, W).
        rows: number of each row's original within the step, int64 (n,).
        partner: number of the original that is mixed in, int64 (n,); None where nothing is mixed.
        share: share of the row's own original, in [0, 1], (n,); None where nothing is mixed.
    """

    x: Tensor
    rows: Tensor
    partner: Tensor | None = None
    share: Tensor | None = None


@dataclass(frozen=True)
class Layout:
    """What decides the rows of a step: arms of one layout share their batch and their teacher's outputs.

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
    def of(cls, spec: RunSpec, key: str = "", teacher: str | None = None) -> Layout:
        """The layout of a spec; without augmented rows the policy does not matter.

        Args:
            spec: the run.
            key: its key, the picker of policies that pick by the student.
            teacher: key of its teacher, the picker of policies that pick by the teacher.
        """
        turns = find("losses", spec.method).turns
        if spec.ratio == 0 or spec.augmentation == "weak":
            return cls("weak", (), spec.views, 0.0, turns)
        entry = find("augment", spec.augmentation)
        picker = ""
        if entry.picks:
            by = dict(entry.options | spec.augmentation_options)["by"]
            picker = key if by == "student" else teacher
        options = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in spec.augmentation_options.items())
        return cls(spec.augmentation, options, spec.views, spec.ratio, turns, spec.hard_labels, picker)

    def slots(self) -> Iterator[tuple[float, ViewName, ViewName]]:
        """For every slot: the share of its rows that is augmented, its plain view and its rich one."""
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
        return {plain for share, plain, _ in slots if share < 1} | {rich for share, _, rich in slots if share > 0}


@by_identity
def fusion_key(spec: RunSpec) -> tuple | None:
    """What runs have in common whose students can take their steps as one network; None for those who go alone.

    Only narrow networks gain by it (``narrow=True`` where they are registered), and a foreign method may reach into its
    student's layers.
    """
    method = find("losses", spec.method)
    narrow = find("models", spec.model).narrow
    if not narrow or ":" in spec.method or method.stage == "teacher" or spec.precision != "float32":
        return None
    rows = TURNS if method.turns else spec.views
    return spec.model, repr(sorted(spec.model_options.items())), rows, reads_maps(spec)


def stream_key(teacher: str, name: ViewName, mode: str) -> tuple | None:
    """What tells one stream of a teacher's outputs from others of a cohort; None where a network picks the rows.

    Args:
        teacher: key of the teacher.
        name: which view.
        mode: what the teacher sees, as in RunSpec.
    """
    if mode == "clean":
        return teacher, mode
    (policy, options), copy, turn, picker = name
    revisions = tuple(find("augment", part).revision for part in (policy, "weak"))
    return None if picker else (teacher, mode, policy, repr(options), copy, turn, revisions)
