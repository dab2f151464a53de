"""The batch of a step, put together from rows of its views: labels, pairs, mixtures of two classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdlab.losses.base import Batch
from kdlab.training.layout import Layout


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

    def where(self, mask: Tensor, other: View) -> View:
        """``other``'s row where ``mask``, bool (n,), is True, this one's elsewhere; this view mixes nothing."""
        mixture = (None, None)
        if other.partner is not None:
            ones = torch.ones_like(other.share)
            mixture = torch.where(mask, other.partner, other.rows), torch.where(mask, other.share, ones)
        return View(torch.where(mask.view(-1, 1, 1, 1), other.x, self.x), self.rows, *mixture)


def assemble(
    views: Sequence[View], augmented: Sequence[Tensor | bool], layout: Layout, label: Tensor, index: Tensor, **time: int
) -> Batch:
    """The batch of some views, one after another; equal ``origin`` marks rows of one image.

    Args:
        views: one for each slot of the layout.
        augmented: which rows of each are augmented: bool (n,), or True or False for all.
        layout: of the rows.
        label: classes of the step's originals, int64 (n,).
        index: their rows in the data set, int64 (n,).
        **time: ``epoch`` and ``step``.
    """
    origin = torch.cat([view.rows for view in views])
    slot = torch.arange(len(views), device=label.device).repeat_interleave(len(label))
    none = torch.zeros_like(label, dtype=torch.bool)
    augmented = torch.cat([none | chosen for chosen in augmented])
    return Batch.of(
        x=torch.cat([view.x for view in views]),
        label=label[origin],
        index=index[origin],
        origin=origin,
        view=slot,
        variant=slot if layout.turns else torch.zeros_like(slot),
        augmented=augmented,
        hard_weight=(~augmented).float() if layout.hard_labels == "plain" else None,
        **_mixture(views, label),
        **time,
    )


def _mixture(views: Sequence[View], label: Tensor) -> dict[str, Tensor]:
    """Partner classes and shares of all rows, where any view is mixed."""
    if all(view.partner is None for view in views):
        return {}
    partner = torch.cat([view.rows if view.partner is None else view.partner for view in views])
    ones = torch.ones(len(label), device=label.device)
    return {"partner": label[partner], "share": torch.cat([ones if v.share is None else v.share for v in views])}
