"""Teachers from published files of weights: RepDistiller, mdistiller, SSKD, HSAKD and our own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from kdlab.errors import SpecError
from kdlab.foreign import weightfile
from kdlab.models import build
from kdlab.models.contents import choose_set, class_names, content, sets
from kdlab.models.matching import (
    classes_and_channels,
    few,
    fits,
    fitting_models,
    load_weights,
    network_words,
    size_words,
    skeleton,
    untapped,
)  # fmt: skip
from kdlab.models.weight_names import Tensors, without
from kdlab.registry import find
from kdlab.spec import Checkpoint

__all__ = ["class_names", "describe", "load_teacher"]


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
    usual one is describe, such as ``state_dict`` beside ``state_dict_ema``: ``describe`` says which.
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
    path, word = weightfile.parse("checkpoint", checkpoint)
    return _load(arch, path, (num_classes, in_channels), weights or word, ignore, options)[0]


def describe(teacher: Checkpoint, num_classes: int | None = None, in_channels: int | None = None) -> str:
    """Load a checkpoint as ``load_teacher`` does, and say what was read: the file, its network, which weights of it.

    Args:
        teacher: the file, its digest, the model and its options.
        num_classes: of the data; None as in ``load_teacher``.
        in_channels: of the data; None as in ``load_teacher``.

    Raises:
        SpecError: for everything that ``load_teacher`` refuses, and for a file whose digest is another one.
    """
    weightfile.check_checkpoint(teacher)
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
    name, state, names = choose_set(found, which, untapped(frame).state_dict(), path)
    state = without(state, ignore)
    _finite(state, path)
    there = classes_and_channels(frame, state)
    classes, channels = (mine or its for mine, its in zip(given, there, strict=True))
    if classes is None:
        raise SpecError(f"num_classes cannot be told from {path} for {arch!r}; give it.{fitting_models(arch, state)}")
    both = classes, channels or 3
    model = build(arch, *both, seed=0, **options)
    if None not in there and not fits(model, state) and fits(skeleton(arch, *there, **options), state):
        wanted = [said for said, mine, its in zip(size_words(*both), both, there, strict=True) if mine != its]
        raise SpecError(
            f"the teacher's weights do not fit the data: {path} is {network_words(arch, *there)}, but here it needs "
            f"{' and '.join(wanted)}."
        )
    load_weights(model, state, arch, path)
    return model.eval().requires_grad_(False), _description(arch, path, both, name, names)


def _finite(state: Tensors, path: Path) -> None:
    """Refuse numbers that are not finite.

    Raises:
        SpecError: naming the tensors.
    """
    bad = {n: int((~v.isfinite()).sum()) for n, v in state.items() if v.is_floating_point() or v.is_complex()}
    bad = [f"{name} ({count:,} of {state[name].numel():,})" for name, count in bad.items() if count]
    if bad:
        raise SpecError(
            f"teacher checkpoint {path} has numbers that are not finite (nan or inf) in {few(bad)}: its training "
            "diverged, or its saving went wrong. Take an earlier checkpoint."
        )


def _description(arch: str, path: Path, numbers: tuple[int, int], name: str, names: list[str]) -> str:
    said = f"teacher {path.name}: {network_words(arch, *numbers)}"
    if len(names) > 1:
        others = [other for other in names if other != name]
        said += f"; its weights {name!r}, not {' or '.join(map(repr, others))} (?weights={others[-1]} takes those)"
    return said
