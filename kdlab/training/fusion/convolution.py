"""One convolution for K students, with the bits of K separate ones.

A few channels fill a quarter of a processor's vectors. So the maps of K students lie side by side as channels, and a
grouped convolution takes several students a group, with block-diagonal kernels: zeros between students. How many
students a group holds is measured for each shape on the machine at hand: the fastest number whose results equal those
of separate convolutions to the last bit; where none does, each student is convolved by itself.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRIES = 3  # timings of each group size, the fastest of which counts


class Shape(NamedTuple):
    """A convolution of K students: images (B, I, H, W) and kernel (O, I, h, w) of one of them; ``first`` needs no
    gradient of its input."""

    students: int
    images: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, int]
    padding: tuple[int, int]
    first: bool


class GroupSizes(NamedTuple):
    """Students in a group: forward, for the input's gradient, for the kernels' gradient. 0 convolves one by one."""

    forward: int = 0
    inputs: int = 0
    kernels: int = 0


def block_diagonal(kernels: Sequence[Tensor], group: int, between: float = 0) -> Tensor:
    """Kernels of K students as one grouped convolution's: block-diagonal within each group of students.

    Args:
        kernels: K tensors (O, I, h, w).
        group: students in a group; divides K. 0 is laid out as 1.
        between: fills the blocks off the diagonal.

    Returns:
        (K O, group I, h, w).
    """
    whole = torch.stack(tuple(kernels)).unflatten(0, (-1, group or 1))
    groups, group, outs, ins, *size = whole.shape
    placed = whole.new_full((groups, group, outs, group, ins, *size), between)
    placed.diagonal(dim1=1, dim2=3).copy_(whole.movedim(1, -1))
    return placed.view(groups * group * outs, group * ins, *size)


def diagonal_blocks(kernel: Tensor, students: int, group: int) -> Tensor:
    """The blocks that ``block_diagonal`` placed, (K, O, I, h, w)."""
    group = group or 1
    placed = kernel.unflatten(0, (students // group, group, -1)).unflatten(3, (group, -1))
    return placed.diagonal(dim1=1, dim2=3).movedim(-1, 1).flatten(0, 1)


def per_student(maps: Tensor, students: int) -> list[Tensor]:
    """The maps of every student, (B, C, H, W) each, from those side by side, (B, K C, H, W)."""
    return [part.contiguous() for part in maps.unflatten(1, (students, -1)).unbind(1)]


def convolve(x: Tensor, kernel: Tensor, shape: Shape, group: int) -> Tensor:
    """The students' maps, (B, K O, H', W'), with kernels laid out for ``group``."""
    k, steps = shape.students, (None, shape.stride, shape.padding, 1)
    if group:
        return F.conv2d(x, kernel, *steps, k // group)
    return torch.cat([F.conv2d(*own, *steps) for own in zip(per_student(x, k), kernel.chunk(k), strict=True)], 1)


def input_gradient(g: Tensor, x: Tensor, kernel: Tensor, shape: Shape, group: int) -> Tensor:
    """Gradient of the input, (B, K I, H, W), with kernels laid out for ``group``."""
    return _backward(g, x, kernel, shape, group, 0)


def kernel_gradient(g: Tensor, x: Tensor, kernel: Tensor, shape: Shape, group: int) -> Tensor:
    """Gradient of the kernels, laid out for ``group``."""
    return _backward(g, x, kernel, shape, group, 1)


def _backward(g: Tensor, x: Tensor, kernel: Tensor, shape: Shape, group: int, which: int) -> Tensor:
    k, wanted = shape.students, [which == 0, which == 1, False]
    steps = None, shape.stride, shape.padding, (1, 1), False, (0, 0)
    backward = torch.ops.aten.convolution_backward
    if group:
        return backward(g, x, kernel, *steps, k // group, wanted)[which]
    parts = zip(per_student(g, k), per_student(x, k), kernel.chunk(k), strict=True)
    return torch.cat([backward(*own, *steps, 1, wanted)[which] for own in parts], 1 - which)


@functools.cache
def group_sizes(shape: Shape) -> GroupSizes:
    """The fastest group sizes with the bits of separate convolutions, measured on random numbers."""
    draw = torch.Generator().manual_seed(0)
    k, (rows, channels, *size) = shape.students, shape.images
    x = torch.randn(rows, k * channels, *size, generator=draw)
    kernels = torch.randn(k, *shape.kernel, generator=draw)
    laid = {group: block_diagonal(kernels, group) for group in range(k + 1) if group == 0 or k % group == 0}
    g = torch.randn(convolve(x, laid[0], shape, 0).shape, generator=draw)

    def by_group(operation: Callable[..., Tensor], *maps: Tensor) -> Callable[[int], Tensor]:
        return lambda group: operation(*maps, laid[group], shape, group)

    forward, inputs, kernels = by_group(convolve, x), by_group(input_gradient, g, x), by_group(kernel_gradient, g, x)
    same_kernels = _identical(laid, lambda group: diagonal_blocks(kernels(group), k, group))
    return GroupSizes(
        _fastest(_identical(laid, forward), forward),
        0 if shape.first else _fastest(_identical(laid, inputs), inputs),
        _fastest(same_kernels, kernels),
    )


def _identical(groups: Iterable[int], result: Callable[[int], Tensor]) -> list[int]:
    """The group sizes with the result of size 0, to the last bit."""
    right = result(0)
    return [group for group in groups if torch.equal(result(group), right)]


def _fastest(groups: Iterable[int], work: Callable[[int], Tensor]) -> int:
    """The group size whose work takes least time, the best of ``TRIES``."""

    def seconds(group: int) -> float:
        started = time.thread_time()  # of this thread alone: others may be at work on the machine
        work(group)
        return time.thread_time() - started

    return min(groups, key=lambda group: min(seconds(group) for _ in range(TRIES)))


class ConvolutionFunction(torch.autograd.Function):
    """The operation of a ``FusedConvolution``; the layer itself keeps the kernels' gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, kernel: Tensor, layer: FusedConvolution) -> Tensor:
        """Maps of all students; the kernel is an argument so that autograd calls ``backward``."""
        ctx.save_for_backward(x)
        ctx.layer = layer
        group = 0 if layer.safe else layer.group_sizes.forward
        return convolve(x, layer.laid[group], layer.shape, group)

    @staticmethod
    def backward(ctx, g: Tensor):
        """Gradient of the input."""
        (x,), layer, g = ctx.saved_tensors, ctx.layer, g.contiguous()
        sizes, shape = layer.group_sizes, layer.shape
        layer.gradient = kernel_gradient(g, x, layer.laid[sizes.kernels], shape, sizes.kernels)
        if not ctx.needs_input_grad[0]:
            return None, None, None
        # Zeros times infinity are no zeros: one student's overflow must not reach the others of its group.
        group = sizes.inputs
        if group > 1 and not math.isfinite(layer.gradient.sum().item()):
            group = 0
        return input_gradient(g, x, layer.laid[group], shape, group), None, None


class FusedConvolution(nn.Module):
    """One convolution layer of all students.

    Attributes:
        layers: the students' own; a list, so that their parameters stay theirs.
        shape: of the convolution.
        group_sizes: students in a group, measured for this shape.
        laid: kernels by group size; the fused network fills them before every step.
        gradient: of the kernels, laid out for ``group_sizes.kernels``.
        safe: convolve the students one by one.
    """

    def __init__(self, layers: Sequence[nn.Conv2d], images: tuple[int, ...], first: bool):
        super().__init__()
        one = layers[0]
        self.layers, self.laid, self.gradient, self.safe = layers, {}, None, False
        self.shape = Shape(len(layers), images, tuple(one.weight.shape), one.stride, one.padding, first)
        self.group_sizes = group_sizes(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K I, H, W) to (B, K O, H', W')."""
        return ConvolutionFunction.apply(x, self.laid[0], self)
