"""What ``kdlab`` offers: read by type checkers, and by lazy_loader when a name is asked for."""

from . import augment as augment
from . import cli as cli
from . import data as data
from . import lab as lab
from . import losses as losses
from . import metrics as metrics
from . import models as models
from . import perspectives as perspectives
from . import plotting as plotting
from . import report as report
from . import stats as stats
from . import teaching as teaching
from . import training as training
from . import widgets as widgets
from .errors import SpecError as SpecError
from .lab import Store as Store
from .lab import plan as plan
from .lab import run as run
from .lab import table as table
from .models import load_teacher as load_teacher
from .perspectives import profile as profile
from .perspectives import study as study
from .spec import Budget as Budget
from .spec import Checkpoint as Checkpoint
from .spec import Optimiser as Optimiser
from .spec import RunSpec as RunSpec
from .spec import sweep as sweep

__version__: str
