"""Augmentations of uint8 images: parameters are drawn first, then applied, so every view can be replayed.

Each class has ``draw(n, image_shape, generator, guide=None)``, which makes all the random choices on the CPU, one per
sample, and ``apply(images, params)``, which is deterministic, works on any device and treats each row by itself.
Those that mix images (the fact ``mixes``) also draw each row's ``partner`` and own ``share``, and they come after the
weak crop and flip (``where="view"``). To add an augmentation, write one such class and give it ``@register``.

In a training loop of your own, call them::

    from kdlab.augment import JDA, CropFlip, CutMix

    images = CropFlip()(JDA("cifar100")(images, generator), generator)  # uint8 (B, C, H, W) in and out
    mixed = CutMix()(images, generator)  # mixed.images, mixed.own, mixed.partner, mixed.share
    loss = F.cross_entropy(model(normalise(mixed.images)), mixed.targets(labels, classes=100))

``generator`` is a ``torch.Generator`` of the CPU; the same state gives the same bits. ``Weak`` itself changes nothing.
"""

from __future__ import annotations

import importlib

_HOMES = {
    "Augmentation": "base",
    "AutoAugment": "autoaugment",
    "Blur": "degrade",
    "CropFlip": "weak",
    "CutMix": "mixing",
    "CutMixPick": "mixing",
    "Cutout": "erase",
    "Degrade": "degrade",
    "JDA": "joint",
    "Masking": "erase",
    "MixUp": "mixing",
    "Mixed": "mixing",
    "Noise": "degrade",
    "Operation": "operations",
    "POLICIES": "joint",
    "QuarterTurn": "rotation",
    "RandAugment": "automatic",
    "TrivialAugment": "automatic",
    "Weak": "weak",
    "label_safety": "safety",
    "pick": "mixing",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
