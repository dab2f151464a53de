"""One optimiser step of several students of one architecture, without the host looking at a number."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from kdlab.losses.base import Batch, Method
from kdlab.models import Outputs
from kdlab.spec import Optimiser
from kdlab.training.gpu.reasons import held
from kdlab.training.gpu.stack import Stack, from_named, in_rows, named_tensors, network
from kdlab.training.sam import ETA
from kdlab.training.student import Arm

OWN = ("seed", "calls", "training")  # attributes of a method that its loss reads, if at all, beside the graph


def kind(arm: Arm) -> tuple:
    """Arms of equal kinds can be stepped as one network."""
    o, spec = arm.spec.optimiser, arm.spec
    rows = arm.layout.turns or spec.views
    rule = o.momentum, o.nesterov, o.weight_decay, o.rho, o.adaptive
    return spec.model, repr(sorted(spec.model_options.items())), rows, spec.precision, *rule


def alike(arm: Arm) -> tuple:
    """Arms for which this is equal have the same loss, each of its own student, on batches of as many rows."""
    spec, plain = arm.spec, (bool, int, float, str, tuple, type(None))
    state = {name: value for name, value in vars(arm.method).items() if isinstance(value, plain) and name not in OWN}
    options = repr(sorted(spec.method_options.items())), repr(sorted(state.items()))
    return spec.method, *options, arm.layout.hard_labels, bool(arm.teacher_key), arm.total_steps


def same_batch(arm: Arm) -> tuple:
    """Arms for which this is equal see the same batch, and the same outputs of the same teacher."""
    return *arm.views.streams, repr(arm.layout), arm.teacher_key or "", arm.spec.teacher_view


class Abreast:
    """Students of one kind that step together; their losses, and which of them have diverged, stay on the device.

    Args:
        arms: of one ``kind``, all at the same step.
        run: how the students are one network.
        across: take losses of several batches at once too, of methods that nothing on the host tells what to do.

    Attributes:
        alive: which students' losses were finite so far, bool (K,); the others' weights do not move any more.
        rate: learning rates of the current step, float64 (K,).
    """

    def __init__(
        self, arms: Sequence[Arm], run: Callable[[Stack], Callable[[Tensor], Outputs]] = network, across: bool = False
    ):
        self.across, self.arms = across, sorted(arms, key=lambda arm: alike(arm) + same_batch(arm))
        self.stack = Stack([arm.student for arm in self.arms])
        self.network, self.optimiser = run(self.stack), self.arms[0].spec.optimiser
        self.precision = self.arms[0].spec.precision
        self.momentum = [in_rows(own) for own in zip(*(arm.momentum[: self._own] for arm in self.arms), strict=True)]
        where = next(iter(self.stack.weights.values())).device
        self.alive = torch.ones(len(self.arms), dtype=torch.bool, device=where)
        self.rate = torch.zeros(len(self.arms), dtype=torch.float64, device=where)
        self._one_by_one: set[str] = {arm.spec.method for arm in self.arms if held(arm.method)}

    @property
    def _own(self) -> int:
        """Tensors of a student that learn; those of its method follow them in ``Arm.parameters``."""
        return len(self.stack.weights)

    def aim(self) -> None:
        """Set the learning rates of this step."""
        rates = [arm.spec.optimiser.rate((arm.step + 0.5) / arm.total_steps) for arm in self.arms]
        self.rate.copy_(torch.tensor(rates, dtype=torch.float64), non_blocking=True)

    def step(self) -> Tensor:
        """One optimiser step, each on the current views of its own; the losses, (K,)."""
        given = [arm.inputs() for arm in self.arms]
        images = [batch.x for batch, _ in given]
        x = images[0] if all(one is images[0] for one in images) else torch.stack(images)
        losses, gradients = self._pass(x, given)
        if self.optimiser.rho:
            with self._ascended(gradients):
                gradients = self._pass(x, given)[1]
            losses = losses.masked_fill(~self.alive, torch.nan)  # the second one counts
        gradients, parts = iter(gradients), [arm.parameters[self._own :] for arm in self.arms]
        weights = [*self.stack.weights.values()]
        together, found = [next(gradients) for _ in weights], [[next(gradients) for _ in own] for own in parts]
        self._move(weights, together, self.momentum, self.alive, self.rate)
        for row, (arm, own) in enumerate(zip(self.arms, parts, strict=True)):
            self._move(own, found[row], arm.momentum[self._own :], self.alive[row], self.rate[row])
        for arm, (batch, _) in zip(self.arms, given, strict=True):
            arm.method.after_step(batch)
        return losses

    def _pass(self, x: Tensor, given: Sequence[tuple[Batch, Outputs | None]]) -> tuple[Tensor, Sequence[Tensor]]:
        """The losses (K,), of which those that are not finite end their students, and the gradients of all leaves."""
        # Without a cache of cast weights, which a graph would read though they have moved.
        half = self.precision == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16, half, cache_enabled=False):
            said = self.network(x)
        losses = self.losses(said, given)
        leaves = [*self.stack.weights.values(), *(p for arm in self.arms for p in arm.parameters[self._own :])]
        gradients = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        self.alive.logical_and_(losses.detach().isfinite())
        return losses.detach(), gradients

    @contextlib.contextmanager
    def _ascended(self, gradients: Sequence[Tensor]) -> Iterator[None]:
        """Inside, every student stands where SAM takes its gradient (``kdlab.training.sam.ascended``)."""
        rule, named = self.optimiser, zip(self.stack.weights.items(), gradients, strict=True)
        state = [*self.stack.weights.values(), *self.stack.buffers.values()]
        kept = [tensor.detach().clone() for tensor in state]
        with torch.no_grad():
            moved = [
                (w, g, w.abs() + ETA if rule.adaptive and "weight" in n else 1.0)
                for (n, w), g in named
                if g is not None
            ]
            length = sum((unit * g).flatten(1).square().sum(1) for _, g, unit in moved).sqrt()
            scale = rule.rho / length.clamp_min(torch.finfo(length.dtype).tiny)
            for weight, g, unit in moved:
                weight.add_(unit * unit * g * scale.view(-1, *[1] * (weight.dim() - 1)))
        yield
        with torch.no_grad():
            for tensor, value in zip(state, kept, strict=True):
                tensor.copy_(value)

    def losses(self, said: Outputs, given: Sequence[tuple[Batch, Outputs | None]]) -> Tensor:
        """Every arm's loss, (K,): at once for arms with one method that holds no tensors, else one by one."""
        found, start = [], 0
        for _, group in groupby(self.arms, alike if self.across else lambda arm: alike(arm) + same_batch(arm)):
            arms = list(group)
            end = start + len(arms)
            own = named_tensors(said._map(lambda maps, start=start, end=end: maps[start:end]))
            found.append(self._together(arms, own, given[start:end]))
            start = end
        return torch.cat(found)

    def _together(self, arms: list[Arm], said: dict, given: Sequence[tuple[Batch, Outputs | None]]) -> Tensor:
        name = arms[0].spec.method
        if len(arms) > 1 and name not in self._one_by_one:
            if not arms[0].reads_maps:  # maps that nobody reads need not be mapped over
                said = {field: said[field] for field in ("logits", "embedding") if field in said}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # of operations that vmap takes one by one
                    return _mapped(arms[0].method, said, given)
            except RuntimeError:  # it looks at numbers, or does what vmap has no rule for
                self._one_by_one.add(name)
        whole = from_named(said)
        rows = (whole._map(lambda maps, k=k: maps[k]) for k in range(len(arms)))
        every = zip(arms, rows, given, strict=True)
        return torch.stack([arm.method(own, teacher, batch).total for arm, own, (batch, teacher) in every])

    @torch.no_grad()
    def _move(self, weights: Sequence[Tensor], gradients: list, momentum: list[Tensor], alive: Tensor, rate: Tensor):
        """SGD as ``torch.optim.SGD`` does it, on rows that are alive, each at its own rate."""
        moved = [part for part in zip(weights, gradients, momentum, strict=True) if part[1] is not None]
        if not moved:
            return
        weights, gradients, momentum = map(list, zip(*moved, strict=True))
        steps = descent(weights, gradients, momentum, self.optimiser)
        for weight, step in zip(weights, steps, strict=True):
            shape = (*alive.shape, *[1] * (weight.dim() - alive.dim())) if alive.dim() else ()
            scaled = rate.to(weight.dtype).view(shape) * step
            weight.sub_(scaled.masked_fill_(~alive.view(shape), 0))  # torch.where would copy the 0 to the device


def _mapped(method: Method, said: dict, given: Sequence[tuple[Batch, Outputs | None]]) -> Tensor:
    """A method's losses (K,) of K students, each on its batch, by ``torch.func.vmap``.

    Args:
        method: of all of them.
        said: the students' outputs as of ``named_tensors``, (K, ...) each.
        given: for each its batch, and its teacher's outputs; what is the same object for all is not stacked.

    Raises:
        RuntimeError: for a method that cannot be mapped, or batches that differ in what they have.
    """
    batch, teacher = given[0]
    batches = [{name: value for name, value in vars(one).items() if isinstance(value, Tensor)} for one, _ in given]
    told = [{} if one is None else named_tensors(one) for _, one in given]

    def one(own: dict, fields: dict, its: dict) -> Tensor:
        outputs = None if teacher is None else from_named(its)
        return method(from_named(own), outputs, replace(batch, **fields)).total

    (fields, places), (its, ways) = _stacked(batches), _stacked(told)
    return torch.func.vmap(one, in_dims=(0, places, ways))(said, fields, its)


def _stacked(parts: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Dictionaries of tensors and of tuples of them as one, and which of its tensors have a row for each of them."""
    leaves, shapes = zip(*(tree_flatten(part) for part in parts), strict=True)
    if any(shape != shapes[0] for shape in shapes):
        raise RuntimeError("batches with other fields")
    columns = list(zip(*leaves, strict=True))
    places = [None if all(one is of[0] for one in of) else 0 for of in columns]
    made = [of[0] if place is None else torch.stack(of) for of, place in zip(columns, places, strict=True)]
    return tree_unflatten(made, shapes[0]), tree_unflatten(places, shapes[0])


def descent(weights: list[Tensor], gradients: list[Tensor], momentum: list[Tensor], o: Optimiser) -> list[Tensor]:
    """Where SGD goes at a rate of 1: ``g' = g + d w``, ``m <- mu m + g'``, ``g' + mu m`` by Nesterov, else ``m``."""
    steps = torch._foreach_add(gradients, weights, alpha=o.weight_decay)
    if not o.momentum:
        return steps
    torch._foreach_mul_(momentum, o.momentum)
    torch._foreach_add_(momentum, steps)
    return torch._foreach_add(steps, momentum, alpha=o.momentum) if o.nesterov else momentum
