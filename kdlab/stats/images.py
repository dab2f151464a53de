"""Test images as a sample: how far a contrast would move if other images had been drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from kdlab.stats.tables import paired_differences

Right = Callable[[str], "np.ndarray | None"]


def image_error(table: pd.DataFrame, weights: Mapping[str, float], right: Right) -> float:
    """Standard error of a contrast over test images, for the students that were trained.

    ``d_i = mean_s sum_a weights[a] right[a, s, i]`` is an image's difference, averaged over seeds;
    ``100 sd(d) / sqrt(images)`` the error in points. An interval over seeds says what other students would give on
    these images, this what these students would give on others.

    Args:
        table: runs with ``arm``, ``seed`` and ``key``, a column or the index.
        weights: arm to coefficient.
        right: key of a run to which test images it answers right, bool (N,), or None where that is not known.

    Returns:
        Points of accuracy; NaN where one of the runs is not known image by image.
    """
    each = _by_image(table, weights, right)
    if each is None or each.shape[1] < 2:
        return math.nan
    return float(100 * each.mean(0).std(ddof=1) / math.sqrt(each.shape[1]))


def sampling_noise(table: pd.DataFrame, weights: Mapping[str, float], right: Right, images: int | None = None) -> float:
    """Noise of one seed's contrast from the draw of the images it is measured on, in points.

    ``100 sqrt(mean_si d_si^2 / images)`` with ``d_si = sum_a weights[a] right[a, s, i]``: for two arms the mean of d^2
    is the share of images on which one is right and the other wrong.

    Args:
        table, weights, right: as in ``image_error``.
        images: drawn, where the contrast is not measured on the test set; None takes the test images.

    Returns:
        Points of accuracy; NaN where it is not known.
    """
    each = _by_image(table, weights, right)
    if each is None or not each.size or images == 0:
        return math.nan
    return float(100 * math.sqrt((each**2).mean() / (images or each.shape[1])))


def _by_image(table: pd.DataFrame, weights: Mapping[str, float], right: Right) -> np.ndarray | None:
    """The contrast for each seed that has every arm, and each image (S, N)."""
    seeds = paired_differences(table, weights)[0].index
    table = table.reset_index() if table.index.name == "key" else table
    if "key" not in table or not len(seeds):
        return None
    keys = table[table["arm"].isin(list(weights))].set_index(["arm", "seed"])["key"]
    total: list[np.ndarray] = []
    for seed in seeds:
        answers = [right(keys[arm, seed]) for arm in weights]
        if any(answer is None for answer in answers) or len({len(a) for a in [*answers, *total]}) > 1:
            return None
        each = np.zeros(len(answers[0]))
        for weight, answer in zip(weights.values(), answers, strict=True):
            each += weight * answer
        total.append(each)
    return np.stack(total)
