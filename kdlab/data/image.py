"""One image file as uint8 pixels: what its header says, its largest value, and the picture itself. Never torch.

The rules, which the fingerprint's revision stands for:

- *Depth.* Every type is scaled by its full range: 1 bit to 0 and 255; 8 bits stay; 16-bit grey is divided by 257 and
  rounded, so that v * 257 comes back as v (a 12-bit TIFF by 4095 / 255); 16-bit colour keeps the high byte, which is
  all that Pillow gives, and gives back v too. 32-bit integers (I) and floats (F) do not say their range: they are
  divided by the largest value of the whole set; negative, infinite and undefined values are refused.
- *Transparency* (RGBA, LA, PA, palettes and tRNS) is composited on a background before anything is resized, so that
  no hidden colour bleeds into the picture.
- *Orientation.* All eight EXIF orientations are applied, from JPEG, PNG, WebP, AVIF and TIFF's own tag.
- *Colour.* Grey stays one channel. CMYK (JPEG's inverted as Adobe writes it) and YCbCr become RGB by Pillow's formula,
  without profiles. LAB is refused.
- *Size.* Bilinear, averaging over what a new pixel covers; above 8 bits in floating point, rounded once. A JPEG at
  least four times as large as asked is decoded at a half, quarter or eighth first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdlab.data.depth import WIDE, WITH_ALPHA, brightness, grey_planes, raw_mode, scale_of
from kdlab.data.opening import ORIENTATION, is_sideways, opened, quietly, quoted
from kdlab.errors import SpecError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImagePalette import ImagePalette

MEGAPIXELS = 90  # a picture that is larger once decoded is refused
PAGED = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")


@dataclass(frozen=True)
class Header:
    """What the header of a file says, as far as it decides how a set is read.

    Args:
        mode: Pillow's mode.
        width: pixels, upright: after the EXIF orientation.
        height: pixels, upright.
        pages: frames of a TIFF, GIF, APNG, WebP or AVIF; 1 for any other file.
        grey: one channel is enough. A palette is grey when all its colours are, used or not.
        alpha: some pixels may be transparent.
        open_range: the file does not say its largest value, so that the whole set's is needed (``largest``).
        turned: its EXIF orientation is another than upright.
    """

    mode: str
    width: int
    height: int
    pages: int
    grey: bool
    alpha: bool
    open_range: bool
    turned: bool = False

    @property
    def deep(self) -> bool:
        """Whether a value has more than 8 bits."""
        return self.mode.startswith(("I", "F"))


def header(file: Path) -> Header:
    """Read the header of an image without decoding it.

    Raises:
        SpecError: naming the file, when it is no image that can be read, its mode is refused, or it is too large.
    """
    from PIL import Image

    with opened(file) as image:
        width, height = image.size[::-1] if is_sideways(image) else image.size
        scale = scale_of(file, image)
        if image.format not in ("JPEG", "MPO"):  # these may be decoded smaller
            _check_size(file, image)
        with quietly():
            pages = getattr(image, "n_frames", 1) if image.format in PAGED else 1
        return Header(
            mode=image.mode,
            width=width,
            height=height,
            pages=pages,
            grey=_is_grey(image),
            alpha=image.has_transparency_data,
            open_range=image.mode in WIDE and scale.top is None,
            turned=Image.Image.getexif(image).get(ORIENTATION) in range(2, 9),
        )


def largest(file: Path, page: int = 0) -> float:
    """The largest value of a page of a file whose range is open, in the file's own units.

    Raises:
        SpecError: naming the file, when it cannot be read or has negative, infinite or undefined values.
    """
    with opened(file, page) as image:
        scale_of(file, image)
        _check_size(file, image)
        return float(brightness(file, image).max())


def decode(
    file: Path,
    channels: int,
    width: int,
    height: int,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    largest: float | None = None,
    page: int = 0,
) -> np.ndarray:
    """Read one image upright, on a background, scaled to 8 bits and resized.

    Args:
        file: the image.
        channels: 1 (grey; a colour becomes its luma) or 3 (grey is repeated).
        width: pixels of the result.
        height: pixels of the result.
        background: red, green, blue in 0 .. 255, shown through transparent pixels.
        largest: largest value of the whole set, needed for a file whose range is open.
        page: which frame of a file that has several.

    Returns:
        uint8 (channels, height, width).

    Raises:
        SpecError: naming the file, when it cannot be read, is too large, or has values that the rules refuse.
    """
    from PIL import Image, ImageOps

    with opened(file, page) as image:
        scale = scale_of(file, image)
        # Only JPEG has a draft mode. Twice the size asked for leaves the last step to the filter.
        image.draft(None, (2 * height, 2 * width) if is_sideways(image) else (2 * width, 2 * height))
        _check_size(file, image)
        image = ImageOps.exif_transpose(image)
        if channels == 1:
            background = (Image.new("RGB", (1, 1), background).convert("L").getpixel((0, 0)),) * 3
        if image.mode in WIDE:
            planes = grey_planes(file, image, scale, largest, background[:channels])
        else:
            planes = [_composited(image, scale.hidden, background)]
        mode = "F" if image.mode in WIDE else "L" if channels == 1 else "RGB"
        sized = [plane.convert(mode).resize((width, height), Image.Resampling.BILINEAR) for plane in planes]
    pixels = np.dstack([np.asarray(plane) for plane in sized])
    if pixels.dtype != np.uint8:
        pixels = pixels.round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels.transpose(2, 0, 1), (channels, height, width)))


def _check_size(file: Path, image: Image) -> None:
    width, height = image.size
    if width * height > MEGAPIXELS * 1e6:
        raise SpecError(
            f"image {quoted(file)} has {width * height / 1e6:.0f} megapixels ({width} x {height}), and at most "
            f"{MEGAPIXELS} are read. Make it smaller or take it out of the folder."
        )


def _is_grey(image: Image) -> bool:
    if image.mode in ("P", "PA"):
        return _grey_palette(image.palette)
    # Pillow opens 16-bit grey with alpha as colour.
    return image.mode in ("1", "L", "LA", "La", *WIDE) or raw_mode(image).startswith("LA;16")


def _grey_palette(palette: ImagePalette) -> bool:
    """Whether red, green and blue agree in every entry, as the file stores them."""
    order = palette.rawmode or palette.mode
    values = np.frombuffer(bytes(palette.palette), np.uint8)
    if order == "RGB;L":  # all reds, all greens, all blues
        colours = values.reshape(3, -1)
    elif order in ("RGB", "BGR", "RGBA", "BGRA", "BGRX", "RGBX"):
        colours = values.reshape(-1, len(order)).T[:3]
    else:
        return False
    return bool((colours == colours[0]).all())


def _composited(image: Image, hidden, background: tuple[int, ...]) -> Image:
    """An image of 8 bits without its transparency, as 1, L or RGB."""
    from PIL import Image

    if image.mode in WITH_ALPHA or (image.mode == "P" and image.has_transparency_data):
        layers = image.convert("LA") if image.mode == "La" else image
        layers = layers.convert("RGBA")
        colour, visible = layers.convert("RGB"), layers.getchannel("A")
    elif hidden is None:
        return image if image.mode in ("1", "L") else image.convert("RGB")
    else:
        colour = image.convert("RGB")
        shown_values = np.asarray(image.convert("L") if image.mode == "1" else image) != hidden
        visible = Image.fromarray(np.uint8(255) * (shown_values.any(-1) if shown_values.ndim == 3 else shown_values))
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(colour, mask=visible)
    return canvas
