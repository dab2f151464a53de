"""The recipes of CONTRIBUTING.md, pasted from its text into a copy of the checkout: touched files, green tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
TEXT = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TOUCHED = {
    "A loss": {"kdlab/losses/logit_matching.py", "tests/test_losses_logit_matching.py"},
    "An augmentation": {"kdlab/augment/band.py", "tests/test_augment_band.py"},
    "A perspective": {
        "kdlab/perspectives/hidden_squares.py", "tests/test_hidden_squares.py",
        "notebooks/perspectives/hidden_squares.ipynb",
    },
}  # fmt: skip
BY_MACHINE = {"tests/golden.json", "docs/methods.md", "docs/augmentations.md", "notebooks/start.ipynb"}
# Tests that loop over what is registered, and of the tables and lists made of it.
LOOPING = (
    "test_augment.py", "test_augment_calls.py", "test_cli.py", "test_layers.py", "test_losses.py", "test_notebooks.py",
    "test_losses_logits1.py", "test_report.py", "test_streams.py", "test_tuning.py", "test_views.py",
)  # fmt: skip
CONCERNED = "logit_matching or band or hidden_squares or Hidden or catalogue or listed or drift or readme or layer"


def recipe(title: str) -> dict[str, str]:
    """The files of a recipe: path to content."""
    section = TEXT.split(f"### {title}\n")[1].split("\n### ")[0]
    return dict(re.findall(r"`([\w./]+\.py)`[^`]*?:\n\n```python\n(.*?)```", section, re.S))


def run(folder: Path, *command: str) -> str:
    """Run a command in the copy, on the copy's package."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def touched(folder: Path) -> set[str]:
    """The files that differ from what was committed, the new ones too."""
    return {line[3:] for line in run(folder, "git", "status", "--porcelain", "-uall").splitlines()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The checkout, committed in a repository of its own."""
    folder = tmp_path_factory.mktemp("copy") / "kdlab"
    leave = shutil.ignore_patterns(".git", ".venv", "out", "__pycache__", "*.egg-info", "screenshots")
    shutil.copytree(CHECKOUT, folder, ignore=leave)
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=before")
    return folder


def test_recipes_touch_what_they_say_and_everything_is_green(copy):
    expected = set()
    for title, files in TOUCHED.items():
        for path, content in recipe(title).items():
            (copy / path).write_text(content, encoding="utf-8")
        if (copy / "new_notebook.py").exists():
            run(copy, sys.executable, "new_notebook.py")
            (copy / "new_notebook.py").unlink()
        expected |= files
        assert touched(copy) == expected
    ready = [f"--old-file=.venv/{name}" for name in (".ready", ".ready-test")]
    run(copy, "make", f"BIN={Path(sys.executable).parent}", *ready, "golden", "readme")
    assert touched(copy) == expected | BY_MACHINE
    run(copy, sys.executable, "-m", "ruff", "check", ".")
    run(copy, sys.executable, "-m", "ruff", "format", "--check", ".")
    files = [f"tests/{name}" for name in LOOPING] + sorted(file for file in expected if file.startswith("tests/test_"))
    run(copy, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files, "-k", CONCERNED)
    assert touched(copy) == expected | BY_MACHINE
