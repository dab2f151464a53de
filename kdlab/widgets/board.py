"""The box of a widget, which leaves its picture in a notebook that is saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets


class Board(ipywidgets.VBox):
    """A column of widgets that also knows how to be shown without a kernel.

    Beside the widget, a cell's output holds a title, what to do, and a picture. A notebook that was saved and opened
    again shows these, and so does a viewer that knows no widgets.

    Args:
        children: from above to below.
        title: of the widget.
        picture: called when it is displayed; gives an HTML fragment.
    """

    def __init__(self, children: Sequence[Any], title: str, picture: Callable[[], str]):
        super().__init__(children)
        self.title, self.picture = title, picture

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**kwargs)
        told = f"<p><b>{escape(self.title)}.</b> This is a picture of it: run this cell to play.</p>"
        return bundle | {"text/plain": f"{self.title}: run this cell to play", "text/html": told + self.picture()}
