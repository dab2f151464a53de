"""Layers that a method trains beside the student."""

from __future__ import annotations

import torch
from torch import nn

from kdlab.losses.bridge import blank, convolution


def drawn(kind: type[nn.Module], *sizes: int, generator: torch.Generator, **options) -> nn.Module:
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
    """A convolution that keeps height and width, BatchNorm and (unless told otherwise) ReLU."""
    layer = convolution(inputs, outputs, generator, size)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))
