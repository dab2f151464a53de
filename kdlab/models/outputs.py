"""Outputs (logits, stage maps, embedding) of a forward pass, also of foreign models by the names of their layers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlab.errors import SpecError, choose


@dataclass(frozen=True)
class Outputs:
    """One forward pass as distillation sees it.

    Attributes:
        logits: class scores before softmax, (B, K).
        features: maps after each stage, input side first, each (B, C, H, W).
        embedding: what the classifier reads, (B, D); None where a model gives logits only.
        final: the map whose mean over positions is the embedding, (B, D, H, W); None where a model has no such map.
        stem: the map that the first stage reads, (B, C, H, W); None where a model does not show it.
        before: the features before their activation, of the same shapes; () in train mode, and where a model does not
            show them.
    """

    logits: Tensor
    features: tuple[Tensor, ...]
    embedding: Tensor | None
    final: Tensor | None = None
    stem: Tensor | None = None
    before: tuple[Tensor, ...] = ()

    def _map(self, change) -> Outputs:
        return Outputs(*(_mapped(change, value) for value in self._values()))

    def _values(self) -> tuple[Tensor | tuple[Tensor, ...] | None, ...]:
        return self.logits, self.features, self.embedding, self.final, self.stem, self.before

    def rows(self, index: Tensor | slice) -> Outputs:
        """The rows that ``index`` (positions, a bool mask or a slice) selects, of everything."""
        return self._map(lambda values: values[index])

    def detach(self) -> Outputs:
        """The same numbers, cut from the graph."""
        return self._map(Tensor.detach)

    def full(self) -> Outputs:
        """Half-precision numbers raised to float32; others as they are."""
        half = (torch.float16, torch.bfloat16)
        return self._map(lambda values: values.float() if values.dtype in half else values)

    def where(self, mask: Tensor, other: Outputs) -> Outputs:
        """``other``'s row where ``mask`` is True, this one's elsewhere.

        Args:
            mask: bool, (B,).
            other: Outputs of the same shapes.
        """

        def pick(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(mask.view(-1, *[1] * (mine.dim() - 1)), theirs, mine)

        return Outputs(*(_mapped(pick, *pair) for pair in zip(self._values(), other._values(), strict=True)))

    @classmethod
    def cat(cls, parts: Sequence[Outputs]) -> Outputs:
        """The rows of several Outputs one after another."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part._values() for part in parts), strict=True)
        return cls(*(_mapped(lambda *rows: torch.cat(rows), *column) for column in columns))


def _mapped(change, *values):
    """``change`` of one tensor of each of several Outputs, of every map of a tuple, or nothing where there is none."""
    if values[0] is None:
        return None
    if isinstance(values[0], tuple):
        return tuple(change(*maps) for maps in zip(*values, strict=True))
    return change(*values)


def outputs(model: nn.Module, x: Tensor) -> Outputs:
    """Run ``model`` and return its Outputs; of a module without a method ``outputs`` they are its logits alone.

    Args:
        model: one of ours, a ``Tapped`` one, or any module.
        x: normalised images, (B, C, H, W).

    Raises:
        SpecError: when what the model gives are not logits (B, K).
    """
    if inspect.ismethod(getattr(model, "outputs", None)):
        said = model.outputs(x)
        if isinstance(said, Outputs):
            return said
        raise SpecError(
            f"outputs() of model {type(model).__name__} must give kdlab.models.Outputs, but gave {_kind(said)}."
        )
    logits = model(x)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x) or not logits.is_floating_point():
        raise SpecError(
            f"model {type(model).__name__} must give one tensor of logits, a row for each of the {len(x)} images and a "
            f"column for each class, but gave {_kind(logits)}."
        )
    return Outputs(logits, (), None)


def _kind(value: object) -> str:
    """The kind of a value, for a message."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    parts = value if isinstance(value, tuple | list) else ()
    return f"a {type(value).__name__}" + (f" of {', '.join(type(part).__name__ for part in parts)}" if parts else "")


def classifier(model: nn.Module, example: Outputs) -> nn.Linear:
    """The linear layer that turns a model's embedding into its logits.

    Args:
        model: ours or a foreign one.
        example: Outputs of a few rows of the model, which tell D and K.

    Raises:
        SpecError: when the model has no such layer.
    """
    shape = (example.logits.shape[1], example.embedding.shape[1])
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and tuple(m.weight.shape) == shape]
    if not layers:
        raise SpecError(f"model {type(model).__name__} has no linear classifier from {shape[1]} to {shape[0]} numbers.")
    return layers[-1]


class Tapped(nn.Module):
    """A foreign model (torchvision, timm, your own) with some of its layers read.

    What is read is the layer's own output, a copy, whatever follows it in place: ``bn1`` of torchvision's ResNet is the
    map before the ReLU. Of a layer that is called several times (a shared ReLU), the last call counts.

    Args:
        model: any module whose forward takes images and returns logits (B, K).
        taps: the layers whose outputs are the stage maps, named as in ``model.named_modules()``, input side first.
        embedding: the layer whose output, flattened, is the embedding; None takes the last tap's mean over positions.
        repeat_grey: show a grey image to a model of colour images as three equal channels.

    Raises:
        SpecError: for a layer that the model does not have, or no tap at all.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    >>> Tapped(network, taps=["1"], embedding="3").outputs(torch.zeros(2, 3, 32, 32)).embedding.shape
    torch.Size([2, 8])
    """

    def __init__(
        self, model: nn.Module, taps: Sequence[str], embedding: str | None = None, *, repeat_grey: bool = False
    ):
        super().__init__()
        if isinstance(taps, str) or not taps:
            raise SpecError(f"taps must name at least one layer, as a list, but got {taps!r}.")
        layers = [name for name, _ in model.named_modules() if name]
        self.taps = tuple(choose("tap", name, layers) for name in taps)
        self.embedding = None if embedding is None else choose("embedding", embedding, layers)
        self.repeat_grey = repeat_grey
        self.model = model

    def _colour(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1) if self.repeat_grey and x.shape[1] == 1 else x

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.model(self._colour(x))

    def outputs(self, x: Tensor) -> Outputs:
        """One forward pass with the tapped layers read.

        The hooks live for this call only, so that copying or saving the model carries nothing of them.

        Raises:
            SpecError: for a tapped layer that gives no tensor, or that the forward pass does not call.
        """
        seen: dict[str, Tensor] = {}

        def read(name: str):
            def keep(_module, _inputs, output):
                if not isinstance(output, Tensor):
                    kind = type(output).__name__
                    raise SpecError(f"layer {name!r} gives a {kind}, not a tensor; tap a layer that gives one map.")
                # A copy, since an in-place operation may follow. Its gradient reaches the layer all the same.
                seen[name] = output.clone()

            return keep

        wanted = dict.fromkeys(name for name in (*self.taps, self.embedding) if name is not None)
        hooks = [self.model.get_submodule(name).register_forward_hook(read(name)) for name in wanted]
        try:
            logits = self.model(self._colour(x))
        finally:
            for hook in hooks:
                hook.remove()
        for name in wanted:
            if name not in seen:
                raise SpecError(f"layer {name!r} was not called when the model ran; tap one that its forward calls.")
        features = tuple(seen[name] for name in self.taps)
        if self.embedding is None:
            final = features[-1]
            return Outputs(logits, features, final.flatten(2).mean(2), final if final.dim() == 4 else None)
        return Outputs(logits, features, seen[self.embedding].flatten(1))
