"""The files that set kdlab up agree with each other, and the Makefile says clearly what is missing."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml  # comes with papermill
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from kdlab.paths import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["docs"], *EXTRAS["cluster"]]
REQUIREMENTS.remove("kdlab[cluster]")  # what the tests need of our own
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "lazy-loader": "lazy_loader"}
NOT_ON_CONDA = ("torchdistill", "playwright")  # under these names
PINNED = (CHECKOUT / "constraints.txt").read_text()
PYTHONS = ("3.11", "3.12", "3.13")


def pins(python: str) -> dict[str, str]:
    """Name to pinned version in constraints.txt, on Linux with one Python."""
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "os_name": "posix",
    }
    lines = map(Requirement, (CHECKOUT / "constraints.txt").read_text().splitlines())
    meant = [line for line in lines if line.marker is None or line.marker.evaluate(environment)]
    return {line.name: str(line.specifier).removeprefix("==") for line in meant}


def test_conda_asks_for_the_same_as_pip():
    environment = yaml.safe_load((CHECKOUT / "environment.yml").read_text())
    asked = [line for line in environment["dependencies"] if isinstance(line, str) and line != "pip"]
    conda = {name: SpecifierSet(bounds) for name, bounds in (line.split(" ", 1) for line in asked)}
    ours = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in map(Requirement, REQUIREMENTS)}
    by_pip = {name: ours.pop(name) for name in NOT_ON_CONDA}
    assert conda == ours | {"python": SpecifierSet(PROJECT["requires-python"])}
    assert environment["dependencies"][-1] == {"pip": [*(f"{n}{bounds}" for n, bounds in by_pip.items()), "-e ."]}


@pytest.mark.parametrize(
    ("says", "ends", "code", "said"),
    [
        ("No module named pip_audit", 1, 0, "not audited: pip-audit is not installed"),
        ("No known vulnerabilities found", 0, 0, "No known vulnerabilities found"),
        (
            "No known vulnerabilities found\nx could not be audited: x\ny could not be audited: y",
            0,
            0,
            "2 packages are not in",
        ),
        ("Name Version\nFound 2 known vulnerabilities in 1 package", 1, 2, "Found 2 known vulnerabilities"),
        ("ERROR: x\nConnectionError: no route", 1, 0, "not audited: ConnectionError: no route"),
    ],
)
def test_lint_asks_for_known_weaknesses_where_it_can(tmp_path, says, ends, code, said):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/asked"\nprintf "{says}\\n" >&2\nexit {ends}\n')
    python.chmod(0o755)
    answer = make("audit", f"BIN={tmp_path}")
    assert answer.returncode == code and said in answer.stdout
    assert (tmp_path / "asked").read_text().startswith("-m pip_audit --local")
    assert code or len(answer.stdout.splitlines()) == 1
    rule = re.search(r"^lint:.*?\n\n", (CHECKOUT / "Makefile").read_text(), re.M | re.S).group()
    assert "audit" in rule and "pip-audit" not in PINNED, "it is no requirement"


def test_binder_installs_the_same_and_then_the_package():
    ours, theirs = (yaml.safe_load((CHECKOUT / f / "environment.yml").read_text()) for f in (".", ".binder"))
    ours["dependencies"][-1]["pip"].remove("-e .")  # which would be read from .binder/
    assert theirs == ours and not (CHECKOUT / ".binder" / "environment.yml").is_symlink()
    after = CHECKOUT / ".binder" / "postBuild"
    assert "pip install --no-deps -e .\n" in after.read_text() and os.access(after, os.X_OK)


def test_conda_channels_need_no_licence():
    environment = yaml.safe_load((CHECKOUT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_satisfy_the_bounds(python):
    pinned = pins(python)
    for requirement in map(Requirement, REQUIREMENTS):
        assert pinned[requirement.name] in requirement.specifier, requirement


def test_supported_pythons():
    bounds = SpecifierSet(PROJECT["requires-python"])
    assert [v for v in ("3.10", *PYTHONS, "3.14") if v in bounds] == list(PYTHONS)


@pytest.mark.parametrize("name", ["constraints.txt", "environment.yml", "pyproject.toml", "Makefile", ".ci/run"])
def test_set_up_names_no_host(name):
    assert "://" not in (CHECKOUT / name).read_text()


def make(*arguments: str, folder: Path = CHECKOUT) -> subprocess.CompletedProcess:
    """Run make as a user would, without what an outer make or caller has set."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "PYTHON"}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def copy(tmp_path):
    """A checkout with nothing but what set-up reads."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, tmp_path)
    return tmp_path


def pretend(folder: Path, change: str) -> str:
    """A Python that differs from this one by a statement, for the Makefile's questions."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import sys; {change}; exec(sys.argv[1])' \"$2\"\n")
    script.chmod(0o755)
    return f"PYTHON={script}"


def test_help_lists_every_target():
    text = (CHECKOUT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    for answer in (make("help"), make()):
        assert [target for target in targets if f"\n  {target} " not in answer.stdout] == []


def test_an_old_python_is_named(copy):
    answer = make("setup", pretend(copy, "sys.version_info = (3, 9, 2)"), folder=copy)
    assert answer.returncode and "needs Python 3.11, 3.12 or 3.13" in answer.stderr
    assert "is 3.9.2" in answer.stderr and "Traceback" not in answer.stderr
    assert not (copy / ".venv").exists()


def test_a_missing_venv_module_is_named(copy):
    answer = make("setup", pretend(copy, 'sys.modules["ensurepip"] = None'), folder=copy)
    assert answer.returncode and "apt-get install python3-venv" in answer.stderr
    assert "Traceback" not in answer.stderr and not (copy / ".venv").exists()


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_set_up_is_done_once_and_again_when_its_files_change(copy, changed):
    assert make("-q", "setup", folder=copy).returncode == 1
    for name in (".venv/bin/python", ".venv/.ready"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    assert make("-q", "setup", folder=copy).returncode == 0
    later = (copy / ".venv/.ready").stat().st_mtime + 10
    os.utime(copy / changed, (later, later))
    assert make("-q", "setup", folder=copy).returncode == 1


def test_constraints_can_be_left_out(copy):
    assert "-c constraints.txt" in make("-n", "setup", folder=copy).stdout
    assert "-c " not in make("-n", "setup", "CONSTRAINTS=", "INSTALLER=pip", folder=copy).stdout.split("Installing")[1]


def test_the_front_door_names_what_is_there_and_loads_nothing_heavy():
    code = (
        "import sys, kdlab\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules); assert not heavy, heavy\n"
        "assert all(getattr(kdlab, name) is not None and name in dir(kdlab) for name in kdlab.__all__)\n"
        "assert kdlab.models.build is not None and kdlab.run is kdlab.lab.run and kdlab.plan is kdlab.lab.plan\n"
        "try:\n    kdlab.nothing\nexcept AttributeError as error:\n    assert 'nothing' in str(error)\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("stub", sorted((CHECKOUT / "kdlab").rglob("__init__.pyi")), ids=lambda stub: stub.parent.name)
def test_every_name_of_a_stub_is_there(stub):
    package = importlib.import_module(".".join(stub.parent.relative_to(CHECKOUT).parts))
    assert package.__all__ and [name for name in package.__all__ if not hasattr(package, name)] == []


def test_types_travel_with_the_package():
    assert (CHECKOUT / "kdlab" / "py.typed").is_file()
    shipped = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    assert {"py.typed", "*.pyi"} <= set(shipped)
