"""What was read, in words: classes, images, what was left out, what a linear model makes of it. Imports no torch."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from kdlab import data
from kdlab.data.source import Source
from kdlab.errors import SpecError
from kdlab.lab import baseline
from kdlab.lab.store import Store
from kdlab.spec import RunSpec

WIDTH = 100


def text(name: str, sizes: Sequence[int] | None = None, store: Store | None = None, fit: bool = False) -> str:
    """What a data set holds as it was read, in lines of at most WIDTH characters; arguments as in ``sentences``.

    Raises:
        SpecError: for data that cannot be read.
    """
    first, *more = sentences(name, sizes, store, fit)
    indented = [*_wrapped(f"{name}: {first}"), *(line for words in more for line in _wrapped("  " + words))]
    return "\n".join(indented)


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def sentences(
    name: str, sizes: Sequence[int] | None = None, store: Store | None = None, fit: bool = False
) -> list[str]:
    """What a data set holds: images and classes, images of each split, oddities, and how far a linear model gets.

    Args:
        name: a data set, as in ``data.load``.
        sizes: (train, val, test) images kept, or None for all.
        store: where linear models are kept; None takes the default store.
        fit: fit the linear model where the store has none, in seconds; without, say that it is not there yet.
    """
    source, kept = data.describe(name), dict(zip(data.SPLITS, data.sizes(name, sizes), strict=True))
    linear = _linear_text(name, sizes, source, kept, store, fit)
    return [heading(source), images(source, kept), *remarks(source), linear]


def texts(specs: Iterable[RunSpec], store: Store | None = None, fit: bool = False) -> str:
    """``text`` for each data set that some runs read, once each."""
    pairs = dict.fromkeys((spec.data, spec.sizes) for spec in specs)
    return "\n".join(text(name, sizes, store, fit) for name, sizes in pairs)


def title(name: str) -> str:
    """A short name for people: that of the folder, or of the data set."""
    return Path(name.removeprefix("folder:").partition("?")[0]).name or name


def file_name(name: str) -> str:
    """A name for files about a data set; two folders of one name do not share it."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", title(name)).strip("-")
    return f"{plain}-{data.fingerprint(name)[:8]}" if name.startswith("folder:") else plain


def heading(source: Source) -> str:
    """The number of classes, and how large and of how many channels an image is."""
    channels, height, width = source.shape
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
    return f"{len(source.classes)} classes, {colour} images of {width} x {height} pixels"


def images(source: Source, kept: dict[str, int]) -> str:
    """Images of each split, those there are where not all are kept, and how many of a class."""
    parts = []
    for split, count in kept.items():
        there = len(source.labels[split])
        of = f" of {there:,}" if count < there else ""
        parts.append(f"{split} {count:,}{of} ({_per_class(source.classes, source.labels[split][:count])})")
    return ", ".join(parts)


def _per_class(classes: Sequence[str], labels: np.ndarray) -> str:
    counts = np.bincount(labels, minlength=len(classes))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[least] == counts[most]:
        return f"{counts[most]:,} a class"
    if counts[most] - counts[least] == 1:
        return f"{counts[least]:,} or {counts[most]:,} a class"
    return f"{classes[most]} {counts[most]:,}, {'...' if len(classes) > 2 else ''}{classes[least]} {counts[least]:,}"


def remarks(source: Source) -> list[str]:
    """What was left out and why, images that stood more than once, and how the files were read; empty for nothing."""
    lines = []
    if source.left_out:
        lines.append("left out: " + "; ".join(f"{count:,} {reason}" for reason, count in source.left_out.items()))
    if source.same:
        lines.append("same images: " + "; ".join(f"{count:,} {how}" for how, count in source.same.items()))
    return lines + list(source.notes)


def _linear_text(name, sizes, source: Source, kept: dict[str, int], store: Store | None, fit: bool) -> str:
    counts = np.bincount(source.labels["val"][: kept["val"]], minlength=len(source.classes))
    which = f" ({source.classes[int(counts.argmax())]})" if counts.min() < counts.max() else ""
    share = f"the largest class{which} is {100 * counts.max() / counts.sum():.1f} % of val"
    try:
        found = baseline.linear(name, sizes, store) if fit else baseline.fitted(name, sizes, store)
    except SpecError as error:  # a store that may only be read still tells what it can
        return f"a linear model could not be kept ({str(error).split('.')[0]}); {share}"
    if found is None:
        return f"a linear model has not been fitted yet; {share}"
    reached = f"{found['val_accuracy']:.1f} % on val"
    if found["above_chance"]:
        return f"a linear model on the pixels reaches {reached}; {share}"
    if (counts.max() / counts.sum()) ** counts.sum() >= 0.01:  # what a guess would get if all were right
        few = f"{counts.sum()} images are too few to tell that from chance"
        return f"a linear model on the pixels reaches {reached}, but {few}; {share}"
    right = round(found["val_accuracy"] / 100 * counts.sum())
    return f"a linear model is not above chance: {reached} ({right} of {counts.sum():,}, tested at 1 %); {share}"
