"""Teachers from published files of weights: RepDistiller, mdistiller, SSKD, HSAKD and our own."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdlab.models import build
from kdlab.models.outputs import Tapped
from kdlab.paths import absolute
from kdlab.registry import SpecError, catalogue, choose, find

HOLDERS = ("model", "state_dict", "net")
WRAPPERS = ("module.", "model.", "backbone.")
SHOWN = 3


def load_teacher(
    arch: str,
    checkpoint: str | Path,
    num_classes: int | None = None,
    in_channels: int | None = None,
    *,
    ignore: Iterable[str] = (),
    **options: Any,
) -> nn.Module:
    """A frozen network with the weights of a file; all of them, or none and a reason.

    The weights may lie under ``model`` (RepDistiller, mdistiller), ``state_dict`` (SSKD), ``net`` (HSAKD) or at the
    top, and their names may begin with ``module.`` (DataParallel) or ``backbone.`` (networks with heads beside them).
    ``MobileNetV2`` and ``MobileNetV2_s1`` have equal files: which one it is must be known.

    Args:
        arch: a registered name, or ``module:Class`` of a foreign model.
        checkpoint: a torch file (read with ``weights_only=True``: nothing in it is executed) or a safetensors file.
        num_classes: number of classes K; None reads it off the classifier's weights.
        in_channels: 1 or 3; None reads it off the first convolution's weights.
        ignore: beginnings of the names of auxiliary weights to leave out, such as ``("proj_head.",)``.
        **options: the model's own; of a foreign one also ``taps`` and ``embedding``.

    Returns:
        The model in eval mode, on the CPU, without gradients.

    Raises:
        SpecError: for an unknown name, a file that cannot be read, or weights that do not fit, naming them.

    Reference: Tian, Krishnan and Isola, Contrastive Representation Distillation, ICLR 2020 (files of RepDistiller);
    Xu, Liu, Li and Loy, Knowledge Distillation Meets Self-Supervision, ECCV 2020 (SSKD); Yang, An, Cai and Xu,
    Hierarchical Self-supervised Augmented Knowledge Distillation, IJCAI 2021 (HSAKD); Zhao, Cui, Song, Qiu and Liang,
    Decoupled Knowledge Distillation, CVPR 2022 (mdistiller).
    """
    find("models", arch)
    state = _without(read(checkpoint), ignore)
    found_classes, found_channels = _numbers(skeleton(arch, num_classes, in_channels, **options), state)
    classes = found_classes if num_classes is None else num_classes
    if classes is None:
        raise SpecError(f"num_classes cannot be told from {checkpoint} for {arch!r}; give it.{_others(arch, state)}")
    model = build(arch, classes, in_channels or found_channels or 3, seed=0, **options)
    fit(model, state, arch)
    return model.eval().requires_grad_(False)


def fit(model: nn.Module, state: Mapping[str, Tensor], arch: str) -> None:
    """Load all weights of ``state`` into ``model``, or none of them.

    Missing ``num_batches_tracked`` (files older than PyTorch 0.4.1) count as 0: evaluation does not use them.

    Args:
        model: the network; of a ``Tapped`` one, the weights are those of the model within.
        state: tensors by name, with or without the names' wrappers.
        arch: what to call the model.

    Raises:
        SpecError: naming a few of the missing, unexpected and misshapen weights, and the models that fit instead.
    """
    inner = _inner(model)
    wanted = inner.state_dict()
    state = _unwrapped(state, wanted)
    if said := _misfit(wanted, state):
        raise SpecError(f"the teacher's weights do not fit {arch!r}: {said}.{_others(arch, state)}")
    inner.load_state_dict({name: state.get(name, torch.zeros_like(value)) for name, value in wanted.items()})


def read(checkpoint: str | Path) -> dict[str, Tensor]:
    """The tensors of a file of weights by name.

    Args:
        checkpoint: a safetensors file, or a torch file of any of the families' forms.

    Raises:
        SpecError: when the file is missing, cannot be read without executing what is in it, or holds no weights.
    """
    path = absolute(checkpoint)
    if not path.exists():
        raise SpecError(f"teacher checkpoint {path} does not exist.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_inert()):
            content = torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as there are damages
        lines = (str(error) or type(error).__name__).splitlines()
        reason = next((line for line in lines if "GLOBAL" in line), lines[0])  # what it would have run, not how to
        raise SpecError(f"teacher checkpoint {path} cannot be read as a file of weights: {reason}") from error
    return _weights(content, path)


def _weights(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        for holder in HOLDERS:
            if isinstance(content.get(holder), Mapping):
                return _weights(content[holder], path)
    there = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise SpecError(
        f"teacher checkpoint {path} holds no weights by name: looked for [{', '.join(HOLDERS)}], but found [{there}]."
    )


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


def _without(state: dict[str, Tensor], ignore: Iterable[str]) -> dict[str, Tensor]:
    """The weights whose names, less ``module.``, begin with none of the given words.

    Raises:
        SpecError: for a word that no name begins with.
    """
    names = {name: name.removeprefix("module.") for name in state}
    beginnings = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in names.values()):
            choose("ignore", beginning, sorted({name.split(".")[0] for name in names.values()}))
    return {name: state[name] for name, plain in names.items() if not plain.startswith(beginnings)}


def _unwrapped(state: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """The weights without what wrappers put before their names.

    ``backbone.`` may stand before some names only (heads stand beside it), the others before all or none. A model whose
    own names begin like that keeps them.
    """
    state, wanted = dict(state), list(wanted)
    for wrapper in [w for w in WRAPPERS * 2 if not any(name.startswith(w) for name in wanted)]:
        inside = [name for name in state if name.startswith(wrapper)]
        if len(inside) == len(state) or wrapper == "backbone.":
            plain = {name.removeprefix(wrapper): value for name, value in state.items()}
            state = plain if len(plain) == len(state) else state
    return state


def _inner(model: nn.Module) -> nn.Module:
    return model.model if isinstance(model, Tapped) else model


class Undrawn(TorchFunctionMode):
    """Leaves initialisation out: the first normal draw on the meta device imports a thousand modules."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is Tensor.normal_ or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def skeleton(arch: str, num_classes: int | None = None, in_channels: int | None = None, **options: Any) -> nn.Module:
    """A model for its names and shapes; ours without numbers (on the meta device), which foreign ones may not stand."""
    numbers = num_classes or 2, in_channels or 3
    if ":" in arch:
        return build(arch, *numbers, seed=0, **options)
    with torch.device("meta"), Undrawn():
        return build(arch, *numbers, seed=0, **options)


def _numbers(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[int | None, int | None]:
    """Classes and channels that a file has where this model has its last linear layer and its first convolution."""
    inner = _inner(model)
    state = _unwrapped(state, inner.state_dict())
    linear = [f"{name}.weight" for name, layer in inner.named_modules() if isinstance(layer, nn.Linear)]
    first = [f"{name}.weight" for name, layer in inner.named_modules() if isinstance(layer, nn.Conv2d)]
    classes = state[linear[-1]].shape[0] if linear and linear[-1] in state else None
    channels = state[first[0]].shape[1] if first and first[0] in state and state[first[0]].dim() == 4 else None
    return classes, channels


def _misfit(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How names and shapes differ, in words; nothing when they agree."""
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    shapes = [(n, tuple(state[n].shape), tuple(wanted[n].shape)) for n in wanted if n in state]
    other = [f"{name} is {there} in the file and {here} in the model" for name, there, here in shapes if there != here]
    kinds = {"missing": missing, "unexpected": unexpected, "with a size mismatch": other}
    said = [f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds.items() if names]
    if unexpected and not missing and not other:
        heads = tuple(dict.fromkeys(name.split(".")[0] + "." for name in unexpected))
        said.append(f"if these are auxiliary heads, ignore={heads!r} leaves them out")
    return "; ".join(said)


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


@functools.cache
def _plain_skeleton(name: str) -> nn.Module:
    return skeleton(name)


def _others(arch: str, state: Mapping[str, Tensor]) -> str:
    """The registered models that fit weights by names and shapes, as a sentence; ``arch`` with other numbers, too."""
    found = []
    for name in catalogue("models"):
        model = _plain_skeleton(name)
        names = _unwrapped(state, model.state_dict())
        classes, channels = _numbers(model, names)
        if classes and channels and names.keys() <= model.state_dict().keys():
            if not _misfit(skeleton(name, classes, channels).state_dict(), names):
                found.append(f"{name!r} of {classes} classes and {channels} channel{'s' if channels > 1 else ''}")
    return f" They fit {' or '.join(found)}." if found else ""
