"""What is no file, or is nested deeper than anybody writes, is refused in one sentence wherever a file is named."""

import os

import pytest

from kdlab import perspectives
from kdlab.cli import main
from kdlab.errors import DEEPEST, SpecError, from_json
from kdlab.lab import merging
from kdlab.paths import open_file


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nowhere"])
def test_what_is_no_ledger_file_is_refused_by_its_name(tmp_path, kind):
    odd = tmp_path / "odd.csv.xz"
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero"), "nowhere": str}[kind](
        odd
    )
    with pytest.raises(SpecError, match="odd.csv.xz.* cannot be read"):
        merging.merge([odd], tmp_path / "into.csv.xz")
    assert not (tmp_path / "into.csv.xz").exists()


def test_a_pipe_is_refused_as_the_ledger_to_merge_into_and_as_a_figure(tmp_path, monkeypatch, capsys):
    for name in ("pipe.csv.xz", "x-y.json"):
        os.mkfifo(tmp_path / name)
    monkeypatch.setattr("sys.argv", ["kdlab", "runs", "merge", str(tmp_path / "pipe.csv.xz")])
    with pytest.raises(SystemExit):
        main()
    assert "it is no file" in capsys.readouterr().err
    with pytest.raises(SpecError, match="it is no file"):
        perspectives.redraw(tmp_path / "x-y.json")
    with pytest.raises(OSError, match="no file"):
        open_file("/dev/null")


@pytest.mark.parametrize("depth", [DEEPEST + 1, 500, 100_000])
def test_json_is_read_to_a_depth_that_everything_after_it_can_go(depth):
    assert from_json("[" * DEEPEST + "]" * DEEPEST)
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "0" + "}" * depth):
        with pytest.raises(ValueError, match=f"deeper than {DEEPEST} levels"):
            from_json(text)
