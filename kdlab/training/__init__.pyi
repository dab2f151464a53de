"""What ``kdlab.training`` offers: read by type checkers, and by lazy_loader when a name is asked for."""

from .layout import Layout as Layout
from .layout import slot_shares as slot_shares
from .loop import Result as Result
from .loop import Stopped as Stopped
from .loop import predict as predict
from .loop import train as train
from .runtime import device as device
from .student import Arm as Arm
from .teacher_cache import TeacherCache as TeacherCache
from .views import Views as Views
