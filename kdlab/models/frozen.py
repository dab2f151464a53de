"""Networks that only predict: BatchNorm folded into convolutions, whose weights are laid out once."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdlab.models.outputs import Outputs, Tapped, outputs


class Frozen(nn.Module):
    """A network for inference in a precision of its own: takes float32 images, gives float32 outputs."""

    def __init__(self, network: nn.Module, precision: str, folded: bool):
        super().__init__()
        self.network, self.dtype, self.folded = network, getattr(torch, precision), folded

    def forward(self, x: Tensor) -> Tensor:
        with self._cast(x) as given:
            return self.network(given).float()

    def outputs(self, x: Tensor) -> Outputs:
        """What ``kdlab.models.outputs`` gives for the network, in float32."""
        with self._cast(x) as given:
            return outputs(self.network, given).full()

    @contextlib.contextmanager
    def _cast(self, x: Tensor) -> Iterator[Tensor]:
        if self.folded:
            plain = self.dtype == torch.float32 and not x.is_cuda
            yield x if plain else x.to(self.dtype, memory_format=torch.channels_last)
        else:  # weights of a foreign network stay as they are
            with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
                yield x


class LaidOut(nn.Module):
    """A convolution whose weights stand as oneDNN wants to read them, instead of being laid out anew at each call.

    Args:
        conv: of padding with zeros, with a bias or without.
        shape: of the maps that it will mostly read, (B, C, H, W); others are right too.
    """

    def __init__(self, conv: nn.Conv2d, shape: torch.Size):
        super().__init__()
        self.geometry = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *self.geometry, list(shape))
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.geometry, "none", [], "")


def frozen(network: nn.Module, example: Tensor, precision: str = "float32") -> Frozen:
    """A network for inference alone, faster than the original and equal to it up to rounding.

    Each BatchNorm that reads a convolution becomes part of it, ``W' = g W / sqrt(v + eps)`` and
    ``b' = beta - g m / sqrt(v + eps)`` with its weight g, bias beta, running mean m and variance v; on a CPU the
    weights of convolutions are laid out once, on a GPU they lie in ``channels_last``. In float32 outputs differ by
    rounding alone, a few parts in ten million of the largest. A foreign network is taken as it is: who else reads what
    its layers give is not known.

    Args:
        network: any model. Ours is copied; a foreign one is put in eval mode.
        example: normalised images (B, C, H, W) of the size that will be asked.
        precision: ``"float32"``, or ``"bfloat16"`` for weights and maps (autocast for a foreign network).

    Returns:
        What takes the network's images and gives its outputs, in eval mode.
    """
    if not type(network).__module__.startswith("kdlab.models.") or isinstance(network, Tapped):
        return Frozen(network, precision, folded=False).eval()
    made = copy.deepcopy(network).eval().requires_grad_(False)
    made.to(memory_format=torch.contiguous_format)  # the same bits, however the network that trained lies in memory
    pairs, shapes = _pass(made, example)
    for conv, norm in pairs:
        pair = cast(nn.Conv2d, made.get_submodule(conv)), cast(nn.BatchNorm2d, made.get_submodule(norm))
        made.set_submodule(conv, fuse_conv_bn_eval(*pair))
        made.set_submodule(norm, nn.Identity())
    made.to(getattr(torch, precision))
    if example.is_cuda:
        made.to(memory_format=torch.channels_last)
    if example.device.type == "cpu" and torch.backends.mkldnn.is_available():
        with contextlib.suppress(RuntimeError):  # oneDNN has no bfloat16 for processors without AVX-512
            for name, shape in shapes.items():
                made.set_submodule(name, LaidOut(cast(nn.Conv2d, made.get_submodule(name)), shape))
    return Frozen(made, precision, folded=True)


def _pass(network: nn.Module, example: Tensor) -> tuple[list[tuple[str, str]], dict[str, torch.Size]]:
    """What one forward pass shows of the convolutions.

    Returns:
        Names of convolutions and of the BatchNorm of the same block that reads nothing but what they give; the shape of
        what each convolution reads for a batch like the example, without those that read several.
    """
    given: dict[int, tuple[str, Tensor]] = {}
    pairs, shapes = [], {}

    def gives(name: str):
        def look(module, inputs, output):
            given[id(output)] = name, output
            if module.padding_mode == "zeros":
                shapes.setdefault(name, set()).add(torch.Size((len(example), *inputs[0].shape[1:])))

        return look

    def reads(name: str):
        def look(module, inputs):
            conv = given.get(id(inputs[0]), ("", None))[0]
            if conv and conv.rpartition(".")[0] == name.rpartition(".")[0]:
                pairs.append((conv, name))

        return look

    hooks = [m.register_forward_hook(gives(name)) for name, m in _all(network, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(reads(name)) for name, m in _all(network, nn.BatchNorm2d)]
    try:
        with torch.no_grad():
            outputs(network, example[:1])  # a row shows it all: this is done at every evaluation
    finally:
        for hook in hooks:
            hook.remove()
    return pairs, {name: found.pop() for name, found in shapes.items() if len(found) == 1}


def _all(network: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in network.named_modules() if isinstance(module, kind))
