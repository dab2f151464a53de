"""Base of the explorers of finished runs: controls whose choices depend on the runs, and a drawing for no run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kdlab.widgets.drawing import Drawing
from kdlab.widgets.explorer import Explorer
from kdlab.widgets.runs.panels import notice

FILL = "kdlab figures ratio_sweep"


class RunsExplorer(Explorer):
    """An explorer whose settings may be None, "what there is": its controls show what that means now.

    What can be chosen depends on the runs, so options and values of a control change together, in ``adapt``.
    """

    def drop_runs(self) -> None:
        """Forget the runs of the store, to read them again."""
        raise NotImplementedError

    def refresh(self) -> RunsExplorer:
        """Look into the store again, for runs that have finished since."""
        with self.lock:
            self.drop_runs()
            if self.box is not None:
                self._adapt("refresh")
                self.redraw()
        return self

    def refresh_button(self) -> Any:
        """A button for ``refresh``."""
        return self.button("Refresh", self.refresh, "Look into the store again", "refresh")

    def menu(self, kind: str, name: str, text: str = "", width: str = "", **traits: Any) -> Any:
        """A ``field`` whose choices come from ``offer``."""
        return self.field(kind, name, text, width, options=[("none", "")], value="", **traits)

    def forget(self, *names: str) -> None:
        """Let settings follow what there is again, but for those that are just being set.

        Args:
            *names: of settings whose values may have gone with what has changed.
        """
        defaults = {name: self.DEFAULTS[name] for name in names if name not in self.together}
        self.settings |= defaults

    def offer(self, name: str, options: Iterable[tuple[str, Any]], value: Any, *, disabled: bool = False) -> None:
        """What a control lets one choose, and what is chosen; the setting itself stays as it is.

        Args:
            name: of control and setting.
            options: (text, value).
            value: None, or one that is not among the options, leaves the control where it is.
            disabled: the control has no effect now.
        """
        control, setting, options = self.control[name], self.settings[name], tuple(options) or (("none", ""),)
        if tuple(control.options) != options:
            control.options = options
        if value in [v for _, v in options]:
            control.value = value
        control.disabled = disabled
        self.settings[name] = setting


def nothing(text: str, advice: str) -> Drawing:
    """A drawing in place of runs that are not there.

    Args:
        text: one sentence, for the picture.
        advice: what to do about it, as an HTML fragment.
    """
    return Drawing([[notice(text)]], text, advice)
