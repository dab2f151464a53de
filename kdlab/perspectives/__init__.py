"""Perspectives: one question, one claim, the contrasts that decide it, one figure, one verdict each.

A perspective is a module of this folder with ``TITLE``, ``QUESTION``, ``CLAIM``, ``REFUTED_BY``, ``FORMULA``,
``FIGURES``, ``arms(profile)``, ``contrasts(profile)`` and ``figures(table, verdicts, profile)``; ``study`` makes it
ready to run. One whose figures show more than the runs' table also has ``measure(profile)``, which takes that from
trained networks; its ``figures`` gets the result as a fourth argument, and a figure's json keeps its part. One that
needs numbers beside accuracy names them in ``MEASURES`` (``kdlab.lab.measured``): columns of its table. One whose
budgets are its own says them for captions by ``lengths(profile)``, and ``SEEDS`` is how many it takes at most unasked.

``NAMES`` are those in the folder, in the order of their first lines: claim (a), claim (b) and so on.
"""

from __future__ import annotations

from pathlib import Path

import lazy_loader

_TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py")}
NAMES = tuple(sorted((name for name, text in _TEXTS.items() if "\nCLAIM = " in text), key=_TEXTS.get))
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
