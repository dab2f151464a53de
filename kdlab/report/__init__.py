"""Reports: notebooks run in batch, the web pages made of them, and the README's tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
