"""How sharp a loss is at a network's weights: its curvature, the loss at perturbed weights, and slices through it.

Everything is measured on fixed images, in eval mode and in the precision of the weights; give a network in float64
where digits matter. ``adaptive`` measures in units of the weights themselves: a step along a weight w counts as a share
of ``|w|``, so that weights that only move scale from one layer to the next, and leave what the network says, are as
sharp as before. Plain sharpness can be made anything that way.

Reference: Dinh, Pascanu, Bengio and Bengio, Sharp Minima Can Generalize For Deep Nets, ICML 2017.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import SpecError, check_integer, check_number
from kdlab.rng import generator

Loss = Callable[[Tensor, slice], Tensor]  # of logits (m, K), and which of the images they are of: a scalar

# Products between restarts of Lanczos: the largest eigenvalue of a trained network stands apart, and 8 find it to four
# digits where the usual 20 do.
RESTART = 8


class Estimate(NamedTuple):
    """A mean over random draws and its standard error, both in the unit of the loss (nats) or of its curvature."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """From at least two independent draws."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values))))


class Eigenvalue(NamedTuple):
    """A Ritz pair: value, eigenvector (P,), and ``|H v - value v|``; some eigenvalue lies within that of the value."""

    value: float
    vector: np.ndarray
    residual: float


@dataclass(frozen=True)
class Objective:
    """A loss as a function of weights: the mean of its shards, each a mean over equally many images.

    Args:
        parameters: the P weights that it is a function of, leaf tensors.
        shards: each gives its scalar at the present weights.
    """

    parameters: Sequence[Tensor]
    shards: Sequence[Callable[[], Tensor]]

    @classmethod
    def of(cls, model: nn.Module, images: Tensor, loss: Loss, size: int = 128) -> Objective:
        """The loss of a network's logits on images, in disjoint shards of ``size``.

        Args:
            model: in eval mode, so that BatchNorm is fixed; weights that need no gradient are not among the P.
            images: normalised (N, C, H, W), on the model's device and in its precision.
            loss: mean over the rows of its logits, such as ``cross_entropy(labels)``.
            size: m, images in a shard; it divides N.

        Raises:
            SpecError: when the model is in training mode, no weight needs a gradient, or m does not divide N.
        """
        if any(part.training for part in model.modules()):
            raise SpecError("sharpness is measured in eval mode, but the model is in training mode; call model.eval().")
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise SpecError("sharpness needs weights with a gradient; call model.requires_grad_(True) first.")
        if not len(images) or len(images) % check_integer("size", size, 1):
            raise SpecError(f"size must divide the {len(images)} images, but got {size}.")

        def shard(rows: slice) -> Callable[[], Tensor]:
            return lambda: loss(model(images[rows]), rows)

        return cls(parameters, [shard(slice(at, at + size)) for at in range(0, len(images), size)])

    @torch.no_grad()
    def value(self) -> float:
        """The loss at the present weights."""
        return sum(shard().item() for shard in self.shards) / len(self.shards)


def cross_entropy(labels: Tensor) -> Loss:
    """``-mean_i log softmax(z_i)[y_i]`` of the rows with these labels, int64 (N,): the journal's L_ce, on views L_A."""
    return lambda logits, rows: F.cross_entropy(logits, labels[rows])


def distillation(teacher_logits: Tensor, temperature: float = 4.0) -> Loss:
    """``T^2 mean_i KL(softmax(t_i / T) || softmax(z_i / T))``: the journal's L_kd, on views L_T.

    Args:
        teacher_logits: t, (N, K), of the same images.
        temperature: T > 0.
    """
    said = F.log_softmax(teacher_logits / check_number("temperature", temperature, 0, open_low=True), dim=1)

    def loss(logits: Tensor, rows: slice) -> Tensor:
        own = F.log_softmax(logits / temperature, dim=1)
        return temperature**2 * F.kl_div(own, said[rows], reduction="batchmean", log_target=True)

    return loss


# ---- vectors of weights ----------------------------------------------------------------------------------------------


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _like(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """A vector (P,) cut into the shapes of the parameters."""
    parts = vector.to(parameters[0]).split([p.numel() for p in parameters])
    return [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]


@contextlib.contextmanager
def moved(parameters: Sequence[Tensor], by: Sequence[Tensor]) -> Iterator[None]:
    """The weights w + e inside, and their own bits again at the end."""
    before = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            for p, step in zip(parameters, by, strict=True):
                p.add_(step)
        yield
    finally:
        with torch.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.copy_(old)


def ascent(gradients: Sequence[Tensor], rho: float, units: Sequence[Tensor | float]) -> list[Tensor]:
    """The step that raises a linear loss most in a neighbourhood: ``e = rho D^2 g / |D g|``, with ``|e / D| = rho``.

    Args:
        gradients: g, the gradient of the loss in each parameter.
        rho: radius of the neighbourhood, >= 0, in the units D.
        units: D, of each parameter a tensor of its shape, or a number; 1 throughout is SAM's, ``|w|`` ASAM's.

    Returns:
        e, in the shapes of the gradients; 0 where the gradient is.

    Reference: Foret, Kleiner, Mobahi and Neyshabur, Sharpness-Aware Minimization, ICLR 2021; Kwon, Kim, Park and Choi,
        ASAM: Adaptive Sharpness-Aware Minimization, ICML 2021.
    """
    scaled = [unit * gradient for unit, gradient in zip(units, gradients, strict=True)]
    norm = torch.stack([part.norm() for part in scaled]).norm()
    scale = rho / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    return [scale * (unit * part) for unit, part in zip(units, scaled, strict=True)]


# ---- curvature -------------------------------------------------------------------------------------------------------


def hessian_product(objective: Objective, vector: Tensor, adaptive: bool = False) -> Tensor:
    """``D H D v`` with the Hessian H of the loss at the present weights, exactly, by differentiating ``g . D v``.

    Args:
        objective: the loss.
        vector: v, (P,).
        adaptive: whether ``D = diag(|w|)``; otherwise D = 1.

    Returns:
        (P,), in the precision of the weights.

    Reference: Pearlmutter, Fast Exact Multiplication by the Hessian, Neural Computation 1994.
    """
    parameters = list(objective.parameters)
    unit = _flat(parameters).abs() if adaptive else 1.0
    along = _like(unit * vector.to(parameters[0]), parameters)
    total = torch.zeros_like(vector, dtype=parameters[0].dtype)
    for shard in objective.shards:
        gradients = torch.autograd.grad(shard(), parameters, create_graph=True, materialize_grads=True)
        slope = torch.stack([(g * v).sum() for g, v in zip(gradients, along, strict=True)]).sum()
        if slope.requires_grad:  # it does not where the loss is linear
            total += _flat(torch.autograd.grad(slope, parameters, materialize_grads=True))
    return unit * total / len(objective.shards)


def largest_eigenvalue(
    objective: Objective, *, adaptive: bool = False, tolerance: float = 1e-3, seed: int = 0
) -> Eigenvalue:
    """The largest eigenvalue of ``D H D``, by Lanczos on ``hessian_product`` (ARPACK, restarted after 8 products).

    Args:
        objective: the loss; P >= 2.
        adaptive: as in ``hessian_product``.
        tolerance: of the value, relative, > 0.
        seed: of the first vector.

    Raises:
        SpecError: when the loss is not finite, or Lanczos does not reach the tolerance.

    Reference: Lanczos, J. Res. Nat. Bur. Standards 1950; Lehoucq, Sorensen and Yang, ARPACK Users' Guide, SIAM 1998.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh  # here, since training reads this module too

    check_number("tolerance", tolerance, 0, open_low=True)
    if not math.isfinite(objective.value()):
        raise SpecError("the loss is not finite at these weights; they have no curvature.")
    like = _flat(objective.parameters)
    first = torch.randn(like.shape, generator=generator(seed, "sharpness/lanczos"), dtype=torch.float64).numpy()

    def product(vector: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(np.array(vector, dtype=np.float64).reshape(-1)).to(like.device)
        return hessian_product(objective, given, adaptive).double().cpu().numpy()

    operator = LinearOperator((len(first),) * 2, matvec=product, dtype=np.float64)
    try:
        values, vectors = eigsh(operator, k=1, which="LA", tol=tolerance, v0=first, ncv=min(RESTART, len(first)))
    except RuntimeError as error:  # ARPACK's own kinds
        raise SpecError(f"the largest eigenvalue was not found to {tolerance:g}: {error}") from error
    residual = np.linalg.norm(product(vectors[:, 0]) - values[0] * vectors[:, 0])
    return Eigenvalue(float(values[0]), vectors[:, 0], float(residual))


def trace(objective: Objective, *, probes: int = 50, adaptive: bool = False, seed: int = 0) -> Estimate:
    """The trace of ``D H D`` by Hutchinson's estimator: the mean of ``z . D H D z`` over random signs z.

    Its variance over probes is twice the sum of the squares off the diagonal; a diagonal matrix is found exactly.

    Args:
        objective: the loss.
        probes: n >= 2 vectors of signs.
        adaptive: as in ``hessian_product``.
        seed: of the signs.

    Returns:
        The mean, and ``sd / sqrt(n)``.

    Reference: Hutchinson, A Stochastic Estimator of the Trace of the Influence Matrix, Comm. Stat. 1989.
    """
    draw, found, like = generator(seed, "sharpness/trace"), [], _flat(objective.parameters)
    for _ in range(check_integer("probes", probes, 2)):
        signs = (2.0 * torch.randint(2, like.shape, generator=draw) - 1).to(like)
        found.append((signs.double() @ hessian_product(objective, signs, adaptive).double()).item())
    return Estimate.of(found)
