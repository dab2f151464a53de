"""The lessons: ten teaching notebooks and their solutions, executed and kept by ``python -m kdlab.teaching``."""

from __future__ import annotations

from kdlab.teaching.builder import picture as picture
from kdlab.teaching.classroom import classroom as classroom
from kdlab.teaching.quiz import Quiz as Quiz
