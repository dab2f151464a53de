"""Training: the views of a step, one arm, and the cohort loop that runs many arms in lockstep."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
