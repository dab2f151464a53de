"""K students of one architecture as one fused network, each with the bits of a step by itself.

Small operations cost more to start than to do, and a few channels leave most of a vector empty. So the maps of K
students lie side by side as channels of one batch, and each operation runs once for all of them: BatchNorm, ReLU and
the mean over positions do not mix channels anyway, and convolutions are those of ``kdlab.training.fusion.convolution``.

Reference: Wang et al., Horizontally Fused Training Array: An Effective Hardware Utilization Squeezer for Training Novel
    Deep Learning Models, MLSys 2021.
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
    """One BatchNorm layer of all students in train mode; their running statistics become views of one tensor."""

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
    """One linear layer of all students, each on its own embedding."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, K D) to K times (B, classes)."""
        return tuple(layer(part) for layer, part in zip(self.layers, per_student(x, len(self.layers)), strict=True))


class InjectGradients(torch.autograd.Function):
    """A scalar whose backward pass gives ``roots`` these gradients; ``torch.autograd.backward`` imports sympy, 2 s."""

    @staticmethod
    def forward(ctx, gradients: Sequence[Tensor], *roots: Tensor) -> Tensor:
        """Zero."""
        ctx.gradients = gradients
        return roots[0].new_zeros(())

    @staticmethod
    def backward(ctx, _g: Tensor):
        """The gradients, one for each of ``roots``."""
        return None, *ctx.gradients


class FusedNetwork:
    """K students as one network without parameters of its own: it reads theirs and writes their gradients.

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
        shapes = _input_shapes(self.net, x)
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
        """Index tensors from the students' parameters to the fused layers', and from fused gradients to theirs."""
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
        k, start, sources, back = len(self.students), 0, [], []
        for part, (layer, name) in enumerate(parts):
            own = numbers[k * part : k * (part + 1)]
            convolves = isinstance(layer, FusedConvolution)
            if convolves:
                laid = {group: block_diagonal(own, group, total) for group in sorted({0, *layer.group_sizes})}
            else:
                laid = {name: torch.cat(own)}
            group = layer.group_sizes.kernels if convolves else name
            gradient = torch.arange(start, start + laid[group].numel()).view(laid[group].shape)
            back.append(diagonal_blocks(gradient, k, group) if convolves else gradient)
            sources += [(layer, key, places) for key, places in laid.items()]
            start += gradient.numel()
        self._sources = torch.cat([places.flatten() for *_, places in sources])
        self._back = torch.cat([places.flatten() for places in back])
        self._laid = torch.empty(len(self._sources))
        views = self._laid.split([places.numel() for *_, places in sources])
        for (layer, key, places), view in zip(sources, views, strict=True):
            layer.laid[key] = view.view(places.shape).detach().requires_grad_(key in (0, "weight", "bias"))

    def forward(self, x: Sequence[Tensor]) -> list[Outputs]:
        """Outputs of every student as leaves, in which losses leave gradients that ``backward`` reads.

        Args:
            x: normalised images for each student, (B, C, H, W).
        """
        torch.index_select(torch.cat(self._flat), 0, self._sources, out=self._laid)
        x = torch.cat(tuple(x), 1)
        running = [buffer for norm in self.norms for buffer in (norm.running_mean, norm.running_var)]
        before = [buffer.clone() for buffer in running]
        fused = outputs(self.net, x)
        if not math.isfinite(torch.cat(fused.logits).sum().item()):
            # A student diverges. Zeros times infinity are no zeros: no group may mix it with others.
            torch._foreach_copy_(running, before)
            self._convolve_separately(True)
            fused = outputs(self.net, x)
            self._convolve_separately(False)
        torch._foreach_add_(self.counts, 1)
        self._fused, self._parts = fused, self._leaves(fused)
        return self._parts

    def _convolve_separately(self, safe: bool) -> None:
        for layer in self.convolutions:
            layer.safe = safe

    def _leaves(self, whole: Outputs) -> list[Outputs]:
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
        """Gradients of the students' parameters from those that losses left in the Outputs."""
        whole, parts = self._fused, self._parts
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
        del self._fused, self._parts

    def _scatter_gradients(self) -> None:
        found = [layer.gradient for layer in self.convolutions]
        found += [norm.laid[name].grad for norm in self.norms for name in ("weight", "bias")]
        torch.index_select(torch.cat([own.reshape(-1) for own in found]), 0, self._back, out=self._gradient)
        for parameter, own in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = own if parameter.grad is None else parameter.grad + own
        for norm in self.norms:
            norm.laid["weight"].grad = norm.laid["bias"].grad = None


def _input_shapes(net: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Shape of each convolution's input, in the order of the forward pass of a batch ``x``."""
    shapes: dict[str, tuple[int, ...]] = {}

    def hook_of(name: str):
        return lambda module, inputs: shapes.update({name: (len(x), *inputs[0].shape[1:])})

    hooks = [m.register_forward_pre_hook(hook_of(n)) for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        outputs(net.eval(), x[:1])
    for hook in hooks:
        hook.remove()
    net.train()
    return shapes


def _side_by_side(parts: Sequence[Tensor]) -> Tensor | None:
    """Gradients of the students' leaves side by side as channels; None where no loss has left any."""
    if all(part.grad is None for part in parts):
        return None
    return torch.cat([torch.zeros_like(part) if part.grad is None else part.grad for part in parts], 1)


def bit_identical(students: Sequence[nn.Module], x: Sequence[Tensor]) -> bool:
    """Whether fusion leaves each student the bits of a step by itself, tried on copies of them.

    Args:
        students: networks of one architecture in train mode.
        x: images for each, (B, C, H, W).
    """
    alone, fused = copy.deepcopy(list(students)), copy.deepcopy(list(students))
    network, pairs = FusedNetwork(fused, x[0], maps=True), []
    for one, part, images in zip(alone, network.forward(x), x, strict=True):
        tensors = [(out.logits, *out.features, out.stem, out.embedding) for out in (outputs(one, images), part)]
        pairs += zip(*tensors, strict=True)
        draw = torch.Generator().manual_seed(0)
        gradients = [torch.randn(a.shape, generator=draw) for a in tensors[0]]
        for values in tensors:
            InjectGradients.apply(gradients, *values).backward()
    network.backward()
    for one, other in zip(alone, fused, strict=True):
        pairs += [(a.grad, b.grad) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
        pairs += zip(one.buffers(), other.buffers(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
