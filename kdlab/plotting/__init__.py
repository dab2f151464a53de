"""One look for every figure, panels drawn from tidy tables, and files that come out the same byte for byte.

matplotlib is loaded when the first of these names is asked for: planning needs none.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
