"""The order of the house: what stands in one layer imports only from the layers before it, also inside functions."""

import ast
from pathlib import Path

import kdlab

HOUSE = Path(kdlab.__file__).parent
LAYERS = (
    ("errors", "memo", "paths", "rng"),
    ("data", "foreign", "settings"),
    ("registry", "spec"),
    ("augment", "metrics", "models"),
    ("losses",),
    ("training",),
    ("lab",),
    ("stats",),
    ("plotting",),
    ("perspectives",),
    ("report",),
    ("cli", "widgets"),
    ("teaching",),
)
RANK = {entry: rank for rank, layer in enumerate(LAYERS) for entry in layer}


def entry_of(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(node: ast.AST):
    """The entries under ``kdlab`` that a piece of source imports; what only a type checker reads does not count."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and child.module == "kdlab":
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and (child.module or "").startswith("kdlab."):
            yield child.module.split(".")[1]
        elif isinstance(child, ast.ImportFrom) and child.level:
            raise AssertionError(f"a relative import, line {child.lineno}")
        elif isinstance(child, ast.Import):
            yield from (alias.name.split(".")[1] for alias in child.names if alias.name.startswith("kdlab."))
        elif not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield from imports(child)


def arrows() -> dict[str, dict[str, str]]:
    """Entry to the entries that it imports, each with a file that does so; ``kdlab`` itself is the front door."""
    found = {entry: {} for entry in RANK}
    for path in sorted(HOUSE.rglob("*.py")):
        if path.parent != HOUSE or path.name != "__init__.py":
            entry = entry_of(path)
            for target in set(imports(ast.parse(path.read_text(encoding="utf-8")))) - {entry, "__version__"}:
                found[entry].setdefault(target, str(path.relative_to(HOUSE)))
    return found


def test_every_entry_has_its_layer():
    entries = {entry_of(path) for path in HOUSE.rglob("*.py")} - {"__init__"}
    loose = sorted(path.stem for path in HOUSE.glob("*.py") if path.stem != "__init__")
    print(f"{len(entries)} entries; loose: {', '.join(loose)}")
    assert entries == set(RANK) and len(entries) <= 22 and len(loose) <= 8


def test_no_import_runs_back_up():
    wrong = [(a, b, file) for a, targets in arrows().items() for b, file in targets.items() if RANK[b] >= RANK[a]]
    assert not wrong


def test_the_longest_chain_of_imports():
    found, longest = arrows(), {}
    for entry in sorted(RANK, key=RANK.get):  # no circle: the test above
        longest[entry] = max((longest[target] for target in found[entry]), key=len, default=[]) + [entry]
    chain = max(longest.values(), key=len)
    print(" <- ".join(chain))
    assert len(chain) <= 10
