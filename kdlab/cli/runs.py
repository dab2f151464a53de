"""``kdlab runs``: the finished runs as a table, and the ledger files in which they travel between machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from kdlab import paths
from kdlab.errors import check_integer

TABLE = "table"


class Runs(TyperGroup):
    """A group whose commands may be left out: filters and options alone mean the table."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [TABLE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Runs, help="The finished runs; `kdlab runs method=kd fraction=0.1` filters.", rich_markup_mode=None
)


@app.command(TABLE)
def table(
    where: Annotated[Optional[list[str]], typer.Argument(help="filters, column=value")] = None,  # noqa: UP045
    csv: Annotated[Optional[Path], typer.Option(help="write the table to this file")] = None,  # noqa: UP045
    limit: Annotated[int, typer.Option(help="rows to print")] = 40,
) -> None:
    """The finished runs of the store, and those that are rows of the ledger; the word `table` may be left out."""
    from kdlab import lab
    from kdlab.lab import query
    from kdlab.lab.unfinished import writing

    check_integer("--limit", limit, 1)
    found = query.select(lab.table(), where or [])
    if csv:
        csv = paths.absolute(csv)
        with writing(csv), paths.replacing(csv) as aside:
            found.to_csv(aside)
        print(f"{len(found)} runs written to {csv}")
        return
    print(query.show(found.head(limit)) if len(found) else "no finished run matches.")
    if len(found) > limit:
        print(f"... {len(found) - limit} more; --limit or --csv FILE shows them.")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="NAME.csv.xz; rows are added where it is there")],
    profile: Annotated[Optional[str], typer.Option(help="only the runs of this profile")] = None,  # noqa: UP045
    study: Annotated[Optional[list[str]], typer.Option(help="only of this perspective, may be repeated")] = None,  # noqa: UP045
    data: Annotated[Optional[str], typer.Option(help="the profile on these data")] = None,  # noqa: UP045
) -> None:
    """Write finished runs of the store as rows of a ledger file, to be merged elsewhere."""
    from kdlab.lab import merging

    print(merging.export(file, _keys(profile, study, data)))


def _keys(profile: str | None, names: Sequence[str] | None, data: str | None) -> list[str] | None:
    """The keys of a profile's studies and of their teachers; None for all runs."""
    if profile is None and not names and data is None:
        return None
    from kdlab import lab, perspectives
    from kdlab.lab.rows import keys_of

    studies = [perspectives.study(name, profile, data=data) for name in names or perspectives.NAMES]
    return keys_of([one for study in studies for spec in study.specs for one in lab.lineage(spec)])


@app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="ledger files, as `kdlab runs export` writes them")],
    into: Annotated[Optional[Path], typer.Option(help="one file for all; else those of the same names here")] = None,  # noqa: UP045
) -> None:
    """Add the rows of ledger files to the ledger here: all or, where one is wrong, none."""
    from kdlab.lab import merging

    print(merging.merge(files, into))


@app.command()
def verify() -> None:
    """Hold every file of store, kept images and ledger against its checksum; damaged runs are set aside."""
    from kdlab.lab import tidying

    lines, whole = tidying.verify()
    print("\n".join(lines))
    raise typer.Exit(0 if whole else 1)


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="remove it; without, it is only listed")] = False,
) -> None:
    """What nothing in the store refers to: set aside, half-written, left by processes that are gone."""
    from kdlab.lab import tidying

    print(tidying.collect(remove=yes))
