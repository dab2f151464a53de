"""Changing a finished run on purpose, so that it still is what its checksums say."""

import json
from pathlib import Path

from kdlab.lab.finished import file_digest


def signed(folder: Path, **fields) -> None:
    """Write a run's done marker anew for the files that are in its folder and for its name."""
    path = folder / "done.json"
    done = json.loads(path.read_text()) | {"key": folder.name} | fields
    done["sha256"] = {file.name: file_digest(file) for file in sorted(folder.iterdir()) if file != path}
    path.write_text(json.dumps(done))
