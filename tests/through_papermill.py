"""Explorers and lessons once through papermill, without controls; `make test` runs it on the store of its notebooks.

Prints a line for each notebook, and ends with exit code 1 when a cell failed or a widget was left in an output.
"""

import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill

from kdlab import report
from kdlab.teaching import builder

WIDGET = "application/vnd.jupyter.widget-view+json"


def trouble(path: Path, folder: Path) -> str:
    """What went wrong with a notebook; empty when nothing did."""
    executed = folder / f"{path.parent.name}-{path.name}"
    given = {"interactive": False} if "interactive" in report.parameters(path) else {}
    try:
        papermill.execute_notebook(
            str(path), str(executed), parameters=given, kernel_name="python3", cwd=str(path.parent), progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=50"],
        )  # fmt: skip
    except Exception as error:  # whatever broke, the others are still run
        return str(error).strip().splitlines()[-1]
    outputs = [o for cell in nbformat.read(executed, 4).cells for o in cell.get("outputs", [])]
    return "a widget is left in its outputs" if any(WIDGET in o.get("data", {}) for o in outputs) else ""


def main() -> int:
    """Run them all."""
    notebooks = [builder.TEACHING.parent / "explore.ipynb", *builder.notebooks()]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in notebooks:
            started = time.monotonic()
            said = trouble(path, Path(folder))
            failed += bool(said)
            print(f"papermill {path.parent.name}/{path.name}: {said or 'done'}, {time.monotonic() - started:.0f} s")
    print(f"papermill: {len(notebooks) - failed} of {len(notebooks)} notebooks done")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
