"""What one run answered on val, read once: its course, logits and labels, or the reason why they are not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kdlab import data
from kdlab.errors import SpecError
from kdlab.lab import sources
from kdlab.lab.answers import truth
from kdlab.lab.damage import Damaged
from kdlab.lab.store import Store
from kdlab.widgets.results.selection import Selection


class Answers(NamedTuple):
    """The answers of a run.

    Args:
        curve: of ``result.json``: step, train_loss, val_accuracy.
        logits: (N, K) on val, or None.
        labels: (N,) of val, or None.
        classes: K names.
        data: name of the data.
        why: where logits or labels are not there, the reason, as a sentence.
        lost: the run's files cannot be read, and there is no curve either.
    """

    curve: Sequence[dict[str, Any]]
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None
    classes: Sequence[str] = ()
    data: str = ""
    why: str = ""
    lost: bool = False

    @property
    def known(self) -> bool:
        """Whether there are answers to look into."""
        return self.logits is not None


def read(key: str, chosen: Selection, store: Store) -> Answers:
    """The answers of a run.

    Args:
        key: of the run.
        chosen: the selection that it is of.
        store: where it is, unless it is from the ledger.
    """
    row, curve = chosen.table.loc[key], ()
    try:
        published = sources.found(key, store, row["environment"])
        curve = _course(key, published, store)
        if row["diverged"]:
            raise SpecError(f"This run diverged at step {row['diverged_at']:.0f}: its answers mean nothing.")
        if published:
            raise SpecError("This run is from the ledger, which keeps its numbers and not its answers to val.")
        logits = store.logits(key)["val"]
        labels, classes = truth(row["data"], chosen.runs.facts[key]["files"], "val", len(logits))
    except Damaged as error:
        lost = f"The files of run {key[:8]} cannot be read ({error.file} {error.reason})."
        return Answers((), why=lost, lost=True)
    except SpecError as error:
        return Answers(curve, why=str(error))
    return Answers(curve, logits, labels, classes, row["data"])


def course(key: str, chosen: Selection, store: Store) -> Sequence[dict[str, Any]]:
    """A run's points on val, of the store or of the ledger; none where its files cannot be read.

    Args:
        key: of the run.
        chosen: the selection that it is of.
        store: where it is, unless it is from the ledger.
    """
    try:
        return _course(key, sources.found(key, store, chosen.table.loc[key, "environment"]), store)
    except Damaged:
        return ()


def _course(key: str, published: Any, store: Store) -> Sequence[dict[str, Any]]:
    return (published.result if published else store.read(key, "result"))["curve"]


def pixels(name: str, images: int) -> np.ndarray:
    """The first images of val, uint8 (n, C, H, W).

    Args:
        name: of the data.
        images: how many.
    """
    return data.describe(name).pixels("val", images)
