"""Students and teachers: the zoo of the field under its own names, and foreign models by their layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from kdlab.errors import SpecError
from kdlab.foreign import TAPPING
from kdlab.models.foreign import foreign
from kdlab.models.outputs import Outputs, Tapped, classifier, outputs
from kdlab.registry import create, find
from kdlab.rng import global_stream

__all__ = ["Outputs", "Tapped", "build", "classifier", "load_teacher", "outputs"]


def __getattr__(name: str) -> Any:
    if name == "load_teacher":  # reading files needs more imports than building networks
        from kdlab.models.checkpoints import load_teacher

        return load_teacher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build(name: str, num_classes: int, in_channels: int = 3, *, seed: int, **options: Any) -> nn.Module:
    """Make a model whose initial weights depend on the seed alone; the global generators are left as they were.

    Args:
        name: a registered name, or ``module:Class`` or ``module:function`` of a foreign model, which is called with
            those of ``num_classes``, ``in_channels``, ``in_chans`` that it takes (``kdlab.models.foreign``).
        num_classes: number of classes K.
        in_channels: 1 (grey) or 3 (colour).
        seed: the run's seed; the weights come from its stream ``"init"``.
        **options: the model's own options; of a foreign one also ``taps`` (the layers read as stage maps) and
            ``embedding``, which make it a ``Tapped`` one.

    Returns:
        The model in train mode, float32, on the CPU.

    Raises:
        SpecError: for an unknown name or option.

    Example:
        >>> build("torchvision.models:resnet18", 10, 1, seed=0, taps=["layer1", "layer2", "layer3", "layer4"])
        ... # doctest: +SKIP
    """
    find("models", name)
    if ":" not in name and (tapped := [option for option in TAPPING if option in options]):
        raise SpecError(f"model {name!r} shows its stages by itself; leave out {', '.join(tapped)}.")
    with global_stream(seed, "init"):
        if ":" in name:
            return foreign(name, num_classes, in_channels, options)
        return create("models", name, num_classes, in_channels, **options)
