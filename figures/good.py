"""Which half of the augmentations T.stddev calls good: from teachers of seeds that no perspective compares on.

    .venv/bin/python figures/good.py

Trains the teachers of three tuning seeds where they are not in the store, asks them about views of their training
images (``kdlab.lab.views``), and writes ``good.csv``: mean T.stddev by augmentation, smallest first. The first half of
its rows is ``kdlab.perspectives.good_augmentation.GOOD``, so that the contrast was fixed before any student was.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kdlab import lab, perspectives
from kdlab.lab import views
from kdlab.lab.store import Store
from kdlab.perspectives import good_augmentation, recipes, tuning


def main() -> None:
    """Train what is missing, write the table and print it."""
    size = perspectives.profile("standard")
    seeds = tuning.tuning_seeds(size, tuning.SEEDS)
    lab.run([recipes.teacher(size).at_seed(seed) for seed in seeds], from_ledger=False)
    rows = [
        {"augmentation": name, "seed": seed} | views.measured(spec.at_seed(seed), Store())
        for name, spec in good_augmentation.augmented(size).items() for seed in seeds
    ]  # fmt: skip
    table = pd.DataFrame(rows).groupby("augmentation").mean().drop(columns="seed").sort_values("t_stddev")
    table.to_csv(Path(__file__).with_name("good.csv"), float_format="%.6g")
    print(table.round(4).to_string())
    good = set(table.index[: len(table) // 2])
    print("the half that T.stddev calls good is that of the module:", good == set(good_augmentation.GOOD))


if __name__ == "__main__":
    main()
