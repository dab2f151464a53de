"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import kdlab

HOUSE = Path(kdlab.__file__).parent
WITH_EXAMPLES = sorted(path for path in HOUSE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_examples_run(path):
    name = ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__")
    ran = doctest.testmod(importlib.import_module(name))
    assert ran.attempted and not ran.failed
