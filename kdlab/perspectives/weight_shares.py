"""Who gets CCD's weight: by class, by operation, by the teacher's errors, with a few pairs to look at."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from kdlab.spec import RunSpec

PAIRS = 2000  # of each seed: its first ones
BINS = np.linspace(0, 2, 41)
SHOWN = 6  # pairs of a picture's row
OUTCOMES = {
    (True, True): "right on both", (True, False): "wrong on the augmented",
    (False, True): "right on the augmented only", (False, False): "wrong on both",
}  # fmt: skip


def measure(specs: Iterable[RunSpec]) -> dict[str, Any]:
    """What the figures ``weights`` and ``pairs`` show, made anew from the teachers that are in the store.

    Args:
        specs: CCD at each seed.

    Returns:
        JSON-like: ``weights`` with the list ``groups`` (``seed``, ``by``, ``name``, ``pairs``, ``weight``) and
        ``histograms`` (``seed``, ``kind``, ``mean``, ``sd``, ``shares`` of the bins), and ``pairs``, pictures of the
        first of these seeds. Nothing where no teacher is in the store.
    """
    from kdlab.lab import Store, run_key

    store = Store()
    there = [spec for spec in specs if isinstance(spec.teacher, RunSpec) and store.has(run_key(spec.teacher))]
    if not there:
        return {}
    from kdlab.lab.replay import Replay

    groups, histograms, shown = [], [], []
    for spec in there:
        replay = Replay(spec)
        pairs = replay.pairs(PAIRS)
        groups += [{"seed": spec.seed} | row for row in shares(pairs, replay.classes)]
        histograms += [{"seed": spec.seed} | row for row in spread(pairs)]
        shown = shown or pictures(replay, pairs)
    return {"weights": {"groups": groups, "histograms": histograms}, "pairs": shown}


def shares(pairs: pd.DataFrame, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The mean weight of groups of pairs.

    Operations fire independently of each other and of the image, so the difference between pairs with and without one
    is what that operation does to the weight.

    Args:
        pairs: as ``Replay.pairs`` makes them.
        classes: names; label k is ``classes[k]``.

    Returns:
        Rows with ``by`` (class, teacher or operation), ``name``, ``pairs`` and ``weight``: the mean over the group's
        pairs, for an operation minus that over all others. Groups without pairs, or without others, are left out.
    """
    right = pd.DataFrame({view: pairs[view] == pairs["label"] for view in ("first", "second")})
    outcome = [OUTCOMES[one, two] for one, two in zip(right["first"], right["second"], strict=True)]
    rows = []
    for by, names in (("class", [classes[k] for k in pairs["label"]]), ("teacher", outcome)):
        for name, weights in pairs["weight"].groupby(np.asarray(names)):
            rows.append({"by": by, "name": str(name), "pairs": len(weights), "weight": _short(weights.mean())})
    for name in sorted({name for names in pairs["operations"] for name in names}):
        with_it = np.array([name in names for names in pairs["operations"]])
        if not with_it.all():
            gain = pairs["weight"][with_it].mean() - pairs["weight"][~with_it].mean()
            rows.append({"by": "operation", "name": name, "pairs": int(with_it.sum()), "weight": _short(gain)})
    return rows


def spread(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """How the weights are distributed, from raw and from centred logits: ``kind``, ``mean``, ``sd``, and ``shares``
    of the pairs in each of ``BINS``."""
    rows = []
    for kind, column in (("raw logits", "weight"), ("centred logits", "centred")):
        weights = pairs[column].to_numpy()
        counts, _ = np.histogram(weights.clip(BINS[0], BINS[-1]), BINS)
        parts = {"mean": _short(weights.mean()), "sd": _short(weights.std())}
        rows.append({"kind": kind} | parts | {"shares": [_short(share) for share in counts / len(weights)]})
    return rows


def pictures(replay: Any, pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Pairs at even ranks of the tenth with the most weight and of the tenth with the least, with their pixels.

    Args:
        replay: of the run.
        pairs: of it.
    """
    order = pairs["weight"].sort_values(kind="stable").index.to_numpy()
    tenth = max(min(SHOWN, len(order)), len(order) // 10)
    places = np.linspace(0, tenth - 1, min(SHOWN, tenth)).round().astype(int)
    made = []
    for end, chosen in (("most", order[::-1][places]), ("least", order[places])):
        for pair in pairs.loc[chosen].itertuples():
            images = replay.images(pair.step, pair.origin)
            made.append({
                "end": end, "weight": _short(pair.weight), "label": replay.classes[pair.label],
                "first": replay.classes[pair.first], "second": replay.classes[pair.second],
                "operations": list(pair.operations), "shape": list(images.shape),
                "pixels": base64.b64encode(images.tobytes()).decode(),
            })  # fmt: skip
    return made


def pixels(picture: dict[str, Any]) -> np.ndarray:
    """Both views of a picture, uint8 (2, H, W, 3) or (2, H, W)."""
    images = np.frombuffer(base64.b64decode(picture["pixels"]), np.uint8).reshape(picture["shape"])
    return images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)


def _short(value: float) -> float:
    """Six decimals: what a processor's rounding does not reach."""
    return round(float(value), 6)
