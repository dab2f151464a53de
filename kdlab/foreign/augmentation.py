"""Augmentations of other libraries, image by image and seeded: ``torchvision.transforms.v2:RandomErasing`` and such.

``create("augment", "module:Class", **options)`` ends here. An object with ``draw`` and ``apply`` of its own is taken as
it is; any other callable is wrapped in ``PerImage``. (albumentations asks for updates over the network when it is
imported; NO_ALBUMENTATIONS_UPDATE=1 stops that.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from kdlab.errors import SpecError, choose
from kdlab.rng import global_stream, restart

TAKES = ("array", "tensor", "pil")


class PerImage:
    """Any callable from image to image, called for each row with its own seed.

    A library draws from global random states, which are seeded by the row and put back afterwards; albumentations
    has its own and is seeded through ``set_random_seed``.

    Args:
        function: the callable.
        takes: ``"array"``, uint8 (H, W, C) as the keyword ``image``, answered by a dict (albumentations);
            ``"tensor"``, uint8 (C, H, W) (torchvision, or any ``nn.Module``); or ``"pil"``, a PIL image of mode L or
            RGB (anything else). None decides by the module and the class.
        name: how messages call it.

    Raises:
        SpecError: for what cannot be called, or an unknown ``takes``.
    """

    def __init__(self, function: Callable, takes: str | None = None, name: str | None = None):
        self.name = name or type(function).__name__
        if not callable(function):
            raise SpecError(f"augmentation {self.name!r} must be a callable from image to image, but got {function!r}.")
        library = type(function).__module__.partition(".")[0]
        if takes is None and library == "albumentations":
            takes = "array"
        elif takes is None:
            takes = "tensor" if library == "torchvision" or isinstance(function, nn.Module) else "pil"
        self.function, self.takes = function, choose("takes", takes, TAKES)

    def draw(self, n: int, image_shape: tuple[int, int, int], generator, guide=None) -> dict[str, Tensor]:
        """``seed`` (n,) int64 in [0, 2^63 - 1)."""
        return {"seed": torch.randint(2**63 - 1, (n,), generator=generator)}

    def apply(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Changed uint8 images (B, C, H, W); works on the CPU and returns to the device of ``images``.

        Raises:
            SpecError: when an image comes back with another shape or type.
        """
        changed = torch.empty_like(images, device="cpu")
        with global_stream(0, "foreign"):
            for row, (image, seed) in enumerate(zip(images.cpu(), params["seed"].tolist(), strict=True)):
                changed[row] = self._one(image, seed)
        return changed.to(images.device)

    def _one(self, image: Tensor, seed: int) -> Tensor:
        restart(seed, "row")
        if hasattr(self.function, "set_random_seed"):
            self.function.set_random_seed(seed)
        if self.takes == "tensor":
            result = self.function(image.clone())
        elif self.takes == "array":
            result = self.function(image=image.permute(1, 2, 0).numpy().copy())["image"]
        else:
            array = image.permute(1, 2, 0).numpy()
            result = self.function(Image.fromarray(array[..., 0] if len(image) == 1 else array))
        made = _tensor(result)
        if made.dtype != torch.uint8 or made.shape != image.shape:
            raise SpecError(
                f"augmentation {self.name!r} must keep the shape and type of an image, uint8 {tuple(image.shape)}, but "
                f"gave {str(made.dtype).removeprefix('torch.')} {tuple(made.shape)}."
            )
        return made


def _tensor(result: Any) -> Tensor:
    """A result as a tensor (C, H, W): tensors as they are, arrays and PIL images from (H, W) or (H, W, C)."""
    if isinstance(result, Tensor):
        return result.as_subclass(Tensor)
    array = np.array(result)
    return torch.from_numpy(array[..., None] if array.ndim == 2 else array).movedim(-1, 0)


def build(name: str, target: Callable, options: dict[str, Any]) -> Any:
    """An augmentation of foreign code.

    Args:
        name: ``module:Class``, for messages.
        target: the class, or a function that returns the augmentation.
        options: its arguments; lists become tuples, since that is what JSON makes of tuples.

    Returns:
        The object itself when it has ``draw`` and ``apply``, else a ``PerImage``.

    Raises:
        SpecError: when it refuses the options, or what it gives cannot be called.
    """
    try:
        with global_stream(0, "foreign"):
            part = target(**{option: _hashable(value) for option, value in options.items()})
    except SpecError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(f"augmentation {name!r} cannot be built with {options}: {error}") from error
    return part if hasattr(part, "draw") and hasattr(part, "apply") else PerImage(part, name=name)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
