"""Reading a file of weights: its sets of tensors by name, the choice among them, and its class names."""

from __future__ import annotations

import argparse
import mmap
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from kdlab.errors import SpecError, choose, from_json
from kdlab.foreign import weightfile
from kdlab.models.weight_names import Tensors, bare, groups, stripped

USUAL = ("state_dict", "model", "net", "model_state_dict", "model_state", "network", "params", "weights", "module")
AVERAGES = ("ema", "swa", "averaged", "shadow")
ROLES = ("student", "teacher", "online", "target", "online_model", "ema_model", "encoder_q", "encoder_k")
BESIDE = re.compile(r"optim|sched|scaler|rng|^loops$")  # what training keeps beside the weights
CLASS_NAMES = ("classes", "class_names", "CLASSES", "class_to_idx", "idx_to_class")
DEPTH = 4
TOP = "top"


def content(path: Path) -> Any:
    """What a file holds; nothing in it is executed, and its first bytes say how it is read, not its name.

    Raises:
        SpecError: saying what the file is instead of one of weights.
    """
    weightfile.check_file(path)
    try:
        if weightfile.is_safetensors(path):
            return load_file(path)
        with torch.serialization.safe_globals(_inert()), path.open("rb") as file:  # of a path, torch reads the suffix
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                if whole.find(b"bytearray\n") >= 0:  # torch would make one of any size that a few bytes ask for
                    raise ValueError("GLOBAL builtins.bytearray")
            return torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as there are damages
        forbidden = re.search(r"(?:GLOBAL|type|class) ([\w.]+\.\w+)", str(error))
        if not forbidden:
            raise SpecError(
                f"teacher checkpoint {path} is damaged: it begins like a file of weights, but cannot be read to its "
                f"end. {weightfile.AGAIN}"
            ) from error
        raise SpecError(
            f"teacher checkpoint {path} is a pickled object ({forbidden[1]}), such as a whole model, not weights by "
            f"name; reading it could run code, so it was not opened. {weightfile.SAVE}"
        ) from error


def _inert() -> list[Any]:
    """What files of weights hold besides tensors and cannot do harm: numpy's scalars, and options as parsed.

    The scalar's constructor lives under two names, before and after numpy 2; old torch takes no (object, name) pairs.
    """

    def named(module: str):
        def scalar(dtype: np.dtype, value: bytes):
            return np.frombuffer(value, dtype, 1)[0]

        scalar.__module__, scalar.__qualname__ = module, "scalar"
        return scalar

    constructors = [named("numpy.core.multiarray"), named("numpy._core.multiarray")]
    return [*constructors, np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}, argparse.Namespace]


def sets(found: Any, path: Path) -> dict[str, Tensors]:
    """The sets of weights in a file's content by where they lie: ``"top"``, ``"state_dict"``, ``"a.b"``.

    Raises:
        SpecError: when there is none, listing what there is, or when a tensor stands for more than the file holds.
    """
    if sets := {".".join(place) or TOP: state for place, state in _sets(found, ())}:
        size = path.stat().st_size
        for name, value in ((name, value) for state in sets.values() for name, value in state.items()):
            if not _stored(value, size):
                raise SpecError(
                    f"teacher checkpoint {path} is no plain file of weights: of {name!r}, "
                    f"{str(tuple(value.shape))[:80]} {value.dtype}, not every number lies in it. {weightfile.SAVE}"
                )
        return sets
    there = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
    raise SpecError(
        f"teacher checkpoint {path} holds no weights by name, at its top or within; found [{there[:200]}]. "
        f"{weightfile.SAVE}"
    )


def _stored(value: Tensor, size: int) -> bool:
    """Whether a tensor is dense and all its numbers lie in a file of that size, not some for many (a stride of 0)."""
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
        return False
    held = value.untyped_storage().nbytes()
    return value.numel() * value.element_size() <= held <= size


def _sets(found: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    if not isinstance(found, Mapping) or len(place) > DEPTH or not all(isinstance(name, str) for name in found):
        return
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    inside = [
        one for name, value in found.items() if not BESIDE.search(name.lower()) for one in _sets(value, (*place, name))
    ]
    named = any("." in name and value.dim() for name, value in tensors.items())
    if named or (tensors and not inside and any(value.dim() for value in tensors.values())):
        yield place, tensors
    yield from inside


def _networks(state: Tensors, wanted: Collection[str]) -> dict[str, Tensors]:
    """The networks that lie side by side in one set, such as a student and its teacher; nothing for one network."""
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    there = groups(state)
    found = {
        word: inside
        for word, inside in there.items()
        if word in ROLES or any(needed <= names.keys() for names in stripped(inside))
    }
    itself = any(needed <= names.keys() for names in stripped(bare(state)))
    return found if needed and len(found) > 1 and not itself else {}


def choose_set(
    sets: Mapping[str, Tensors], which: str, wanted: Collection[str], path: Path
) -> tuple[str, Tensors, list]:
    """The set of weights that is meant.

    Args:
        sets: from ``sets``.
        which: its name, or a word of it (``"ema"`` means ``"state_dict_ema"``); empty takes the only or the usual one.
        wanted: names of the model's weights, by which networks side by side in one set are told apart.
        path: of the file, for refusals.

    Returns:
        The name of the set, its weights, and the names of all sets there are.

    Raises:
        SpecError: for a name that fits none or several, or when none is usual, listing the sets.
    """
    choices: dict[str, Tensors] = {}
    for name, state in sets.items():
        networks = _networks(state, wanted)
        beginning = "" if name == TOP else f"{name}."
        choices |= {beginning + word: inside for word, inside in networks.items()} or {name: state}
    if which:
        found = [which] if which in choices else [name for name in choices if which in re.split(r"[._]", name)]
        if not found:  # the network of a set that holds loose heads beside it
            choices |= (loose := {word: inside for state in sets.values() for word, inside in groups(state).items()})
            found = [which] if which in loose else []
            if not found:
                choose(f"teacher checkpoint {path}: weights", which, [n for n in choices if n not in loose])
    else:
        found = _usual(choices, sets)
    if len(found) != 1:
        fitting = found or list(choices)
        meant = f"weights={which!r} fits several of them" if which else "any of them may be the teacher"
        example = fitting[-1].rpartition(".")[2]
        raise SpecError(
            f"teacher checkpoint {path} holds several sets of weights, [{', '.join(fitting)}], and {meant}. "
            f"Choose one, such as {path.name}?weights={example}."
        )
    return found[0], choices[found[0]], list(choices)


def _usual(choices: Mapping[str, Tensors], sets: Mapping[str, Tensors]) -> list[str]:
    """The sets that a reader would take unasked: one if all is well."""

    def rank(name: str) -> tuple[bool, bool, int]:
        place = name if name in sets else name.rpartition(".")[0]  # networks side by side rank with their set
        average = any(word in AVERAGES for word in re.split(r"[._]", place.lower()))
        return average, place.rpartition(".")[2] not in ("", TOP, *USUAL), place.count(".")

    best = min(map(rank, choices))
    return [name for name in choices if rank(name) == best]


def class_names(path: str | Path) -> tuple[str, ...] | None:
    """The class names that a file of weights carries, in the order of its classifier; None when it carries none.

    Looked for in the metadata of a safetensors file (as kdlab exports them), and in a torch file at the top and under
    ``meta`` or ``dataset_meta``: ``classes``, ``class_names``, ``CLASSES``, ``class_to_idx``, ``idx_to_class``.

    Args:
        path: the file.

    Raises:
        SpecError: when the file is not one of weights.
    """
    path = Path(path)
    weightfile.check_file(path)
    if weightfile.is_safetensors(path):
        held = weightfile.metadata(path)
        places = [{name: _plain(held[name]) for name in CLASS_NAMES if name in held}]
    else:
        found = content(path)
        places = [found, *(found.get(word) for word in ("meta", "dataset_meta"))] if isinstance(found, Mapping) else []
    for place in places:
        for name in CLASS_NAMES if isinstance(place, Mapping) else ():
            if names := _in_order(place.get(name)):
                return names
    return None


def _plain(text: str) -> Any:
    try:
        return from_json(text)
    except ValueError:
        return None


def _in_order(value: Any) -> tuple[str, ...] | None:
    """Class names from a list of them, from names to numbers, or from numbers to names."""
    if isinstance(value, Mapping) and value:
        if all(isinstance(number, int) for number in value.values()):
            value = {number: name for name, number in value.items()}
        try:
            numbers = {int(number): name for number, name in value.items()}
        except (TypeError, ValueError):
            return None
        value = [numbers[n] for n in sorted(numbers)] if sorted(numbers) == list(range(len(value))) else None
    good = isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value)
    return tuple(value) if good else None
