"""Training: views, batches and teacher outputs of a step, the student, and the loop that trains cohorts in lockstep."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
