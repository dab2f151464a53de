"""Students and teachers: the zoo of the field under its own names, and foreign models by their layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kdlab.models.outputs import Outputs, Tapped, classifier, outputs
from kdlab.registry import create
from kdlab.rng import stream_seed

__all__ = ["Outputs", "Tapped", "build", "classifier", "outputs"]


def build(name: str, num_classes: int, in_channels: int = 3, *, seed: int, **options: Any) -> nn.Module:
    """Make a model whose initial weights depend on the seed alone; the global generator is left as it was.

    Args:
        name: a registered name, or ``module:Class`` (called with ``num_classes, in_channels``).
        num_classes: number of classes K.
        in_channels: 1 (grey) or 3 (colour).
        seed: the run's seed; the weights come from its stream ``"init"``.
        **options: the model's own options.

    Returns:
        The model in train mode, float32, on the CPU.

    Raises:
        SpecError: for an unknown name or option.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would reseed the accelerators as well, which fork_rng does not give back here.
        torch.default_generator.manual_seed(stream_seed(seed, "init"))
        return create("models", name, num_classes, in_channels, **options)
