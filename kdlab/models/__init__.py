"""Networks for students and teachers: the field's CIFAR models by name, and foreign ones by the layers to read.

``build("resnet20", num_classes=10)`` makes one of ``NAMES``; ``network(x)`` gives logits, ``outputs(network, x)`` also
the stage maps and the embedding. ``load_teacher(arch, file)`` reads published weights.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from kdlab.errors import SpecError
from kdlab.foreign import TAPPING
from kdlab.models.foreign import foreign
from kdlab.models.outputs import Outputs, Tapped, classifier, outputs
from kdlab.registry import catalogue, create, find
from kdlab.rng import global_stream

__all__ = ["NAMES", "Outputs", "Tapped", "build", "classifier", "load_teacher", "outputs"]

NAMES = tuple(catalogue("models"))


def __getattr__(name: str) -> Any:
    if name == "load_teacher":  # reading files needs more imports than building networks
        from kdlab.models.checkpoints import load_teacher

        return load_teacher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build(name: str, num_classes: int, in_channels: int = 3, *, seed: int = 0, **options: Any) -> nn.Module:
    """Make a model whose initial weights depend on the seed alone; the global generators are left as they were.

    >>> import torch
    >>> student = build("resnet20", num_classes=10, seed=1)
    >>> found = outputs(student, torch.zeros(2, 3, 32, 32))
    >>> found.logits.shape, found.embedding.shape, [tuple(stage.shape[1:]) for stage in found.features]
    (torch.Size([2, 10]), torch.Size([2, 64]), [(16, 32, 32), (32, 16, 16), (64, 8, 8)])

    The layers of a foreign model can be named as stages:

    >>> taps = ["layer1", "layer2", "layer3", "layer4"]
    >>> teacher = build("torchvision.models:resnet18", num_classes=10, taps=taps, embedding="avgpool")
    >>> outputs(teacher, torch.zeros(2, 3, 32, 32)).embedding.shape
    torch.Size([2, 512])

    Args:
        name: one of ``NAMES``, or ``module:Class`` or ``module:function`` of a foreign model, which is called with
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
    """
    find("models", name)
    if ":" not in name and (tapped := [option for option in TAPPING if option in options]):
        raise SpecError(f"model {name!r} shows its stages by itself; leave out {', '.join(tapped)}.")
    with global_stream(seed, "init"):
        if ":" in name:
            return foreign(name, num_classes, in_channels, options)
        return create("models", name, num_classes, in_channels, **options)
