"""The rule by which paired differences over seeds decide contrasts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kdlab.stats.contrasts import Contrast
from kdlab.stats.inference import holm, t_test_p, tost

ALPHA = 1 - 0.95


class Judged(NamedTuple):
    """Both p of a contrast, as they are and corrected, the names of their tests, and the outcome."""

    p: float
    p_holm: float
    p_equivalence: float
    p_equivalence_holm: float
    tests: tuple[str, str]
    outcome: str


def judge(samples: Sequence[np.ndarray], contrasts: Sequence[Contrast]) -> list[Judged]:
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

    Args:
        samples: one array of differences per contrast.
        contrasts: in the same order.
    """
    evidence = [_evidence(sample, contrast) for sample, contrast in zip(samples, contrasts, strict=True)]
    pairs = [list(pair) for pair, _ in evidence]
    claims = [i for i, contrast in enumerate(contrasts) if contrast.role == "claim"]
    shared = holm([p for i in claims for p in pairs[i]])
    for place, i in enumerate(claims):
        pairs[i] = shared[2 * place : 2 * place + 2]
    judged = []
    for sample, contrast, corrected, (own, tests) in zip(samples, contrasts, pairs, evidence, strict=True):
        positive, (differs, same) = contrast.expects == "positive", corrected
        outcome = "undecided"
        if differs < ALPHA:
            outcome = "supported" if positive and sample.mean() > 0 else "contradicted"
        elif same < ALPHA:
            outcome = "negligible" if positive else "supported"
        judged.append(Judged(own[0], differs, own[1], same, tests, outcome))
    return judged


def _evidence(differences: np.ndarray, contrast: Contrast) -> tuple[tuple[float, float], tuple[str, str]]:
    """Both p of a contrast, and the names of the tests."""
    tests = ("paired t", "TOST")
    margin, same = contrast.margin, tost(differences, contrast.margin) if len(differences) else math.nan
    if math.isnan(same):
        return (math.nan, math.nan), tests
    effect = float(differences.mean())
    if contrast.expects == "positive":
        return (t_test_p(differences), same), tests
    differs = 1.0
    if effect > margin or (effect < -margin and contrast.expects == "equivalent"):
        differs = t_test_p(differences, math.copysign(margin, effect))
    if contrast.expects == "no_gain" and effect < 0 and (below := t_test_p(differences)) < same:
        same, tests = below, ("paired t", "t below 0")
    return (differs, same), (f"t beyond {margin:g}", tests[1])
