"""The loaded room of a classroom page: kernels are forked from it, share what it has read, and end with their doors."""

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from kdlab.cli import classroom

PATIENCE = 300  # seconds until something counts as broken
LOOK = """
import os
from kdlab import widgets
pair = widgets.trained_pair(progress=False)
drawn = len(widgets.TemperatureExplorer(pair).draw().png)
print(os.getpid(), os.getppid(), id(pair), drawn, 'mine' in globals())
mine = 1
"""

pytestmark = pytest.mark.skipif(not classroom.POSSIBLE, reason="this system cannot fork")


@pytest.fixture(scope="module")
def visit():
    """Gives the kernel manager of a new visitor, and a function that runs code for them and returns what it prints."""
    from jupyter_client.manager import start_new_kernel

    managers = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLAB_OUT", f"{folder}/out")
        patch.setenv("KDLAB_PROFILE", "quick")  # whose pair comes with the package
        with classroom.room(Path(folder), dict(os.environ)) as more:
            for name, value in more.items():
                patch.setenv(name, value)

            def come():
                manager, client = start_new_kernel(kernel_name="python3", startup_timeout=PATIENCE)
                managers.append((manager, client))

                def run(code: str) -> str:
                    said = []
                    client.execute_interactive(code, timeout=PATIENCE, output_hook=lambda m: said.append(m["content"]))
                    assert not any("ename" in content for content in said), said
                    return "".join(content.get("text", "") for content in said)

                return manager, run

            yield come
            for manager, client in managers:
                client.stop_channels()
                manager.shutdown_kernel(now=True)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ended(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_two_visitors_share_what_is_loaded_and_nothing_else(visit):
    (_, first), (_, second) = visit(), visit()
    a, b = (run(LOOK).split() for run in (first, second))
    assert a[0] != b[0] and a[1] == b[1], "two kernels of one room"
    assert a[2] == b[2], "the very object that the room has read"
    assert a[3] == b[3] and a[4] == b[4] == "False", "no variable goes from one to the other"


def test_a_kernel_is_interrupted_and_ends_with_its_door(visit):
    manager, run = visit()
    pid = int(run("import os; print(os.getpid())"))
    assert "caught" in run(f"""
import signal, threading, time
threading.Timer(0.2, os.kill, ({manager.provisioner.pid}, signal.SIGINT)).start()
try:
    time.sleep({PATIENCE})
except KeyboardInterrupt:
    print('caught')
""")
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    assert ended(pid)
