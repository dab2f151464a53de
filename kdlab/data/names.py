"""Names of data sets written ``folder:PATH?size=32``: parsing the path and its options."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field

from kdlab.errors import SpecError, choose

PREFIX = "folder:"
OPTIONS = ("size", "background", "same", "pages", "stream")
SMALLEST, LARGEST = 8, 1024  # pixels a side that can be asked for
COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}
QUOTES = ("''", '""', "``", "‘’", "“”")
_OPTIONS = re.compile(r"(\w+=[^&?]*(&\w+=[^&?]*)*)?")
_SIZE = re.compile(r"([0-9]{1,4})(?:[x×]([0-9]{1,4}))?")


@dataclass(frozen=True)
class Asked:
    """A folder of images and how it is to be read.

    Args:
        path: absolute.
        size: (width, height) in pixels, or None for the most common one.
        background: red, green, blue in 0 .. 255, shown through transparent pixels.
        keep_same: go on when equal images stand in two classes.
        all_pages: every page of a file is an image, not only the first.
        stream: its images stay on disk, and are decoded when a step asks for them.
    """

    path: str
    size: tuple[int, int] | None = None
    background: tuple[int, int, int] = COLOURS["white"]
    keep_same: bool = False
    all_pages: bool = False
    stream: bool = field(default=False, repr=False)  # names of caches are made of the others


def parse(name: str) -> Asked:
    """Read ``folder:PATH?size=32x24&background=#00ff00&same=keep&pages=all&stream=yes``.

    The path is the longest beginning that is a folder, so that a folder's own name may hold a question mark; blanks
    and quotes around it and ``~`` are understood.

    Raises:
        SpecError: for no path, an unknown option or value, or an option given twice.
    """
    path, query = _apart(name.removeprefix(PREFIX))
    if not path:
        raise SpecError(f"data {name!r} names no path: write folder:PATH, for example folder:photos or folder:.")
    found: dict = {}
    for item in _items(query):
        option, _, value = (part.strip() for part in item.partition("="))
        choose(f"data {name!r}: what follows '?'", option, OPTIONS)
        if option in found:
            raise SpecError(f"data {name!r}: {option} is given twice.")
        found[option] = _VALUES[option](name, value)
    return Asked(
        os.path.abspath(os.path.expanduser(path)),
        size=found.get("size"),
        background=found.get("background", COLOURS["white"]),
        keep_same="same" in found,
        all_pages="pages" in found,
        stream="stream" in found,
    )


def streams(name: str) -> bool:
    """Whether the images of a data set are decoded when a step asks for them."""
    return name.startswith(PREFIX) and parse(name).stream


def absolute(name: str) -> str:
    """The name that means the same from any working directory: an absolute path, its options sorted.

    Names of other data sets come back as they are, and so does what cannot be understood: this never fails, and
    ``parse`` says what is wrong.

    Args:
        name: of a data set, such as ``folder:photos?size=32``.
    """
    if not isinstance(name, str) or not name.startswith(PREFIX):
        return name
    path, query = _apart(name.removeprefix(PREFIX))
    if not path:
        return name
    try:
        path = os.path.abspath(os.path.expanduser(path))
    except OSError:  # the working directory is gone
        return name
    return PREFIX + path + ("?" + "&".join(sorted(_items(query))) if _items(query) else "")


def with_option(name: str, option: str) -> str:
    """The name with one more option after its question mark, for a message that says what to write."""
    path, query = _apart(name.removeprefix(PREFIX))
    return f"{PREFIX}{path}?{'&'.join([*_items(query), option])}"


def printable(name: str) -> str:
    """A file's name as text that can be printed, hashed and written anywhere.

    Bytes that are no UTF-8 stand as ``\\xe9``, line breaks and other controls as ``\\n``; accents are composed, since
    file systems differ in that.
    """
    if name.isascii() and name.isprintable():
        return name
    text = unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))
    odd = ("Cc", "Zl", "Zp")
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in odd else c for c in text)


def _apart(text: str) -> tuple[str, str]:
    """(path, options): the longest beginning that is a folder, else by the look of what follows the last '?'."""
    for whole in (text, _bare(text)):
        marks = [place for place, letter in enumerate(whole) if letter == "?"]
        for cut in (len(whole), *reversed(marks)):
            for path in (whole[:cut], _bare(whole[:cut])):
                if os.path.isdir(os.path.expanduser(path)):
                    return path, whole[cut + 1 :]
    whole = _bare(text)
    path, mark, query = whole.rpartition("?")
    return (_bare(path), query) if mark and _OPTIONS.fullmatch(query.strip()) else (whole, "")


def _bare(text: str) -> str:
    """Without the blanks and quotes that a pasted path brings."""
    text = text.strip()
    while len(text) > 1 and text[0] + text[-1] in QUOTES:
        text = text[1:-1].strip()
    return text


def _items(query: str) -> list[str]:
    return [item.strip() for item in query.split("&") if item.strip()]


def _size(name: str, value: str) -> tuple[int, int]:
    given = _SIZE.fullmatch(value)
    sides = given and (int(given[1]), int(given[2] or given[1]))
    if not sides or not all(SMALLEST <= side <= LARGEST for side in sides):
        raise SpecError(
            f"data {name!r}: size must be pixels a side from {SMALLEST} to {LARGEST}, such as size=32 or "
            f"size=32x24 (width x height), but got {value!r}."
        )
    return sides


def _background(name: str, value: str) -> tuple[int, int, int]:
    value = value.lower()
    if re.fullmatch("#[0-9a-f]{6}", value):
        return tuple(bytes.fromhex(value[1:]))
    if value not in COLOURS:
        raise SpecError(f"data {name!r}: background must be white, black or a colour like #00ff7f, but got {value!r}.")
    return COLOURS[value]


def _only(option: str, word: str):
    return lambda name, value: choose(f"data {name!r}: {option}", value, [word])


_VALUES = {"size": _size, "background": _background, "same": _only("same", "keep"), "pages": _only("pages", "all"),
           "stream": _only("stream", "yes")}  # fmt: skip
