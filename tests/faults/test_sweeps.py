"""Sweeps that are killed, run side by side, paused, or find the disk full: what is missing later is nothing.

Short here; ``make faults`` kills a hundred times, starts eight at once, and lets disks refuse every kind of write.
"""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = 8  # of each student
SCRIPT = Path(__file__).with_name("sweeps.py")


def told(function, root, *numbers, timeout=3600):
    words = [sys.executable, SCRIPT, function, root, *map(str, numbers)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-4000:]
    print(done.stdout, done.stderr[-6000:])
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A little of everything by one process, since starting it is what takes longest."""
    return told("short", tmp_path_factory.mktemp("short"))


def check_kills(said, number):
    assert said["kills"] >= number and said["other results"] == said["stray files"] == 0
    assert said["trained twice"] == 0, "nothing is trained again that its last checkpoint holds"
    assert said["outlived their parent"] == 0


def hit(said, who):
    """The kinds of files at whose writes somebody was killed."""
    return {words.split()[-2].strip(",") for words in said if words.endswith(who) and " of " in words}


def check_together(said, number, disturb="", runs=4):
    assert said["codes"] == [*([-9] if disturb == "kill" else []), *[0] * (number - (disturb == "kill"))]
    assert said["tables differ"] == said["stray files"] == 0 and not said["other results"] and said["runs"] == runs
    assert said["steps"] == runs * STEPS + 4 and (said["repeated"] == 0 or disturb in ("kill", "pause elsewhere"))
    assert said["repeated"] < 4 * STEPS and (said["trained twice"] == 0 or disturb == "pause elsewhere")


def check_refusals(said, heard):
    assert said["refused in words"] >= 1 and said.get("failed", 0) == 0, heard[-4000:]
    assert said["outlived their parent"] == said["trained twice"] == 0
    assert said["harmed runs"] == said["failed later"] == said["other results"] == said["stray files"] == 0
    refusals = [line for line in heard.splitlines() if line.startswith("refused:")]
    assert all("cannot write to" in line and "run the same command again" in line for line in refusals)


def test_killed_sweeps_end_with_the_same_bits_and_train_nothing_twice(short):
    """One is killed amid the writes of its done marker, one with two workers at work, and of one a worker."""
    said = short[0]["kill"]
    check_kills(said, 3)
    assert "done" in hit(said, "parent") and {f"killed at a random moment, {who}" for who in ("parent", "worker")} <= {
        *said
    }


@pytest.mark.faults
def test_fifty_kills_each_inside_or_before_a_write_of_each_kind(tmp_path):
    said = told("kill", tmp_path, 50)[0]
    check_kills(said, 50)
    assert hit(said, "parent") >= {"done", "checkpoint", "lease", "building", "taught", "stop"}
    assert any(words.startswith(("killed at write", "killed at pwrite")) for words in said), "half of it was written"


@pytest.mark.faults
@pytest.mark.parametrize("who", ["parent", "worker"])
def test_kills_of_a_parent_or_a_worker_at_length(tmp_path, who):
    said = told("kill", tmp_path, 21, 2, who)[0]
    check_kills(said, 21)
    assert hit(said, who) >= ({"stop"} if who == "parent" else {"done", "checkpoint", "lease", "building", "taught"})


@pytest.mark.faults
@pytest.mark.parametrize("who", ["parent", "worker"])
def test_kills_among_workers_that_start_as_they_do_elsewhere(tmp_path, who):
    check_kills(told("kill", tmp_path, 2, 2, who, "fresh")[0], 2)


def test_two_sweeps_side_by_side_train_each_run_once_and_get_one_table(short):
    check_together(short[0]["together"], 2, runs=3)


@pytest.mark.faults
@pytest.mark.parametrize(("number", "disturb"), [(8, ""), (8, "kill"), (3, "pause"), (3, "pause elsewhere")])
def test_several_sweeps_of_which_one_is_killed_or_paused(tmp_path, number, disturb):
    check_together(told("together", tmp_path, number, *filter(None, [disturb]))[0], number, disturb)


def test_a_disk_that_refuses_a_write_is_named_and_harms_nothing(short):
    check_refusals(short[0]["starve"], short[1])


@pytest.mark.faults
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_at_every_kind_of_write(tmp_path, number):
    check_refusals(*told("starve", tmp_path, number, 10))


@pytest.mark.faults
def test_a_disk_that_fills_up_under_two_workers(tmp_path):
    check_refusals(*told("starve", tmp_path, errno.ENOSPC, 100, 2))


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


@pytest.mark.faults
@pytest.mark.parametrize("percent", [2, 10, 40, 90])
def test_a_full_disk_is_named_and_the_sweep_goes_on_when_there_is_room(small_disk, percent):
    said, heard = told("fill", small_disk.parent, percent)
    assert said["code"] == 3 and "No space left on device" in heard and "Finished runs are safe" in heard
    assert said["harmed runs"] == said["later"] == said["stray files"] == 0 and not said["other results"]
