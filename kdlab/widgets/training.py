"""The base of explorers that train: buttons, a progress bar, and which controls can be used meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kdlab.widgets.background_run import BackgroundRun
from kdlab.widgets.explorer import Explorer


class TrainingExplorer(Explorer):
    """An explorer with a background run; a subclass writes ``report`` and ``usable``.

    Attributes:
        background: what it trains or has trained; None before the start.
    """

    background: BackgroundRun | None = None

    @property
    def state(self) -> str:
        """The background run's; ``"new"`` where there is none."""
        return self.background.state if self.background else "new"

    def report(self, background: BackgroundRun, now: Mapping[str, Mapping[str, Any]]) -> None:
        """Show where the runs stand.

        Args:
            background: the runs.
            now: their ``progress()``.
        """

    def usable(self) -> dict[str, bool]:
        """Whether a control can be used now, by its name; under ``""`` for all that are not named."""
        return {"": True}

    def button(self, text: str, action: Callable[[], Any], tooltip: str, icon: str = "", **traits: Any) -> Any:
        """A button whose errors are shown in the widget."""

        def guarded() -> None:
            with self.errors_shown():
                action()
            self._enable()

        return super().button(text, guarded, tooltip, icon, **traits)

    def below(self) -> list[Any]:
        import ipywidgets as w

        self.bar, self.where = w.IntProgress(0, min=0, max=1, layout={"width": "360px"}), w.Label("")
        return [w.HBox([self.bar, self.where], layout={"flex_flow": "row wrap"})]

    def pause(self) -> None:
        """Stop at the end of the step and keep the place."""
        if self.background:
            self.background.pause()

    def redraw(self) -> None:
        super().redraw()
        self._enable()

    def _tick(self) -> None:
        """A look at the background run, from its watching thread."""
        with self.lock, self.errors_shown():
            background = self.background
            if background is None:
                return
            now = background.progress()
            self.bar.max = sum(run["total"] for run in now.values())
            self.bar.value = sum(run["step"] for run in now.values())
            self.report(background, now)
            if background.state == "failed":
                raise background.error
        self._enable()

    def _enable(self) -> None:
        usable = self.usable()
        for name, control in self.control.items():
            control.disabled = not usable.get(name, usable[""])
