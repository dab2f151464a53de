"""One image file: every mode against numpy's own arithmetic, transparency, orientation, draft mode, damaged files."""

import io
import os
import random
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from kdlab.data.image import decode, header, largest
from kdlab.errors import SpecError

SHAPE = (9, 14)  # height and width differ, so that a turned picture shows
DRAW = np.random.default_rng(5)
GREY = DRAW.integers(256, size=SHAPE, dtype=np.uint8)
COLOUR = DRAW.integers(256, size=(*SHAPE, 3), dtype=np.uint8)
ALPHA = DRAW.integers(256, size=SHAPE, dtype=np.uint8)
PALETTE = DRAW.integers(256, size=(256, 3), dtype=np.uint8)
VEIL = DRAW.integers(256, size=256, dtype=np.uint8)
WHITE, TEAL = (255, 255, 255), (10, 120, 130)
TURNED = {  # what a viewer does to the stored rows and columns
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def over(colour, alpha, background):
    """Colour (H, W, 3) at alpha (H, W) in 0 .. 255 over a background, exactly rounded."""
    alpha = alpha[..., None].astype(float)
    return np.rint((colour * alpha + np.array(background) * (255 - alpha)) / 255)


def grey(values):
    return np.repeat(np.asarray(values, float)[..., None], 3, axis=2)


def palette_image():
    image = Image.fromarray(GREY).convert("L")
    image = Image.frombytes("P", image.size, GREY.tobytes())
    image.putpalette(PALETTE.tobytes())
    return image


def from_cmyk(values):
    ink, black = values[..., :3].astype(float), 255.0 - values[..., 3:]
    return black - np.rint(ink * black / 255)


def from_ycbcr(values):
    y, blue, red = (values[..., k].astype(float) - (128 if k else 0) for k in range(3))
    rgb = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=-1)
    return rgb.clip(0, 255)


def chunked_png(depth, kind, rows, *chunks, late=()):
    """A PNG written by hand, for what Pillow does not write: bit depths, colour types and chunks at will."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", SHAPE[1], SHAPE[0], depth, kind, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), *late, (b"IEND", b"")]
    blocks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(blocks)


def packed(values, depth):
    """Rows of grey values below 2 ** depth, packed as PNG packs them."""
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
    return [np.packbits(row.reshape(-1)).tobytes() for row in bits.astype(np.uint8)]


def stored(image, **options):
    return lambda file: image.save(file, **options)


def written(content):
    return lambda file: file.write_bytes(content)


WIDE = DRAW.integers(65536, size=SHAPE, dtype=np.uint16)
TWO_BITS = (GREY // 64).astype(np.uint8)  # two bits
RGBA, LA = np.dstack([COLOUR, ALPHA]), np.dstack([GREY, ALPHA])
CMYK, YCC = DRAW.integers(256, size=(*SHAPE, 4), dtype=np.uint8), COLOUR
COUNTS = DRAW.integers(1000, size=SHAPE, dtype=np.int32)
FRACTIONS = DRAW.random(SHAPE, dtype=np.float32)
BOOLEAN = GREY > 127
SIXTEEN_LA = np.dstack([WIDE, DRAW.integers(65536, size=SHAPE, dtype=np.uint16)]).astype(">u2")
SIXTEEN_RGB = DRAW.integers(65536, size=(*SHAPE, 3), dtype=np.uint16).astype(">u2")
HEAVY = np.full(SHAPE, 4096, np.uint16) + WIDE // 32
KEY = int(GREY[0, 0])

# name: (suffix, writer, expected (H, W, 3) on a background, (mode, grey, alpha, open_range), tolerance)
CASES = {
    "1 png": ("png", stored(Image.fromarray(BOOLEAN)), lambda b: grey(255 * BOOLEAN), ("1", True, False, False)),
    "1 tiff": ("tif", stored(Image.fromarray(BOOLEAN)), lambda b: grey(255 * BOOLEAN), ("1", True, False, False)),
    "L png": ("png", stored(Image.fromarray(GREY)), lambda b: grey(GREY), ("L", True, False, False)),
    "L 2 bits": (
        "png",
        written(chunked_png(2, 0, packed(TWO_BITS, 2))),
        lambda b: grey(TWO_BITS * 85),
        ("L", True, False, False),
    ),
    "L pgm": ("pgm", stored(Image.fromarray(GREY)), lambda b: grey(GREY), ("L", True, False, False)),
    "L bmp": ("bmp", stored(Image.fromarray(GREY)), lambda b: grey(GREY), ("L", True, False, False)),
    "LA png": ("png", stored(Image.fromarray(LA)), lambda b: over(grey(GREY), ALPHA, b), ("LA", True, True, False)),
    "LA tiff": ("tif", stored(Image.fromarray(LA)), lambda b: over(grey(GREY), ALPHA, b), ("LA", True, True, False)),
    "P png": ("png", stored(palette_image()), lambda b: PALETTE[GREY], ("P", False, False, False)),
    "P gif": ("gif", stored(palette_image()), lambda b: PALETTE[GREY], ("P", False, False, False)),
    "P tiff": ("tif", stored(palette_image()), lambda b: PALETTE[GREY], ("P", False, False, False)),
    "P bmp": ("bmp", stored(palette_image()), lambda b: PALETTE[GREY], ("P", False, False, False)),
    "P grey": (
        "png",
        stored(Image.fromarray(GREY).convert("P", palette=Image.Palette.WEB)),
        lambda b: grey(GREY),
        ("P", True, False, False),
    ),
    "P tRNS table": (
        "png",
        stored(palette_image(), transparency=VEIL.tobytes()),
        lambda b: over(PALETTE[GREY], VEIL[GREY], b),
        ("P", False, True, False),
    ),
    "P tRNS one": (
        "png",
        stored(palette_image(), transparency=KEY),
        lambda b: over(PALETTE[GREY], 255 * (GREY != KEY), b),
        ("P", False, True, False),
    ),
    "P gif one": (
        "gif",
        stored(palette_image(), transparency=KEY),
        lambda b: over(PALETTE[GREY], 255 * (GREY != KEY), b),
        ("P", False, True, False),
    ),
    "L tRNS": (
        "png",
        stored(Image.fromarray(GREY), transparency=KEY),
        lambda b: over(grey(GREY), 255 * (GREY != KEY), b),
        ("L", True, True, False),
    ),
    "L 2 bits tRNS": (
        "png",
        written(chunked_png(2, 0, packed(TWO_BITS, 2), (b"tRNS", b"\0\1"))),
        lambda b: over(grey(TWO_BITS * 85), 255 * (TWO_BITS != 1), b),
        ("L", True, True, False),
    ),
    "1 tRNS": (
        "png",
        written(chunked_png(1, 0, packed(BOOLEAN.astype(np.uint8), 1), (b"tRNS", b"\0\0"))),
        lambda b: over(grey(255 * BOOLEAN), 255 * BOOLEAN, b),
        ("1", True, True, False),
    ),
    "RGB tRNS": (
        "png",
        stored(Image.fromarray(COLOUR), transparency=tuple(int(v) for v in COLOUR[2, 3])),
        lambda b: over(COLOUR, 255 * (COLOUR != COLOUR[2, 3]).any(-1), b),
        ("RGB", False, True, False),
    ),
    "I;16 tRNS": (
        "png",
        written(
            chunked_png(16, 0, [r.tobytes() for r in WIDE.astype(">u2")], (b"tRNS", int(WIDE[1, 1]).to_bytes(2, "big")))
        ),
        lambda b: over(grey(np.rint(WIDE / 257)), 255 * (WIDE != WIDE[1, 1]), b),
        ("I;16", True, True, False),
    ),
    "RGB png": ("png", stored(Image.fromarray(COLOUR)), lambda b: COLOUR, ("RGB", False, False, False)),
    "RGB ppm": ("ppm", stored(Image.fromarray(COLOUR)), lambda b: COLOUR, ("RGB", False, False, False)),
    "RGB 16 bits": (
        "png",
        written(chunked_png(16, 2, [row.tobytes() for row in SIXTEEN_RGB])),
        lambda b: SIXTEEN_RGB >> 8,
        ("RGB", False, False, False),
    ),
    "LA 16 bits": (
        "png",
        written(chunked_png(16, 4, [row.tobytes() for row in SIXTEEN_LA])),
        lambda b: over(grey(SIXTEEN_LA[..., 0] >> 8), SIXTEEN_LA[..., 1] >> 8, b),
        ("RGBA", True, True, False),
    ),
    "RGBA png": ("png", stored(Image.fromarray(RGBA)), lambda b: over(COLOUR, ALPHA, b), ("RGBA", False, True, False)),
    "RGBA tiff": ("tif", stored(Image.fromarray(RGBA)), lambda b: over(COLOUR, ALPHA, b), ("RGBA", False, True, False)),
    "RGBA webp": (
        "webp",
        stored(Image.fromarray(RGBA), lossless=True, exact=True),
        lambda b: over(COLOUR, ALPHA, b),
        ("RGBA", False, True, False),
    ),
    "CMYK tiff": (
        "tif",
        stored(Image.fromarray(CMYK, "CMYK")),
        lambda b: from_cmyk(CMYK),
        ("CMYK", False, False, False),
    ),
    "I;16 png": (
        "png",
        stored(Image.fromarray(WIDE)),
        lambda b: grey(np.rint(WIDE / 257)),
        ("I;16", True, False, False),
    ),
    "I;16 tiff": (
        "tif",
        stored(Image.fromarray(WIDE)),
        lambda b: grey(np.rint(WIDE / 257)),
        ("I;16", True, False, False),
    ),
    "I;16 packed": (
        "tif",
        stored(Image.fromarray(WIDE), compression="tiff_lzw"),
        lambda b: grey(np.rint(WIDE / 257)),
        ("I;16", True, False, False),
    ),
    "I;16 white is 0": (
        "tif",
        stored(Image.fromarray(WIDE), tiffinfo={262: 0}),
        lambda b: grey(np.rint((65535 - WIDE.astype(int)) / 257)),
        ("I;16", True, False, False),
    ),
    "I;16B tiff": (
        "tif",
        stored(Image.frombytes("I;16B", SHAPE[::-1], WIDE.astype(">u2").tobytes())),
        lambda b: grey(np.rint(WIDE / 257)),
        ("I;16B", True, False, False),
    ),
    "16-bit pgm": (
        "pgm",
        written(b"P5 14 9 65535\n" + WIDE.astype(">u2").tobytes()),
        lambda b: grey(np.rint(WIDE / 257)),
        ("I", True, False, False),
    ),
    "10-bit pgm": (
        "pgm",
        written(b"P5 14 9 1023\n" + (WIDE // 64).astype(">u2").tobytes()),
        lambda b: grey((WIDE // 64) * (255 / 1023)),
        ("I", True, False, False),
        0.51,
    ),
    "I tiff": (
        "tif",
        stored(Image.fromarray(COUNTS)),
        lambda b: grey(COUNTS * 255 / 1200),
        ("I", True, False, True),
        0.5001,
    ),
    "F tiff": (
        "tif",
        stored(Image.fromarray(FRACTIONS)),
        lambda b: grey(FRACTIONS * 255 / 1.5),
        ("F", True, False, True),
        0.5001,
    ),
    "F pfm": (
        "pfm",
        stored(Image.fromarray(FRACTIONS)),
        lambda b: grey(FRACTIONS * 255 / 1.5),
        ("F", True, False, True),
        0.5001,
    ),
}
RANGES = {"I": 1200, "F": 1.5}


def read(file, channels=3, **options):
    """A file at its own size, as (H, W, channels) integers."""
    head = header(file)
    if head.open_range:
        options["largest"] = RANGES[head.mode]
    pixels = decode(file, channels, head.width, head.height, **options)
    assert pixels.dtype == np.uint8 and pixels.shape == (channels, head.height, head.width)
    assert pixels.flags["C_CONTIGUOUS"]
    return pixels.transpose(1, 2, 0).astype(int)


@pytest.mark.parametrize("background", [WHITE, TEAL])
@pytest.mark.parametrize("name", CASES)
def test_every_mode_is_scaled_and_composited_by_its_rule(tmp_path, name, background):
    suffix, write, expected, facts, *tolerance = CASES[name]
    file = tmp_path / f"x.{suffix}"
    write(file)
    head = header(file)
    assert (head.mode, head.grey, head.alpha, head.open_range) == facts
    assert (head.height, head.width, head.pages) == (*SHAPE, 1)
    pixels = read(file, background=background)
    assert np.abs(pixels - expected(background)).max() <= (tolerance[0] if tolerance else 0)
    if head.grey and background == WHITE:
        assert np.array_equal(read(file, channels=1), pixels[..., :1])


def test_colour_read_as_one_channel_is_its_luma(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read(tmp_path / "x.png", 1)[..., 0] - luma).max() <= 0.51


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_the_colour_spaces_of_jpeg_become_rgb(tmp_path, mode):
    """CMYK is stored inverted, as Adobe does it; both survive JPEG within its loss on a smooth picture."""
    ramp = np.linspace(40, 200, 64)[None, :, None] * np.ones((48, 1, 4))
    values = (ramp + [0, 30, -20, 10]).astype(np.uint8)[..., : len(mode) if mode == "CMYK" else 3]
    Image.fromarray(values, mode).save(tmp_path / "x.jpg", quality=98, subsampling=0)
    want = from_cmyk(values) if mode == "CMYK" else from_ycbcr(values)
    assert np.abs(read(tmp_path / "x.jpg") - want).max() <= 6


def test_ycbcr_tiff_becomes_rgb(tmp_path):
    Image.fromarray(YCC, "YCbCr").save(tmp_path / "x.tif")
    assert header(tmp_path / "x.tif").mode == "YCbCr"
    assert np.abs(read(tmp_path / "x.tif") - from_ycbcr(YCC)).max() <= 1.5


def test_sixteen_bits_times_257_are_the_very_same_picture(tmp_path):
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(every).save(tmp_path / "8.png")
    Image.fromarray(every.astype(np.uint16) * 257).save(tmp_path / "16.png")
    assert np.array_equal(decode(tmp_path / "16.png", 1, 16, 16), decode(tmp_path / "8.png", 1, 16, 16))
    small = [decode(tmp_path / f"{bits}.png", 3, 5, 7).astype(int) for bits in (8, 16)]
    assert np.abs(small[0] - small[1]).max() <= 1  # 8 bits are rounded between the two passes, 16 once


def test_twelve_bits_are_scaled_by_their_own_range(tmp_path):
    values = np.array([[0, 4095, 2047, 1024]], np.uint16)
    packed_bits = np.packbits(((values[..., None] >> np.arange(12)[::-1]) & 1).astype(np.uint8).reshape(-1)).tobytes()
    tags = [
        (256, 3, 4),
        (257, 3, 1),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 6),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    body = struct.pack("<2sHI", b"II", 42, 16) + packed_bits.ljust(8, b"\0")
    (tmp_path / "x.tif").write_bytes(body + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert decode(tmp_path / "x.tif", 1, 4, 1)[0, 0].tolist() == [0, 255, 127, 64]


def test_hidden_colour_does_not_bleed_into_a_smaller_picture(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, ::2] = (0, 200, 0, 255)
    pixels[:, 1::2] = (255, 0, 255, 0)  # magenta that nobody should see
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert np.abs(decode(tmp_path / "x.png", 3, 1, 1, background=(0, 0, 0))[:, 0, 0] - np.array([0, 100, 0])).max() <= 1


# --- orientation ------------------------------------------------------------------------------------------------------


def oriented(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize(
    "suffix", ["jpg", "png", "late.png", "webp", "tif", "lzw.tif", "pages.tif", "wide.png", "avif"]
)
def test_all_orientations_are_applied_in_header_and_pixels(tmp_path, suffix, number):
    kind = suffix.rpartition(".")[2]
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    # Blocks of eight pixels, so that JPEG and AVIF keep them.
    stored_pixels = np.kron(DRAW.integers(256, size=(3, 5), dtype=np.uint8), np.ones((8, 8), np.uint8))
    stored_pixels = grey(stored_pixels).astype(np.uint8) if kind in ("webp", "avif") else stored_pixels
    image = Image.fromarray(stored_pixels.astype(np.uint16) * 257 if suffix == "wide.png" else stored_pixels)
    file, options = tmp_path / f"x.{suffix}", {"exif": oriented(number)}
    options |= {"jpg": {"quality": 98}, "webp": {"lossless": True}, "avif": {"quality": 98}}.get(kind, {})
    options |= {"compression": "tiff_lzw"} if suffix == "lzw.tif" else {}
    options |= {"save_all": True, "append_images": [image]} if suffix == "pages.tif" else {}
    image.save(file, **options)
    if suffix == "late.png":  # the chunk may stand behind the pixels
        content = file.read_bytes()
        start = content.index(b"eXIf") - 4
        end = start + 12 + struct.unpack(">I", content[start : start + 4])[0]
        file.write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    want = TURNED[number](stored_pixels if stored_pixels.ndim == 3 else grey(stored_pixels))
    head = header(file)
    assert (head.height, head.width) == want.shape[:2]
    assert np.abs(read(file) - want).max() <= (12 if kind in ("jpg", "avif") else 0)


@pytest.mark.parametrize("number", range(1, 9))
def test_draft_mode_gives_the_same_picture_upright(tmp_path, number):
    """A large JPEG is decoded at a fraction; within 3 levels of decoding all of it."""
    y, x = np.mgrid[:480, :720] / 40
    picture = np.stack([np.sin(x), np.cos(y), np.sin(x * y / 9)], -1)
    picture = (picture * 100 + 128).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "x.jpg", quality=95, exif=oriented(number))
    whole = Image.fromarray(TURNED[number](np.asarray(Image.open(tmp_path / "x.jpg"))))
    whole = np.asarray(whole.resize((40, 30), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(decode(tmp_path / "x.jpg", 3, 40, 30).transpose(1, 2, 0) - whole).max() <= 3


def test_draft_mode_leaves_small_jpegs_alone(tmp_path, monkeypatch):
    from PIL import JpegImagePlugin

    Image.fromarray(COLOUR).resize((120, 90)).save(tmp_path / "x.jpg")
    sizes = []
    load = JpegImagePlugin.JpegImageFile.load_prepare
    monkeypatch.setattr(
        JpegImagePlugin.JpegImageFile, "load_prepare", lambda self: (sizes.append(self.size), load(self))
    )
    for side in (100, 31, 22):
        decode(tmp_path / "x.jpg", 3, side, side)
    assert sizes == [(120, 90), (120, 90), (60, 45)]


# --- pages, ranges and refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_pages_are_counted_and_read(tmp_path, suffix):
    pages = [Image.new("RGB", (6, 4), (k * 60, 0, 255 - k * 60)) for k in range(4)]
    options = {"lossless": True} if suffix == "webp" else {}
    pages[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=pages[1:], **options)
    assert header(tmp_path / f"x.{suffix}").pages == 4
    for page in (2, 0, 3):
        pixels = decode(tmp_path / f"x.{suffix}", 3, 6, 4, page=page)
        assert pixels[:, 1, 1].tolist() == [page * 60, 0, 255 - page * 60]
    with pytest.raises(SpecError, match="has no page 4"):
        decode(tmp_path / f"x.{suffix}", 3, 6, 4, page=4)


def test_an_open_range_needs_the_largest_value_of_the_set(tmp_path):
    file = tmp_path / "x.tif"
    Image.fromarray(np.array([[0, 100, 200]], np.int32)).save(file)
    assert largest(file) == 200
    assert decode(file, 1, 3, 1, largest=400)[0, 0].tolist() == [0, 64, 128]
    with pytest.raises(SpecError, match=r"x\.tif.*up to 200.*not given"):
        decode(file, 1, 3, 1)
    with pytest.raises(SpecError, match=r"x\.tif.*up to 200.*150"):
        decode(file, 1, 3, 1, largest=150)
    Image.fromarray(np.zeros((2, 2), np.float32)).save(file)
    assert largest(file) == 0 and not decode(file, 1, 2, 2, largest=0).any()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[3, -7]], np.int32), "mode I.*negative values, down to -7"),
        (np.array([[0.5, -0.25]], np.float32), "mode F.*negative values, down to -0.25"),
        (np.array([[0.5, np.nan]], np.float32), "mode F.*infinite or undefined"),
        (np.array([[0.5, np.inf]], np.float32), "mode F.*infinite or undefined"),
    ],
)
def test_values_that_are_no_brightness_are_refused(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "x.tif")
    for ask in (largest, lambda file: decode(file, 1, 2, 1, largest=9)):
        with pytest.raises(SpecError, match=r"x\.tif.*" + words):
            ask(tmp_path / "x.tif")


def test_modes_without_a_rule_are_refused_by_name(tmp_path):
    Image.frombytes("LAB", (4, 4), bytes(48)).save(tmp_path / "lab.tif")
    Image.fromarray(GREY).save(tmp_path / "signed.tif", tiffinfo={339: 2})
    key = (b"tRNS", SIXTEEN_RGB[0, 0].tobytes())
    (tmp_path / "key.png").write_bytes(chunked_png(16, 2, [row.tobytes() for row in SIXTEEN_RGB], key))
    for name, words in (("lab.tif", "'LAB'"), ("signed.tif", "signed 8-bit"), ("key.png", "16-bit colour")):
        for ask in (header, lambda file: decode(file, 3, 4, 4)):
            with pytest.raises(SpecError, match=f"{name}.*{words}"):
                ask(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\0\0\0\x18ftypheic" + bytes(200), "HEIC.*Convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypisom" + bytes(200), "media file of brand 'isom'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\0\5\26\7\0\2\0\0Mac OS X" + bytes(99), "macOS"),
        (b"\x89PNG\r\n\x1a\n\0\0", "PNG, but damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "drawing"),
        (b"nothing at all", "no image that Pillow knows.*nothing"),
    ],
)
def test_what_is_no_image_is_named_as_what_it_is(tmp_path, content, words):
    (tmp_path / "x.png").write_bytes(content)
    for ask in (header, lambda file: decode(file, 3, 4, 4)):
        with pytest.raises(SpecError, match=r"x\.png'.*" + words):
            ask(tmp_path / "x.png")


def test_folders_links_and_absent_files_are_named(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "c.png")
    words = {"a.png": "a folder", "b.png": "leads nowhere", "c.png": "no regular file", "d.png": "does not exist"}
    for name, reason in words.items():
        with pytest.raises(SpecError, match=rf"{name}' cannot be read: it.*{reason}"):
            header(tmp_path / name)


def test_a_wrong_suffix_and_a_name_that_is_no_utf8_are_read(tmp_path):
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    try:
        Image.fromarray(GREY).save(file, "PNG")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    assert np.array_equal(read(file, 1)[..., 0], GREY)
    file.write_bytes(b"")
    with pytest.raises(SpecError) as error:
        header(file)
    assert "/caf\\xe9.jpg'" in str(error.value) and str(error.value).encode()


def test_too_many_pixels_are_refused_in_words_and_drafted_jpegs_read(tmp_path):
    Image.new("1", (14000, 14000), 1).save(tmp_path / "map.png")
    Image.new("L", (10000, 9100), 77).save(tmp_path / "photo.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for ask in (header, lambda file: decode(file, 1, 8, 8)):
            with pytest.raises(SpecError, match=r"map\.png' has 196 megapixels \(14000 x 14000\).* at most 90"):
                ask(tmp_path / "map.png")
        assert header(tmp_path / "photo.jpg").width == 10000
        assert (decode(tmp_path / "photo.jpg", 1, 8, 8) == 77).all()
        with pytest.raises(SpecError, match=r"photo\.jpg' has 91 megapixels"):
            decode(tmp_path / "photo.jpg", 1, 9000, 9000)
    assert Image.MAX_IMAGE_PIXELS


# --- damaged files ----------------------------------------------------------------------------------------------------


def damaged(content, draw):
    """The same bytes cut at many lengths, and with some of them changed, mostly near the beginning."""
    for cut in sorted(draw.sample(range(len(content)), 25)):
        yield content[:cut]
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(draw.choice([1, 1, 3, 10])):
            changed[draw.randrange(draw.choice([64, len(content)])) % len(content)] = draw.randrange(256)
        yield bytes(changed)


@pytest.mark.parametrize(
    ("suffix", "image", "options"),
    [
        ("png", Image.fromarray(COLOUR), {"exif": oriented(6)}),
        ("png", palette_image(), {"transparency": VEIL.tobytes()}),
        ("png", Image.fromarray(WIDE), {}),
        ("jpg", Image.fromarray(COLOUR).resize((60, 40)), {"exif": oriented(5)}),
        ("tif", Image.fromarray(COLOUR), {"exif": oriented(8)}),
        ("tif", Image.fromarray(WIDE), {"compression": "tiff_lzw"}),
        ("tif", Image.fromarray(FRACTIONS), {"save_all": True, "append_images": [Image.fromarray(FRACTIONS)]}),
        ("gif", palette_image(), {"save_all": True, "append_images": [Image.fromarray(GREY)]}),
        ("webp", Image.fromarray(RGBA), {"lossless": True}),
        ("bmp", palette_image(), {}),
        ("ppm", Image.fromarray(COLOUR), {}),
        ("jp2", Image.fromarray(COLOUR), {}),
        ("tga", Image.fromarray(RGBA), {}),
        ("ico", Image.fromarray(RGBA), {}),
        ("avif", Image.fromarray(COLOUR), {}),
    ],
)
def test_damaged_files_give_pixels_or_a_sentence(tmp_path, suffix, image, options):
    stream = io.BytesIO()
    formats = Image.registered_extensions()
    if f".{suffix}" not in formats or (suffix == "avif" and not features.check("avif")):
        pytest.skip("this Pillow does not write it")
    image.save(stream, formats[f".{suffix}"], **options)
    file, outcomes = tmp_path / f"x.{suffix}", {"read": 0, "refused": 0}
    for content in damaged(stream.getvalue(), random.Random(suffix)):
        file.write_bytes(content)
        for ask in (header, largest, lambda file: decode(file, 3, 5, 4, largest=1e6)):
            try:
                got = ask(file)
            except SpecError as error:
                assert "x." + suffix in str(error)
                outcomes["refused"] += 1
            else:
                assert not isinstance(got, np.ndarray) or got.shape == (3, 4, 5)
                outcomes["read"] += 1
    assert outcomes["refused"] > 5


def test_threads_read_the_same_pixels_and_leave_the_process_as_it_was(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "x.png", exif=oriented(6))
    want, limit, filters = decode(tmp_path / "x.png", 3, 5, 7), Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: decode(tmp_path / "x.png", 3, 5, 7), range(200)):
            assert np.array_equal(got, want)
    assert limit == Image.MAX_IMAGE_PIXELS and filters == warnings.filters
