"""Small documents beside the runs: each with its checksum and its own name, there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from kdlab import paths
from kdlab.errors import from_json, plain
from kdlab.lab import damage
from kdlab.lab.disk import OnDisk


class Beside(OnDisk):
    """The part of a store that keeps small documents, such as teachers' scores.

    Args:
        root: folder of the runs, absolute.
    """

    def _path(self, name: str) -> Path:
        folder, _, own = name.rpartition("/")
        if folder:  # a hidden one, as in ``.failed/KEY``
            plain(folder[1:] if folder.startswith(".") else name)
        return self.root / folder / f"{plain(own)}.json"

    def put(self, name: str, document: dict[str, Any]) -> None:
        """Keep a small document beside the runs: ``name.json`` with its checksum, there whole or not at all.

        Raises:
            SpecError: when the disk refuses.
        """
        path = self._path(name)
        content = {"sha256": _digest(document), "document": document, "name": name}
        with self.disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            with paths.replacing(path) as aside:
                paths.write_synced(aside, json.dumps(content, indent=1, sort_keys=True).encode())
                if path.is_dir():
                    damage.move(path, self.root)

    def get(self, name: str) -> dict[str, Any] | None:
        """The document kept under a name, or None; a damaged file is set aside, and said.

        One of an earlier kdlab, which did not say its name and so might be another's, counts as not there.
        """
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            if (content := _whole(path, name)) is not None:
                return content["document"] if "name" in content else None
            with contextlib.suppress(OSError):
                damage.say(f"{path} is damaged: it was moved to {damage.move(path, self.root)}, and is made again.")
        return None

    def whole(self, name: str) -> bool:
        """Whether the document kept under a name is what was written, or not there; nothing is moved."""
        with contextlib.suppress(FileNotFoundError):
            return _whole(self._path(name), name) is not None
        return True


def _whole(path: Path, name: str) -> dict[str, Any] | None:
    """A file with its checksum, or None where it does not hold what was written to it."""
    try:
        content = from_json(path.read_bytes())
        if content["sha256"] == _digest(content["document"]) and content.get("name", name) == name:
            return content
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
