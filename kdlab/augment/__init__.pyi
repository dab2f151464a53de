"""What ``kdlab.augment`` offers: read by type checkers, and by lazy_loader when a name is asked for."""

from .autoaugment import AutoAugment as AutoAugment
from .automatic import RandAugment as RandAugment
from .automatic import TrivialAugment as TrivialAugment
from .base import Augmentation as Augmentation
from .degrade import Blur as Blur
from .degrade import Degrade as Degrade
from .degrade import Noise as Noise
from .erase import Cutout as Cutout
from .erase import Masking as Masking
from .joint import JDA as JDA
from .joint import POLICIES as POLICIES
from .mixed import Mixed as Mixed
from .mixing import CutMix as CutMix
from .mixing import CutMixPick as CutMixPick
from .mixing import MixUp as MixUp
from .mixing import pick as pick
from .operations import Operation as Operation
from .rotation import QuarterTurn as QuarterTurn
from .safety import label_safety as label_safety
from .weak import CropFlip as CropFlip
from .weak import Weak as Weak
