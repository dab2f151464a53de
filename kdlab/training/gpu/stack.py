"""K students of one architecture as one network on a device: a row of one tensor each is a student's weight.

Two ways of running it, of which ``network`` chooses: ``Vmapped`` maps the network's own code over the rows
(``torch.func.vmap``), ``Grouped`` lays the students' maps side by side as channels and convolves them in groups, as the
fusion on the CPU does (``kdlab.training.fusion``). Both equal separate steps up to rounding; neither keeps their bits.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models import Outputs, outputs
from kdlab.models.resnet import ResNet
from kdlab.models.wrn import WideResNet


class Stack:
    """The weights and buffers of K students, each as one tensor; those of the students become views of their rows.

    So evaluation, checkpoints and results read the students as ever.

    Args:
        students: networks of one architecture in train mode, on one device.

    Attributes:
        weights: leaves (K, ...) by the name of the parameter.
        buffers: (K, ...) by name.
    """

    def __init__(self, students: Sequence[nn.Module]):
        self.students = list(students)
        self.weights = {name: rows.requires_grad_() for name, rows in self._rows(nn.Module.named_parameters).items()}
        self.buffers = self._rows(nn.Module.named_buffers)

    def __len__(self) -> int:
        return len(self.students)

    def _rows(self, named) -> dict[str, Tensor]:
        own = [dict(named(student)) for student in self.students]
        return {name: in_rows([of[name] for of in own]) for name in own[0]}


def in_rows(own: Sequence[Tensor]) -> Tensor:
    """Some tensors of one shape as the rows of one; each of them becomes a view of its row."""
    whole = torch.stack([tensor.detach() for tensor in own])
    for tensor, row in zip(own, whole, strict=True):
        tensor.data = row
    return whole


def network(stack: Stack) -> Vmapped | Grouped:
    """The students as one network: the only place that chooses how.

    Groups of channels on a GPU, for networks whose operations other than convolutions leave channels apart: on an H200
    48 students step in 4.3 ms, mapped over in 6.4 ms, and one after the other in one graph in 29 ms; ``channels_last``
    is no faster, and its kernels take ten seconds to find.
    """
    one = stack.students[0]
    grouped = next(one.parameters()).is_cuda and isinstance(one, ResNet | WideResNet)
    return (Grouped if grouped else Vmapped)(stack)


# --- torch.func.vmap ----------------------------------------------------------------------------------------------


def named_tensors(said: Outputs) -> dict[str, Any]:
    """Outputs as a dictionary of tensors and tuples of them, without what is not there."""
    return {name: value for name, value in vars(said).items() if value is not None and len(value)}


def from_named(tensors: Mapping[str, Any]) -> Outputs:
    """The Outputs that ``named_tensors`` took apart."""
    return Outputs(**({"features": (), "embedding": None} | dict(tensors)))


class Whole(nn.Module):
    """A network whose call gives all of its Outputs, as ``named_tensors``."""

    def __init__(self, one: nn.Module):
        super().__init__()
        self.one = one

    def forward(self, x: Tensor) -> dict[str, Any]:
        return named_tensors(outputs(self.one, x))


class Vmapped:
    """The code of one network mapped over the rows of a stack.

    Args:
        stack: of the students.
    """

    def __init__(self, stack: Stack):
        self.whole = Whole(copy.deepcopy(stack.students[0]))
        self.state = {f"one.{name}": rows for name, rows in (stack.weights | stack.buffers).items()}

    def __call__(self, x: Tensor) -> Outputs:
        """Outputs of all students, (K, ...) each.

        Args:
            x: normalised images for all of them, (B, C, H, W), or for each, (K, B, C, H, W).
        """

        def one(state: dict[str, Tensor], x: Tensor) -> dict[str, Any]:
            return torch.func.functional_call(self.whole, state, (x,))

        shared = None if x.dim() == 4 else 0
        return from_named(torch.func.vmap(one, in_dims=(0, shared))(self.state, x))


# --- grouped convolutions -----------------------------------------------------------------------------------------


class GroupedConvolution(nn.Module):
    """One convolution of all students, whose maps lie side by side as channels."""

    def __init__(self, one: nn.Conv2d, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.weight, self.bias, self.inputs, self.groups = weight, bias, one.in_channels, one.groups
        self.geometry = one.stride, one.padding, one.dilation

    def forward(self, x: Tensor) -> Tensor:
        """(B, K I, H, W), or (B, I, H, W) of what all students read, to (B, K O, H', W')."""
        shared = x.shape[1] == self.inputs and self.groups == 1
        groups = 1 if shared else len(self.weight) * self.groups
        bias = None if self.bias is None else self.bias.flatten()
        return F.conv2d(x, self.weight.flatten(0, 1), bias, *self.geometry, groups)


class GroupedBatchNorm(nn.Module):
    """One BatchNorm layer of all students in train mode."""

    def __init__(self, one: nn.BatchNorm2d, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, count: Tensor):
        super().__init__()
        self.rows, self.count, self.rule = (mean, var, weight, bias), count, (True, one.momentum, one.eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K C, H, W) to the same."""
        self.count.add_(1)
        return F.batch_norm(x, *(rows.flatten() for rows in self.rows), *self.rule)


class GroupedLinear(nn.Module):
    """One linear layer of all students."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, K D) to (K, B, classes)."""
        return torch.baddbmm(self.bias[:, None], apart(x, len(self.weight)), self.weight.mT)


def apart(maps: Tensor, students: int) -> Tensor:
    """Maps that lie side by side, (B, K C, ...), as those of each student, (K, B, C, ...)."""
    return maps.unflatten(1, (students, -1)).transpose(0, 1)


class Grouped:
    """The students' maps side by side as channels of one batch, convolved in groups.

    Args:
        stack: of students whose layers are convolutions, BatchNorm and one linear classifier, whose other operations
            leave channels apart.
    """

    def __init__(self, stack: Stack):
        self.students, self.net = len(stack), copy.deepcopy(stack.students[0])
        rows = stack.weights | stack.buffers
        for name, one in list(self.net.named_modules()):
            weight, bias = rows.get(f"{name}.weight"), rows.get(f"{name}.bias")
            if isinstance(one, nn.Conv2d):
                self.net.set_submodule(name, GroupedConvolution(one, weight, bias))
            elif isinstance(one, nn.BatchNorm2d):
                running = (rows[f"{name}.{of}"] for of in ("running_mean", "running_var", "num_batches_tracked"))
                self.net.set_submodule(name, GroupedBatchNorm(one, weight, bias, *running))
            elif isinstance(one, nn.Linear):
                self.net.set_submodule(name, GroupedLinear(weight, bias))

    def __call__(self, x: Tensor) -> Outputs:
        """As ``Vmapped`` gives them."""
        if x.dim() == 5:
            x = x.transpose(0, 1).flatten(1, 2)
        said = outputs(self.net, x)
        embedding, final, stem = (apart(maps, self.students) for maps in (said.embedding, said.final, said.stem))
        return Outputs(said.logits, tuple(apart(maps, self.students) for maps in said.features), embedding, final, stem)
