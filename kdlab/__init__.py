"""kdlab: a workbench to see what data augmentation does to knowledge distillation.

::

    import kdlab

    teacher = kdlab.RunSpec(model="resnet8_s2_w16", budget=kdlab.Budget(20))
    student = kdlab.RunSpec(model="resnet8_s2_w4", method="kd", teacher=teacher)
    print(kdlab.plan([student]).describe())
    table = kdlab.run([student])

Names and folders are loaded when they are asked for, so that ``import kdlab`` costs nothing.
"""

import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
