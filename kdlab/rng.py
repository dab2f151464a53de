"""Counter-based random streams: every draw has a name, so nothing shares a generator by accident.

A generator is addressed by ``(seed, name, epoch, step)`` and made afresh when it is needed. Resuming a run therefore
needs no generator state, and changing the augmentation moves neither the initial weights nor the order of the data.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WORDS = 624  # of 32 bits in the state of a Mersenne twister
LEFT, SEEDED, NEXT, STATE = 8, 12, 16, 24  # where they begin in the bytes of a CPU generator's state


def _path(*names: str | int) -> bytes:
    return "\x1f".join(map(str, names)).encode()


def stream_seed(seed: int, *names: str | int) -> int:
    """The 63-bit integer that belongs to a seed and a path of names.

    Args:
        seed: the run's seed, a non-negative integer.
        *names: what the stream is for, for example ``("weak/1", epoch, step)``.

    Returns:
        An integer in ``[0, 2**63)``; different paths give independent values.
    """
    return int.from_bytes(hashlib.blake2b(_path(seed, *names), digest_size=8).digest(), "big") >> 1


def stream_state(seed: int, *names: str | int) -> torch.Tensor:
    """The state of a CPU generator at the beginning of a stream.

    ``torch.Generator.manual_seed`` uses the low 32 bits of a seed on a CPU, so that of a million streams some hundred
    pairs would be the same. Here all 19,937 bits of the Mersenne twister's state are drawn from the path:
    ``state = SHAKE-128("seed \\x1f name \\x1f ...")``, 624 little-endian words of 32 bits, of which the twister ignores
    the lower 31 bits of the first.

    Args:
        seed: the run's seed.
        *names: as in ``stream_seed``.

    Returns:
        uint8 tensor for ``torch.Generator.set_state``.
    """
    import numpy as np
    import torch

    state = _blank().copy()
    words = state[STATE : STATE + 8 * WORDS].view(np.uint64)
    words[:] = np.frombuffer(hashlib.shake_128(_path(seed, *names)).digest(4 * WORDS), "<u4")
    words[0] |= 0x80000000  # a state of zeros only would stay there
    return torch.from_numpy(state)


@functools.cache
def _blank():
    """The bytes of a CPU generator's state without its words, which take less time to fill in than these to make."""
    import numpy as np
    import torch

    state = np.zeros_like(torch.default_generator.get_state().numpy())
    state[LEFT : LEFT + 4].view(np.int32)[0] = state[SEEDED : SEEDED + 4].view(np.int32)[0] = 1
    return state


def generator(seed: int, name: str, epoch: int = 0, step: int = 0) -> torch.Generator:
    """A fresh CPU generator for one stream at one moment of training (``stream_state``).

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

    made = torch.Generator()
    made.set_state(stream_state(seed, name, epoch, step))
    return made


@contextlib.contextmanager
def global_stream(seed: int, *names: str | int, device: str = "cpu") -> Iterator[None]:
    """Code that names no generator (dropout, a foreign model or transform) draws from this stream inside.

    The global states of torch, numpy and Python are put back at the end, so that nothing outside depends on what was
    drawn inside, nor the other way round.

    Args:
        seed: the run's seed.
        *names: as in ``stream_seed``.
        device: the device whose generator is meant beside the CPU's.
    """
    import numpy as np
    import torch

    gpu = torch.cuda.default_generators[torch.device(device).index or 0] if device.startswith("cuda") else None
    torchs = [torch.default_generator, *([gpu] if gpu else [])]
    states = [each.get_state() for each in torchs], np.random.get_state(), random.getstate()
    try:
        restart(seed, *names)
        if gpu:
            gpu.manual_seed(stream_seed(seed, *names))  # Philox uses all of its bits
        yield
    finally:
        for each, state in zip(torchs, states[0], strict=True):
            each.set_state(state)
        np.random.set_state(states[1])
        random.setstate(states[2])


def restart(seed: int, *names: str | int) -> None:
    """Set the global generators of torch (CPU), numpy and Python to the beginning of a stream."""
    import numpy as np
    import torch

    # Only the CPU's generator: torch.manual_seed would reseed devices as well.
    torch.default_generator.set_state(stream_state(seed, *names))
    whole = stream_seed(seed, *names)
    np.random.seed([whole & 0xFFFFFFFF, whole >> 32])
    random.seed(whole)
