"""How much memory a worker will need, roughly and before anything trains. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from kdlab import data
from kdlab.data.names import streams
from kdlab.data.source import HELD
from kdlab.lab.planned import PlannedRun

PROCESS = 600_000_000  # bytes of Python with torch loaded
EVALUATED = 500  # images in a forward pass of an evaluation
# Millions of weights; numbers kept for the backward pass and numbers of the widest map, both for a pixel of the input.
NETWORKS = {
    "MobileNetV2": (0.7, 436, 18), "MobileNetV2_s1": (0.7, 1676, 72), "ShuffleV1": (0.9, 1884, 60),
    "ShuffleV2": (1.3, 1381, 58), "ResNet50": (23.5, 6281, 256),
    "resnet8": (0.1, 160, 16), "resnet14": (0.2, 272, 16), "resnet20": (0.3, 385, 16), "resnet32": (0.5, 609, 16),
    "resnet44": (0.7, 834, 16), "resnet56": (0.9, 1059, 16), "resnet110": (1.7, 2071, 16),
    "resnet8x4": (1.2, 630, 64), "resnet32x4": (7.4, 2429, 64),
    "resnet8_s2_w4": (0.0, 13, 1), "resnet8_s2_w8": (0.0, 23, 2), "resnet8_s2_w16": (0.1, 43, 4),
    "resnet8_s2_w32": (0.3, 82, 8), "resnet8_s2_w64": (1.2, 160, 16),
    "vgg8": (3.9, 346, 64), "vgg11": (9.2, 413, 64), "vgg13": (9.4, 605, 64), "vgg16": (14.7, 672, 64),
    "vgg19": (20.0, 738, 64),
    "wrn_16_1": (0.2, 260, 16), "wrn_16_2": (0.7, 485, 32), "wrn_40_1": (0.6, 710, 16), "wrn_40_2": (2.2, 1384, 32),
}  # fmt: skip
OTHER = (25.0, 450, 64)  # a network that is not listed counts like torchvision's resnet50
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def needed(runs: Iterable[PlannedRun]) -> float:
    """Bytes that a worker takes at most to train some runs side by side on a CPU; right within a factor of about two.

    ``PROCESS + 3 N C P + sum_runs 12 W + sum_teachers 4 W + 8 P (max_runs B (C + K) + E max_networks (C + 3 M))``:
    N images of all splits with C channels and P pixels, as they are read, kept and drawn into the training subset
    (of data that are streamed, ``HELD`` bytes for each split in place of N C P);
    networks of W weights, for a run with their gradients and momenta; B rows in a step (originals times views), for
    each of which K numbers a pixel are kept for the backward pass; E images in a forward pass of an evaluation, of
    which three maps of M numbers a pixel are there at a time. Eight bytes a number, since a float32 of the forward pass
    has its like in what the backward pass and the convolutions work with.

    Args:
        runs: of one cohort, which share their data.
    """
    runs = list(runs)
    specs = [run.spec for run in runs]
    facts, counts = data.facts(specs[0].data), data.sizes(specs[0].data, specs[0].sizes)
    channels, pixels = facts["channels"], facts["size"] ** 2
    held = len(counts) * HELD if streams(specs[0].data) else sum(counts) * channels * pixels
    students = [(spec, NETWORKS.get(spec.model, OTHER)) for spec in specs]
    models = {run.teacher_key: run.teacher_model for run in runs if run.teacher_key}.values()
    teachers = [NETWORKS.get(model, OTHER) for model in models]
    weights = sum(12e6 * network[0] for _, network in students) + sum(4e6 * network[0] for network in teachers)
    step = max(s.budget.originals_per_step * s.views * (channels + network[1]) for s, network in students)
    widest = max(network[2] for network in [*(network for _, network in students), *teachers])
    looked = min(EVALUATED, max(counts[1:])) * (channels + 3 * widest)
    return PROCESS + 3 * held + weights + 8 * pixels * (step + looked)


def machine() -> float:
    """Bytes of memory that this machine, or the container it is, lets its processes have; infinite if it won't say."""
    found = [float("inf")]
    try:
        found.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # not on every system
        pass
    for limit in LIMITS:
        try:
            found.append(float(Path(limit).read_text()))
        except (OSError, ValueError):  # no such limit, or the word "max"
            pass
    return min(size for size in found if size > 0)


def gigabytes(size: float) -> str:
    """Bytes in words, ``0.7 GB``, in whole ones from ten on."""
    return f"{size / 1e9:.1f} GB" if size < 9.95e9 else f"{size / 1e9:,.0f} GB"
