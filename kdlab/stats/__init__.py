"""From runs to verdicts: intervals and tests over seeds, and claims listed in advance that they decide."""

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
from kdlab.stats.tables import additive_residual, arm_table, paired_differences, with_factors
from kdlab.stats.verdicts import OUTCOMES, Contrast, Verdict, as_table, decide, overall, paired

__all__ = [
    "OUTCOMES", "Contrast", "Interval", "Verdict", "additive_residual", "arm_table", "as_table", "decide", "holm",
    "interval", "overall", "paired", "paired_differences", "power_of", "seeds_needed", "sign_flip_floor",
    "sign_flip_p", "smallest_detectable", "smallest_margin", "t_test_p", "tost", "tost_power", "with_factors",
]  # fmt: skip
