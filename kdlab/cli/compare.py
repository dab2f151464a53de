"""``kdlab compare``: what differs between two finished runs, and their paired test."""

from __future__ import annotations

import pandas as pd

from kdlab import lab, stats
from kdlab.errors import SpecError
from kdlab.lab import sources
from kdlab.lab.baseline import bar_of
from kdlab.lab.query import find_key
from kdlab.lab.right import right_in
from kdlab.lab.store import Store
from kdlab.spec import RunSpec


def compare(first: str, second: str) -> str:
    """The fields in which two runs differ, and their paired test over common seeds.

    Args:
        first: key, or its beginning.
        second: the run it is compared with.
    """
    store = Store()
    everything = lab.table(store=store)  # sets aside what cannot be read
    keys = [find_key(key) for key in (first, second)]
    found = {}
    for key in everything.index:
        try:
            row = sources.found(key, store)
            found[key] = RunSpec.from_dict((row.spec if row else store.read(key, "spec"))["spec"])
        except SpecError:  # of another version
            if key in keys:
                raise
    specs = [found[key] for key in keys]
    rows = []
    for arm, spec in zip(("first", "second"), specs, strict=True):
        same = [key for key, other in found.items() if other.at_seed(0) == spec.at_seed(0)]
        rows.append(everything.loc[same].assign(arm=arm))
    plain = [pd.json_normalize(spec.to_dict()).to_dict("records")[0] for spec in specs]  # names as "budget.amount"
    differing = [name for name in sorted({*plain[0], *plain[1]}) if plain[0].get(name) != plain[1].get(name)]
    lines = ["the specs differ in:", *(f"  {n}: {plain[0].get(n)} | {plain[1].get(n)}" for n in differing)]
    if len(common := {*rows[0].seed} & {*rows[1].seed}) < 2:
        return "\n".join([*lines, f"only {len(common)} common seed(s): no interval. `kdlab run --seeds N` adds some."])
    both = pd.concat(rows)
    verdict = stats.paired(both, "first", "second")
    findings = stats.health(both, [verdict.contrast], bar_of(keys[0], store), right_in(both, store))
    return "\n".join([*lines, stats.health_line(findings), verdict.reason])
