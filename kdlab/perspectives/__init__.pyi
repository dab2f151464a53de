"""What ``kdlab.perspectives`` offers: read by type checkers, and by lazy_loader when a name is asked for."""

from .notebook_parameters import PARAMETERS as PARAMETERS
from .notebook_parameters import parameters as parameters
from .profiles import PROFILES as PROFILES
from .profiles import Profile as Profile
from .profiles import lengths as lengths
from .profiles import profile as profile
from .studies import Study as Study
from .studies import by_seed as by_seed
from .studies import redraw as redraw
from .studies import study as study

NAMES: tuple[str, ...]
