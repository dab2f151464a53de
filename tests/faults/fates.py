"""What may become of a process that should train; in a module that loads no torch, so that it starts at once."""

import os
import signal
import time
from pathlib import Path


def killed(runs, root, stop):
    os.kill(os.getpid(), signal.SIGKILL)


def hung(runs, root, stop):
    time.sleep(600)


def slow(runs, root, stop):
    time.sleep(1.5)
    Path(root, "slow").touch()


def quick(runs, root, stop):
    Path(root, "quick").touch()
