"""Do the verdicts survive a change of processor? The seeds of quick again, with the code paths of AVX2 forced.

    .venv/bin/python figures/cpus.py [--workers 2]

Other vector units add numbers in another order; after thousands of steps the weights of a run share nothing but their
distribution with those of the same spec elsewhere. A verdict should not care. This trains every run of quick anew with
the instructions limited to AVX2 (oneDNN, MKL and ATen), in a store of its own and without the ledger, and sets the
effects of all contrasts beside those of the runs that are published. It takes as long as `make figures` without a
ledger, and ends with ``cpus.csv``. Both sides have the same seeds and the same number of them, so that the only
difference is the arithmetic; what moves is what another set of seeds would move too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kdlab.paths import home, settle

LIMITED = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
APART = "avx2"  # folder below the usual one
SHOWN = ("effect", "low", "high", "outcome")


def drawn(place: Path, limits: Mapping[str, str], workers: int) -> Path:
    """Train what is missing of quick and draw it; the folder of its figures.

    Args:
        place: where everything goes.
        limits: of the instructions, environment variables.
        workers: processes.
    """
    own = {"KDLAB_OUT": str(place)} | dict(limits) | ({"KDLAB_LEDGER": str(place / "no-ledger")} if limits else {})
    command = [sys.executable, "-m", "kdlab.cli", "figures", "--profile", "quick", "--workers", str(workers)]
    subprocess.run(command, check=True, env=os.environ | own)
    return place / "quick" / "figures"


def documents(figures: Path) -> dict[str, dict[str, Any]]:
    """The verdict documents of a folder, by perspective."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(figures.glob("*.verdict.json"))]
    return {document["perspective"]: document for document in found}


def environments(figures: Path) -> str:
    """The environment digests of the runs behind the figures of a folder."""
    tables = [pd.read_csv(path, dtype=str) for path in sorted(figures.glob("*-contrasts.csv"))]
    return " ".join(sorted(set(pd.concat(tables)["environment"])))


def compared(first: Path, second: Path) -> pd.DataFrame:
    """One row per contrast: its effect, interval and outcome in two folders of figures, and by how much it moved.

    Args:
        first, second: folders with verdict documents of the same perspectives, contrasts and seeds.

    Returns:
        Columns ``perspective``, ``contrast``, ``role``; ``effect``, ``low``, ``high``, ``outcome`` of each, the second
        with ``_2``; ``moved`` (points); ``within``, whether each effect lies in the other's 95 % interval; ``seeds``;
        ``environment`` of each.
    """
    one, two = documents(first), documents(second)
    rows = []
    for name, document in one.items():
        other = {verdict["name"]: verdict for verdict in two[name]["verdicts"]}
        if document["seeds"] != two[name]["seeds"]:
            raise SystemExit(f"{name} has other seeds: {document['seeds']} against {two[name]['seeds']}")
        for verdict in document["verdicts"]:
            again = other[verdict["name"]]
            row = {"perspective": name, "contrast": verdict["name"], "role": verdict["role"]}
            row |= {key: verdict[key] for key in SHOWN} | {f"{key}_2": again[key] for key in SHOWN}
            row["moved"] = again["effect"] - verdict["effect"]
            row["within"] = again["low"] <= verdict["effect"] <= again["high"] and (
                verdict["low"] <= again["effect"] <= verdict["high"]
            )
            rows.append(row | {"seeds": len(document["seeds"])})
    return pd.DataFrame(rows).assign(environment=environments(first), environment_2=environments(second))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    workers = parser.parse_args().workers
    settle()
    table = compared(drawn(home(), {}, workers), drawn(home() / APART, LIMITED, workers))
    table.round(4).to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(table.to_string(index=False))
