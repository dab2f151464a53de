"""What a distillation method sees and must answer: Batch, Context, Method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.models import Outputs


@dataclass(frozen=True)
class Batch:
    """The B rows a student sees in one step.

    Attributes:
        x: normalised images, (B, C, H, W); None where only losses are computed.
        label: class of the row's original, int64 (B,).
        index: the original's row in the data set, int64 (B,).
        origin: number of the original within the step, int64 (B,); equal numbers are views of one image.
        view: copy number of the view, int64 (B,).
        variant: quarter turns applied, 0 to 3, int64 (B,).
        augmented: whether the row went through a policy beyond crop and flip, bool (B,).
        partner: class mixed in, int64 (B,); None when no row is mixed.
        share: share of ``label`` in a mixed row, in [0, 1], (B,); 1 is unmixed.
        hard_weight: weight of the row in the hard-label term, (B,), 0 is none; None weighs all alike.
        weight: weight of the row in every term, (B,); None weighs all alike.
        epoch: epoch number, from 0.
        step: step within the epoch, from 0.
        progress: share of the training done before this step, step / steps over all epochs: 0 at the first step and
            (T - 1) / T at the last of T.
    """

    x: Tensor | None
    label: Tensor
    index: Tensor
    origin: Tensor
    view: Tensor
    variant: Tensor
    augmented: Tensor
    partner: Tensor | None = None
    share: Tensor | None = None
    hard_weight: Tensor | None = None
    weight: Tensor | None = None
    epoch: int = 0
    step: int = 0
    progress: float = 0.0

    @classmethod
    def of(cls, label: Tensor, **given) -> Batch:
        """A batch of distinct, unaugmented, unmixed originals, except for what is given."""
        rows, none = torch.arange(len(label), device=label.device), torch.zeros_like(label)
        plain = dict(x=None, index=rows, origin=rows, view=none, variant=none, augmented=none.bool())
        return cls(label=label, **(plain | given))

    def mean(self, values: Tensor, hard: bool = False) -> Tensor:
        """Weighted mean over rows, ``sum(w * values) / sum(w)``.

        Args:
            values: one value a row, (B,).
            hard: also weigh by ``hard_weight``.

        Returns:
            A scalar; 0 when all weights are 0.
        """
        weights = [w for w in (self.weight, self.hard_weight if hard else None) if w is not None]
        if not weights:
            return values.mean()
        weight = torch.stack(weights).prod(0).to(values.dtype)
        return (weight * values).sum() / weight.sum().clamp_min(torch.finfo(values.dtype).tiny)


@dataclass(frozen=True)
class Context:
    """What a method may know of the run before the first step.

    Attributes:
        num_classes: number of classes K.
        train_size: number of training images N.
        generator: CPU stream for the method's own initial weights.
        seed: of the run's streams, for draws at every step: ``generator(context.seed, name, batch.epoch, batch.step)``.
        labels: classes of the training images, int64 (N,); ``batch.index`` points into it.
        student: the network in training.
        teacher: the frozen network.
        teacher_pass: runs the teacher over all clean training images in order; yields (Outputs, labels) of a part
            after another.
        prepared: state dict of the method that prepared the teacher; None where nothing was prepared.
    """

    num_classes: int
    train_size: int
    generator: torch.Generator
    seed: int = 0
    labels: Tensor | None = None
    student: nn.Module | None = None
    teacher: nn.Module | None = None
    teacher_pass: Callable[[], Iterable[tuple[Outputs, Tensor]]] | None = None
    prepared: Mapping[str, Tensor] | None = None


class Method(nn.Module):
    """A distillation objective: a dictionary of named, weighted terms whose sum the student minimises.

    A subclass writes ``rows`` when all its terms are means over rows, else ``terms``. Its parameters are
    trained with the student's; its buffers are saved with them. Register it with what planning must know:

    - ``knowledge``: none, logits, features, relations or contrastive;
    - ``coupling`` to augmentation: none, agnostic or required;
    - ``needs``: teacher, pairs (two views of an image), features (stage maps; who
      shows them has an embedding too), embedding, final (map before pooling, and a linear
      classifier), labels (of one class a row: mixed images are refused), dataset (the training set's size and labels,
      or a pass of the teacher over it), turns (its own views: all four quarter turns), prepared (a teacher with parts
      of its own, see ``prepared``), memory (grows with the training set), inference (its parts are used at test time);
    - ``of_teacher``: those of its needs that the student need not show;
    - ``tune``: the option that weighs the method's own terms, which ``kdlab tune`` scales;
    - ``prepared``: the methods that train the parts of the teacher this one reads, the usual one first;
    - ``turns``: whether its four quarter turns are of one crop (``shared``) or have a crop each (``own``);
    - ``wraps``: the option that names another method inside this one;
    - ``least``: where its own terms can vanish, each of them (so that all may) with the least ``classes``, ``rows`` a
      step or ``originals`` a step from which it has a gradient, ``{}`` for one that always has: fewer for all terms are
      refused, fewer for some are noted by the plan;
    - ``stage="teacher"``: this method prepares a teacher: the network in training is the frozen teacher itself.
    """

    def setup(self, student: Outputs, teacher: Outputs | None, context: Context) -> None:
        """Make parameters and refuse what cannot work, from the Outputs of a few example rows."""

    def rows(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """The terms that are means over rows, before the mean: name to weighted values (B,)."""
        raise NotImplementedError

    def terms(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """All terms as weighted scalars; ``ce`` alone follows the batch's ``hard_weight``."""
        values = self.rows(student, teacher, batch)
        return {name: batch.mean(value, hard=name == "ce") for name, value in values.items()}

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Named, weighted scalars, in float32 at least; the teacher never gets a gradient.

        Args:
            student: Outputs of the student on the batch.
            teacher: Outputs of the teacher on the same rows, None for methods without one.
            batch: the B rows.
        """
        return self.terms(student.full(), None if teacher is None else teacher.full().detach(), batch)

    def after_step(self, batch: Batch) -> None:
        """Called after each step of the optimiser, for memories and moving averages."""

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """Logits (B, K) at test time."""
        return model(x)


def cross_entropy_rows(logits: Tensor, batch: Batch) -> Tensor:
    """Hard-label cross-entropy of each row, ``share * CE(label) + (1 - share) * CE(partner)`` where mixed.

    Args:
        logits: (B, K).
        batch: gives ``label``, ``partner`` and ``share``.

    Returns:
        (B,), in nats.
    """
    own = F.cross_entropy(logits, batch.label, reduction="none")
    if batch.partner is None:
        return own
    return torch.lerp(F.cross_entropy(logits, batch.partner, reduction="none"), own, batch.share)


def one_class(method: str, batch: Batch) -> Tensor:
    """The class of each row, (B,), for a method that cannot take two.

    Raises:
        SpecError: when the batch has mixed rows.
    """
    if batch.partner is not None:
        raise SpecError(f"{method} needs one class a row, but this batch has mixed images, which have two.")
    return batch.label


def kl_rows(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``KL(softmax(t / T) || softmax(s / T))`` of each row.

    Args:
        student_logits: s, (B, K).
        teacher_logits: t, (B, K).
        temperature: T > 0.

    Returns:
        (B,), in nats, without the factor T^2.
    """
    s = F.log_softmax(student_logits / temperature, dim=1)
    t = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(s, t, reduction="none", log_target=True).sum(1)


def require(argument: str, value: float, *, positive: bool = False) -> float:
    """Return a finite, non-negative (or positive) number, or say what is wrong with it.

    Raises:
        SpecError: naming the argument, the value and the range.
    """
    good = isinstance(value, int | float) and (0 < value if positive else 0 <= value) and value < float("inf")
    if not good:
        kind = "positive" if positive else "non-negative"
        raise SpecError(f"{argument} must be a {kind}, finite number, but got {value!r}.")
    return value


def require_count(argument: str, value: int) -> int:
    """Return an integer of at least 1, or say what is wrong with it.

    Raises:
        SpecError: naming the argument and the value.
    """
    if type(value) is not int or value < 1:
        raise SpecError(f"{argument} must be an integer of at least 1, but got {value!r}.")
    return value


def match_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Average two maps (B, C, H, W) over windows to the smaller height and the smaller width of the two."""
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return tuple(x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size) for x in (a, b))


def warm_up(batch: Batch, epochs: float) -> float:
    """The linear start ``min((240 p + 1) / epochs, 1)`` at progress p; 1 throughout for 0 epochs.

    At the beginning of epoch e of 240, counted from 1, this is the published ``min(e / epochs, 1)``.
    """
    return min((240 * batch.progress + 1) / epochs, 1.0) if epochs else 1.0
