"""Teachers from published files of weights: RepDistiller, mdistiller, SSKD, HSAKD and our own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdlab.errors import SpecError
from kdlab.foreign import weightfile
from kdlab.models import build
from kdlab.models.contents import class_names, content, pick, sets
from kdlab.models.outputs import Tapped
from kdlab.models.weight_names import Tensors, unwrapped, without
from kdlab.registry import catalogue, find
from kdlab.spec import Checkpoint

__all__ = ["class_names", "fit", "load_teacher", "numbers", "taken"]

SHOWN = 3


def load_teacher(
    arch: str,
    checkpoint: str | Path,
    num_classes: int | None = None,
    in_channels: int | None = None,
    *,
    weights: str = "",
    ignore: Iterable[str] = (),
    **options: Any,
) -> nn.Module:
    """A frozen network with the weights of a file; all of them, or none and a reason.

    The weights may lie at the top of the file or in it under any name, and their names may begin with any common words
    (``module.``, ``_orig_mod.``, ``net.`` ...), or with ``backbone.`` where heads stand beside it. Of several sets the
    usual one is taken, such as ``state_dict`` beside ``state_dict_ema``: ``taken`` says which.
    ``MobileNetV2`` and ``MobileNetV2_s1`` have equal files: which one it is must be known.

    Args:
        arch: a registered name, or ``module:Class`` of a foreign model.
        checkpoint: a torch file (read with ``weights_only=True``: nothing in it is executed) or a safetensors file;
            ``FILE?weights=ema`` chooses as ``weights`` does.
        num_classes: number of classes K; None reads it off the classifier's weights.
        in_channels: 1 or 3; None reads it off the first convolution's weights.
        weights: which of several sets of weights, such as ``"ema"``, or ``"teacher"`` where names begin with
            ``student.`` and ``teacher.``; empty takes the only or the usual one.
        ignore: beginnings of the names of auxiliary weights to leave out, such as ``("proj_head.",)``.
        **options: the model's own; of a foreign one also ``taps`` and ``embedding``.

    Returns:
        The model in eval mode, on the CPU, without gradients.

    Raises:
        SpecError: for an unknown name, a file that cannot be read (saying what it is), several sets of which none is
            the usual one, weights that do not fit, or numbers that are not finite, naming the tensor.

    Reference: Tian, Krishnan and Isola, Contrastive Representation Distillation, ICLR 2020 (files of RepDistiller);
    Xu, Liu, Li and Loy, Knowledge Distillation Meets Self-Supervision, ECCV 2020 (SSKD); Yang, An, Cai and Xu,
    Hierarchical Self-supervised Augmented Knowledge Distillation, IJCAI 2021 (HSAKD); Zhao, Cui, Song, Qiu and Liang,
    Decoupled Knowledge Distillation, CVPR 2022 (mdistiller).
    """
    path, word = weightfile.named("checkpoint", checkpoint)
    return _load(arch, path, (num_classes, in_channels), weights or word, ignore, options)[0]


def taken(teacher: Checkpoint, num_classes: int | None = None, in_channels: int | None = None) -> str:
    """Load a checkpoint as ``load_teacher`` does, and say what was read: the file, its network, which weights of it.

    Args:
        teacher: the file, its digest, the model and its options.
        num_classes: of the data; None as in ``load_teacher``.
        in_channels: of the data; None as in ``load_teacher``.

    Raises:
        SpecError: for everything that ``load_teacher`` refuses, and for a file whose digest is another one.
    """
    weightfile.check(teacher)
    options = dict(teacher.options)
    ignore, path = options.pop("ignore", ()), Path(teacher.path)
    _, said = _load(teacher.arch, path, (num_classes, in_channels), teacher.weights, ignore, options)
    return said


def _load(
    arch: str, path: Path, given: tuple[int | None, int | None], which: str, ignore: Iterable[str], options: dict
) -> tuple[nn.Module, str]:
    """The frozen network, and a sentence on what was read."""
    find("models", arch)
    frame = skeleton(arch, *given, **options)
    found = sets(content(path), path)
    name, state, names = pick(found, which, _inner(frame).state_dict(), path)
    state = without(state, ignore)
    _finite(state, path)
    there = _numbers(frame, state)
    classes, channels = (mine or its for mine, its in zip(given, there, strict=True))
    if classes is None:
        raise SpecError(f"num_classes cannot be told from {path} for {arch!r}; give it.{_others(arch, state)}")
    both = classes, channels or 3
    model = build(arch, *both, seed=0, **options)
    if None not in there and not _fits(model, state) and _fits(skeleton(arch, *there, **options), state):
        wanted = [said for said, mine, its in zip(_words(*both), both, there, strict=True) if mine != its]
        raise SpecError(
            f"the teacher's weights do not fit the data: {path} is {_network(arch, *there)}, but here it needs "
            f"{' and '.join(wanted)}."
        )
    fit(model, state, arch, path)
    return model.eval().requires_grad_(False), _said(arch, path, both, name, names)


def _fits(model: nn.Module, state: Tensors) -> bool:
    wanted = _inner(model).state_dict()
    return not _misfit(wanted, unwrapped(state, wanted))


def _finite(state: Tensors, path: Path) -> None:
    """Refuse numbers that are not finite.

    Raises:
        SpecError: naming the tensors.
    """
    bad = {n: int((~v.isfinite()).sum()) for n, v in state.items() if v.is_floating_point() or v.is_complex()}
    bad = [f"{name} ({count:,} of {state[name].numel():,})" for name, count in bad.items() if count]
    if bad:
        raise SpecError(
            f"teacher checkpoint {path} has numbers that are not finite (nan or inf) in {_few(bad)}: its training "
            "diverged, or its saving went wrong. Take an earlier checkpoint."
        )


def _said(arch: str, path: Path, numbers: tuple[int, int], name: str, names: list[str]) -> str:
    said = f"teacher {path.name}: {_network(arch, *numbers)}"
    if len(names) > 1:
        others = [other for other in names if other != name]
        said += f"; its weights {name!r}, not {' or '.join(map(repr, others))} (?weights={others[-1]} takes those)"
    return said


def _network(arch: str, classes: int, channels: int) -> str:
    return f"{arch!r} of {' and '.join(_words(classes, channels))}"


def _words(classes: int, channels: int) -> tuple[str, str]:
    colours = {1: " (grey)", 3: " (colour)"}.get(channels, "")
    return f"{classes} classes", f"{channels} channel{'s' if channels > 1 else ''}{colours}"


def fit(model: nn.Module, state: Mapping[str, Tensor], arch: str, file: Path | None = None) -> None:
    """Load all weights of ``state`` into ``model``, or none of them.

    Missing ``num_batches_tracked`` (files older than PyTorch 0.4.1) count as 0: evaluation does not use them.

    Args:
        model: the network; of a ``Tapped`` one, the weights are those of the model within.
        state: tensors by name, with or without the names' wrappers.
        arch: what to call the model.
        file: where the weights come from, for a refusal.

    Raises:
        SpecError: naming a few of the missing, unexpected and misshapen weights, and the models that fit instead.
    """
    inner = _inner(model)
    wanted = inner.state_dict()
    state = unwrapped(state, wanted)
    if said := _misfit(wanted, state):
        source = f" The file is {file}." if file else ""
        raise SpecError(f"the teacher's weights do not fit {arch!r}: {said}.{_others(arch, state)}{source}")
    inner.load_state_dict({name: state.get(name, torch.zeros_like(value)) for name, value in wanted.items()})


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


def numbers(arch: str, state: Mapping[str, Tensor], **options: Any) -> tuple[int | None, int | None]:
    """Classes and channels of a network of which only the weights are known; None where they do not tell.

    Args:
        arch: a registered name, or ``module:Class``.
        state: tensors by name.
        **options: the model's own.
    """
    return _numbers(skeleton(arch, **options), state)


def _numbers(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[int | None, int | None]:
    """Classes and channels that a file has where this model has its last linear layer and its first convolution."""
    inner = _inner(model)
    state = unwrapped(state, inner.state_dict())
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
        names = unwrapped(state, model.state_dict())
        classes, channels = _numbers(model, names)
        if classes and channels and names.keys() <= model.state_dict().keys():
            if not _misfit(skeleton(name, classes, channels).state_dict(), names):
                found.append(_network(name, classes, channels))
    return f" They fit {' or '.join(found)}." if found else ""
