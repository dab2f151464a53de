"""Building foreign models by their own classes and functions: torchvision, timm, a user's."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kdlab.errors import SpecError, choose
from kdlab.foreign import TAPPING
from kdlab.models.outputs import Outputs, Tapped, outputs
from kdlab.registry import find

CHANNELS = ("in_channels", "in_chans")


def foreign(name: str, num_classes: int, in_channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Build ``module:Class`` or ``module:function`` with the arguments it takes, and read its layers.

    The builder gets ``num_classes=`` and ``in_channels=`` (or ``in_chans=``) where its signature has them, and the
    options. ``**kwargs`` is taken to hold ``num_classes`` but no channels, as in torchvision; with timm, whose models
    hold both, give ``in_chans`` as an option. Arguments of other names without a default get the two numbers in order.

    A model that, built without an argument for channels, takes three sees a grey image as three equal channels
    (``repeat_grey`` of ``Tapped``, or ``Grey``).

    Args:
        name: ``module:Class`` or ``module:function``.
        num_classes: number of classes K.
        in_channels: channels of the data, 1 or 3.
        options: ``taps`` and ``embedding`` for ``Tapped``; the others go to the builder.

    Returns:
        The model, in ``Tapped`` when ``taps`` are given and in ``Grey`` when it takes colour images and the data are
        grey; as it is, it gives logits only, unless it has an ``outputs`` method of its own.

    Raises:
        SpecError: when it cannot be imported or built, or for options, taps or an embedding that it does not have.
    """
    entry = find("models", name)
    builder = getattr(importlib.import_module(entry.module), entry.target)
    own = {option: value for option, value in options.items() if option not in TAPPING}
    given, channels = _arguments(name, builder, num_classes, in_channels, own)
    try:
        model = builder(**given)
    except Exception as error:  # a person's own code fails in as many ways as there are faults
        said = ", ".join(f"{k}={v!r}" for k, v in given.items())
        kind = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
        raise SpecError(f"model {name!r} cannot be built with {said or 'no options'}: {kind}{error}.") from error
    if not isinstance(model, nn.Module):
        raise SpecError(f"model {name!r} must give an nn.Module, but gave {type(model).__name__}.")
    if any(is_lazy(part) for part in (*model.parameters(), *model.buffers())):
        raise SpecError(f"model {name!r} has lazy layers, whose first weights no seed decides; give them their sizes.")
    repeat = in_channels == 1 and channels != 1 and _first_channels(model) == 3
    if options.get("taps") is None:
        if options.get("embedding") is not None:
            raise SpecError(f"embedding of model {name!r} needs taps=[...] beside it.")
        return Grey(model) if repeat else model
    return Tapped(model, options["taps"], options.get("embedding"), repeat_grey=repeat)


class Grey(Tapped):
    """A model of colour images that sees grey ones as three equal channels and shows its logits only."""

    def __init__(self, model: nn.Module):
        nn.Module.__init__(self)
        self.taps, self.embedding, self.repeat_grey, self.model = (), None, True, model

    def outputs(self, x: Tensor) -> Outputs:
        """Logits of images (B, 1, H, W)."""
        return outputs(self.model, self._colour(x))


def _arguments(
    name: str, builder: Callable, num_classes: int, in_channels: int, options: dict[str, Any]
) -> tuple[dict[str, Any], int | None]:
    """A builder's arguments, and the channels among them."""
    parameters = inspect.signature(builder).parameters.values()
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind == p.VAR_KEYWORD for p in parameters)
    if not anything:
        for option in options:
            choose(f"option of model {name!r}", option, [*named, *TAPPING])
    given = dict(options)
    if "num_classes" in named or anything:
        given.setdefault("num_classes", num_classes)
    channels = next((word for word in CHANNELS if word in named or word in options), None)
    if channels:
        given.setdefault(channels, in_channels)
    if not anything:
        unknown = [word for word, p in named.items() if p.default is p.empty and word not in given]
        numbers = {"num_classes": num_classes} if "num_classes" not in given else {}
        numbers |= {"in_channels": in_channels} if channels is None else {}
        renamed = dict(zip(numbers, unknown, strict=False))
        given |= {word: numbers[number] for number, word in renamed.items()}
        channels = channels or renamed.get("in_channels")
    return given, given.get(channels)


def _first_channels(model: nn.Module) -> int | None:
    """The channels that the first convolution takes; None for a model without one."""
    return next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), None)
