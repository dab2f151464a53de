"""Trying a network on two images before anything trains: whether it runs, and which outputs and layers it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.models import build
from kdlab.models.outputs import Outputs, Tapped, classifier, outputs
from kdlab.registry import find
from kdlab.rng import generator

_tried: dict[tuple, Trial | str] = {}


@dataclass(frozen=True)
class Trial:
    """Which outputs and layers a network has.

    Attributes:
        shows: those of ``features``, ``embedding`` and ``final`` (with a linear classifier) that it gives.
        layers: its layers that give maps (B, C, H, W).
        proposed: those of them to tap, where nothing better is known.
    """

    shows: frozenset[str]
    layers: tuple[str, ...] = ()
    proposed: tuple[str, ...] = ()


def trial(name: str, options: Mapping[str, Any], classes: int, shape: tuple[int, int, int], learns: bool) -> Trial:
    """Build a network and run two images through it; once a process for each state of its source.

    Args:
        name: a registered name, or ``module:Class``.
        options: of the network.
        classes: K of the data.
        shape: of an image, (C, H, W).
        learns: whether it will be trained.

    Raises:
        SpecError: when it cannot be built, fails on such images, gives other than logits (B, K), changes the images
            that it is given, or cannot be trained.
    """
    asked = name, find("models", name).revision, repr(sorted(options.items())), classes, shape, learns
    if asked not in _tried:
        try:
            _tried[asked] = _try(name, build(name, classes, shape[0], seed=0, **options), classes, shape, learns)
        except SpecError as error:
            _tried[asked] = str(error)
    found = _tried[asked]
    if isinstance(found, str):
        raise SpecError(found)
    return found


def images(shape: tuple[int, int, int], count: int = 2) -> Tensor:
    """Some noise of the shape of normalised images, (count, C, H, W)."""
    return torch.randn(count, *shape, generator=generator(0, "trial"))


def _try(name: str, model: nn.Module, classes: int, shape: tuple[int, int, int], learns: bool) -> Trial:
    x = images(shape)
    with torch.random.fork_rng(devices=[]):  # a model may draw, such as for dropout
        said = _outputs(name, model.eval(), x, classes)
        layers = _maps(model, x)
        if learns:
            trained = _outputs(name, model.train(), x, classes)
            if not trained.logits.requires_grad:
                raise SpecError(f"model {name!r} cannot be trained: its logits depend on no parameter with a gradient.")
    shows = {"features": bool(said.features), "embedding": said.embedding is not None, "final": _linear(model, said)}
    return Trial(frozenset(k for k, there in shows.items() if there), layers, _proposed(model, layers))


def _outputs(name: str, model: nn.Module, x: Tensor, classes: int) -> Outputs:
    given, size = x.clone(), " x ".join(map(str, x.shape[1:]))
    try:
        said = outputs(model, given)
    except SpecError as error:
        raise SpecError(f"model {name!r}: {error}") from error
    except Exception as error:  # whatever a network does with images it was not made for
        lines = (str(error) or "nothing more is known").strip().splitlines()
        raise SpecError(f"model {name!r} fails on images of {size}: {type(error).__name__}: {lines[0]}") from error
    shape = tuple(said.logits.shape) if isinstance(said.logits, Tensor) else type(said.logits).__name__
    if shape != (len(x), classes):
        raise SpecError(f"model {name!r} gives {shape} for {len(x)} images, but the data's {classes} classes need "
                        f"({len(x)}, {classes}).")  # fmt: skip
    if not torch.equal(given, x):
        raise SpecError(f"model {name!r} changes the images that it is given, which others see too: work on a copy.")
    return said


def _linear(model: nn.Module, said: Outputs) -> bool:
    """Whether there is a map before pooling and the linear layer that reads its mean."""
    if said.final is None:
        return False
    try:
        classifier(model, said)
    except SpecError:
        return False
    return True


def _maps(model: nn.Module, x: Tensor) -> tuple[str, ...]:
    """The layers, by name, whose output is a map with positions."""
    inner, seen = model.model if isinstance(model, Tapped) else model, {}

    def keep(name: str):
        return lambda _layer, _inputs, output: seen.update({name: isinstance(output, Tensor) and output.dim() == 4})

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in inner.named_modules() if name]
    try:
        with torch.no_grad():
            model(x.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(name for name, _ in inner.named_modules() if seen.get(name))


def _proposed(model: nn.Module, layers: tuple[str, ...]) -> tuple[str, ...]:
    """The outermost parts with weights that give maps; of a single one, its own parts."""
    inner, inside = model.model if isinstance(model, Tapped) else model, ""
    while True:
        children = {f"{inside}{name}": part for name, part in inner.get_submodule(inside.rstrip(".")).named_children()}
        found = [n for n, part in children.items() if n in layers and any(True for _ in part.parameters())]
        if len(found) != 1 or not any(True for _ in children[found[0]].children()):
            return tuple(found)
        inside = f"{found[0]}."
