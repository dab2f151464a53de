"""What ``kdlab.report`` offers: read by type checkers, and by lazy_loader when a name is asked for."""

from .notebook_page import html as html
from .notebooks import CHECKOUT as CHECKOUT
from .notebooks import NOTEBOOKS as NOTEBOOKS
from .notebooks import Outcome as Outcome
from .notebooks import check as check
from .notebooks import parameters as parameters
from .notebooks import publish as publish
from .notebooks import run_notebook as run_notebook
from .overview import draw_overview as draw_overview
from .pages import gallery as gallery
from .pages import lessons as lessons
from .pages import load_verdicts as load_verdicts
from .pages import unfinished as unfinished
