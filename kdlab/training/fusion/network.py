"""Students of one architecture stepped as one network, each with the bits it would get alone.

Small operations cost more to start than to do, and a few channels leave most of a vector empty. So the maps of K
students lie side by side as channels of one batch, and each operation runs once for all of them: BatchNorm, ReLU and
the mean over positions do not mix channels anyway, and convolutions are those of ``kdlab.training.fusion.convolution``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.models import Outputs, outputs
from kdlab.training.fusion.convolution import FusedConvolution, block_diagonal, diagonal_blocks, per_student


class FusedBatchNorm(nn.Module):
    """BatchNorm of every student in train mode; running statistics are the students' own, side by side in memory."""

    def __init__(self, layers: Sequence[nn.BatchNorm2d]):
        super().__init__()
        self.layers, self.laid = layers, {}
        for name in ("running_mean", "running_var"):
            whole = torch.cat([getattr(layer, name) for layer in layers])
            for layer, part in zip(layers, whole.chunk(len(layers)), strict=True):
                setattr(layer, name, part)
            setattr(self, name, whole)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K C, H, W) to the same."""
        own, one = (self.laid["weight"], self.laid["bias"]), self.layers[0]
        return F.batch_norm(x, self.running_mean, self.running_var, *own, True, one.momentum, one.eps)


class FusedLinear(nn.Module):
    """Each student's own linear layer on its own embedding."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, K D) to K times (B, classes)."""
        return tuple(layer(part) for layer, part in zip(self.layers, per_student(x, len(self.layers)), strict=True))


class InjectGradients(torch.autograd.Function):
    """A scalar whose backward gives ``roots`` these gradients: ``torch.autograd.backward`` would import sympy, 2 s."""

    @staticmethod
    def forward(ctx, gradients: Sequence[Tensor], *roots: Tensor) -> Tensor:
        """Nothing to tell."""
        ctx.gradients = gradients
        return roots[0].new_zeros(())

    @staticmethod
    def backward(ctx, _g: Tensor):
        """The gradients."""
        return None, *ctx.gradients


class FusedNetwork:
    """K students as one network that has no parameters of its own: gradients go to the students'.

    Args:
        students: networks of one architecture in train mode, whose layers are convolutions without bias, BatchNorm and
            a linear classifier, whose other operations leave channels apart, and whose final map is that of the last
            stage.
        x: normalised images for one of them, (B, C, H, W); later ones have the same shape.
        maps: whether stage maps are wanted.
    """

    def __init__(self, students: Sequence[nn.Module], x: Tensor, maps: bool = False):
        self.students, self.maps = list(students), maps
        self.net = copy.deepcopy(students[0])
        shapes = _images(self.net, x)
        named = [dict(student.named_modules()) for student in students]
        for name, module in list(self.net.named_modules()):
            own = [of[name] for of in named]
            if isinstance(module, nn.Conv2d):
                self.net.set_submodule(name, FusedConvolution(own, shapes[name], name == next(iter(shapes))))
            elif isinstance(module, nn.BatchNorm2d):
                self.net.set_submodule(name, FusedBatchNorm(own))
            elif isinstance(module, nn.Linear):
                self.net.set_submodule(name, FusedLinear(own))
        self.convolutions = [m for m in self.net.modules() if isinstance(m, FusedConvolution)]
        self.norms = [m for m in self.net.modules() if isinstance(m, FusedBatchNorm)]
        self.counts = [layer.num_batches_tracked for norm in self.norms for layer in norm.layers]
        self._index_parameters()

    def _index_parameters(self) -> None:
        """Where each parameter goes in what is put together, and where its gradient comes from."""
        parts = [(layer, "weight") for layer in self.convolutions]
        parts += [(layer, name) for layer in self.norms for name in ("weight", "bias")]
        self.parameters = [getattr(own, name) for layer, name in parts for own in layer.layers]
        sizes = [p.numel() for p in self.parameters]
        total = sum(sizes)
        # Views that stay, since making a hundred of them in every step would cost more than filling them.
        self._flat = [*(p.detach().view(-1) for p in self.parameters), torch.zeros(1)]  # the last number is zero
        self._gradient = torch.empty(total)
        views = zip(self._gradient.split(sizes), self.parameters, strict=True)
        self._gradients = [view.view(p.shape) for view, p in views]
        numbers = torch.arange(total).split(sizes)
        numbers = [n.view(p.shape) for n, p in zip(numbers, self.parameters, strict=True)]
        k, start, homes, back = len(self.students), 0, [], []
        for part, (layer, name) in enumerate(parts):
            own = numbers[k * part : k * (part + 1)]
            if isinstance(layer, FusedConvolution):
                laid = {group: block_diagonal(own, group, total) for group in sorted({0, *layer.group_sizes})}
                gradient = torch.arange(start, start + laid[layer.group_sizes.kernels].numel())
                back.append(
                    diagonal_blocks(gradient.view(laid[layer.group_sizes.kernels].shape), k, layer.group_sizes.kernels)
                )
            else:
                laid = {name: torch.cat(own)}
                gradient = torch.arange(start, start + laid[name].numel())
                back.append(gradient)
            homes += [(layer, key, places) for key, places in laid.items()]
            start += len(gradient)
        self._where = torch.cat([places.flatten() for *_, places in homes])
        self._back = torch.cat([places.flatten() for places in back])
        self._laid = torch.empty(len(self._where))
        views = self._laid.split([places.numel() for *_, places in homes])
        for (layer, key, places), view in zip(homes, views, strict=True):
            layer.laid[key] = view.view(places.shape).detach().requires_grad_(key in (0, "weight", "bias"))

    def forward(self, x: Sequence[Tensor]) -> list[Outputs]:
        """Outputs of every student, cut from the graph: losses leave gradients in them, ``backward`` takes these on.

        Args:
            x: normalised images for each student, (B, C, H, W).
        """
        torch.index_select(torch.cat(self._flat), 0, self._where, out=self._laid)
        x = torch.cat(tuple(x), 1)
        running = [buffer for norm in self.norms for buffer in (norm.running_mean, norm.running_var)]
        before = [buffer.clone() for buffer in running]
        whole = outputs(self.net, x)
        if not math.isfinite(torch.cat(whole.logits).sum().item()):
            torch._foreach_copy_(running, before)
            whole = self._safely(x)
        torch._foreach_add_(self.counts, 1)
        self._whole, self._parts = whole, self._cut(whole)
        return self._parts

    def _safely(self, x: Tensor) -> Outputs:
        """One student is lost: zeros times infinity are no zeros, so it is kept from the others."""
        for layer in self.convolutions:
            layer.safe = True
        try:
            return outputs(self.net, x)
        finally:
            for layer in self.convolutions:
                layer.safe = False

    def _cut(self, whole: Outputs) -> list[Outputs]:
        def leaves(parts):
            return [part.detach().requires_grad_() for part in parts]

        k = len(self.students)
        logits, embedding = leaves(whole.logits), leaves(per_student(whole.embedding, k))
        maps, final, stem = [()] * k, [None] * k, [None] * k
        if self.maps:
            maps = list(zip(*(leaves(per_student(feature, k)) for feature in whole.features), strict=True))
            final = [own[-1] for own in maps]
            stem = leaves(per_student(whole.stem, k))
        return [Outputs(*part) for part in zip(logits, maps, embedding, final, stem, strict=True)]

    def backward(self) -> None:
        """Take what losses left in the Outputs on to the students' parameters."""
        whole, parts = self._whole, self._parts
        roots = [(a, part.logits.grad) for a, part in zip(whole.logits, parts, strict=True)]
        roots.append((whole.embedding, _side_by_side([part.embedding for part in parts])))
        if self.maps:
            features = zip(whole.features, zip(*(part.features for part in parts), strict=True), strict=True)
            roots += [(feature, _side_by_side(own)) for feature, own in features]
            roots.append((whole.stem, _side_by_side([part.stem for part in parts])))
        roots = [(a, gradient) for a, gradient in roots if gradient is not None]
        if roots:
            roots, gradients = zip(*roots, strict=True)
            InjectGradients.apply(gradients, *roots).backward()
            self._scatter_gradients()
        del self._whole, self._parts

    def _scatter_gradients(self) -> None:
        found = [layer.gradient for layer in self.convolutions]
        found += [norm.laid[name].grad for norm in self.norms for name in ("weight", "bias")]
        torch.index_select(torch.cat([own.reshape(-1) for own in found]), 0, self._back, out=self._gradient)
        for parameter, own in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = own if parameter.grad is None else parameter.grad + own
        for norm in self.norms:
            norm.laid["weight"].grad = norm.laid["bias"].grad = None


def _images(net: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Shape of what each convolution of a network sees when the network sees ``x``, the first one first."""
    seen: dict[str, tuple[int, ...]] = {}

    def look(name: str):
        return lambda module, inputs: seen.update({name: (len(x), *inputs[0].shape[1:])})

    hooks = [m.register_forward_pre_hook(look(n)) for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        outputs(net.eval(), x[:1])
    for hook in hooks:
        hook.remove()
    net.train()
    return seen


def _side_by_side(parts: Sequence[Tensor]) -> Tensor | None:
    """Gradients of leaves as channels side by side; None where no loss has left any."""
    if all(part.grad is None for part in parts):
        return None
    return torch.cat([torch.zeros_like(part) if part.grad is None else part.grad for part in parts], 1)


def bit_identical(students: Sequence[nn.Module], x: Sequence[Tensor]) -> bool:
    """Whether students stepped as one get the bits that each gets alone, tried on copies of them.

    Args:
        students: networks of one architecture in train mode.
        x: images for each, (B, C, H, W).
    """
    alone, stacked = copy.deepcopy(list(students)), copy.deepcopy(list(students))
    stack = FusedNetwork(stacked, x[0], maps=True)
    equal = True
    for one, said, images in zip(alone, stack.forward(x), x, strict=True):
        own = outputs(one, images)
        a, b = ((out.logits, *out.features, out.stem, out.embedding) for out in (own, said))
        pairs = list(zip(a, b, strict=True))
        equal = equal and all(torch.equal(a, b) for a, b in pairs)
        draw = torch.Generator().manual_seed(0)
        pull = [torch.randn(a.shape, generator=draw) for a, _ in pairs]
        for values in zip(*pairs, strict=True):
            InjectGradients.apply(pull, *values).backward()
    stack.backward()
    for one, other in zip(alone, stacked, strict=True):
        equal = equal and all(
            torch.equal(a.grad, b.grad) for a, b in zip(one.parameters(), other.parameters(), strict=True)
        )
        equal = equal and all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))
    return equal
