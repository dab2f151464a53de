"""Where the figures of a profile go, and what its data are called there.

``out/<profile>`` holds those of the profile's own data, ``out/<profile>-<data>`` those of any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdlab.data import DESCRIPTIONS
from kdlab.errors import plain
from kdlab.lab.datasheet import file_name, title
from kdlab.paths import home

if TYPE_CHECKING:
    from kdlab.perspectives.profiles import Profile


def other_data(size: Profile) -> str:
    """A name for files about the data that a profile was given; empty for its own data."""
    from kdlab.perspectives.profiles import PROFILES

    own = PROFILES[size.name].data if size.name in PROFILES else size.data
    return "" if size.data == own else file_name(size.data)


def folder(size: Profile) -> Path:
    """The folder of notebooks, figures and gallery: those of two data sets never meet in one.

    Args:
        size: the profile as it was asked for.
    """
    apart = other_data(size)
    return home() / plain(f"{size.name}-{apart}" if apart else size.name)


def data_title(name: str) -> str:
    """A data set as a table or a button names it, without the path to a folder."""
    return DESCRIPTIONS.get(name, title(name)).partition(",")[0]


def described(name: str) -> str:
    """A data set in a caption; of a folder its own name, without the path to it, and how it is read."""
    path, _, options = name.partition("?")
    return DESCRIPTIONS.get(name, f"folder {Path(path).name}{f' ({options})' if options else ''}")
