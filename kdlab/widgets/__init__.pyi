"""What ``kdlab.widgets`` offers: read by type checkers, and by lazy_loader when a name is asked for."""

from .augmentation import AugmentationExplorer as AugmentationExplorer
from .confidence import ConfidenceExplorer as ConfidenceExplorer
from .drawing import Drawing as Drawing
from .explorer import Explorer as Explorer
from .explorer import is_interactive as is_interactive
from .own import OwnImages as OwnImages
from .pair import TrainedPair as TrainedPair
from .pair import trained_pair as trained_pair
from .results.browser import ResultsBrowser as ResultsBrowser
from .sweep.explorer import BudgetExplorer as BudgetExplorer
from .temperature import TemperatureExplorer as TemperatureExplorer
from .trainer import LiveTrainer as LiveTrainer
