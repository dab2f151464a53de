"""Sweeps that are killed, run side by side, paused, or find the disk full: what is missing later is nothing.

Short here; ``make faults`` kills fifty times, starts eight at once, and lets the disk refuse at every write.
"""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("sweeps.py")


def told(function, root, *numbers, timeout=3600):
    words = [sys.executable, SCRIPT, function, root, *map(str, numbers)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-4000:]
    print(done.stdout, done.stderr[-6000:])
    return json.loads(done.stdout), done.stderr


def long(*values):
    return pytest.param(*values, marks=pytest.mark.faults)


@pytest.mark.parametrize("kills", [4, long(50)])
def test_killed_sweeps_end_with_the_same_bits_and_train_nothing_twice(tmp_path, kills):
    said, _ = told("kill", tmp_path, kills)
    assert said["kills"] >= kills and said["failed"] == said["other results"] == said["stray files"] == 0
    assert said["trained twice"] == 0, "nothing is trained again that its last checkpoint holds"


@pytest.mark.parametrize(("number", "disturb"), [(2, ""), long(8, ""), long(8, "kill"), long(3, "pause"),
                                                 long(3, "pause elsewhere")])  # fmt: skip
def test_sweeps_side_by_side_train_each_run_once_and_get_one_table(tmp_path, number, disturb):
    said, _ = told("together", tmp_path, number, *([disturb] if disturb else []))
    assert said["codes"] == [*([-9] if disturb == "kill" else []), *[0] * (number - (disturb == "kill"))]
    assert said["tables differ"] == said["stray files"] == 0 and not said["other results"] and said["runs"] == 4
    assert said["steps"] == 4 * 16 and (said["repeated"] == 0 or disturb in ("kill", "pause elsewhere"))
    assert said["repeated"] < 4 * 16


@pytest.mark.parametrize(("number", "every"), [(errno.ENOSPC, 90), long(errno.ENOSPC, 1), long(errno.EROFS, 1)])
def test_a_disk_that_refuses_any_write_is_named_and_harms_nothing(tmp_path, number, every):
    said, heard = told("starve", tmp_path, number, every)
    assert said["refused in words"] >= 1 and said.get("failed", 0) == 0, heard[-4000:]
    assert said["harmed runs"] == said["failed later"] == said["other results"] == said["stray files"] == 0
    refusals = [line for line in heard.splitlines() if line.startswith("refused:")]
    assert all("cannot write to" in line and "run the same command again" in line for line in refusals)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], capture_output=True)
    except OSError as error:
        pytest.skip(f"no small disk here: {error}")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["/bin/umount", folder], check=True)


@pytest.mark.parametrize("kilobytes", [300, long(20), long(100), long(700)])
def test_a_full_disk_is_named_and_the_sweep_goes_on_when_there_is_room(small_disk, kilobytes):
    said, heard = told("fill", small_disk.parent, kilobytes)
    assert said["code"] == 3 and "No space left on device" in heard and "Finished runs are safe" in heard
    assert said["harmed runs"] == said["later"] == said["stray files"] == 0 and not said["other results"]
