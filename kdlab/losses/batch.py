"""What a method is given and what it returns: the rows of a step, the run around it, the named terms of a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
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
    def of(cls, label: Tensor, *, views: int = 1, turns: bool = False, **given) -> Batch:
        """A batch of unaugmented, unmixed rows, except for what is given.

        Args:
            label: class of each row, int64 (B,).
            views: V, of which the rows are one after another: B / V originals as view 0, the same as view 1 and so on.
            turns: whether view j is turned by j quarters, ``image.rot90(j, (-2, -1))``.
            **given: other fields, by name.

        Raises:
            SpecError: when the rows are not V times a number of originals, or the turned views are not four.

        Example:
            >>> Batch.of(torch.tensor([7, 3, 7, 3]), views=2).origin
            tensor([0, 1, 0, 1])
        """
        if len(label) % views or (turns and views != 4):
            raise SpecError(f"views must divide the {len(label)} rows, and be 4 with turns, but got {views!r}.")
        row, none = torch.arange(len(label), device=label.device), torch.zeros_like(label)
        originals = max(1, len(label) // views)
        origin, view = row % originals, row // originals
        plain = dict(x=None, index=origin, origin=origin, view=view, variant=view if turns else none)
        return cls(label=label, **(plain | dict(augmented=none.bool()) | given))

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


class Losses(dict[str, Tensor]):
    """The weighted terms of a loss by name, scalars, and their sum.

    Example:
        >>> Losses(ce=torch.tensor(1.5), kd=torch.tensor(0.5)).total
        tensor(2.)
    """

    @property
    def total(self) -> Tensor:
        """The sum of the terms, which the student minimises."""
        return sum(self.values())  # type: ignore[return-value]
