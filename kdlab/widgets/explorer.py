"""The base of all explorers: settings, a drawing made from them, controls around it, and messages for errors.

An explorer is a set of named settings and a function ``draw`` from settings to a ``Drawing``. With controls around it,
it is a widget; without, the drawing alone is its static twin. Callbacks of widgets run in threads of their own, so
nothing here uses pyplot or a global generator, and one lock guards each explorer.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

from traitlets import TraitError

from kdlab.errors import SpecError, choose
from kdlab.widgets.drawing import Drawing
from kdlab.widgets.line import copy_button
from kdlab.widgets.page import head

KEPT, KEPT_LOOK = 24, "max-width: 100%; height: auto"  # drawings and what they are made of; of one without a kernel
FRIENDLY = "Something went wrong that is not your fault"


def is_interactive(given: bool | None = None) -> bool:
    """Whether to show controls: what is given, else not ``$KDLAB_INTERACTIVE=0``.

    Args:
        given: a notebook's parameter; None leaves it to the environment.
    """
    return os.environ.get("KDLAB_INTERACTIVE", "1") != "0" if given is None else bool(given)


WORDS = {bool: "True or False", int: "an integer", float: "a number", str: "a word"}


def _check_kind(name: str, value: Any, kind: type) -> None:
    """Refuse a setting of another kind than its usual value.

    Raises:
        SpecError: naming the setting, the value and the kind.
    """
    fits = {float: (int, float), str: (str, os.PathLike)}.get(kind, kind)
    if value is None or kind not in WORDS or (isinstance(value, fits) and isinstance(value, bool) == (kind is bool)):
        return
    raise SpecError(f"setting {name} must be {WORDS[kind]}, but got {value!r}.")


class Explorer:
    """Base of all explorers.

    A subclass has ``TITLE``, ``QUESTION`` and ``DEFAULTS`` (setting to value), and writes ``draw`` and ``controls``;
    ``adapt`` may change other controls when one has changed.

    Args:
        **settings: starting values of the settings; unknown ones are refused.

    Raises:
        SpecError: for an unknown setting.
    """

    TITLE, QUESTION = "", ""
    DEFAULTS: Mapping[str, Any] = {}
    KINDS: Mapping[str, type] = {}  # of settings whose usual value is None
    together: frozenset[str] = frozenset()  # settings that ``set`` is changing at once

    def __init__(self, **settings: Any):
        self.lock, self.settings = threading.RLock(), dict(self.DEFAULTS)
        self.box, self.adapting = None, False
        self.failure: Exception | None = None
        self.saved: Drawing | None = None  # what is shown, for a notebook without a kernel
        self.kept: dict[Any, Any] = {}
        self._set(settings)

    def _set(self, settings: Mapping[str, Any]) -> None:
        """Take these settings; None is the usual value, which may leave the choice to the explorer."""
        for name, value in settings.items():
            choose("setting", name, self.DEFAULTS)
            _check_kind(name, value, self.KINDS.get(name, type(self.DEFAULTS[name])))
        self.settings |= {name: self.DEFAULTS[name] if value is None else value for name, value in settings.items()}

    # ---- what a subclass writes --------------------------------------------------------------------------------------

    def draw(self) -> Drawing:
        """The drawing of the present settings; must not touch any control."""
        raise NotImplementedError

    def controls(self) -> dict[str, Any]:
        """ipywidgets by the setting that they change, in reading order; others (buttons) under names of their own."""
        return {}

    def given(self) -> list[str]:
        """Code of the positional arguments that it was made with."""
        return []

    def adapt(self, changed: str) -> None:
        """Bring other controls in line.

        Args:
            changed: the setting that has changed; empty at the start.
        """

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made for a key before, or is made now and kept: only what has changed is made again."""
        if key not in self.kept:
            while len(self.kept) >= KEPT:
                del self.kept[next(iter(self.kept))]
            self.kept[key] = make()
        return self.kept[key]

    # ---- ipywidgets --------------------------------------------------------------------------------------------------

    def field(self, kind: str, name: str, text: str = "", width: str = "", **traits: Any) -> Any:
        """An ipywidget that shows a setting and changes it.

        Args:
            kind: name of its class.
            name: of the setting.
            text: what stands before it; empty takes the name.
            width: css; empty leaves it to ipywidgets.
            **traits: others of its class.
        """
        import ipywidgets

        layout = {"layout": {"width": width}} if width else {}
        usual = {"value": self.settings[name], "description": text or name, "style": {"description_width": "initial"}}
        try:
            return getattr(ipywidgets, kind)(**usual | layout | traits)
        except (TraitError, TypeError) as error:
            if "options" in traits:
                offered = [one[1] if isinstance(one, tuple) else one for one in traits["options"]]
                choose(f"setting {name}", self.settings[name], offered)
            raise SpecError(f"setting {name} cannot be {self.settings[name]!r}: {error}") from error

    def button(self, text: str, action: Callable[[], Any], tooltip: str, icon: str = "", **traits: Any) -> Any:
        """A button.

        Args:
            text: on it.
            action: what a click calls.
            tooltip: what it does, in words.
            icon: beside the text, by its name in Font Awesome.
            **traits: others of ``ipywidgets.Button``.
        """
        import ipywidgets

        made = ipywidgets.Button(description=text, tooltip=tooltip, icon=icon, **traits)
        made.on_click(lambda _: action())
        return made

    # ---- showing -----------------------------------------------------------------------------------------------------

    def show(self, interactive: bool | None = None) -> Any:
        """The widget, or its static twin.

        Args:
            interactive: True for controls, False for the drawing alone; None leaves it to ``$KDLAB_INTERACTIVE``.
        """
        return self.widget() if is_interactive(interactive) else self.static()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.show())

    def static(self) -> Drawing:
        """The twin without controls; explorers that train do so first, and wait."""
        return self.draw()

    def widget(self) -> Any:
        """The explorer as an ipywidgets box; made once."""
        with self.lock:
            if self.box is None:
                self._build()
                self.redraw()
        return self.box

    def _build(self) -> None:
        import ipywidgets as w

        from kdlab.widgets.board import Board

        self.control = self.controls()
        for name, control in self.control.items():
            control.add_class(f"kd-set-{name}")
            if name in self.DEFAULTS:
                control.observe(lambda change, name=name: self._changed(name, change["new"]), "value")
        self.picture, self.message, self.line = (w.HTML() for _ in range(3))
        self.picture.add_class("kd-stage")
        top = w.HTML(head(f'<p class="kd-title">{self.TITLE}</p><p>{self.QUESTION}</p>'))
        bar = w.Box(list(self.control.values()))
        bar.add_class("kd-controls")
        under, kept = [*self.below(), self.line], lambda: self.saved.image(KEPT_LOOK) if self.saved else ""
        self.box = Board([top, bar, self.message, self.picture, *under], self.TITLE, kept)
        self.box.add_class("kdlab")
        self.box.add_class(f"kd-{type(self).__name__.lower()}")
        self._adapt("")

    def below(self) -> list[Any]:
        """Further ipywidgets under the picture."""
        return []

    def set(self, **settings: Any) -> Explorer:
        """Change settings as the controls would, and draw again.

        Args:
            **settings: new values; unknown names are refused.
        """
        with self.lock:
            self._set(settings)
            if self.box is not None:
                self.together, self.adapting = frozenset(settings), True
                for name, value in [(name, self.settings[name]) for name in settings]:
                    if name in self.control and value is not None:
                        # What it cannot show, ``draw`` refuses with a message; of a tuple ipywidgets fails to say so.
                        with contextlib.suppress(TraitError, TypeError):
                            self.control[name].value = value
                self.adapting = False
                for name in settings:
                    self._adapt(name)
                self.together = frozenset()
                self.redraw()
        return self

    def _changed(self, name: str, value: Any) -> None:
        if isinstance(value, float):
            value = float(f"{value:.10g}")  # the end of a logarithmic slider is 20.000000000000004
        with self.lock:
            if self.settings[name] == value:
                return
            self.settings[name] = value
            if not self.adapting:
                self._adapt(name)
                self.redraw()

    def _adapt(self, changed: str) -> None:
        """``adapt``, during which changes of controls are kept but nothing is drawn."""
        self.adapting = True
        try:
            with self.errors_shown():
                self.adapt(changed)
        finally:
            self.adapting = False

    def redraw(self) -> None:
        """Draw for the present settings; the last good picture stays, dimmed, where that fails."""
        with self.lock, self.errors_shown():
            drawing = self.draw()
            self.picture.value, self.line.value, self.saved = drawing.html(), copy_button(self), drawing
            self.show_message("")

    def show_message(self, text: str, kind: str = "info") -> None:
        """Show a line above the picture.

        Args:
            text: plain words; empty takes the line away.
            kind: ``"info"``, ``"busy"`` or ``"error"``.
        """
        role = "alert" if kind == "error" else "status"
        self.message.value = f'<p class="kd-message kd-{kind}" role="{role}">{escape(text)}</p>' if text else ""
        (self.picture.add_class if kind == "error" else self.picture.remove_class)("kd-stale")

    @contextlib.contextmanager
    def errors_shown(self) -> Iterator[None]:
        """Show exceptions as messages in the widget; ``failure`` keeps the exception, and no traceback gets out."""
        self.failure = None
        try:
            yield
        except Exception as error:
            self.failure = error
            own = isinstance(error, SpecError)
            self.show_message(str(error) if own else f"{FRIENDLY}: {type(error).__name__}: {error}", "error")
