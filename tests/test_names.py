"""Keys, names and ids on their way into paths: none leads out of its folder, whichever function it is given to."""

import inspect
import json
import os
import sys

import matplotlib.figure
import pandas as pd
import pytest
from test_visitors import WATCHED, watched

from kdlab import data, errors, perspectives, plotting, registry
from kdlab.cli import bench
from kdlab.errors import SpecError
from kdlab.lab import export, query, right, sources, travel
from kdlab.lab.finished import NEEDED
from kdlab.lab.store import Store
from kdlab.perspectives import PROFILES, places
from kdlab.report import documents, notebooks
from kdlab.widgets.results import table

HOSTILE = ("../outside", "..", ".", "", "ab/../../outside", "ab/cd", ".leases", "../runs/.leases", "ab\0", "a\\..\\b")
OTHERS = {"name": "spec", "documents": {}, "tensors": {}, "contents": {}, "document": {}, "plain": {}}
KEYED = [
    name for name, one in inspect.getmembers(Store, inspect.isfunction)
    if {"key", "keys", "runs"} & set(inspect.signature(one).parameters) and not name.startswith("__")
]  # fmt: skip
NAMED = ["put", "get", "whole"]  # of documents beside the runs


@pytest.fixture
def store(tmp_path):
    """A store, and beside it what would be found by whoever left it: a run, a lease, a checkpoint and a document."""
    found, outside = Store(tmp_path / "runs"), tmp_path / "outside"
    for folder in (found.root, found.root / ".leases", found.root / ".checkpoints", outside):
        folder.mkdir(parents=True)
    for name in ("done.json", *(f"{name}.json" for name in NEEDED)):
        (outside / name).write_text(json.dumps({"key": "../outside", "sha256": {}}))
    (tmp_path / "outside.safetensors").write_bytes(b"precious")
    (tmp_path / "outside.json").write_text("{}")
    return found


def files(folder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def strayed(folder, inside) -> list[str]:
    """What was opened, listed or made in a folder, but not in one below it."""
    found = []
    for line in WATCHED:
        path = line.partition(" ")[2].strip("(").partition(",")[0].strip("'\"")
        there = os.path.normpath(path)
        if there.startswith(str(folder)) and not there.startswith(str(inside)):
            found.append(line)
    return found


def test_the_list_of_methods_is_whole():
    assert {"claim", "release", "heartbeats", "read", "write", "place", "load_checkpoint", "_lease_path"} <= {*KEYED}
    assert len(KEYED) > 20


@pytest.mark.parametrize("method", [*KEYED, *NAMED])
def test_no_method_of_a_store_follows_a_key_out_of_it(store, tmp_path, method):
    before = files(tmp_path)
    for key in HOSTILE:
        given = {"key": key, "keys": [key], "runs": {key: {}}, "name": key if method in NAMED else "spec", "file": "x"}
        function = getattr(store, method)
        wanted = inspect.signature(function).parameters.values()
        arguments = {p.name: given.get(p.name, OTHERS.get(p.name, {})) for p in wanted if p.default is p.empty}
        arguments = {name: value for name, value in arguments.items() if name != "progress"}
        with watched():
            try:
                answer = function(**arguments)
            except SpecError as error:
                assert "must be plain" in str(error)
            else:
                assert not answer, f"{method}({key!r})"
        assert strayed(tmp_path, store.root) == [] and files(tmp_path) == before, f"{method}({key!r})"


def figure(name, folder):
    return plotting.save(
        matplotlib.figure.Figure(), folder, name, table=pd.DataFrame(), caption="", alt="", meta={}
    )  # fmt: skip


def verdict(name, folder):
    study = dict.fromkeys(documents.STUDY, "x") | {"verdicts": [], "figures": [name]}
    (folder / "x.verdict.json").write_text(json.dumps(study))
    return documents.verdicts(folder / "x.verdict.json")


def parcel(name, folder):
    done = json.dumps({"key": "ab", "sha256": {name: ""}}).encode()
    travel.unpack(travel.Parcel({"ab": {"done.json": done, name: b""}}), Store(folder))


def sent(key, folder):
    travel.unpack(travel.Parcel(checkpoints={key: b"x"}), Store(folder))


TAKES_A_NAME = {
    "a figure": figure,
    "a figure of a verdict": verdict,
    "a file that was sent": parcel,
    "a checkpoint that was sent": sent,
    "a file of a table": lambda name, folder: table.export(pd.DataFrame(), name),
    "a profile's folder": lambda name, folder: places.folder(PROFILES["smoke"].replace(name=name)),
    "a notebook": lambda name, folder: notebooks.run_notebook(name, "smoke", folder, notebooks=folder),
    "a perspective": lambda name, folder: perspectives.study(name, "smoke"),
    "a profile": lambda name, folder: perspectives.profile(name or "none"),
    "a benchmark": lambda name, folder: bench.bench([name]),
    "a data set": lambda name, folder: data.load(name),
    "an export": lambda name, folder: export.export(name or "none", folder),
    "a key's beginning": lambda name, folder: query.find_key(name or "none"),
    **{f"a part of {kind}": lambda name, folder, kind=kind: registry.find(kind, name)
       for kind in ("augment", "models", "losses")},
}  # fmt: skip


@pytest.mark.parametrize("what", TAKES_A_NAME)
def test_no_name_leads_out_of_its_folder(tmp_path, monkeypatch, what):
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "folder" / "out"))
    (tmp_path / "outside.ipynb").write_text("{}")
    for name in HOSTILE:
        modules = {*sys.modules}
        with pytest.raises(SpecError), watched():
            TAKES_A_NAME[what](name, tmp_path / "folder")
        assert strayed(tmp_path, tmp_path / "folder") == [], f"{what} {name!r}"
        assert not [module for module in {*sys.modules} - modules if "outside" in module]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "outside.ipynb"], f"{what} {name!r}"


def test_what_is_no_key_has_no_run(store, tmp_path):
    for key in HOSTILE:
        with watched():
            assert right.right_of(key, store) is None
            with pytest.raises(SpecError):
                sources.found(key, store)
        assert strayed(tmp_path, store.root) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_plain_names_alone_pass(name):
    assert not errors.is_plain(name) and errors.plain("ab12-c_d.e") == "ab12-c_d.e"
    with pytest.raises(SpecError, match="must be plain"):
        errors.plain(name)
