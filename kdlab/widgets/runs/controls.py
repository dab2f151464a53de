"""Base of the explorers of finished runs: controls whose choices depend on the runs, and a drawing for no run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kdlab.widgets.explorer import Drawing, Explorer
from kdlab.widgets.runs.panels import notice, stack

FILL = "kdlab figures ratio_sweep"


class RunsExplorer(Explorer):
    """An explorer whose settings may be None, "what there is": its controls show what that means now.

    What can be chosen depends on the runs, so options and values of a control change together, in ``adapt``.
    """

    together: frozenset[str] = frozenset()  # settings that are being set at once: none of them makes another fall back

    def set(self, **settings: Any) -> RunsExplorer:
        """Change settings and draw again; a value that is not there is an error, shown in the widget.

        Args:
            **settings: new values; unknown names are refused.
        """
        with self.lock:
            self._set(settings)
            if self.box is not None:
                self.together = frozenset(settings)
                for name in settings:
                    self._adapt(name)
                self.together = frozenset()
                self.redraw()
        return self

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
    png, _ = stack([notice(text)])
    return Drawing(png, text, advice)
