"""Distillation methods: one class each, one protocol for all."""

from kdlab.losses.base import Batch, Context, Method

__all__ = ["Batch", "Context", "Method"]
