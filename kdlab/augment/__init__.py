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

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
