"""The lessons: eight teaching notebooks and their solutions, executed and kept by ``python -m kdlab.teaching``."""

from __future__ import annotations

from kdlab.teaching.builder import picture as picture
