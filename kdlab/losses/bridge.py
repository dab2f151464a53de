"""What the methods share that compare maps stage by stage: pairs of maps, and layers with weights of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlab.models import Outputs
from kdlab.registry import SpecError


def stages(method: str, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
    """The student's and the teacher's map of each stage.

    Raises:
        SpecError: when the two have other numbers of stages.
    """
    mine, theirs = len(student.features), len(teacher.features)
    if mine != theirs:
        raise SpecError(f"{method} compares stage by stage, but the student has {mine} maps and the teacher {theirs}.")
    return list(zip(student.features, teacher.features, strict=True))


def blank(kind: type[nn.Module], *sizes: int, **options) -> nn.Module:
    """A layer whose weights are to be set by the caller; the global generator stays as it was.

    torch's ``skip_init`` does the same, but imports a computer algebra system on the way (8 s).
    """
    with torch.random.fork_rng(devices=[]):
        return kind(*sizes, **options)


def convolution(
    inputs: int, outputs: int, generator: torch.Generator, size: int = 1, nonlinearity: str = "relu"
) -> nn.Conv2d:
    """A convolution without bias that keeps height and width; what follows it sets the scale of its initial weights."""
    layer = blank(nn.Conv2d, inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity, generator=generator)
    return layer
