"""Names of the operations that changed each image, read from the parameters that an augmentation drew."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlab.augment.automatic import Drawn
from kdlab.augment.operations import SCALES, Chain


def fired(part: Any, params: dict[str, Tensor], name: str) -> list[list[str]]:
    """The operations that changed each row.

    >>> import torch
    >>> chain = Chain((("invert", None), ("rotate", 3)), 0.5)
    >>> fired(chain, {"fired": torch.tensor([[True, False], [False, False]])}, "jda")
    [['invert'], []]

    Args:
        part: an augmentation, registered or foreign.
        params: what its ``draw`` returned for n rows.
        name: what to call a change that the parameters do not name.

    Returns:
        n lists of words, in the order of application; an empty list is a row that was left as it was.
    """
    n = len(next(iter(params.values()))) if params else 0
    if isinstance(part, Chain):
        steps = [(k, step) for k, (step, index) in enumerate(part.steps) if not SCALES[step].does_nothing(index)]
        return [[step for k, step in steps if row[k]] for row in params["fired"].tolist()]
    if isinstance(part, Drawn):
        names = list(part.operations)
        rows = part.chosen(params)[0].tolist()
        return [[names[code] for code in row if names[code] != "identity"] for row in rows]
    if "turns" in params:
        return [[f"turn {90 * turns}°"] for turns in params["turns"].tolist()]
    if "share" in params:
        return [[f"{name}, own {share:.0%}"] for share in params["share"].tolist()]
    return [[name] for _ in range(n)]
