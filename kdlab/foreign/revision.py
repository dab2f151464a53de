"""The revision of foreign code: a hash of the source files that it is made of."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import inspect
import os
import re
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = "kdlab"  # our own parts have revisions of their own
INSTALLED = tuple(sysconfig.get_paths()[place] for place in ("stdlib", "platstdlib", "purelib", "platlib"))

_known: dict[str, str] = {}  # digest of the source of each module as it was when it was first seen


def revision(part: Any) -> str:
    """A hash of the source that a class or function is made of.

    It covers the file that defines it and the files that this one imports, directly or not: of one's own code those
    beside it and below, of installed packages those in the same folder.

    Raises:
        OSError, TypeError: where there is no source.
    """
    plain = inspect.unwrap(part)
    file, module = Path(inspect.getsourcefile(plain) or ""), inspect.getmodule(plain)
    if not file.is_file():  # typed into a notebook
        return hashlib.sha256(inspect.getsource(plain).encode()).hexdigest()[:12]
    return _digest(file, getattr(module, "__name__", file.stem))


def _digest(file: Path, module: str) -> str:
    lines = [f"{name} {_read(path)[0]}" for name, path in sources(file, module).items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def sources(file: Path, module: str) -> dict[str, Path]:
    """A module's file and those of its kind that it imports, by their path from the folder they are imported from.

    Args:
        file: of the module.
        module: its full name.
    """
    depth = module.count(".") + (file.name == "__init__.py")
    base = file.parents[0 if module in ("__main__", "__mp_main__") else depth]
    installed = any(file.is_relative_to(path) for path in INSTALLED)
    within, found, waiting = file.parent if installed else base, {}, [file]
    while waiting:
        path = waiting.pop()
        whole = installed and path != file and path == within / "__init__.py"  # names all of a package
        if whole or not path.is_relative_to(within) or (name := path.relative_to(base).as_posix()) in found:
            continue
        found[name] = path
        package = ".".join(path.relative_to(base).parent.parts)
        for imported in _read(path)[1]:
            dotted = _absolute(imported, package)
            if dotted.partition(".")[0] != OURS:
                waiting += filter(None, (file_of(base, dotted[:end]) for end in _ends(dotted)))
    return dict(sorted(found.items()))


def _ends(dotted: str) -> list[int]:
    return [match.start() for match in re.finditer(r"\.", dotted)] + [len(dotted)]


def _absolute(imported: str, package: str) -> str:
    """``..a.b`` of a package in full."""
    name = imported.lstrip(".")
    level = len(imported) - len(name)
    if not level:
        return name
    parts = package.split(".") if package else []
    return ".".join([*parts[: len(parts) - level + 1], *([name] if name else [])])


def file_of(base: Path, dotted: str) -> Path | None:
    """The file of a module or package that is imported from a folder; None where there is none.

    Args:
        base: the folder.
        dotted: the module's name.
    """
    if not dotted:
        return None
    place = base.joinpath(*dotted.split("."))
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in files if os.path.isfile(file)), None)  # pathlib's fails for a name too long


def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """A file's digest, and the modules that it imports as they are written there."""
    now = path.stat()
    return _parsed(path, now.st_mtime_ns, now.st_size)


@functools.lru_cache(maxsize=4096)
def _parsed(path: Path, _time: int, _size: int) -> tuple[str, tuple[str, ...]]:
    content, names = path.read_bytes(), []
    with contextlib.suppress(SyntaxError, ValueError):  # what cannot be read was not imported either
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                head = "." * node.level + (node.module or "")
                joint = "" if head.endswith(".") else "."
                names += [head, *(f"{head}{joint}{alias.name}" for alias in node.names)]
    return hashlib.sha256(content).hexdigest(), tuple(dict.fromkeys(names))


def forget_changed(module: ModuleType) -> bool:
    """Forget a module of one's own, and what it imports, where it reads otherwise than when it was first seen.

    Returns:
        Whether it was forgotten, so that it has to be imported again.
    """
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py") or module.__name__ == "__main__" or module.__name__.startswith(OURS):
        return False
    if any(Path(file).is_relative_to(path) for path in INSTALLED):
        return False
    files, now = sources(Path(file), module.__name__).values(), _digest(Path(file), module.__name__)
    if _known.setdefault(module.__name__, now) == now:
        return False
    _known[module.__name__] = now
    places = {str(path) for path in files}
    for name, other in list(sys.modules.items()):
        if getattr(other, "__file__", None) in places:
            del sys.modules[name]
            if cached := getattr(other, "__cached__", None):  # Python takes it for new where a second and size agree
                with contextlib.suppress(OSError):
                    Path(cached).unlink()
    return True
