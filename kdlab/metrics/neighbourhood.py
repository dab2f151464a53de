"""The loss around a network's weights: its rise within a neighbourhood, and slices in one and two dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kdlab.errors import SpecError, check_integer, check_number
from kdlab.metrics.sharpness import Estimate, Objective, ascent, moved
from kdlab.rng import generator


def m_sharpness(objective: Objective, rho: float, *, adaptive: bool = False) -> float:
    """The mean rise of a shard's loss when the weights take its own step of steepest ascent.

    ``S_m(rho) = mean_s [L_s(w + e_s) - L_s(w)]`` with ``e_s = rho D^2 g_s / |D g_s|``, over disjoint shards of m images

    Args:
        objective: the loss, in shards of m images (``Objective.of(..., size=m)``).
        rho: radius, > 0; of the weights' own length where plain, of the vector of relative changes where adaptive.
        adaptive: whether ``D = diag(|w|)``; otherwise D = 1.

    Returns:
        A rise in nats; about ``rho |g|`` where rho is small.

    Reference: Foret et al., ICLR 2021 (m-sharpness); Kwon et al., ICML 2021 (adaptive sharpness); Andriushchenko,
        Croce, Müller, Hein and Flammarion, A Modern Look at the Relationship between Sharpness and Generalization,
        ICML 2023.
    """
    check_number("rho", rho, 0, open_low=True)
    parameters, rises = list(objective.parameters), []
    units = [p.detach().abs() if adaptive else 1.0 for p in parameters]
    for shard in objective.shards:
        here = shard()
        gradients = torch.autograd.grad(here, parameters, materialize_grads=True)
        with torch.no_grad(), moved(parameters, ascent(gradients, rho, units)):
            rises.append(shard().item() - here.item())
    return float(np.mean(rises))


def average_sharpness(
    objective: Objective, sigma: float, *, adaptive: bool = True, draws: int = 50, seed: int = 0
) -> Estimate:
    """The mean rise of the loss at weights with Gaussian noise: ``E[L(w + D e) - L(w)]``, ``e ~ N(0, sigma^2)``.

    Each draw is taken with its negative, so that what is odd in e, the gradient's part above all, cancels. For small
    sigma it is ``sigma^2 tr(D H D) / 2``.

    Args:
        objective: the loss.
        sigma: > 0, a share of each weight where adaptive.
        adaptive: whether ``D = diag(|w|)``; otherwise D = 1.
        draws: n >= 2 pairs.
        seed: of the draws.

    Returns:
        The mean in nats, and ``sd / sqrt(n)`` over pairs.

    Reference: Andriushchenko et al., ICML 2023 (average-case adaptive sharpness).
    """
    check_number("sigma", sigma, 0, open_low=True)
    parameters, here, rises = list(objective.parameters), objective.value(), []
    draw = generator(seed, "sharpness/average")
    for _ in range(check_integer("draws", draws, 2)):
        noise = [sigma * torch.randn(p.shape, generator=draw, dtype=torch.float64).to(p) for p in parameters]
        steps = [n * p.detach().abs() if adaptive else n for n, p in zip(noise, parameters, strict=True)]
        both = []
        for sign in (1, -1):
            with moved(parameters, [sign * step for step in steps]):
                both.append(objective.value() - here)
        rises.append(sum(both) / 2)
    return Estimate.of(rises)


def filter_direction(parameters: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """A random direction whose filters are as long as the network's own.

    Gaussian; each filter (the weights of one output, ``w[k]``) is scaled to ``|w[k]|``. Biases and BatchNorm, of one
    dimension, stay where they are. A picture then does not depend on how scale is shared out between layers.

    Args:
        parameters: the network's weights.
        seed: another seed gives another direction, at a right angle to this one nearly.

    Returns:
        In the shapes of the parameters.

    Reference: Li, Xu, Taylor, Studer and Goldstein, Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018.
    """
    draw, direction = generator(seed, "sharpness/slice"), []
    for p in parameters:
        noise = torch.randn(p.shape, generator=draw, dtype=torch.float64).to(p)  # drawn for all, so that none shifts
        if p.ndim < 2:
            direction.append(torch.zeros_like(p))
            continue
        rows, own = noise.reshape(len(p), -1), p.detach().reshape(len(p), -1)
        direction.append((rows / rows.norm(dim=1, keepdim=True) * own.norm(dim=1, keepdim=True)).view(p.shape))
    return direction


def loss_slice(objective: Objective, directions: Sequence[Sequence[Tensor]], at: Sequence[float]) -> np.ndarray:
    """The loss along one direction, or on a plane through two: ``L(w + a d)``, ``L(w + a d + b d')``.

    Args:
        objective: the loss.
        directions: one or two, each in the shapes of the parameters (``filter_direction``).
        at: the S values that each of a and b takes; in lengths of the filters, where directions are normalised so.

    Returns:
        float64 (S,), or (S, S) with a along the first axis; the weights have their own bits again.

    Raises:
        SpecError: for another number of directions.
    """
    if len(directions) not in (1, 2):
        raise SpecError(f"directions must be one or two, but got {len(directions)}.")
    losses = []
    for place in itertools.product(map(float, at), repeat=len(directions)):
        parts = zip(*directions, strict=True)
        with moved(objective.parameters, [sum(a * d for a, d in zip(place, part, strict=True)) for part in parts]):
            losses.append(objective.value())
    return np.array(losses).reshape((len(at),) * len(directions))
