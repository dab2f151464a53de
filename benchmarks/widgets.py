"""How fast the explorers follow a slider: seconds from a changed setting to a new picture, in one process.

    python benchmarks/widgets.py

Prints the median over 15 changes for each explorer, and its ratio to the 150 ms within which a slider feels immediate.
The networks are the smoke profile's; their forward pass on 16 images is a small part of the time.
"""

import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from kdlab import widgets

BAR = 0.150  # seconds
REPEATS = 15


def main() -> None:
    """Time each explorer."""
    trained = widgets.trained_pair("smoke", progress=False)
    browser = widgets.ResultsBrowser()
    arms = list(browser.selection().arms)[:2]  # the trained teacher and student, at least
    cases = {
        "augmentation, strength": (
            widgets.AugmentationExplorer(trained),
            "probability",
            [k / 20 for k in range(1, 16)],
        ),
        "augmentation, reroll": (widgets.AugmentationExplorer(trained), "draw", range(1, 16)),
        "temperature": (widgets.TemperatureExplorer(trained), "temperature", [1 + k / 2 for k in range(15)]),
        "temperature, image": (widgets.TemperatureExplorer(trained), "image", range(1, 16)),
        "ccd, pair": (widgets.ConfidenceExplorer(trained), "place", range(1, 90, 6)),
        "ccd, reroll 200 pairs": (widgets.ConfidenceExplorer(trained), "draw", range(1, 16)),
        "budget, metric": (widgets.BudgetExplorer(), "metric", ["val_accuracy", "test_accuracy"] * 8),
        "results, arm B": (browser, "arm_b", arms * 8),
        "trainer, seed": (widgets.LiveTrainer(profile="smoke"), "seed", range(1, 16)),
        "own images, seeds": (widgets.OwnImages(folder=widgets.OwnImages.example()), "seeds", range(3, 18)),
    }
    print(f"{'explorer':26s} {'median':>8s} {'slowest':>8s}   of {BAR * 1000:.0f} ms")
    for name, (explorer, setting, values) in cases.items():
        explorer.widget()
        times = []
        for value in list(values)[:REPEATS]:
            started = time.perf_counter()
            explorer.set(**{setting: value})
            times.append(time.perf_counter() - started)
            assert explorer.failure is None, explorer.failure
        median = statistics.median(times)
        print(f"{name:26s} {1000 * median:5.0f} ms {1000 * max(times):5.0f} ms   {median / BAR:.2f}")


if __name__ == "__main__":
    main()
