"""A teacher from a file of weights, as a person names it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path

from kdlab.errors import SpecError, from_json
from kdlab.foreign import is_program
from kdlab.foreign.weightfile import check_file, metadata, parse
from kdlab.paths import file_digest
from kdlab.spec import Checkpoint


def checkpoint(argument: str, text: str | Path, arch: str | None = None, options: Mapping | None = None) -> Checkpoint:
    """The Checkpoint that a person names by a file, once the file looks like one of weights.

    Args:
        argument: what to call it in a refusal, such as ``"--teacher"``.
        text: ``FILE`` or ``FILE?weights=NAME``.
        arch: the model; None takes what kdlab wrote into the file when it exported it, unless that is a program of
            somebody's (``module:Class``), which a file cannot ask for: whoever trusts it names it.
        options: the model's own; None likewise.

    Raises:
        SpecError: saying what the file is instead, or that its model must be named.
    """
    path, weights = parse(argument, text)
    check_file(path)
    own = metadata(path)
    if arch is None and "arch" not in own:
        raise SpecError(f"{argument} {path} is a file of weights that does not say its model; name it by --arch.")
    if arch is None and is_program(own["arch"]):
        raise SpecError(
            f"{argument} {path} says that its model is {own['arch']!r}, a program that did not come with kdlab: if you "
            f"trust it, name it by --arch {shlex.quote(own['arch'])}."
        )
    if options is None:
        options = _options(argument, path, own.get("options", "{}")) if arch in (None, own.get("arch")) else {}
    return Checkpoint(str(path), file_digest(path), arch or own["arch"], options, weights)


def _options(argument: str, path: Path, text: str) -> Mapping:
    """The model's options, as the file itself says them."""
    with contextlib.suppress(ValueError):
        if isinstance(found := from_json(text), dict):
            return found
    raise SpecError(f"{argument} {path} says of its model's options {text[:60]!r}, which are none; name it by --arch.")
