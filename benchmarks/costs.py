"""What a thousand runs cost, by the rates that the finished runs of the ledger have measured; nothing is trained.

    python benchmarks/costs.py

Prints tables in Markdown. Steps are the median of what runs of that kind took for their own steps, on one core, as the
ledger has it of the environment with the most rows. What a cohort shares is not in that, and is counted here as if each
run were alone: the views, as many pairs a second as ``benchmarks/README.md`` says of ``augment.py``; the teacher's
passes over the images that it was asked about and the evaluations, at the images a second of ``FORWARD``. A cohort
makes it less, which ``benchmarks/cohort.py`` measures.
"""

import re
import statistics
from collections.abc import Iterable
from pathlib import Path

from kdlab.lab import ledger
from kdlab.lab.ledger import Row
from kdlab.lab.sources import counts, usual
from kdlab.spec import CURVE_POINTS

RUNS, HOUR = 1000, 3600
# Images of 28 x 28 a second through a frozen network, measured on one core with AVX-512.
FORWARD = {"resnet8_s2_w4": 50000, "resnet8_s2_w8": 35000, "resnet8_s2_w16": 17000, "resnet8_s2_w32": 5200,
           "resnet8_s2_w64": 1500}  # fmt: skip
HEAD = ["kind", "network", "images in steps", "runs", "steps", "views", "teacher", "evaluation", "core hours"]


def kind(spec: dict) -> str:
    """What a run is, as a row of the table names it."""
    if spec["role"] == "teacher":
        return "teacher"
    plain = {"ce": "student by labels alone", "kd": "student by KD"}
    return plain.get(spec["method"], "student by another method")


def core_hours(row: Row, pairs: float) -> tuple[float, ...]:
    """Hours of one core for a thousand such runs: own steps, views, teacher's passes, evaluations.

    Args:
        row: of the ledger.
        pairs: of augmented views that a core makes in a second.
    """
    spec, numbers = row.spec["spec"], row.result
    made = numbers["student_images"] / 2 / pairs
    asked = numbers["teacher_forwards"] / FORWARD[spec["teacher"]["model"]] if spec["teacher"] else 0.0
    looked = (CURVE_POINTS * spec["sizes"][1] + spec["sizes"][2]) / FORWARD[spec["model"]]
    return tuple(RUNS * seconds / HOUR for seconds in (numbers["seconds"], made, asked, looked))


def table(rows: Iterable[Row], readme: str) -> list[list[str]]:
    """A line for each kind of run, network and length: medians over its runs, in hours of one core.

    Args:
        rows: of the ledger; networks whose speed is not known are passed over.
        readme: text of ``benchmarks/README.md``.
    """
    pairs = float(re.search(r"kdlab makes ([\d,]+) to [\d,]+ pairs a second", readme)[1].replace(",", ""))
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        spec = row.spec["spec"]
        networks = {spec["model"], *([spec["teacher"]["model"]] if spec["teacher"] else [])}
        if networks <= FORWARD.keys() and not row.result["diverged"]:
            images = round(float(f"{row.result['student_images']:.2g}"))
            groups.setdefault((kind(spec), spec["model"], images), []).append(row)
    lines = []
    for (what, network, images), members in sorted(groups.items()):
        parts = [statistics.median(column) for column in zip(*(core_hours(row, pairs) for row in members), strict=True)]
        hours = [f"{value:.1f}" for value in (*parts, sum(parts))]
        lines.append([what, f"`{network}`", f"{images:,}", f"{len(members)}", *hours])
    return lines


def efficiency(readme: str) -> float:
    """How well two processes share two cores, as ``benchmarks/README.md`` says of ``sweep.py``."""
    return float(re.search(r"with two: ([\d.]+) x", readme)[1]) / 2


def places(common: list[str], readme: str) -> list[list[str]]:
    """A line for each place to train in: the hours of a thousand runs there, as far as they were measured.

    Args:
        common: a line of ``table``.
        readme: text of ``benchmarks/README.md``.
    """
    share, hours = efficiency(readme), float(common[-1])
    line = next(line for line in readme.splitlines() if "benchmarks/cluster.py" in line)
    unknown = "not measured" if "not measured" in line else "see `benchmarks/README.md`"
    shared = f"as if they shared as evenly as two did ({100 * share:.0f} %)"
    lines = [["one core", f"{hours:.1f}", "the table above"]]
    lines += [[f"{cores} cores of one machine", f"{hours / cores / share:.1f}", shared] for cores in (2, 4, 16)]
    lines += [[f"{cores} workers of a core, by Dask or SLURM", f"{hours / cores:.1f}",
               f"as if it cost nothing; what it costs: {unknown}"] for cores in (64, 256)]  # fmt: skip
    runs, seconds = map(int, re.search(r"(\d+) runs [^|]* were finished by \d+ processes in (\d+) s", readme).groups())
    card = f"{RUNS / runs * seconds / HOUR:.2f}", f"an H200 with 16 cores: {runs} runs in {seconds} s, start included"
    return [*lines, ["one GPU", *card], ["several GPUs", "not measured", ""]]


def markdown() -> str:
    """Both tables."""
    known = ledger.by_key()
    many = counts(known)
    most = usual(many, many) if many else ""
    rows = [there[most] for there in known.values() if most in there]  # a GPU's seconds are no core's
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    lines = table(rows, readme)
    if not lines:
        return "The ledger has no runs.\n"
    common = max(lines, key=lambda line: int(line[3]))
    told = f"A thousand of the commonest of these ({common[0]}, {common[2]} images in steps) take:"
    where = _shown(["where", "hours", "how it is known"], places(common, readme))
    return f"{_shown(HEAD, lines)}\n\n{told}\n\n{where}\n"


def _shown(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


if __name__ == "__main__":
    print(markdown(), end="")
