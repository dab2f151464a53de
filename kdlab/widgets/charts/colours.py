"""The figures' colours where explorers show them: as small text on white, and on a dark page."""

from __future__ import annotations

import functools

import numpy as np
from PIL import ImageColor

READABLE = 4.5  # contrast of small text with what is behind it, as WCAG asks
DARK = "#212121"  # behind a chart in JupyterLab's dark theme
TEACHER, STUDENT, CHANGED, PLAIN = "#0072B2", "#D55E00", "#D55E00", "#7A7A7A"


@functools.cache
def readable(color: str) -> str:
    """A colour for small text on white: the same hue, as dark as a contrast of 4.5 : 1 needs.

    Contrast is ``(L + 0.05) / (l + 0.05)`` with the relative luminances of the lighter and the darker colour.

    Args:
        color: ``"#RRGGBB"`` or a name of CSS.
    """
    share = _shares(color)
    while contrast(share) < READABLE:
        share = 0.97 * share
    return _hex(share)


@functools.cache
def on_dark(color: str) -> str:
    """A colour for a dark page: the same hue, as light as a contrast of 4.5 : 1 needs; greys are turned over.

    Args:
        color: ``"#RRGGBB"`` or a name of CSS.
    """
    share = _shares(color)
    if np.ptp(share) < 0.05:
        share = 1 - share
    while contrast(share, DARK) < READABLE:
        share = 1 - 0.97 * (1 - share)
    return _hex(share)


def contrast(color: str | np.ndarray, behind: str = "white") -> float:
    """Contrast of two colours, 1 to 21 (WCAG 2.2)."""
    first, second = (_luminance(_shares(c) if isinstance(c, str) else c) for c in (color, behind))
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


# By Pillow, which explorers have loaded; matplotlib would keep the first picture waiting for a quarter of a second.
def _shares(color: str) -> np.ndarray:
    return np.array(ImageColor.getcolor(color, "RGB")) / 255


def _hex(share: np.ndarray) -> str:
    return "#{:02x}{:02x}{:02x}".format(*np.round(255 * share).astype(int))


def _luminance(share: np.ndarray) -> float:
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
