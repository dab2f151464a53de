"""A step as one CUDA graph: recorded once, then replayed on new inputs, a single call for the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Recorder = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]


def record(work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """Capture some work on the current device.

    Returns:
        What does it once more, and the tensor that it then writes its result to.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph.replay, result


class Captured:
    """Some work on tensors of fixed shapes.

    Args:
        inputs: the tensors that it reads and that change from step to step, by name.
        take: called once with the tensors that it will read in their place.
        work: reads these alone, beside what it keeps itself; it is recorded, not done.
        recorder: records it.
    """

    def __init__(
        self, inputs: Mapping[tuple, Tensor], take: Callable[[dict[tuple, Tensor]], None],
        work: Callable[[], Tensor], recorder: Recorder = record,
    ):  # fmt: skip
        self.inputs = {name: value.clone() for name, value in inputs.items()}
        self.kinds: dict[torch.dtype, list[tuple]] = {}  # their names, by the kind of their numbers
        for name, value in self.inputs.items():
            self.kinds.setdefault(value.dtype, []).append(name)
        take(self.inputs)
        self.replay, self.result = recorder(work)

    def __call__(self, inputs: Mapping[tuple, Tensor]) -> Tensor:
        """Do the work on these inputs, of the same names and shapes; its result, which is the caller's."""
        for names in self.kinds.values():  # a few launches, however many tensors
            torch._foreach_copy_([self.inputs[name] for name in names], [inputs[name] for name in names])
        self.replay()
        return self.result.clone()
