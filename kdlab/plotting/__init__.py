"""One look for every figure, panels drawn from tidy tables, and files that come out the same byte for byte."""

from kdlab.plotting.files import load, save, write
from kdlab.plotting.look import COLUMN, PAGE, figure, style, theme, watermark
from kdlab.plotting.panels import contrast_panel, effects, forest, heatmap, interval_dots, line_with_interval

__all__ = [
    "COLUMN", "PAGE", "contrast_panel", "effects", "figure", "forest", "heatmap", "interval_dots", "line_with_interval",
    "load", "save", "style", "theme", "watermark", "write",
]  # fmt: skip
