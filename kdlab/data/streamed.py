"""Images that are decoded when they are asked for, in threads and a little ahead: a folder that no memory holds.

What is kept is bounded in bytes, whatever the number of files and however small they are: images that were just used,
since the views of a step ask for the same ones, and the next in the order that was told. The pixels are those that a
set in memory has, to the last bit.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from kdlab.data.source import HELD

THREADS = min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
BESIDE = 2048  # bytes that an image takes which is kept, besides its pixels: its future, the lock of that, the array


class Streamed:
    """What an ImageSet has for ``images`` when they are not in memory: uint8 (N, C, H, W), as far as a set is asked.

    Args:
        read: decodes one image by its row, uint8 (C, H, W); called in threads.
        rows: (N,) int64, rows of the set's images.
        image: (channels, height, width).
        device: where batches go.
        held: bytes of images to keep, each with ``BESIDE``; more are kept only where three requests take more.
    """

    def __init__(
        self, read: Callable[[int], np.ndarray], rows: np.ndarray, image: tuple[int, int, int],
        device: str | torch.device = "cpu", held: int = HELD,
    ):  # fmt: skip
        self.read, self.rows, self.device, self.held = read, np.asarray(rows), torch.device(device), held
        self.shape = torch.Size((len(self.rows), *image))
        self._each = int(np.prod(image)) + BESIDE
        self._kept: OrderedDict[int, Future] = OrderedDict()  # by place, the least lately used first
        self._order, self._at, self._next = np.arange(0), np.arange(0), 0
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor | Streamed:
        """The images at a tensor of places as such a set of their own; one image, or a slice of them, as pixels."""
        if isinstance(index, Tensor):
            return Streamed(self.read, self.rows[index.cpu().numpy()], tuple(self.shape[1:]), self.device, self.held)
        if isinstance(index, slice):
            return self.index_select(0, torch.arange(len(self))[index])
        return self.index_select(0, torch.tensor([index % len(self)]))[0]

    def to(self, device: str | torch.device) -> Streamed:
        """The same images, whose batches go to a device."""
        return Streamed(self.read, self.rows, tuple(self.shape[1:]), device, self.held)

    def expect(self, order: Tensor) -> None:
        """Tell in which order images will be asked for, so that the next ones are decoded meanwhile.

        Args:
            order: places in this set, each once.
        """
        with self._lock:
            self._order, self._next = order.cpu().numpy(), 0
            self._at = np.full(len(self), -1)
            self._at[self._order] = np.arange(len(self._order))

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Images at ``index`` (B,), uint8 (B, C, H, W), on the device; ``dim`` is 0, as a tensor's would be."""
        wanted = index.tolist()
        with self._lock:
            limit = max(self.held // self._each, 3 * len(wanted))
            futures = [self._ask(place, limit) for place in wanted]
            self._decode_ahead(wanted, limit)
        pixels = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        for row, future in enumerate(futures):
            pixels[row] = future.result()
        return torch.from_numpy(pixels).to(self.device)

    def _ask(self, place: int, limit: int) -> Future:
        if place not in self._kept:
            self._pool = self._pool or ThreadPoolExecutor(THREADS, "kdlab-decode")
            self._kept[place] = self._pool.submit(self.read, int(self.rows[place]))
            while len(self._kept) > limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        return self._kept[place]

    def _decode_ahead(self, wanted: list[int], limit: int) -> None:
        """Begin the images that come next in the order: as many as fit beside what was asked for last."""
        if len(self._order) and wanted:
            last = int(self._at[wanted].max())
            stop = min(last + 1 + (limit - len(wanted)) // 2, len(self._order))
            for place in self._order[max(self._next, last + 1) : stop]:
                self._ask(int(place), limit)
            self._next = max(self._next, stop)

    @property
    def bytes_held(self) -> int:
        """Bytes that the images take which are kept or being decoded."""
        return len(self._kept) * self._each
