"""The runs of a store that are in training now, with their curves, looked at anew every few seconds."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from kdlab.data.visitors import may_see
from kdlab.widgets.charts.chart import Axis, Mark, Panel
from kdlab.widgets.drawing import Drawing, table
from kdlab.widgets.runs.arms import view_name

LOOK_EVERY, MANY = 3.0, 24  # seconds, and runs from which on lines have no name of their own
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5d656e")


def live_name(key: str, held: Mapping[str, Any]) -> str:
    """``kd jda, seed 3``, or the beginning of the key where a lease says no more."""
    named = held.get("run") or {}
    if not {"method", "augmentation", "views", "ratio", "seed"} <= named.keys():
        return key[:8]
    view = view_name(named["augmentation"], named["views"], named["ratio"])
    return f"{named['method']} {view}, {named.get('model', '')}, seed {named['seed']}"


def _data(held: Mapping[str, Any]) -> str:
    """Name of the data of a run in training; as of a folder where its lease says nothing."""
    return str((held.get("run") or {}).get("data", "folder:"))


def live(runs: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """Accuracy on val and training loss of the runs in training.

    Args:
        runs: leases by key: ``step``, ``curve``, ``train_loss``, and under ``run`` what it is and its ``steps``.
    """
    last = max([1, *(int((held.get("run") or {}).get("steps") or held.get("step", 0)) for held in runs.values())])
    across = Axis(0, 1.02 * last, "step")
    accuracy, loss, rows = [], [], []
    for place, (key, held) in enumerate(runs.items()):
        name, color = live_name(key, held), COLOURS[place % len(COLOURS)]
        points = [p for p in held.get("curve", ()) if isinstance(p, Mapping)]
        for marks, field, word in ((accuracy, "val_accuracy", "val accuracy"), (loss, "train_loss", "training loss")):
            known = [(p["step"], p[field]) for p in points if p.get(field) is not None]
            if field == "train_loss" and held.get("train_loss") is not None:
                known.append((held.get("step", 0), held["train_loss"]))
            if not known:
                continue
            steps, values = zip(*known, strict=True)
            told = [f"{name}, step {step:,}: {word} {value:.4g}" for step, value in known]
            marks += [Mark("line", steps, values, color, name=name if len(runs) <= MANY else "", width=1.6),
                      Mark("points", steps, values, color, told=told, size=5)]  # fmt: skip
        best = [p["val_accuracy"] for p in points if p.get("val_accuracy") is not None]
        rows.append((name, held.get("step", 0), f"{best[-1]:.1f}" if best else "not yet"))
    top = max([1.0, *(v for mark in loss if mark.kind == "points" for v in mark.y if np.isfinite(v))])
    panels = [Panel("Accuracy on val (%), in training", across, Axis(0, 100), accuracy, 230, 380),
              Panel("Training loss, in training", across, Axis(0, 1.05 * top), loss, 230, 380)]  # fmt: skip
    alt = f"Accuracy on val and training loss over steps of {len(runs)} runs that are in training"
    caption = f"<h3>In training now: {len(runs)} run{'s' * (len(runs) != 1)}</h3>"
    return Drawing([panels], alt, caption, table(("run", "step", "val accuracy (%)"), rows))


class Watch:
    """Shows the runs in training below an explorer for as long as there are any.

    Args:
        browser: with a ``store``; it is held weakly, so that a widget that is gone is not kept.
    """

    def __init__(self, browser: Any):
        import ipywidgets

        self.browser, self.shown = weakref.ref(browser), ipywidgets.HTML()
        self.thread: threading.Thread | None = None
        self.seen: set[str] = set()

    def start(self) -> None:
        """Look now, and every few seconds until nothing is in training."""
        if (self.thread is None or not self.thread.is_alive()) and self.look():
            self.thread = threading.Thread(target=self._work, name="kdlab-live", daemon=True)
            self.thread.start()

    def look(self) -> bool:
        """Draw what is in training; False when nothing is, or the widget is gone."""
        browser = self.browser()
        if browser is None:
            return False
        runs = {key: held for key, held in browser.store.training().items() if may_see(_data(held))}
        ended = self.seen - runs.keys()
        self.seen |= runs.keys()
        done = sum(browser.store.has(key) for key in ended)
        told = f"<p>{done} run{'s' * (done != 1)} finished since: press Refresh to list them.</p>" if done else ""
        self.shown.value = told + (live(runs).html() if runs else "")
        return bool(runs)

    def _work(self) -> None:
        while not threading.Event().wait(LOOK_EVERY) and self.look():
            pass
