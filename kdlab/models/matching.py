"""Matching weights to networks by names and shapes: loading all of them, or saying how they differ and what fits."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdlab.errors import SpecError
from kdlab.models import build
from kdlab.models.outputs import Tapped
from kdlab.models.weight_names import Tensors, unwrapped
from kdlab.registry import catalogue

LISTED = 3  # weights that a message names


def load_weights(model: nn.Module, state: Mapping[str, Tensor], arch: str, file: Path | None = None) -> None:
    """Load all weights of ``state`` into ``model``, or none of them.

    Missing ``num_batches_tracked`` (files older than PyTorch 0.4.1) count as 0: evaluation does not use them.

    Args:
        model: the network; of a ``Tapped`` one, the weights are those of the model within.
        state: tensors by name, with or without the names' wrappers.
        arch: what to call the model.
        file: where the weights come from, for a refusal.

    Raises:
        SpecError: naming a few of the missing, unexpected and misshapen weights, and the models that fit instead.
    """
    network = untapped(model)
    wanted = network.state_dict()
    state = unwrapped(state, wanted)
    if said := _mismatch(wanted, state):
        source = f" The file is {file}." if file else ""
        raise SpecError(f"the teacher's weights do not fit {arch!r}: {said}.{fitting_models(arch, state)}{source}")
    network.load_state_dict({name: state.get(name, torch.zeros_like(value)) for name, value in wanted.items()})


def untapped(model: nn.Module) -> nn.Module:
    """The network itself: of a ``Tapped`` one, the model within."""
    return model.model if isinstance(model, Tapped) else model


class NoInitialisation(TorchFunctionMode):
    """Leaves initialisation out: the first normal draw on the meta device imports a thousand modules."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is Tensor.normal_ or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def skeleton(arch: str, num_classes: int | None = None, in_channels: int | None = None, **options: Any) -> nn.Module:
    """A network for its weights' names and shapes: ours on the meta device, which foreign ones may not support."""
    numbers = num_classes or 2, in_channels or 3
    if ":" in arch:
        return build(arch, *numbers, seed=0, **options)
    with torch.device("meta"), NoInitialisation():
        return build(arch, *numbers, seed=0, **options)


def classes_and_channels(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[int | None, int | None]:
    """Classes and channels of a network of which only the weights are known; None where the weights do not say.

    Args:
        model: a network of the architecture (``skeleton``); its last linear layer and first convolution count.
        state: tensors by name.
    """
    network = untapped(model)
    state = unwrapped(state, network.state_dict())
    linear = [f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    first = [f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    classes = state[linear[-1]].shape[0] if linear and linear[-1] in state else None
    channels = state[first[0]].shape[1] if first and first[0] in state and state[first[0]].dim() == 4 else None
    return classes, channels


def _mismatch(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How names and shapes differ, in words; nothing when they agree."""
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    shapes = [(n, tuple(state[n].shape), tuple(wanted[n].shape)) for n in wanted if n in state]
    other = [f"{name} is {there} in the file and {here} in the model" for name, there, here in shapes if there != here]
    kinds = {"missing": missing, "unexpected": unexpected, "with a size mismatch": other}
    said = [f"{len(names)} {kind} ({few(names)})" for kind, names in kinds.items() if names]
    if unexpected and not missing and not other:
        heads = tuple(dict.fromkeys(name.split(".")[0] + "." for name in unexpected))
        said.append(f"if these are auxiliary heads, ignore={heads!r} leaves them out")
    return "; ".join(said)


def few(names: list[str]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


@functools.cache
def _plain_skeleton(name: str) -> nn.Module:
    return skeleton(name)


def fitting_models(arch: str, state: Mapping[str, Tensor]) -> str:
    """The registered models that fit weights by names and shapes, as a sentence; ``arch`` with other numbers, too."""
    found = []
    for name in catalogue("models"):
        model = _plain_skeleton(name)
        names = unwrapped(state, model.state_dict())
        classes, channels = classes_and_channels(model, names)
        if classes and channels and names.keys() <= model.state_dict().keys():
            if not _mismatch(skeleton(name, classes, channels).state_dict(), names):
                found.append(network_words(name, classes, channels))
    return f" They fit {' or '.join(found)}." if found else ""


def fits(model: nn.Module, state: Tensors) -> bool:
    """Whether weights have the names and shapes of a network's."""
    wanted = untapped(model).state_dict()
    return not _mismatch(wanted, unwrapped(state, wanted))


def network_words(arch: str, classes: int, channels: int) -> str:
    """A network and its sizes, for a message."""
    return f"{arch!r} of {' and '.join(size_words(classes, channels))}"


def size_words(classes: int, channels: int) -> tuple[str, str]:
    """Numbers of classes and of channels, each for a message."""
    colours = {1: " (grey)", 3: " (colour)"}.get(channels, "")
    return f"{classes} classes", f"{channels} channel{'s' if channels > 1 else ''}{colours}"
