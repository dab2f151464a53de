"""Importing foreign code by name, ``module:Class``: from the current folder or installed packages.

The folder comes last on the import path, so that a stray ``random.py`` in it hides nothing. Worker processes get the
path from their parent and notebooks by ``$KDLAB_MODULES``, since a notebook's kernel stands in the notebook's folder.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from kdlab.errors import SpecError
from kdlab.foreign.revision import file_of, forget_changed

FOLDER = "KDLAB_MODULES"
TAPPING = ("taps", "embedding")  # options of a foreign model that say which of its layers are read
LISTED = 12  # names in a sentence
MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def stand() -> None:
    """Make the current folder the one that modules of one's own are looked for in, here and in every child process."""
    with contextlib.suppress(OSError):  # a folder that was removed meanwhile
        os.environ[FOLDER] = os.getcwd()


def folder() -> Path:
    """Where modules of one's own are looked for: ``$KDLAB_MODULES``, else the current folder."""
    return Path(os.environ.get(FOLDER) or os.getcwd())


# ---- names -----------------------------------------------------------------------------------------------------------


def split_options(text: str) -> tuple[str, dict[str, Any]]:
    """A network as it is typed: ``NAME?option=value&taps=layer1,layer2&embedding=pool``.

    Args:
        text: a registered name or ``module:Class``, and after a question mark options of the network: ``taps`` are
            layers separated by commas, ``embedding`` is a layer, other values Python literals or else plain strings.

    Returns:
        The name, and the options by name.

    Raises:
        SpecError: for what cannot be read like that.
    """
    name, mark, query = text.partition("?")
    options: dict[str, Any] = {}
    for pair in query.split("&") if mark else ():
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not key or not equals or not value:
            raise SpecError(f"{text!r}: after '?' stand option=value pairs joined by '&', but got {pair!r}.")
        if key in options:
            raise SpecError(f"{text!r} gives the option {key!r} twice.")
        options[key] = _value(key, value)
    return name, options


def _value(key: str, text: str) -> Any:
    if key == "embedding":
        return text
    if key == "taps" and not text.startswith(("[", "(")):
        return [layer.strip() for layer in text.split(",") if layer.strip()]
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return list(value) if key == "taps" else value


def join_options(name: str, options: dict[str, Any]) -> str:
    """What ``split_options`` reads as this name and these options."""
    pairs = [
        f"{k}={','.join(v) if k == 'taps' else v}" for k, v in options.items() if v is not None or k not in TAPPING
    ]
    return name + ("?" if pairs else "") + "&".join(pairs)


def is_program(name: str) -> bool:
    """Whether a name is that of somebody's code, ``module:Class``, which no file's own words may have imported.

    Torchvision's models are not: they came with kdlab.
    """
    return ":" in name and not name.startswith("torchvision.models:")


def suggestion(name: str) -> str:
    """A hint for the name of foreign code that lacks its colon, ``module.Class``; empty for any other name.

    >>> suggestion("torch.nn.Linear")
    " Did you mean 'torch.nn:Linear'? Code of your own is named module:Class."
    """
    _importable()
    dotted, said = _dotted(name), ""
    head, _, last = dotted.rpartition(".")
    if file := file_of(folder(), dotted):
        said = f"{dotted}:{next(_defined(file), 'Class')}"
    elif head and MODULE.fullmatch(dotted) and importlib.util.find_spec(dotted.partition(".")[0]):
        said = f"{head}:{last}"
    return f" Did you mean {said!r}? Code of your own is named module:Class." if said else ""


def _dotted(module: str) -> str:
    """A module's name from what people type for it: a file's name, a path."""
    path = Path(module.replace("\\", "/").removesuffix(".py"))
    if path.is_absolute() and path.is_relative_to(folder()):
        path = path.relative_to(folder())
    return ".".join(part.strip("/") for part in path.parts if part != ".").strip(".")


# ---- importing -------------------------------------------------------------------------------------------------------


def load(word: str, name: str) -> Any:
    """Import what ``module:Class`` names; a module whose file has changed since it was imported is imported anew.

    Args:
        word: what the part is to a person: model, method, augmentation.
        name: as typed.

    Raises:
        SpecError: saying where it was looked for and what would have been right.
    """
    module, _, target = name.partition(":")
    if not MODULE.fullmatch(module) or module.endswith(".py") or not target.isidentifier():
        raise SpecError(f"{word} {name!r} must be written module:Class, such as {_right(module, target)!r}.")
    _importable()
    found = _imported(word, name, module)
    if not hasattr(found, target):
        raise SpecError(f"{word} {name!r}: {_place(found)} has no {target}.{_choices(found, module, target)}")
    part = getattr(found, target)
    if not callable(part) or (hasattr(part, "named_modules") and not isinstance(part, type)):
        kind = type(part).__name__
        raise SpecError(f"{word} {name!r} must be a class or function that makes one, but it is a {kind} itself.")
    return part


def _importable() -> None:
    if str(folder()) not in sys.path:
        sys.path.append(str(folder()))
    importlib.invalidate_caches()


def _right(module: str, target: str) -> str:
    dotted = _dotted(module) or "mymodels"
    file = file_of(folder(), dotted)
    return f"{dotted}:{target if target.isidentifier() else next(_defined(file) if file else iter(()), 'TinyNet')}"


def _imported(word: str, name: str, module: str) -> ModuleType:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would ask the network for a newer one
    try:
        found = importlib.import_module(module)
        if forget_changed(found):
            found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise _broken(word, name, module, error) from error
        near = difflib.get_close_matches(module, [file.stem for file in _modules()], n=1, cutoff=0.5)
        target = name.partition(":")[2]
        hint = f" Did you mean {f'{near[0]}:{target}'!r}?" if near else ""
        raise SpecError(
            f"{word} {name!r}: there is no module {error.name!r}, neither in {folder()} nor installed.{hint}"
        ) from error
    except (Exception, SystemExit) as error:
        raise _broken(word, name, module, error) from error
    return found


def _broken(word: str, name: str, module: str, error: BaseException) -> SpecError:
    """A module that raises while it is imported: where, and what."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    frame = frames[-1] if len(frames) > 1 else None  # the first is ours
    where = f" (line {frame.lineno} of {frame.filename})" if frame else ""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return SpecError(f"{word} {name!r}: importing {module} fails{where} with {said}.")


def _modules() -> Iterator[Path]:
    yield from sorted(folder().glob("*.py"))
    yield from sorted(path.parent for path in folder().glob("*/__init__.py"))


def _place(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__


def _choices(module: ModuleType, name: str, target: str) -> str:
    """The nearest name in a module, or its few; and the file of one's own that the module hides."""
    names = [n for n, part in vars(module).items() if callable(part) and not n.startswith("_")]
    own = [n for n in names if getattr(vars(module)[n], "__module__", None) == module.__name__] or names
    near = difflib.get_close_matches(target, names, n=1, cutoff=0.5)
    said = f" Did you mean {f'{name}:{near[0]}'!r}?" if near else ""
    if not near and own:
        said = f" It has {', '.join(own[:LISTED])}{', ...' if len(own) > LISTED else ''}."
    mine = file_of(folder(), name)
    if mine and _place(module) != str(mine):
        said += f" It hides your own {mine}, which needs another name."
    return said


def _defined(file: Path) -> Iterator[str]:
    """The classes of a file, without running it."""
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        yield from (node.name for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.ClassDef))
