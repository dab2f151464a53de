"""Which radius SAM takes: a quarter of the published one, that one, or four times it, by the rule of `kdlab tune`.

    .venv/bin/python figures/rho.py [--workers 2]

The students are those of two weak views under a weak teacher, at seeds that no perspective compares on, and the choice
is made on val. It ends with ``rho.csv``; the chosen radius stands in ``kdlab.perspectives.sharpness.RHO``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kdlab import lab, perspectives
from kdlab.perspectives import recipes, sharpness, tuning

PUBLISHED = 0.05  # Foret et al., ICLR 2021, for CIFAR


def main() -> None:
    """Train what is missing, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    size = perspectives.profile("standard")
    weak2 = recipes.weak2(recipes.kd(size))
    tried = [tuning.Candidate("kd", "rho", factor, factor * PUBLISHED) for factor in tuning.FACTORS]
    seeds = tuning.tuning_seeds(size, tuning.SEEDS)
    specs = [sharpness.sam(weak2, one.weight).at_seed(seed) for seed in seeds for one in tried]
    found = lab.run(specs, workers=asked.workers)
    table = tuning.scored(tried, seeds, found.loc[[lab.run_key(spec) for spec in specs]])
    table.to_csv(Path(__file__).with_name("rho.csv"), index=False)
    print(f"\n{tuning.show(table)}\n\n{tuning.RULE}")
    chosen = float(table.loc[table["chosen"], "weight"].iloc[0])
    print(f"chosen: {chosen:g}; kdlab.perspectives.sharpness.RHO is {sharpness.RHO:g}")


if __name__ == "__main__":
    main()
