"""The json documents of a set of figures: the verdicts of each study, and the record of each figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdlab.errors import SpecError, damaged, from_json, is_plain
from kdlab.paths import open_file
from kdlab.perspectives import NAMES
from kdlab.perspectives.places import data_title

FIRST = "fashion"  # what studies of before there were two data sets are about
NUMBER = (int, float, type(None))
STUDY = {
    "perspective": str, "profile": str, "title": str, "question": str, "claim": str, "overall": str, "verdicts": list,
    "figures": list,
}  # fmt: skip
MAYBE = {"data": str, "data_title": str, "health": list, "seeds": list, "design": str}  # what older ones lack
VERDICT = {"name": str, "role": str, "unit": str, "n": int, "outcome": str, "reason": str} | dict.fromkeys(
    ("effect", "low", "high"), NUMBER
)
HEALTH = {"word": str, "sentence": str, "remedy": str}
FIGURE = {"caption": str, "alt": str}


def load_verdicts(figures: Path) -> list[dict[str, Any]]:
    """The ``*.verdict.json`` of a figures folder and of the data sets in folders below it.

    Returns:
        Studies in the order of the perspectives, of each the folder's own first; ``folder`` is where one lies, empty
        for the folder itself, and ``data`` and ``data_title`` name its data set.

    Raises:
        SpecError: naming a document that is damaged or was made by another version, and what is wrong with it.
    """
    order = {name: position for position, name in enumerate(NAMES)}
    studies = []
    for path in [*sorted(figures.glob("*.verdict.json")), *sorted(figures.glob("*/*.verdict.json"))]:
        place = "" if path.parent == figures else path.parent.name
        studies.append({"data": FIRST, "data_title": data_title(FIRST)} | verdicts(path) | {"folder": place})
    return sorted(studies, key=lambda study: order.get(study["perspective"], len(order)))


def data_sets(studies: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The data sets of some studies, name to title: first that of the folder itself."""
    return {s["data"]: s["data_title"] for s in sorted(studies, key=lambda s: s["folder"])}


def by_perspective(studies: Iterable[dict[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """Of each perspective its studies, by data set."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for study in studies:
        groups.setdefault(study["perspective"], {})[study["data"]] = study
    return list(groups.values())


def verdicts(path: Path) -> dict[str, Any]:
    """A study's verdict document.

    Raises:
        SpecError: naming the document and what is wrong with it.
    """
    study = _object(path, STUDY)
    _fields(path, study, {name: kind for name, kind in MAYBE.items() if name in study})
    for verdict in study["verdicts"]:
        _fields(path, verdict, VERDICT, "a verdict")
        _fields(path, verdict, dict.fromkeys({"finding", "stability"} & verdict.keys(), str), "a verdict")
    for finding in study.get("health", ()):
        _fields(path, finding, HEALTH, "a finding on health")
    if odd := [name for name in study["figures"] if not isinstance(name, str) or not is_plain(name)]:
        raise damaged(path, f"{odd[0]!r} cannot be the name of a figure")
    if not is_plain(study["perspective"]):
        raise damaged(path, f"{study['perspective']!r} cannot be the name of a perspective")
    return study


def record(path: Path) -> dict[str, Any]:
    """A figure's record, for its caption.

    Raises:
        SpecError: naming the record and what is wrong with it.
    """
    found = _object(path, FIGURE)
    _fields(path, found, {"meta": dict} if "meta" in found else {})
    return found


def _object(path: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with open_file(path) as file:
            found = from_json(file.read())
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise damaged(path, f"it is no json ({error})") from error
    _fields(path, found, kinds)
    return found


def _fields(path: Path, found: Any, kinds: Mapping[str, Any], what: str = "it") -> None:
    if not isinstance(found, dict):
        raise damaged(path, f"{what} is no object")
    for name, kind in kinds.items():
        if name not in found:
            raise damaged(path, f"{what} lacks {name!r}")
        if not isinstance(found[name], kind):
            raise damaged(path, f"{what} has {name} = {found[name]!r}")
