"""One figure of all claims of a published set: what was found, at a glance."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kdlab import plotting
from kdlab.report.documents import load_verdicts

NAME = "overview"
EXPECTED = {"no_gain": " (no gain)", "equivalent": " (equal)"}
COLUMNS = ("effect", "low", "high", "margin", "outcome", "unit", "p_holm", "p_equivalence_holm")


def drawn(figures: Path) -> bool:
    """Whether a folder of figures has its overview."""
    return (figures / f"{NAME}.json").is_file()


def draw_overview(figures: Path) -> Path | None:
    """Draw the claims of all studies in a folder of figures: ``overview.png``, ``.svg``, ``.csv`` and ``.json`` in it.

    Args:
        figures: with the verdict documents.

    Returns:
        The png; None, and nothing is written, where no study has claims.

    Raises:
        SpecError: for a damaged document.
    """
    studies = [study for study in load_verdicts(figures) if not study["folder"]]
    rows = [
        {"study": study["title"], "name": v["name"] + EXPECTED.get(v.get("expects", ""), "")}
        | {name: v.get(name) for name in COLUMNS}
        for study in studies for v in study["verdicts"] if v["role"] == "claim"
    ]  # fmt: skip
    if not rows:
        return None
    table = pd.DataFrame(rows)
    numbers = ["effect", "low", "high", "margin"]
    table[numbers] = table[numbers].astype(float)  # None where nothing bounds an effect yet
    seeds = sorted({len(study["seeds"]) for study in studies if "seeds" in study})
    many = " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]]))) if seeds else "several"
    counts = table["outcome"].value_counts()
    told = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    title, profile = studies[0]["data_title"], studies[0]["profile"]
    caption = (
        f"All {len(table)} claims on {title} (profile {profile}, {many} seeds): "
        f"{told}. Points are means over seeds, bars 95 % intervals, effects are paired by seed; bands are the margins "
        "within which an effect is negligible. Outcomes have Holm's correction within each notebook. Arrows lead "
        "beyond the axis; in brackets what the claim expects, where it is no gain."
    )
    alt = f"All {len(table)} claims with their effects and 95 % intervals: {told}."
    with plotting.theme():
        figure = plotting.claims(table)
    meta = {"figure": NAME, "profile": profile, "data": studies[0]["data"]}
    return plotting.save(figure, figures, NAME, table=table, caption=caption, alt=alt, meta=meta)["png"]
