"""Explorers: one question each, with sliders in JupyterLab and a static twin for batch runs.

``AugmentationExplorer()`` as the last line of a cell shows it; ``explorer.show(interactive=False)`` draws the twin.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
