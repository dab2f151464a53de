"""How the regime of the quick profile was chosen: by rule, on val, before any distillation was looked at.

    .venv/bin/python figures/regime.py

Candidates: 2,000, 4,000 or 6,000 training images; student widths 4/8/16 or 8/16/32; teacher 16/32/64 or 32/64/128; one
block a stage, stride-2 stem. Quick's half hour, measured on two cores, buys about 500 steps of 64 originals, which
fixes the epochs E of each candidate. CE students are trained for E and for 2E epochs and teachers for E, at seeds 100
to 102, none of which is used elsewhere.

The rule: a candidate has converged when CE gains less than 0.5 points of val accuracy from E to 2E. Take the cheapest
converged one whose teacher leads CE by at least 4 points; if there is none, the largest lead among the converged; if
nothing has converged, the smallest gain from E to 2E among those with a lead of 4 points, or among all if none has
that lead, and say that quick trains short.

Only candidates that fit the half hour are eligible. A 32/64/128 teacher does not: a view through it costs three times
one through 16/32/64, a seed of quick asks for about thirty views of the whole training, and the half hour becomes
three quarters. The search was run three times, at 744, at 620 and at 496 steps, each time as quick had taken longer
than half an hour; the clause on eligibility was added after the second. No result of a distillation entered any of it.
"""

from pathlib import Path

import pandas as pd

from kdlab import lab
from kdlab.spec import Budget, RunSpec

STEPS, ORIGINALS, SEEDS = 496, 64, (100, 101, 102)


def candidates() -> pd.DataFrame:
    """All candidates with their epochs, cheapest first: at equal steps only the widths matter."""
    rows = [
        {"train": n, "student": f"resnet8_s2_w{s}", "teacher": f"resnet8_s2_w{t}", "epochs": STEPS // (n // ORIGINALS)}
        for s in (4, 8)
        for t in (16, 32)
        for n in (2000, 4000, 6000)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def spec(train: int, model: str, epochs: int, seed: int) -> RunSpec:
    """CE on weak views."""
    return RunSpec(sizes=(train, 1000, 5000), model=model, budget=Budget(epochs), seed=seed)


def choose(found: pd.DataFrame) -> tuple[int, str]:
    """The row that the rule picks, and by which of its clauses."""
    found = found[found["fits"]]
    converged, leading = found["gain"] < 0.5, found["lead"] >= 4
    if (converged & leading).any():
        return found[converged & leading].index[0], "cheapest converged with a lead of 4 points"
    if converged.any():
        return found[converged]["lead"].idxmax(), "largest lead among the converged"
    among = found[leading] if leading.any() else found
    lead = "those with a lead of 4 points" if leading.any() else "all, since none leads by 4 points"
    return among["gain"].idxmin(), f"nothing converged: smallest gain from E to 2E among {lead}"


def main() -> None:
    """Train, measure on val, choose, and write regime.csv beside this file."""
    rows = candidates()
    wanted = {}
    for c in rows.itertuples():
        for seed in SEEDS:
            wanted[c.train, c.student, 1, seed] = spec(c.train, c.student, c.epochs, seed)
            wanted[c.train, c.student, 2, seed] = spec(c.train, c.student, 2 * c.epochs, seed)
            wanted[c.train, c.teacher, 1, seed] = spec(c.train, c.teacher, c.epochs, seed)
    table = lab.run(list(wanted.values()))

    def val(train, model, times):
        keys = [lab.run_key(wanted[train, model, times, seed]) for seed in SEEDS]
        return table.loc[keys, "val_accuracy"].mean()

    rows["ce_E"] = [val(c.train, c.student, 1) for c in rows.itertuples()]
    rows["ce_2E"] = [val(c.train, c.student, 2) for c in rows.itertuples()]
    rows["teacher_E"] = [val(c.train, c.teacher, 1) for c in rows.itertuples()]
    rows["gain"], rows["lead"] = rows.ce_2E - rows.ce_E, rows.teacher_E - rows.ce_E
    rows["fits"] = rows["teacher"] == "resnet8_s2_w16"
    picked, why = choose(rows)
    rows["chosen"] = ["" if i != picked else why for i in rows.index]
    rows.round(2).to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(rows.round(2).to_string())


if __name__ == "__main__":
    main()
