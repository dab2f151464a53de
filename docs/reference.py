"""The pages of the API reference, one for each folder of the package and one for what lies loose beside them.

They are lists of modules, from which sphinx takes the docstrings. Imports nothing of kdlab and nothing of sphinx.
"""

import ast
from pathlib import Path

# What a user calls first; the other folders follow by name, and the loose modules come last.
FIRST = ("losses", "augment", "models", "stats", "plotting", "data", "metrics", "training", "lab", "perspectives")
LOOSE = "kdlab"


def is_script(path: Path) -> bool:
    """Whether a file is there to be run rather than imported."""
    return path.name == "__main__.py" or '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")


def modules(package: Path) -> dict[str, list[str]]:
    """Folder of a package to the modules in it, the folder's own first; ``kdlab`` stands for no folder.

    Args:
        package: folder of the package.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py"), key=lambda path: (path.parent, path.name != "__init__.py", path.name)):
        if not is_script(path):
            parts = path.relative_to(package.parent).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            home = parts[1] if len(parts) > 2 else LOOSE
            found.setdefault(home, []).append(name)
    names = [*FIRST, *sorted(found.keys() - {*FIRST, LOOSE}), LOOSE]
    return {name: found[name] for name in names if name in found}


def first_line(package: Path, name: str) -> str:
    """The first line of a folder's docstring."""
    text = (package / name / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]


def heading(words: str, line: str) -> list[str]:
    """A heading in reStructuredText."""
    return [words, line * len(words), ""]


def page(folder: str, names: list[str]) -> str:
    """The page of a folder: its own text, then each module in it under a heading."""
    title = "Loose modules" if folder == LOOSE else f"kdlab.{folder}"
    lines = heading(title, "=")
    for name in names:
        own = name in (f"kdlab.{folder}", LOOSE)  # whose text introduces the page; others' members stand at their homes
        lines += [] if own else heading(name, "-")
        lines += [f".. automodule:: {name}", "   :members:", "   :ignore-module-all:", ""]
    return "\n".join(lines)


def index(package: Path, folders: list[str]) -> str:
    """The page that lists the others, with a line on each folder."""
    lines = [
        *heading("By folder", "="),
        "Every public class and function, from its docstring.",
        "",
    ]
    lines += [".. toctree::", "   :hidden:", "", *(f"   {folder}" for folder in folders), ""]
    for folder in folders:
        said = "What lies beside the folders." if folder == LOOSE else first_line(package, folder)
        lines += [f":doc:`{folder}`", f"   {said}", ""]
    return "\n".join(lines)


def write(package: Path, target: Path) -> None:
    """Write the pages to a folder, and leave alone those that already say the same.

    Args:
        package: folder of the package.
        target: folder of nothing but these pages; what has no module any more leaves it.
    """
    found = modules(package)
    pages = {folder: page(folder, names) for folder, names in found.items()}
    pages["index"] = index(package, list(found))
    target.mkdir(parents=True, exist_ok=True)
    for stale in {path.stem for path in target.glob("*.rst")} - pages.keys():
        (target / f"{stale}.rst").unlink()
    for name, text in pages.items():
        path = target / f"{name}.rst"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
