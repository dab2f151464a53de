"""Seconds without any training: the import, the command line's help, and figures of runs that are stored.

    python benchmarks/warm.py [--profile quick]

Each figure is the median over fresh processes. Figures are drawn from the store that ``$KDLAB_OUT`` names (else
``out/``), into a folder of their own; the perspectives' runs must be there (`make figures`).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdlab.paths import home

REPEATS = 7
IMPORT_BAR, FIGURES_BAR = 0.3, 60.0  # seconds


def seconds(command: list[str], repeats: int, **environment: str) -> tuple[float, str]:
    """Median seconds of a command in a fresh process, and what it printed last."""
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        took.append(time.perf_counter() - started)
    return statistics.median(took), done.stdout


def main() -> None:
    """Time an import, the help, and figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="quick")
    given = parser.parse_args()
    bare, _ = seconds([sys.executable, "-c", "pass"], REPEATS)
    loaded, _ = seconds([sys.executable, "-c", "import kdlab"], REPEATS)
    print(f"import kdlab      {loaded - bare:6.3f} s over Python's own {bare:.3f} s   bar: {IMPORT_BAR} s")
    kdlab = str(Path(sys.executable).parent / "kdlab")
    print(f"kdlab --help      {seconds([kdlab, '--help'], REPEATS)[0]:6.3f} s")
    with tempfile.TemporaryDirectory() as out:
        (Path(out) / "runs").symlink_to(home() / "runs")
        figures = [kdlab, "figures", "--profile", given.profile]
        planned = seconds([*figures, "--plan"], 1, KDLAB_OUT=out)[1]
        if planned.startswith("nothing"):
            took, _ = seconds(figures, 1, KDLAB_OUT=out)
            print(
                f"kdlab figures     {took:6.1f} s with every run of {given.profile} stored   bar: {FIGURES_BAR:.0f} s"
            )
        else:
            print(f"kdlab figures: not timed, since runs are missing from {home() / 'runs'}:\n{planned}")


if __name__ == "__main__":
    main()
