"""A figure as four files, png, svg, csv and json, that are the same byte for byte when drawn again."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdlab import __version__
from kdlab.errors import DAMAGES, SpecError, damaged, from_json, plain
from kdlab.paths import absolute, open_file, write_file
from kdlab.plotting.look import theme


def save(
    figure: Figure, folder: str | Path, name: str, *, table: pd.DataFrame, caption: str, alt: str, meta: Mapping
) -> dict[str, Path]:
    """Write ``name.png`` (200 dpi), ``.svg``, ``.csv`` and ``.json``, each whole or not at all.

    The files hold no date, and the json holds every number of the table exactly: ``load`` brings the table back, and
    what is drawn from it has the same bytes.

    Args:
        figure: made by ``plotting.figure``.
        folder: created when missing.
        name: file name without suffix.
        table: every plotted number; a named index becomes a column.
        caption: data, teacher, student, formula, budget, seeds, interval, selection rule.
        alt: what a reader who cannot see the figure needs to know.
        meta: further facts, JSON-like.

    Returns:
        Suffix to path.

    Raises:
        SpecError: for a name that is a path.
    """
    if table.index.name is not None:
        table = table.reset_index()
    stem = absolute(folder) / plain(name)
    record = {
        "name": name, "caption": caption, "alt": alt, "kdlab": __version__, "meta": meta,
        "columns": {column: str(dtype) for column, dtype in table.dtypes.items()},
        "data": table.to_dict(orient="records"),
    }  # fmt: skip
    text = json.dumps(_plain(record), indent=1, ensure_ascii=False, allow_nan=False)
    files = {
        "png": _draw(figure, "png", {"Software": None, "Title": name, "Description": alt}),
        "svg": _draw(figure, "svg", {"Date": None, "Creator": None, "Title": name, "Description": alt}),
        "csv": table.to_csv(index=False, lineterminator="\n"),
        "json": text + "\n",
    }
    return {suffix: write_file(f"{stem}.{suffix}", content) for suffix, content in files.items()}


def load(path: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of a figure's json as it was saved, and the rest of the record.

    Raises:
        SpecError: for a file that is not there, or no record of a figure.
    """
    path = absolute(path)
    try:
        with open_file(path) as file:
            record = from_json(file.read())
        columns, rows = record.pop("columns"), record.pop("data")
        if not isinstance(columns, dict) or not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise TypeError("its columns and data are no table")
        table = pd.DataFrame(rows, columns=list(columns))
        # words are left to pandas, whose dtype for them differs between versions
        numeric = {c: kind for c, kind in columns.items() if pd.api.types.is_numeric_dtype(kind)}
        return table.astype(numeric), record
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror or error}.") from error
    except DAMAGES as error:
        raise damaged(path, error) from error


def _draw(figure: Figure, suffix: str, metadata: dict) -> bytes:
    """The figure in one format. Its layout is settled once, since settling it again may move it by a hair."""
    buffer = io.BytesIO()
    with theme():
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """JSON's own types; NaN becomes null and an infinity its name, which ``float`` reads back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
