"""What measures of finished runs share: changed test images, and what a network says of images."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlab.lab.networks import splits_of
from kdlab.metrics.corruptions import corrupt, render
from kdlab.models import outputs
from kdlab.models.frozen import Frozen
from kdlab.spec import RunSpec
from kdlab.training.layout import Layout

JDA = Layout("jda", (), 1, 1.0)  # one jointly augmented view of each image
IMAGES = 1000  # test images of each changed set
ROWS = 500  # in a forward pass


class Answers(NamedTuple):
    """What a network says of a set: logits (N, K) and embedding (N, D)."""

    logits: np.ndarray
    embedding: np.ndarray


def answers(network: Frozen, x: Tensor) -> Answers:
    """What a frozen network says of normalised images (N, C, H, W)."""
    with torch.no_grad():
        parts = [outputs(network, rows) for rows in x.split(ROWS)]
    columns = [part.logits for part in parts], [part.embedding for part in parts]
    return Answers(*(torch.cat(column).float().numpy() for column in columns))


@functools.lru_cache(maxsize=128)
def changed(
    name: str, sizes: tuple[int, int, int] | None, digest: str, change: str, strength: int | None = None
) -> Tensor:
    """The first test images after a corruption or, without a strength, a rendering: uint8 (N, C, H, W).

    All 78 are kept, since they take longer to make than to look at.

    Args:
        name, sizes, digest: of the data.
        change: of ``kdlab.metrics.corruptions``.
        strength: of a corruption.
    """
    test = splits_of(RunSpec(data=name, sizes=sizes)).test
    pixels = test.batch(torch.arange(min(IMAGES, len(test)))).numpy()
    return torch.from_numpy(corrupt(pixels, change, strength) if strength else render(pixels, change))
