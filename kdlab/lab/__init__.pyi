"""What ``kdlab.lab`` offers: read by type checkers, and by lazy_loader when a name is asked for."""

from .baseline import linear as linear
from .damage import Damaged as Damaged
from .keys import run_key as run_key
from .measured import measure as measure
from .planned import lineage as lineage
from .planning import Plan as Plan
from .planning import duration as duration
from .planning import plan as plan
from .rows import row as row
from .rows import table as table
from .running import Halted as Halted
from .running import run as run
from .sources import test_right as test_right
from .store import MissingRuns as MissingRuns
from .store import Store as Store
from .teachers import PoorTeacher as PoorTeacher
