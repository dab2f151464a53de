"""Self-supervised distillation (SSKD): logits and pairwise cosines of images turned by quarters."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.losses.base import Batch, Context, Method, NonNegative, Positive, cross_entropy_rows, kl_rows
from kdlab.losses.layers import drawn
from kdlab.registry import register
from kdlab.spec import TURNS


def quarter_turns(batch: Batch) -> Tensor:
    """Where the quarter turns of every original stand.

    Args:
        batch: gives ``origin`` and ``variant``.

    Returns:
        Row numbers, int64 (O, 4): an original in each row, by its number; column j is turned j times.

    Raises:
        SpecError: when an original lacks a turn or has one twice.
    """
    order = (TURNS * batch.origin + batch.variant).argsort()
    expected = torch.arange(len(order), device=order.device) % TURNS
    if len(order) % TURNS or (batch.variant[order] != expected).any():
        raise SpecError("the method needs turns: each original of a step must stand in it at all four quarter turns.")
    return order.view(-1, TURNS)


def select(batch: Batch, index: Tensor) -> Batch:
    """The rows of a batch that ``index`` (positions or a bool mask) selects."""
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{name: v[index] for name, v in values.items() if isinstance(v, Tensor)})


def frozen(module: nn.Module, name: str, context: Context) -> nn.Module:
    """The module with the weights that the preparing method has under ``name``, in eval mode and no longer trained.

    Raises:
        SpecError: when nothing was prepared.
    """
    if context.prepared is None:
        raise SpecError("prepared parts of the teacher are missing: the teacher must come from a preparing method.")
    own = {k: v for k, v in context.prepared.items() if k.startswith(f"{name}.")}
    module.load_state_dict({k.removeprefix(f"{name}."): v for k, v in own.items()})
    return module.requires_grad_(False).eval()


def projection(embedding: Tensor, context: Context) -> nn.Sequential:
    """Linear, ReLU, Linear, all of the width D of an embedding (B, D); initial weights from the context's stream."""
    width = embedding.shape[1]
    first, last = (drawn(nn.Linear, width, width, generator=context.generator) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), last).to(embedding)


def similarities(vectors: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
    """How alike each turned row is to each upright one.

    Args:
        vectors: one a row, (B, D).
        turned: of ``quarter_turns``, (O, 4).

    Returns:
        Cosines (3O, O), original after original, and the column of each row's own original, int64 (3O,).
    """
    unit = F.normalize(vectors, dim=1)
    own = torch.arange(len(turned), device=turned.device).repeat_interleave(TURNS - 1)
    return unit[turned[:, 1:].flatten()] @ unit[turned[:, 0]].T, own


def reliable(scores: Tensor, truth: Tensor, share: float) -> Tensor:
    """Which rows count: all that the teacher gets right, and a share of the others, the best ranked first.

    Args:
        scores: the teacher's, (N, C).
        truth: the right column of each row, int64 (N,).
        share: of the wrong rows that are kept, rounded down, in [0, 1]; equal ranks go by their order.

    Returns:
        bool (N,).
    """
    rank = (scores > scores.gather(1, truth[:, None])).sum(1)
    wrong = int((rank > 0).sum())
    dropped = rank.argsort(stable=True)[len(rank) - (wrong - int(share * wrong)) :]
    keep = torch.ones_like(rank, dtype=torch.bool)
    keep[dropped] = False
    return keep


def transfer_mean(student: Tensor, teacher: Tensor, temperature: float, keep: Tensor, batch: Batch) -> Tensor:
    """``T^2 KL(softmax(t / T) || softmax(s / T))``, the mean over the rows to keep; 0 when there is none.

    Args:
        student, teacher: scores, (N, C).
        temperature: T.
        keep: bool (N,).
        batch: the N rows, for their weights.
    """
    weight = keep.to(student) if batch.weight is None else keep * batch.weight
    return replace(batch, weight=weight).mean(temperature**2 * kl_rows(student, teacher, temperature))


@register(
    "sskd_head", revision=1, knowledge="none", coupling="required", needs=("teacher", "embedding", "turns"),
    stage="teacher", turns="own",
    least={"ss": {"originals": 2}},
)  # fmt: skip
class SSKDHead(Method):
    """Prepares a teacher for ``sskd``: a head on its embedding learns to find the original of a turned image.

    ``L = mean_i CE(cos(h_i, h_1..O) / T, original of i)`` over the turned rows i, with ``h`` the head (Linear, ReLU,
    Linear) of the embedding and 1..O the upright rows of the step. Only the head is trained. As published, T = 1.

    Outside of the workbench, ``attach(teacher, teacher, images)`` makes the head; the rows are those of
    ``Batch.of(labels, views=4, turns=True)``.

    Args:
        temperature: T > 0.

    Raises:
        SpecError: for a value out of range, or a batch without all four quarter turns of each original.

    Reference: Xu, Liu, Li and Loy, Knowledge Distillation Meets Self-Supervision, ECCV 2020.
    """

    temperature: Positive = 1.0

    def setup(self, student, teacher, context):
        self.head = projection(teacher.embedding, context)

    def terms(self, student, teacher, batch):
        turned = quarter_turns(batch)
        cosines, own = similarities(self.head(teacher.embedding), turned)
        lost = F.cross_entropy(cosines / self.temperature, own, reduction="none")
        return {"ss": select(batch, turned[:, 1:].flatten()).mean(lost)}


@register(
    "sskd", revision=1, knowledge="contrastive", coupling="required",
    needs=("teacher", "embedding", "turns", "prepared"), tune="ss_weight", prepared=("sskd_head",), turns="own",
    least={"lt": {}, "ss": {"originals": 2}},
)  # fmt: skip
class SSKD(Method):
    """KD on upright images, the teacher's answers on turned ones, and its cosines between turned and upright ones.

    ``L = a CE + b KD_T(upright) + c KD_T(turned) + d KD_S(cosines)``, with ``KD_T = T^2 mean_i KL(softmax(t_i / T) ||
    softmax(s_i / T))``. The cosines of a turned row are those of its head's output to all upright rows; the teacher's
    head is the prepared one, the student's is trained. Of the turned rows only those teach whose class (or whose
    original, for the cosines) the teacher ranks first, and the best ranked share of the others; equal ranks go by the
    original's number, then the turn. The weights are those of the published code; the rotation is its only
    transformation.

    Outside of the workbench, ``attach(student, teacher, images, prepared=...)`` makes the student's head and takes over
    that of a trained ``SSKDHead``; the rows are those of ``Batch.of(labels, views=4, turns=True)``.

    Args:
        ce_weight, kd_weight, lt_weight, ss_weight: a, b, c, d >= 0.
        temperature: T > 0.
        ss_temperature: S > 0.
        lt_keep: share of the rows with a wrong class that teach, in [0, 1].
        ss_keep: share of the rows with a wrong original that teach, in [0, 1].

    Raises:
        SpecError: for a value out of range, a teacher that was not prepared, or a batch without all four quarter turns
            of each original.

    Reference: Xu, Liu, Li and Loy, Knowledge Distillation Meets Self-Supervision, ECCV 2020.
    """

    ce_weight: NonNegative = 0.1
    kd_weight: NonNegative = 0.9
    lt_weight: NonNegative = 2.7
    ss_weight: NonNegative = 10.0
    temperature: Positive = 4.0
    ss_temperature: Positive = 0.5
    lt_keep: NonNegative = 1.0
    ss_keep: NonNegative = 0.75

    def __post_init__(self):
        if max(self.lt_keep, self.ss_keep) > 1:
            raise SpecError(f"lt_keep and ss_keep must be in [0, 1], but got {self.lt_keep!r} and {self.ss_keep!r}.")

    def setup(self, student, teacher, context):
        self.head = projection(student.embedding, context)
        self.teacher_head = frozen(projection(teacher.embedding, context), "head", context)

    def terms(self, student, teacher, batch):
        mine, theirs = self.head(student.embedding), self.teacher_head(teacher.embedding)
        return self.parts(student.logits, teacher.logits, mine, theirs, batch)

    def parts(self, s: Tensor, t: Tensor, mine: Tensor, theirs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms from logits s and t, (B, K), and from what the two heads give, (B, D) each."""
        turned = quarter_turns(batch)
        upright, others = turned[:, 0], turned[:, 1:].flatten()
        plain, rest = select(batch, upright), select(batch, others)
        wide, soft = self.temperature, self.ss_temperature
        mine, (theirs, own) = similarities(mine, turned)[0], similarities(theirs, turned)
        known = reliable(t[others], rest.label, self.lt_keep)
        found = reliable(theirs, own, self.ss_keep)
        return {
            "ce": self.ce_weight * plain.mean(cross_entropy_rows(s[upright], plain), hard=True),
            "kd": self.kd_weight * plain.mean(wide**2 * kl_rows(s[upright], t[upright], wide)),
            "lt": self.lt_weight * transfer_mean(s[others], t[others], wide, known, rest),
            "ss": self.ss_weight * transfer_mean(mine, theirs, soft, found, rest),
        }
