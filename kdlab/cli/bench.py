"""Run the benchmark scripts of a checkout, one after another, each in a process of its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence

from kdlab.errors import SpecError, choose
from kdlab.paths import CHECKOUT

FOLDER = CHECKOUT / "benchmarks"
SHARED = ("arms", "images", "on_device", "paired", "pillow_jda")  # what scripts import; they measure nothing themselves


def scripts() -> dict[str, str]:
    """Name and first sentence of each script.

    Raises:
        SpecError: outside a checkout.
    """
    found = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if path.stem not in SHARED}
    if not found:
        raise SpecError(f"the benchmarks are part of a checkout, but {FOLDER} has none.")
    return {name: ast.get_docstring(ast.parse(path.read_text())).partition("\n")[0] for name, path in found.items()}


def bench(names: Sequence[str], listed: bool = False) -> bool:
    """Run scripts.

    Args:
        names: which; none means all.
        listed: print what there is, and run nothing.

    Returns:
        True when all ended well.
    """
    known = scripts()
    if listed:
        print("\n".join(f"{name:10s} {says}" for name, says in known.items()))
        return True
    names = [choose("benchmark", name, known) for name in names] or list(known)
    failed = []
    for name in names:
        print(f"\n== {name}: {known[name]}", flush=True)
        done = subprocess.run([sys.executable, str(FOLDER / f"{name}.py")])
        failed += [name] if done.returncode else []
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return not failed
