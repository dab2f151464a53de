"""From runs to verdicts: intervals and tests over seeds, and claims listed in advance that they decide."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
