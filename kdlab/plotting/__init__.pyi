"""What ``kdlab.plotting`` offers: read by type checkers, and by lazy_loader when a name is asked for."""

from .claims import claims as claims
from .files import load as load
from .files import save as save
from .look import COLUMN as COLUMN
from .look import PAGE as PAGE
from .look import accuracy_line as accuracy_line
from .look import figure as figure
from .look import first_look as first_look
from .look import style as style
from .look import theme as theme
from .look import watermark as watermark
from .panels import bounded as bounded
from .panels import contrast_panel as contrast_panel
from .panels import dot_panels as dot_panels
from .panels import effects as effects
from .panels import forest as forest
from .panels import heatmap as heatmap
from .panels import interval_dots as interval_dots
from .panels import line_with_interval as line_with_interval
from .panels import point_names as point_names
from .surface import place as place
from .surface import surface as surface
