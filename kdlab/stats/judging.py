"""The rule by which paired differences over seeds decide contrasts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kdlab.errors import choose
from kdlab.stats.contrasts import Contrast
from kdlab.stats.inference import holm, t_test_p, tost
from kdlab.stats.sequential import sequential_p

ALPHA = 1 - 0.95
FIXED, SEQUENTIAL = DESIGNS = ("fixed", "sequential")


class Judged(NamedTuple):
    """Both p of a contrast, as they are and corrected, the names of their tests, and the outcome."""

    p: float
    p_holm: float
    p_equivalence: float
    p_equivalence_holm: float
    tests: tuple[str, str]
    outcome: str


def judge(samples: Sequence[np.ndarray], contrasts: Sequence[Contrast], design: str = FIXED) -> list[Judged]:
    """The outcomes of contrasts from their paired differences.

    Each contrast is put to two tests, whose null hypotheses cannot both be true:

    * ``p``, a two-sided paired t-test: for ``positive`` against zero; for ``no_gain`` against the margin where the
      effect lies above it, for ``equivalent`` against the nearer margin where it lies outside, else 1.
    * ``p_equivalence``, TOST within the margin; for ``no_gain`` and an effect below zero, the two-sided t-test against
      zero instead, if its p is smaller (both are at least the p of the one-sided test "effect < margin").

    The 2 m p of the m contrasts of role ``"claim"`` share Holm's correction, so that the probability of any finding
    whose null hypothesis is true is at most 5 %; a control is judged by its own p. Then

    * ``positive``: p below 5 % supports above zero and contradicts below; else p_equivalence below 5 %: negligible.
    * ``no_gain`` and ``equivalent``: p below 5 % contradicts; else p_equivalence below 5 % supports.
    * All else is undecided.

    That is for a number of seeds that was fixed before anyone looked. Where seeds were added while looking, the design
    is ``"sequential"``: both p are those of the sequential t-test (``kdlab.stats.sequential``), read in the same way,
    except that ``no_gain`` and ``equivalent`` are tested against the margin wherever the effect lies. Holm's correction
    then holds at all looks together: a wrong finding at any of them needs a p of a true null hypothesis that ever falls
    below its share of 5 %.

    Args:
        samples: one array of differences per contrast, in the order of the seeds.
        contrasts: in the same order.
        design: ``"fixed"`` or ``"sequential"``.
    """
    found = {FIXED: _fixed, SEQUENTIAL: _sequential}[choose("design", design, DESIGNS)]
    evidence = [found(sample, contrast) for sample, contrast in zip(samples, contrasts, strict=True)]
    pairs = [list(e.p) for e in evidence]
    claims = [i for i, contrast in enumerate(contrasts) if contrast.role == "claim"]
    shared = holm([p for i in claims for p in pairs[i]])
    for place, i in enumerate(claims):
        pairs[i] = shared[2 * place : 2 * place + 2]
    judged = []
    for contrast, corrected, own in zip(contrasts, pairs, evidence, strict=True):
        positive, (differs, same) = contrast.expects == "positive", corrected
        outcome = "undecided"
        if differs < ALPHA:
            outcome = "supported" if positive and own.above else "contradicted"
        elif same < ALPHA:
            outcome = "negligible" if positive else "supported"
        judged.append(Judged(own.p[0], differs, own.p[1], same, own.tests, outcome))
    return judged


class _Evidence(NamedTuple):
    """Both p of a contrast, the names of their tests, and whether the effect lies above zero."""

    p: tuple[float, float]
    tests: tuple[str, str]
    above: bool


def _fixed(differences: np.ndarray, contrast: Contrast) -> _Evidence:
    """By the paired t-test, for a number of seeds fixed in advance."""
    tests = ("paired t", "TOST")
    margin, same = contrast.margin, tost(differences, contrast.margin) if len(differences) else math.nan
    if math.isnan(same):
        return _Evidence((math.nan, math.nan), tests, False)
    effect = float(differences.mean())
    if contrast.expects == "positive":
        return _Evidence((t_test_p(differences), same), tests, effect > 0)
    differs = 1.0
    if effect > margin or (effect < -margin and contrast.expects == "equivalent"):
        differs = t_test_p(differences, math.copysign(margin, effect))
    if contrast.expects == "no_gain" and effect < 0 and (below := t_test_p(differences)) < same:
        same, tests = below, ("paired t", "t below 0")
    return _Evidence((differs, same), (f"t beyond {margin:g}", tests[1]), effect > 0)


def _sequential(differences: np.ndarray, contrast: Contrast) -> _Evidence:
    """By the sequential t-test, for seeds added while looking.

    Every p stands for a mean that would have to lie outside a confidence sequence, so none of them is in need of a
    correction for the side on which it looks: see ``kdlab.stats.sequential``.
    """
    margin, same = contrast.margin, tost(differences, contrast.margin, sequential_p)
    above, below = (sequential_p(differences, 0.0, side) for side in ("greater", "less"))
    if contrast.expects == "positive":
        return _Evidence((sequential_p(differences), same), ("sequential t", "sequential TOST"), above < below)
    differs, second = sequential_p(differences, margin, "greater"), "sequential TOST"
    if contrast.expects == "equivalent":
        differs = min(differs, sequential_p(differences, -margin, "less"))
    elif below < same:
        same, second = below, "sequential t below 0"
    return _Evidence((differs, same), (f"sequential t beyond {margin:g}", second), above < below)
