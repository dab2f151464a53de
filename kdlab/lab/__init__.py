"""The lab, everything between a spec and a table: plan a list of specs, run what is missing, one row per run.

``plan`` resolves specs, their teachers and cohorts; ``run`` trains what is missing; ``table`` reads what is finished.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
