"""The teaching notebooks: ten lessons and their solutions, committed with the outputs of a run.

What is committed is what a reader without Python sees: words, numbers and small pictures, no widgets. ``refresh`` makes
it, so that nobody saves a notebook by hand, and a lesson whose code fails can never replace one that works.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import PIL.Image
from nbformat import NotebookNode

from kdlab.errors import SpecError, choose
from kdlab.lab.store import Store
from kdlab.paths import CHECKOUT, home, write_file

if TYPE_CHECKING:
    from IPython.display import Image
    from matplotlib.figure import Figure

TEACHING = CHECKOUT / "notebooks" / "teaching"
LIMIT = 300_000  # bytes of a committed notebook
TIMEOUT = 600  # seconds a cell may take
KEPT = ("text/plain", "text/markdown", "text/html", "image/png")
WIDGET = "application/vnd.jupyter.widget-view+json"
DPI, COLOURS = 120, 256  # of pictures


def picture(figure: Figure, alt: str) -> Image:
    """A chart as the last line of a lesson's cell: large enough to project, small enough to commit.

    Args:
        figure: from ``plotting.figure``.
        alt: what a reader who cannot see it needs to know, in words that hold for any trained numbers.
    """
    from IPython.display import Image

    from kdlab.plotting import theme

    drawn, small = io.BytesIO(), io.BytesIO()
    with theme():
        figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    PIL.Image.open(drawn).convert("RGB").quantize(COLOURS).save(small, format="png", optimize=True)
    return Image(small.getvalue(), alt=alt)


def notebooks(folder: Path = TEACHING) -> list[Path]:
    """Lessons in the order of teaching, then solutions in the same order.

    Args:
        folder: where the lessons are; solutions are in ``solutions`` below it.
    """
    return [*sorted(folder.glob("*.ipynb")), *sorted((folder / "solutions").glob("*.ipynb"))]


def refresh(path: Path) -> NotebookNode:
    """Execute a notebook and keep it, in place, as it is committed.

    Where that trains something, the notebook says so as it goes along; it is then executed a second time, when
    everything comes from the store, and only that is kept. The file is replaced at the end and in one go.

    Args:
        path: the ``.ipynb``.

    Returns:
        What was written.

    Raises:
        SpecError: when a cell fails, writes to stderr or shows a widget, or when the result is too large. The file then
            stays as it was.
    """
    before = Store().keys()
    notebook = _executed(path)
    if Store().keys() != before:
        notebook = _executed(path)
    notebook = _clean(path.name, notebook)
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    if (size := len(text.encode())) > LIMIT:
        raise SpecError(f"{path.name} would have {size} bytes, but at most {LIMIT} are committed; show fewer pictures.")
    write_file(path, text)
    return notebook


def refresh_all(names: Iterable[str] = ()) -> None:
    """Refresh notebooks one after another and say how long each took.

    Args:
        names: stems, such as ``"02_temperature"``, which mean the lesson and its solutions; none means all.

    Raises:
        SpecError: for an unknown name, and as ``refresh`` does.
    """
    paths = notebooks()
    wanted = [choose("notebook", name, dict.fromkeys(p.stem for p in paths)) for name in names]
    for path in paths:
        if not wanted or path.stem in wanted:
            started = time.monotonic()
            refresh(path)
            seconds, size = time.monotonic() - started, path.stat().st_size
            print(f"{path.relative_to(TEACHING)}: {seconds:.0f} s, {size / 1000:.0f} kB", flush=True)


def _executed(path: Path) -> NotebookNode:
    """The notebook with the outputs of a fresh kernel, without controls, in the notebook's own folder."""
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # a stale kernel of the user's must not win over ours
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=TIMEOUT,
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=50"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    # Bit-identical numbers take one thread; a relative KDLAB_OUT would mean another folder in the kernel.
    fixed = {"KDLAB_INTERACTIVE": "0", "KDLAB_OUT": str(home()), "OMP_NUM_THREADS": "1"}
    try:
        client.execute(env=os.environ | fixed)
    except (CellControlSignal, DeadKernelError) as error:
        raise SpecError(f"{path.name}, {_failure(notebook) or str(error).strip().splitlines()[-1]}") from error
    return notebook


def _failure(notebook: NotebookNode) -> str:
    """The cell that raised and what it raised, in words; empty where the kernel itself gave up."""
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        for output in cell.outputs:
            if output.output_type == "error":
                return f"cell {cell.id!r}: {output.ename}: {output.evalue}"
    return ""


def _clean(name: str, notebook: NotebookNode) -> NotebookNode:
    """The notebook with nothing in it that belongs to this run or this machine."""
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [_output(f"{name}, cell {cell.id!r}", output) for output in cell.outputs]
    return notebook


def _output(where: str, output: NotebookNode) -> NotebookNode:
    """One output as it is committed.

    Raises:
        SpecError: for what a committed notebook must not show.
    """
    if output.output_type == "stream":
        if output.name != "stdout":
            raise SpecError(f"{where} wrote to {output.name}: {output.text.strip()[:200]}")
        output.text = _without_paths(output.text)
        return output
    if WIDGET in output.data:
        raise SpecError(f"{where} shows a widget, which needs a kernel; let it follow `interactive`.")
    kept = {kind: value for kind, value in output.data.items() if kind in KEPT}
    output.data = NotebookNode({k: v if k == "image/png" else _without_paths(v) for k, v in kept.items()})
    output.metadata = NotebookNode({k: v for k, v in output.metadata.items() if k in kept})
    return output


def _without_paths(text: str) -> str:
    """The text with this machine's folders under names that mean something elsewhere."""
    names = {str(home()): "out", str(CHECKOUT): "kdlab", sys.prefix: "python", str(Path.home()): "~"}
    for place, name in sorted(names.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(place, name)
    return text
