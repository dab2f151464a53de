"""Recognising a file of weights by its bytes, without torch, and saying what any other file is."""

from __future__ import annotations

import difflib
import json
import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.errors import SpecError, choose
from kdlab.paths import absolute, file_digest

if TYPE_CHECKING:
    from kdlab.spec import Checkpoint

SAVED = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
AGAIN = "Download it again."
SAVE = "Where the model is, torch.save(model.state_dict(), 'weights.pth') saves its weights alone."
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # torch.save before 1.6: a pickle that begins with this number
BEGINNINGS = {
    b"\x93NUMPY": f"a numpy array. {SAVE}",
    b"\x89HDF": f"an HDF5 file, as Keras writes. {SAVE}",
    b"GGUF": f"a GGUF file of a language model. {SAVE}",
    b"\x1f\x8b": "packed with gzip. Unpack it, and name the file that comes out.",
    b"BZh": "packed with bzip2. Unpack it, and name the file that comes out.",
    b"\xfd7zXZ": "packed with xz. Unpack it, and name the file that comes out.",
    b"\x28\xb5\x2f\xfd": "packed with zstandard. Unpack it, and name the file that comes out.",
    b"7z\xbc\xaf": "a 7z archive. Unpack it, and name the file of weights in it.",
    b"Rar!": "a RAR archive. Unpack it, and name the file of weights in it.",
    b"\x89PNG": "a PNG image. Name the file of weights.",
    b"\xff\xd8\xff": "a JPEG image. Name the file of weights.",
    b"%PDF": "a PDF. Name the file of weights.",
}


def parse(argument: str, text: str | Path) -> tuple[Path, str]:
    """The file and the weights of it that a person names, as ``FILE`` or ``FILE?weights=NAME``.

    Blanks and quotes around a pasted path, and ``~``, are understood; a file that exists with a ``?`` is itself.

    Args:
        argument: what to call it in a refusal.
        text: what was written.

    Returns:
        The file's absolute path, and the name of the weights, empty when none was given.

    Raises:
        SpecError: for an option that is not ``weights``, or one without a value.
    """
    plain = _pasted(text)
    path, weights = absolute(plain), ""
    if "?" in plain and not os.path.exists(path):
        before, _, query = plain.rpartition("?")
        option, equals, weights = query.partition("=")
        choose(f"{argument}: the option after '?'", option, ["weights"])
        if not equals or not weights:
            raise SpecError(f"{argument}: ?weights= must name weights of the file, such as ?weights=ema.")
        path = absolute(before)
    return path, weights


def _pasted(text: str | Path) -> str:
    """A path without the blanks and quotes that come along when it is pasted."""
    return str(text).strip().strip("\"'").strip()


def means_file(text: str) -> bool:
    """Whether a teacher is named by a file and not by a model: it exists, or is written as files of weights are."""
    plain = _pasted(text)
    before = plain.partition("?weights=")[0]
    here = any(os.path.exists(absolute(path)) for path in (plain, before))
    return here or before.lower().endswith(SAVED) or (os.sep in before and ":" not in before)


def check_checkpoint(teacher: Checkpoint) -> None:
    """Refuse a checkpoint whose file is not one of weights, or not the one that its digest names. Imports no torch.

    Raises:
        SpecError: naming the file and what it is.
    """
    path = Path(teacher.path)
    check_file(path)
    if file_digest(path) != teacher.sha256:
        raise SpecError(f"teacher checkpoint {path} is not the file its sha256 {teacher.sha256[:12]}... names.")


def check_file(path: Path) -> None:
    """Refuse what cannot be a file of weights.

    Raises:
        SpecError: naming the file, what it is, and what to do.
    """
    try:
        said = problem(path)
    except OSError as error:
        raise SpecError(f"teacher checkpoint {path} cannot be opened: {error.strerror or error}.") from error
    if said:
        raise SpecError(f"teacher checkpoint {path} {said}")


def problem(path: Path) -> str | None:
    """What a path holds instead of weights, and what to do, as the rest of a sentence; None for a file of weights.

    A truncated file is recognised by its own table of contents, so half a download is found without torch.
    """
    if not os.path.exists(path):  # pathlib's fails for a name too long
        near = difflib.get_close_matches(path.name, _names(path.parent), n=1)
        return "does not exist." + (f" Did you mean {near[0]!r}, which is there?" if near else "")
    if path.is_dir():
        inside = [name for name in _names(path) if name.endswith(SAVED)]
        return "is a folder. Name the file of weights" + (f" in it: {', '.join(inside[:5])}." if inside else ".")
    if not path.is_file():
        return "is not a file. Name a file of weights."
    size = path.stat().st_size
    if size == 0:
        return f"is empty: its download or its saving did not finish. {AGAIN}"
    with path.open("rb") as file:
        head = file.read(4096)
    if head[8:9] == b"{" and head[5:8] == b"\0\0\0":
        return _safetensors(path, size)
    if head.startswith(b"PK"):
        return _archive(path, size)
    if head.startswith(LEGACY):
        return None
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return f"is a plain pickle, which runs code when it is read, so it was not opened. {SAVE}"
    if head[257:262] == b"ustar":
        return "is a tar archive. Unpack it, and name the file of weights in it."
    known = next((said for beginning, said in BEGINNINGS.items() if head.startswith(beginning)), None)
    return f"is {known}" if known else _text(head) or (
        f"is no file of weights that is known: it begins with the bytes {head[:8].hex(' ')}. "
        "A safetensors file, or one that torch.save made, is."
    )  # fmt: skip


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def _text(head: bytes) -> str | None:
    """What a text is; None for bytes that are none."""
    if b"\0" in head:
        return None
    text = head.decode("utf-8", errors="replace")
    if text.count("�") > 1:  # the last character may be cut
        return None
    if text.startswith("version https://git-lfs"):
        size = re.search(r"^size (\d+)", text, re.MULTILINE)
        of = f" of {int(size[1]):,} bytes" if size else ""
        return (
            f"is a Git LFS pointer, the text that stands for a file{of}. `git lfs pull` in its folder fetches the file."
        )
    if re.match(r"\s*<(!doctype|html|head|body|\?xml)", text, re.IGNORECASE):
        words = " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE).split())
        says = f" that says {words[:60]!r}" if words else ""
        return f"is a web page{says}: the link leads to a page. Open it in a browser and save the file."
    return f"is a text that begins with {' '.join(text.split())[:60]!r}. Name a file of weights."


def _safetensors(path: Path, size: int) -> str | None:
    try:
        header, begin = _header(path)
        needed = begin + max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
        "".join(header.get("__metadata__", {}).values())  # texts, all of them
    except (ValueError, LookupError, TypeError, AttributeError, MemoryError, OverflowError, RecursionError):
        return f"begins like a safetensors file, but its header is cut off or damaged. {AGAIN}"
    if size < needed:
        return f"is part of a safetensors file: {size:,} of {needed:,} bytes. {AGAIN}"
    return None


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """What stands before the tensors of a safetensors file, and the byte at which they begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length) if length <= path.stat().st_size else b""), 8 + length


def _archive(path: Path, size: int) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        return f"is part of a file: it begins as torch saves, but its end is missing after {size:,} bytes. {AGAIN}"
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        return (
            "is a TorchScript archive, a program with its weights inside. Save these alone: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')."
        )
    if "data.pkl" in inside:
        if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
            return f"holds compressed or overlapping entries, which torch never saves, so it was not opened. {SAVE}"
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"is an archive of numpy arrays (npz). {SAVE}"
    return f"is a zip archive ({', '.join(names[:3]) or 'empty'}). Unpack it, and name the file of weights in it."


def is_safetensors(path: Path) -> bool:
    """Whether a file that ``check_file`` let pass is a safetensors file, whatever its name ends with."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself beside its tensors; nothing for other files."""
    return dict(_header(path)[0].get("__metadata__") or {}) if is_safetensors(path) else {}
