"""Training: the views of a step, one arm, and the cohort loop that runs many arms in lockstep."""

from kdlab.training.arm import Arm
from kdlab.training.cohort import Result, Stopped, device, predict, train
from kdlab.training.layout import Layout, slot_shares
from kdlab.training.views import Views

__all__ = ["Arm", "Layout", "Result", "Stopped", "Views", "device", "predict", "slot_shares", "train"]
