"""From runs to verdicts: intervals and tests over seeds, and claims listed in advance that they decide."""

from kdlab.stats.contrasts import Contrast
from kdlab.stats.health import Finding, at_chance, health, health_line
from kdlab.stats.images import image_error, sampling_noise
from kdlab.stats.inference import (
    Interval,
    holm,
    interval,
    power_of,
    seeds_needed,
    sign_flip_floor,
    sign_flip_p,
    smallest_detectable,
    smallest_margin,
    t_test_p,
    tost,
    tost_power,
)
from kdlab.stats.judging import DESIGNS
from kdlab.stats.sequential import confidence_sequence, log_e_values, sequence_critical, sequential_p
from kdlab.stats.tables import additive_residual, arm_table, paired_differences, with_factors
from kdlab.stats.verdicts import OUTCOMES, Verdict, as_table, decide, overall, paired

__all__ = [
    "DESIGNS", "OUTCOMES", "Contrast", "Finding", "Interval", "Verdict", "additive_residual", "arm_table", "as_table",
    "at_chance", "confidence_sequence", "decide", "health", "health_line", "holm", "image_error", "interval",
    "log_e_values", "overall", "paired", "paired_differences", "power_of", "sampling_noise", "seeds_needed",
    "sequence_critical",
    "sequential_p", "sign_flip_floor", "sign_flip_p", "smallest_detectable", "smallest_margin", "t_test_p", "tost",
    "tost_power", "with_factors",
]  # fmt: skip
