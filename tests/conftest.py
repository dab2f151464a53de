"""What every test gets: one thread, a screenless matplotlib, and a store of its own."""

import os

# Before torch is imported: runs are bit-identical only with one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    """No test reads or writes the checkout's ``out/``, whatever the caller's environment says."""
    monkeypatch.setenv("KDLAB_OUT", str(tmp_path / "out"))
    for name in ("KDLAB_PROFILE", "KDLAB_DATA"):
        monkeypatch.delenv(name, raising=False)
