"""What methods on features share: pairs of stage maps, and layers whose initial weights come from a given stream."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.models import Outputs

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def stages(method: str, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
    """The student's and the teacher's map of each stage.

    Raises:
        SpecError: when the two have other numbers of stages.
    """
    mine, theirs = len(student.features), len(teacher.features)
    if mine != theirs:
        raise SpecError(f"{method} compares stage by stage, but the student has {mine} maps and the teacher {theirs}.")
    return list(zip(student.features, teacher.features, strict=True))


def several_positions(method: str, student: Outputs, teacher: Outputs) -> None:
    """Refuse networks whose stage maps have one position each, at which every map of unit length is the same.

    Raises:
        SpecError: when no stage has two positions or more in both.
    """
    if all(1 in (a.shape[2:].numel(), b.shape[2:].numel()) for a, b in stages(method, student, teacher)):
        raise SpecError(f"{method} compares maps position by position, but every stage has one position only.")


def blank(kind: type[Layer], *sizes: int, **options) -> Layer:
    """A layer whose weights are to be set by the caller; the global generator stays as it was.

    torch's ``skip_init`` does the same, but imports a computer algebra system on the way (8 s).
    """
    with torch.random.fork_rng(devices=[]):
        return kind(*sizes, **options)


def convolution(
    inputs: int,
    outputs: int,
    generator: torch.Generator,
    size: int = 1,
    nonlinearity: Literal["relu", "linear"] = "relu",
) -> nn.Conv2d:
    """A convolution without bias that keeps height and width; what follows it sets the scale of its initial weights."""
    layer = blank(nn.Conv2d, inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity, generator=generator)
    return layer


def drawn(kind: type[Layer], *sizes: int, generator: torch.Generator, **options) -> Layer:
    """A linear or convolution layer whose weights come from a given stream, not from the global generator.

    Weights and bias are uniform in ``(-b, b)`` with ``b = 1 / sqrt(n)`` and n the inputs of one unit: torch's default.

    Args:
        kind: ``nn.Linear`` or ``nn.Conv2d``.
        *sizes: its inputs, outputs (and kernel).
        generator: CPU stream.
        **options: of the layer, for example ``bias=False``.
    """
    layer = blank(kind, *sizes, **options)
    bound = layer.weight[0].numel() ** -0.5
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


def block(inputs: int, outputs: int, size: int, generator: torch.Generator, relu: bool = True) -> nn.Sequential:
    """A convolution that keeps height and width, BatchNorm and, if asked for, ReLU."""
    layer = convolution(inputs, outputs, generator, size)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))
