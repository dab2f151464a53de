"""Sharpness-aware minimisation: the weights of a step's second pass, and what that pass may not change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from kdlab.metrics.sharpness import ascent, moved
from kdlab.spec import Optimiser

ETA = 0.01  # added to |w|, so that a weight of 0 can move


@contextlib.contextmanager
def ascended(student: nn.Module, method: nn.Module, rule: Optimiser) -> Iterator[None]:
    """Student and method at ``w + e`` inside, where the loss on the batch is worst: ``e = rho D^2 g / |D g|``.

    D is 1 for SAM; for ASAM ``|w| + 0.01`` where a parameter's name has *weight* in it and 1 elsewhere, as published.
    All that the optimiser trains moves, the method's own layers too; g is the gradient that stands in ``.grad``. At the
    end the weights have their own bits again, and the second pass leaves nothing but gradients: running statistics of
    BatchNorm, memories and whatever else a method keeps stay as the first pass left them.

    Args:
        student: the network in training.
        method: the objective, a module.
        rule: with rho > 0.

    Reference: Foret, Kleiner, Mobahi and Neyshabur, ICLR 2021; Kwon, Kim, Park and Choi, ICML 2021.
    """
    parts = (student, method)
    named = [(n, p) for part in parts for n, p in part.named_parameters() if p.requires_grad and p.grad is not None]
    scaled = [rule.adaptive and "weight" in name for name, _ in named]
    parameters = [p for _, p in named]
    units = [p.detach().abs() + ETA if own else 1.0 for own, p in zip(scaled, parameters, strict=True)]
    kept = [_state(module) for part in parts for module in part.modules()]
    with torch.no_grad():
        steps = ascent([p.grad for p in parameters], rule.rho, units)
    with moved(parameters, steps):
        yield
    for module, attributes, buffers, values in kept:
        vars(module).update(attributes)
        module._buffers.update(buffers)
        with torch.no_grad():
            for name, value in values.items():
                buffers[name].copy_(value)


def _state(module: nn.Module) -> tuple[nn.Module, dict, dict, dict]:
    """A layer, its attributes and buffers (which tensors they are), and the buffers' values."""
    values = {name: buffer.clone() for name, buffer in module._buffers.items() if buffer is not None}
    return module, dict(vars(module)), dict(module._buffers), values
