"""What the values of an image file mean: their full range, which one is white, and which is transparent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdlab.data.opening import quoted
from kdlab.errors import SpecError

if TYPE_CHECKING:
    from PIL.Image import Image

WIDE = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # grey, more than 8 bits
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
FLAT = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", *WITH_ALPHA)
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF


def raw_mode(image: Image) -> str:
    """How the file stores its pixels, in Pillow's words, such as ``L;4`` or ``RGB;16B``."""
    raw = image.tile[0][3] if image.tile else ""
    return str(raw[0] if isinstance(raw, tuple) and raw else raw)


class Scale(NamedTuple):
    """What the values of a file mean: their full range, whether 0 is white, and which one is transparent."""

    top: int | None
    white_is_zero: bool
    hidden: int | tuple[int, ...] | bytes | None


def scale_of(file: Path, image: Image) -> Scale:
    """Read before decoding, which makes Pillow forget it."""
    if image.mode not in (*WIDE, *FLAT):
        raise SpecError(
            f"image {quoted(file)} cannot be read: there is no rule for {image.format} of mode {image.mode!r}. "
            "Convert it to PNG."
        )
    raw, tags = raw_mode(image), getattr(image, "tag_v2", {})
    hidden = image.info.get("transparency")
    if image.mode == "L" and tags.get(SAMPLE_FORMAT, (1,))[0] == 2:
        raise SpecError(f"image {quoted(file)} holds signed 8-bit values, which have no place in a picture.")
    if image.mode == "RGB" and ";16" in raw and hidden is not None:
        raise SpecError(
            f"image {quoted(file)} has 16-bit colour and one transparent colour (tRNS), of which Pillow keeps half "
            "the bits. Save it with an alpha channel or with 8 bits."
        )
    if isinstance(hidden, int) and image.mode == "L":
        hidden *= {"L;2": 85, "L;4": 17}.get(raw, 1)
    if image.mode in ("I", "F"):
        top = 65535 if image.mode == "I" and image.format in ("PNG", "PPM") else None
    else:
        top = 4095 if tags.get(BITS, (0,))[0] == 12 else 65535
    return Scale(top, image.mode in WIDE and tags.get(PHOTOMETRIC) == 0, hidden)


def brightness(file: Path, image: Image) -> np.ndarray:
    """The numbers of an image above 8 bits, (height, width); refused where they are no brightness."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise SpecError(f"image {quoted(file)} (mode {image.mode}) holds infinite or undefined values.")
    if values.min() < 0:
        raise SpecError(
            f"image {quoted(file)} (mode {image.mode}) holds negative values, down to {values.min()} (or whole numbers "
            "above 2^31, which Pillow reads so), "
            "for which no scale to 0 .. 255 is right. Scale the set yourself and save it with 8 or 16 bits."
        )
    return values


def grey_planes(
    file: Path, image: Image, scale: Scale, largest: float | None, background: tuple[int, ...]
) -> list[Image]:
    """A grey picture above 8 bits as one floating-point plane of 0 .. 255, or three on a coloured background."""
    from PIL import Image

    values = brightness(file, image)
    top = largest if scale.top is None else scale.top
    if top is None or values.max() > top:
        raise SpecError(
            f"image {quoted(file)} (mode {image.mode}) holds values up to {values.max()}, "
            f"but the largest of the set is {'not given' if top is None else top}."
        )
    shades = values.astype(np.float32) / np.float32((top or 1) / 255)
    shades = 255 - shades if scale.white_is_zero else shades
    if scale.hidden is None:
        return [Image.fromarray(shades)]
    return [Image.fromarray(np.where(values == scale.hidden, np.float32(c), shades)) for c in background]
