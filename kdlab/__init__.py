"""kdlab: a workbench to see what data augmentation does to knowledge distillation."""

__version__ = "0.1.0"
