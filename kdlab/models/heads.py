"""The order of classes in a classifier from a file: checked against the data's, and changed to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kdlab import data
from kdlab.errors import SpecError, choose
from kdlab.models.contents import class_names
from kdlab.spec import Checkpoint


def advice(classes: Sequence[str]) -> str:
    """How to say in which order the classes of a file stand."""
    return f'give --teacher-classes "{",".join(classes)}" (Checkpoint(classes=...) in Python)'


def check_names(checkpoint: Checkpoint, classes: Sequence[str], data_name: str) -> None:
    """Refuse a file that names other classes than the data, or the same in another order, unless told how they map.

    Args:
        checkpoint: of a file that can be read; a wrong number of classes is told when its weights do not fit.
        classes: the data's class names.
        data_name: the data set's name.

    Raises:
        SpecError: naming both and the option that maps them.
    """
    found = None if checkpoint.classes else class_names(checkpoint.path)
    if found is None or found == tuple(classes) or len(found) != len(classes):
        return
    said = f"the teacher's checkpoint {checkpoint.path} has the classes {_few(found)}, but {data_name!r} has"
    if sorted(found) == sorted(classes):
        raise SpecError(f"{said} {_few(classes)}, the same in another order; {advice(found)}.")
    pairs = ",".join(f"{name}=..." for name in found)
    raise SpecError(f'{said} {_few(classes)}; say which is which by --teacher-classes "{pairs}".')


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")


def order_of(text: str, path: str | Path, data_name: str) -> tuple[str, ...]:
    """What ``--teacher-classes`` says, as the data's class names in the order of the file's classifier.

    Args:
        text: ``"disc,bar"``, names in that order, or ``"disc=Auge,bar=Balken"``, the file's own names mapped to ours
            (those that are alike may be left out).
        path: the file, whose own names the pairs need.
        data_name: the data set's name, for messages.

    Raises:
        SpecError: for a mixture of both, or pairs for a file that names no classes or others.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = dict([part.strip() for part in pair.split("=", 1)] for pair in parts if "=" in pair)
    if not pairs:
        return tuple(parts)
    if len(pairs) != len(parts):
        raise SpecError(f"--teacher-classes must be all names or all old=new, each old once, but got {text!r}.")
    found = class_names(path)
    if found is None:
        raise SpecError(
            f"--teacher-classes {text!r} maps names, but {path} does not name its classes; give the names of "
            f"{data_name!r} in the order of the file's classifier instead."
        )
    for old in pairs:
        choose("--teacher-classes, left of '='", old, found)
    ours = data.describe(data_name).classes
    if left := [name for name in found if name not in pairs and name not in ours]:
        raise SpecError(
            f"--teacher-classes {text!r} does not say which class of {data_name!r} the file's {left[0]!r} is; it has "
            f"{_few(ours)}."
        )
    return tuple(pairs.get(name, name) for name in found)


def in_order(model: nn.Module, given: Sequence[str], classes: Sequence[str], x: Tensor) -> nn.Module:
    """Put the rows of a model's classifier into the data's order of classes, for all who read it.

    Args:
        model: the network; its last linear layer (or convolution) with a row for each class is changed in place.
        given: class names in the order of the classifier; empty leaves it alone.
        classes: class names in the data's order, the same set.
        x: a few normalised images, on which the logits are seen to follow.

    Raises:
        SpecError: when no such layer decides the order of the logits.
    """
    if not given or tuple(given) == tuple(classes):
        return model
    order = [list(given).index(name) for name in classes]
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m.weight.shape[0] == len(order)]
    with torch.no_grad():
        before = model(x)
        for values in (layers[-1].weight, layers[-1].bias) if layers else ():
            if values is not None:
                values.copy_(values[order].clone())
        if not layers or not torch.allclose(model(x), before[:, order], rtol=1e-4, atol=1e-5, equal_nan=True):
            raise SpecError(
                f"--teacher-classes: the logits of {type(model).__name__} do not come from a last layer with a row for "
                f"each of {len(order)} classes, so their order cannot be changed."
            )
    return model
