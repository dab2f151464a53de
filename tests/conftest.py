"""What every test gets: one thread, a screenless matplotlib, a working Ctrl-C, and a store of its own."""

import os

# Before torch is imported: runs are bit-identical only with one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import signal

import pytest

# A test runner started in the background ignores Ctrl-C, and so would everything it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    """No test reads or writes the checkout's ``out/`` or ledger, whatever the caller's environment says."""
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "out"))
    monkeypatch.setenv("KDLAB_LEDGER", str(tmp_path / "ledger"))
    for name in ("KDLAB_PROFILE", "KDLAB_DATA", "KDLAB_MODULES"):
        monkeypatch.delenv(name, raising=False)
