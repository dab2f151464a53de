"""Why an arm cannot be part of a captured step: found out by watching what its loss asks of its tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdlab.losses.base import Batch, Method
from kdlab.models import Outputs, outputs
from kdlab.registry import find, needs
from kdlab.training.student import Arm

OF_THE_HOST = ("epoch", "step", "progress")  # of a batch: numbers that a graph would keep as they were
# Functions for whose results, or for whose numbers, host and device wait for each other.
ASKS = {
    "item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "nonzero", "argwhere",
    "unique", "unique_consecutive", "_unique2", "masked_select", "bincount", "equal", "allclose", "is_nonzero",
    "tensor", "as_tensor", "from_numpy",
}  # fmt: skip


class HostDecision(RuntimeError):
    """A method reads what only the host knows."""


class Questions(TorchFunctionMode):
    """Inside, whoever asks a tensor for numbers, or for a shape that depends on them, raises HostDecision."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        refuse_question(func, args)
        return func(*args, **(kwargs or {}))


def refuse_question(func, args: tuple) -> None:
    """Raise HostDecision where a function of tensors keeps host or device waiting for the other."""
    name = getattr(func, "__name__", "")
    chosen = args[1] if name in ("__getitem__", "__setitem__") else ()
    masks = [i for i in (chosen if isinstance(chosen, tuple) else (chosen,)) if isinstance(i, Tensor)]
    if name == "where" and any(isinstance(value, int | float) for value in args[1:]):
        raise HostDecision("copies a number to the device (where)")
    if name in ASKS or any(mask.dtype in (torch.bool, torch.uint8) for mask in masks):
        raise HostDecision(f"asks the device for numbers ({name.strip('_')})")


class Watched(Batch):
    """A batch whose numbers that change on the host cannot be read."""

    def __getattribute__(self, name: str):
        if name in OF_THE_HOST:
            raise HostDecision(f"reads the batch's {name}")
        return super().__getattribute__(name)


def alone(arm: Arm) -> str:
    """Why a student has to step by itself, with the host reading its loss; empty where it need not."""
    if arm.foreign:
        return "foreign code may draw random numbers or ask the host"
    if arm.prepares:
        return "it prepares a teacher"
    if arm.spec.optimiser.rho and held(arm.method):
        return "SAM moves the method's own parts too, and back"
    own = {id(module) for module in arm.student.modules()}
    reads = any(id(module) in own for module in held(arm.method))
    return "it reads layers of its student, whose weights are rows of a larger tensor elsewhere" if reads else ""


def held(method: nn.Module) -> list[Tensor | nn.Module]:
    """The parameters and buffers of a method, and what tensors and networks its attributes hold."""

    def found(value) -> list:
        if isinstance(value, Tensor | nn.Module):
            return [value]
        values = value.values() if isinstance(value, Mapping) else value
        return [one for part in values for one in found(part)] if isinstance(value, Mapping | tuple | list) else []

    own = [{name: value for name, value in vars(part).items() if name != "_modules"} for part in method.modules()]
    return found(own)


def eager(arm: Arm, batch: Batch, teacher: Outputs | None) -> str:
    """Why an arm's step cannot be captured; empty where it can.

    Args:
        arm: built.
        batch: of the current step.
        teacher: its Outputs on the batch.
    """
    if "memory" in needs(find("losses", arm.spec.method), arm.spec.method_options):
        return "it keeps a memory"
    if type(arm.method).after_step is not Method.after_step:
        return "it acts after each step"
    try:
        _try(arm, batch, teacher)
    except HostDecision as error:
        return f"it {error}"
    return ""


def _try(arm: Arm, batch: Batch, teacher: Outputs | None) -> None:
    """Student and loss on copies of the networks."""
    student, method = copy.deepcopy((arm.student, arm.method))
    said = outputs(student, batch.x)
    watched = Watched(**{field.name: getattr(batch, field.name) for field in fields(Batch)})
    with Questions():
        method(said, teacher, watched)
