"""Odd input of every kind ends well or with one sentence: no traceback, no hang, no half-written file.

``make test`` tries 200 of each; ``make fuzz`` 10,000, drawn anew each time (``KDLAB_FUZZ`` is the number).
``python tests/fuzz/test_fuzz.py [TARGET ...]`` lists all kinds of failure with a value each, for whoever mends them.
"""

import os
import resource
import sys
import tempfile
import traceback
from pathlib import Path

import guided
import pytest
from corpus import CORPUS
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings

from kdlab.errors import SpecError

CASES = int(os.environ.get("KDLAB_FUZZ", "200"))
HANG = 10_000  # ms for one case
MEMORY = 2 << 20  # kB more than before


@pytest.mark.parametrize("name", TARGETS)
def test_odd_input_ends_well_or_with_a_sentence(name, tmp_path):
    strategy, act = TARGETS[name]
    told = {"done": 0, "refused": 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def one(value):
        try:
            act(value, tmp_path)
            told["done"] += 1
        except SpecError as error:
            assert str(error).strip() and "Traceback" not in str(error)
            told["refused"] += 1

    for value in CORPUS.get(name, ()):
        one(value)
    drawn = settings(
        max_examples=CASES, deadline=HANG, database=None, derandomize=CASES <= 200, print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    drawn(given(strategy)(one))()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY, f"{grown >> 10} MB"
    print(f"{name}: {told['done']} taken, {told['refused']} refused")


def test_what_is_kept_and_what_is_guided_are_targets():
    assert set(CORPUS) <= set(TARGETS) and set(guided.READERS) <= set(TARGETS)


def survey(name: str, cases: int) -> dict[str, str]:
    """For whoever mends: the distinct ends of a target that are neither, each with a value that led there."""
    strategy, act = TARGETS[name]
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:

        @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(strategy)
        def one(value):
            try:
                act(value, Path(folder))
            except SpecError:
                pass
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{type(error).__name__} {last.filename}:{last.lineno}"
                found.setdefault(where, f"{error} <- {value!r}"[:600])

        one()
    return found


if __name__ == "__main__":
    for name in sys.argv[1:] or TARGETS:
        kinds = survey(name, CASES)
        print(
            f"{name}: {len(kinds)} kinds of failure",
            *(f"  {a}\n    {b}" for a, b in kinds.items()),
            sep="\n",
            flush=True,
        )
