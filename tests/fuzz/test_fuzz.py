"""Odd input of every kind ends well or with one sentence: no traceback, no hang, no half-written file.

``make test`` tries 200 of each; ``make fuzz`` 10,000, drawn anew each time (``KDLAB_FUZZ`` is the number).
``python tests/fuzz/test_fuzz.py [TARGET ...]`` lists all kinds of failure with a value each, for whoever mends them.
"""

import contextlib
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import fuzz_targets
import guided
import pytest
from corpus import CORPUS
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings

from kdlab.errors import SpecError

CASES = int(os.environ.get("KDLAB_FUZZ", "200"))
HANG = 10  # seconds of the processor for one case, after which it is interrupted
WAIT = 60  # seconds by the clock: another process may be at work beside, but something that is waited for never comes
MEMORY = 2 << 30  # bytes more than before
WRITTEN_ASIDE = re.compile(r"\.part|\.tmp|^\.[^.]+\..*\d|~$")  # names of what is not in its place yet


def resident() -> int:
    """Bytes of memory that this process holds now; its peak so far where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def hung(*_):
    """What a case was doing when its time was over stands in the traceback."""
    raise TimeoutError(f"a case has not ended after {HANG} s of the processor or {WAIT} s in all")


@contextlib.contextmanager
def timed():
    """Interrupt what takes too long, and notice where that was taken for an error of the system."""
    timers = {signal.SIGPROF: (signal.ITIMER_PROF, HANG), signal.SIGALRM: (signal.ITIMER_REAL, WAIT)}
    earlier = {number: signal.signal(number, hung) for number in timers}
    worked, began = time.process_time(), time.monotonic()
    try:
        for timer, seconds in timers.values():
            signal.setitimer(timer, seconds)
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, earlier[number])
    in_time = time.process_time() - worked < HANG and time.monotonic() - began < WAIT
    assert in_time, "what interrupted it was taken for an error of the system"


@pytest.mark.parametrize("name", TARGETS)
def test_odd_input_ends_well_or_with_a_sentence(name, tmp_path):
    strategy, act = TARGETS[name]
    told = {"done": 0, "refused": 0}
    before, began = resident(), time.monotonic()

    def one(value):
        with timed():
            try:
                act(value, tmp_path)
                told["done"] += 1
            except SpecError as error:
                assert str(error).strip() and "Traceback" not in str(error)
                told["refused"] += 1
        assert (grown := resident() - before) < MEMORY, f"{grown >> 20} MB more than before"
        left = [path.name for path in tmp_path.rglob("*") if WRITTEN_ASIDE.search(path.name)]
        assert not left, f"half written: {left}"

    drawn = settings(
        max_examples=CASES, deadline=None, database=None, derandomize=CASES <= 200, print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    for value in CORPUS.get(name, ()):
        one(value)
    drawn(given(strategy)(one))()
    print(f"{name}: {told['done']} taken, {told['refused']} refused, {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize("name", fuzz_targets.FILES)
def test_undamaged_files_are_taken_and_hostile_ones_refused(name, tmp_path):
    for file, content in fuzz_targets.FILES[name]().items():
        with pytest.raises(SpecError) if file in fuzz_targets.HOSTILE else contextlib.nullcontext():
            TARGETS[name][1]((file, content), tmp_path)


def test_an_undamaged_ledger_and_undamaged_documents_are_taken(tmp_path):
    TARGETS["ledger"][1](fuzz_targets.csv_xz(fuzz_targets.cells()), tmp_path)
    TARGETS["figure record"][1](fuzz_targets.document("few_shot-gain"), tmp_path)
    TARGETS["verdict document"][1](fuzz_targets.document("few_shot.verdict"), tmp_path)
    TARGETS["spec document"][1](fuzz_targets.SPEC, tmp_path)


def test_what_is_kept_and_what_is_guided_are_targets():
    assert set(CORPUS) <= set(TARGETS) and set(guided.READERS) <= set(TARGETS)


def test_every_command_and_every_option_is_drawn_or_left_out_for_a_reason():
    known = {command[: 1 + (command[0] == "runs" and len(command) > 1)] for command in fuzz_targets.COMMANDS}
    for path, command in leaves(fuzz_targets.get_command(fuzz_targets.app)):
        asked = {one.opts[0] for one in command.params if one.param_type_name == "option"}
        words = " ".join(path)
        if words not in fuzz_targets.LEFT_OUT:
            assert path in known, f"{words}: draw it, or say in LEFT_OUT why not"
            asked -= {one.removeprefix(f"{words} ") for one in fuzz_targets.LEFT_OUT}
            assert asked == set(fuzz_targets.options(path)), words
    assert {"--workers", "--plan", "-p", "--cluster", "--device"} <= set(fuzz_targets.options(("figures",)))


def leaves(command, *path):
    """The commands of a parser that have no commands below them, each with its words."""
    below = getattr(command, "commands", None)
    return [(path, command)] if below is None else [e for name in below for e in leaves(below[name], *path, name)]


def survey(name: str, cases: int) -> dict[str, str]:
    """For whoever mends: the distinct ends of a target that are neither, each with a value that led there."""
    strategy, act = TARGETS[name]
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:

        @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(strategy)
        def one(value):
            try:
                with timed(), contextlib.suppress(SpecError):
                    act(value, Path(folder))
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
