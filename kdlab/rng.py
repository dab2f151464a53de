"""Counter-based random streams: every draw has a name, so nothing shares a generator by accident.

A generator is addressed by ``(seed, name, epoch, step)`` and made afresh when it is needed. Resuming a run therefore
needs no generator state, and changing the augmentation moves neither the initial weights nor the order of the data.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """The 63-bit integer that belongs to a seed and a path of names.

    Args:
        seed: the run's seed, a non-negative integer.
        *names: what the stream is for, for example ``("weak/1", epoch, step)``.

    Returns:
        An integer in ``[0, 2**63)``; different paths give independent values.
    """
    path = "\x1f".join(str(part) for part in (seed, *names))
    digest = hashlib.blake2b(path.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, name: str, epoch: int = 0, step: int = 0) -> torch.Generator:
    """A fresh CPU generator for one stream at one moment of training.

    Draws are always made on the CPU and moved, because the same seed gives other numbers on other devices.

    Args:
        seed: the run's seed.
        name: the stream: ``"order"``, ``"init"``, ``"weak/0"``, ``"jda/1"`` ...
        epoch: epoch number, from 0.
        step: step within the epoch, from 0.

    Returns:
        A ``torch.Generator`` on the CPU.
    """
    import torch

    return torch.Generator().manual_seed(stream_seed(seed, name, epoch, step))
