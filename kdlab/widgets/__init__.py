"""Explorers: one question each, with sliders in JupyterLab and a static twin for batch runs.

``AugmentationExplorer()`` as the last line of a cell shows it; ``explorer.show(interactive=False)`` draws the twin.
"""

import contextlib
import threading

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _unpack() -> None:
    with contextlib.suppress(Exception):  # whoever needs the images says what is wrong with them
        from kdlab import data

        data.facts("fashion")


# The bundled images take most of a second to unpack, in which another core is still importing torch.
threading.Thread(target=_unpack, daemon=True).start()
